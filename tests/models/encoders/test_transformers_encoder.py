import json

import pytest
import torch

from hierpretrain.models import HierarchicalContrastive, TransformersEncoder
from hierpretrain.models.encoders.transformers_encoder import POOLING
from tests.models.encoders.images import assert_gives, assert_stays_frozen, assert_trains, random_images

transformers = pytest.importorskip("transformers")

_VIT = dict(
    hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=16
)
_STAGES = dict(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1])
_SWIN = dict(embed_dim=8, depths=[1, 1], num_heads=[1, 1], window_size=2, image_size=32)
SMALL = {
    "clip": dict(
        vision_config=dict(_VIT), text_config=dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    ),
    "siglip": dict(
        vision_config=dict(_VIT), text_config=dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    ),
    "chinese_clip_vision_model": _VIT,
    "dinov2": _VIT,
    "dinov2_with_registers": _VIT,
    "dinov3_vit": _VIT,
    "vit": _VIT,
    "vit_msn": _VIT,
    "deit": _VIT,
    "beit": _VIT,
    "data2vec-vision": _VIT,
    "ijepa": _VIT,
    "convnext": _STAGES,
    "convnextv2": _STAGES,
    "dinov3_convnext": _STAGES,
    "resnet": dict(_STAGES, embedding_size=8),
    "regnet": dict(_STAGES, embedding_size=8, groups_width=8),
    "bit": dict(_STAGES, embedding_size=8, num_groups=4),
    "swin": _SWIN,
    "swinv2": _SWIN,
    "focalnet": dict(
        embed_dim=8, depths=[1, 1], hidden_sizes=[8, 16], focal_levels=[1, 1], focal_windows=[3, 3], image_size=32
    ),
    "hiera": dict(
        embed_dim=8, depths=[1, 1], num_heads=[1, 1], image_size=[64, 64], masked_unit_size=[8, 8], num_query_pool=1
    ),
    "efficientnet": dict(width_coefficient=1.0, depth_coefficient=0.1, hidden_dim=1280, image_size=32),
    "mobilenet_v2": dict(depth_multiplier=0.25, image_size=32),
}
# families of which transformers has no classifier
WITHOUT = {"clip", "siglip", "chinese_clip_vision_model", "dinov3_vit", "dinov3_convnext"}
PROCESSOR = dict(
    image_processor_type="CLIPImageProcessor",
    size=dict(shortest_edge=36),
    crop_size=dict(height=32, width=32),
    do_center_crop=True,
    do_resize=True,
    do_normalize=True,
    image_mean=[0.5, 0.5, 0.25],
    image_std=[0.5, 0.5, 0.5],
    resample=3,
)


def write(folder, family, kind=None, processor=PROCESSOR):
    """Writes a folder of random weights as the hub has them, and returns the model."""
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, **SMALL[family])
    config.architectures = ["DeiTForImageClassification"]  # the one of two classifiers that reads one token
    model = (kind or transformers.AutoModel).from_config(config).eval()
    model.save_pretrained(folder)
    if processor:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return model


def made(folder, **options):
    encoder = TransformersEncoder(str(folder), **options)
    encoder.init_weights()
    return encoder


def size_of(family):
    return 32 if "image_size" in SMALL[family] and family != "hiera" else 64


@pytest.mark.parametrize("family", sorted(SMALL.keys() - WITHOUT))
def test_the_vector_is_what_the_classifier_of_the_family_reads(family, tmp_path):
    model = write(tmp_path, family, transformers.AutoModelForImageClassification)
    encoder = made(tmp_path)
    read = []
    head = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
    head.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))

    def by_hand(images):
        read.clear()
        model(images)
        return read[-1][:, : encoder(images).shape[1]]  # a classifier of DINO's reads the mean of the patches beside

    # in the random weights of an EfficientNet an image drowns
    assert_gives(encoder, by_hand, random_images(size_of(family)), differ=family != "efficientnet")
    assert_trains(encoder, random_images(size_of(family)))


@pytest.mark.parametrize("family", sorted(WITHOUT))
def test_the_vector_is_the_pooled_output_where_there_is_no_classifier(family, tmp_path):
    model = write(tmp_path, family)
    tower = getattr(model, "vision_model", model)
    images = random_images(size_of(family) if family.startswith("dino") else 32)
    encoder = made(tmp_path)
    assert_gives(encoder, lambda images: tower(images).pooler_output, images)
    assert_trains(encoder, images)


def test_every_family_is_tried():
    assert {{"clip": "clip_vision_model", "siglip": "siglip_vision_model"}.get(name, name) for name in SMALL} == set(
        POOLING
    )


def test_frozen_parts_width_and_other_sizes(tmp_path):
    write(tmp_path, "vit")
    config = dict(type="TransformersEncoder", name=str(tmp_path), weights=False, frozen_stages=1)
    model = HierarchicalContrastive(config, dict(type="ProjectionHead"))
    assert model.projection.layers[0].in_features == 16
    model.train()
    model.backbone(random_images(48)).sum().backward()  # positions are interpolated
    trained = {name for name, parameter in model.backbone.named_parameters() if parameter.grad is not None}
    layer = {name for name in trained if "layers.1." in name}
    assert len(layer) == 16
    assert trained - layer == {"network.layernorm.weight", "network.layernorm.bias"}


def test_an_encoder_that_is_frozen_whole(tmp_path):
    write(tmp_path, "dinov2")
    assert_stays_frozen(TransformersEncoder(str(tmp_path), frozen_stages=3))


def test_pooling_of_an_unknown_family_must_be_said(tmp_path, monkeypatch):
    small = dict(hidden_sizes=[16, 16, 16], num_attention_heads=[1, 1, 1], depths=[1, 1, 1], key_dim=[8, 8, 8])
    monkeypatch.setitem(SMALL, "levit", dict(small, image_size=64))
    model = write(tmp_path, "levit")
    with pytest.raises(
        ValueError, match=r"it is of the family 'levit', and known are clip_vision_model,.*pooling='pooler'"
    ):
        TransformersEncoder(str(tmp_path))
    assert_gives(
        made(tmp_path, pooling="mean"), lambda images: model(images).last_hidden_state.mean(1), random_images(64)
    )


def test_settings_are_the_image_processor_s(tmp_path):
    write(tmp_path, "vit")
    settings = TransformersEncoder.data_settings(str(tmp_path))
    assert (settings.size, settings.resize, settings.interpolation) == (32, 36, "bicubic")
    assert (settings.mean, settings.std) == ((127.5, 127.5, 63.75), (127.5,) * 3)
    squeezed = dict(image_processor_type="ViTImageProcessor", size=dict(height=40, width=40), image_mean=[0.5] * 3,
                    image_std=[0.5] * 3, resample=2, do_resize=True, do_normalize=True)  # fmt: skip
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(squeezed))
    settings = TransformersEncoder.data_settings(str(tmp_path))
    assert (settings.size, settings.resize, settings.interpolation) == (40, (40, 40), "bilinear")
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match=r"does not say how images must look.*Give settings=dict"):
        TransformersEncoder(str(tmp_path))
    told = dict(size=32, mean=(0.0,) * 3, std=(1.0,) * 3, interpolation="bicubic")
    assert TransformersEncoder(str(tmp_path), settings=told).settings.size == 32


def test_weights_of_a_file_and_missing_ones(tmp_path):
    model = write(tmp_path, "dinov2", transformers.AutoModelForImageClassification)
    torch.save(model.state_dict(), tmp_path / "mine.pth")
    for file in ("mine.pth", "model.safetensors"):  # the names of this version, and those of the hub's files
        by_file = made(tmp_path, weights=str(tmp_path / file))
        assert_gives(by_file, lambda images: model.dinov2(images).last_hidden_state[:, 0], random_images(32))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="cannot be downloaded: OSError"):
        made(tmp_path)
    token = model.state_dict()["dinov2.embeddings.cls_token"]
    torch.save({"embeddings.cls_token": token}, tmp_path / "mine.pth")
    with pytest.raises(ValueError, match=r"does not fit this Dinov2Model: \d+ weights are missing in the file: .*more"):
        made(tmp_path, weights=str(tmp_path / "mine.pth"))
    torch.save({"embeddings.cls_token": token[..., :3]}, tmp_path / "mine.pth")
    with pytest.raises(ValueError, match=r"mine\.pth does not fit this Dinov2Model"):
        made(tmp_path, weights=str(tmp_path / "mine.pth"))
    with pytest.raises(ValueError, match="has no 'drop_pth_rate'"):
        TransformersEncoder(str(tmp_path), drop_pth_rate=0.1)
