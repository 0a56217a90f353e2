import sys

import pytest
import torch

from hierpretrain.models import HierarchicalContrastive, TimmEncoder
from tests.models.encoders.images import assert_gives, assert_trains, random_images

timm = pytest.importorskip("timm")


def vit_cls(network, images):
    return network.fc_norm(network.forward_features(images)[:, 0])


def mean_of_the_map(network, images):
    return network.forward_features(images).mean((2, 3))


SMALL = {  # name -> options, size, what its head reads, by hand
    "resnet10t": (dict(), 64, mean_of_the_map),
    "vit_tiny_patch16_224": (dict(img_size=32, depth=2), 32, vit_cls),
    "vit_small_patch14_dinov2": (dict(img_size=28, depth=1), 28, vit_cls),
    "vit_base_patch16_siglip_224": (
        dict(img_size=32, depth=1, embed_dim=48),
        32,
        lambda network, images: network.attn_pool(network.forward_features(images)),
    ),
    "convnext_atto": (
        dict(),
        64,
        lambda network, images: network.head.norm(network.forward_features(images).mean((2, 3), keepdim=True)).flatten(
            1
        ),
    ),
    "swin_tiny_patch4_window7_224": (
        dict(img_size=64, window_size=2, depths=(1, 1, 1, 1), embed_dim=16, num_heads=(1, 1, 1, 1)),
        64,
        lambda network, images: network.forward_features(images).mean((1, 2)),
    ),
}


@pytest.mark.parametrize("name", SMALL)
def test_the_vector_is_what_the_head_of_the_family_reads(name):
    options, size, by_hand = SMALL[name]
    encoder = TimmEncoder(name, weights=False, **options)
    assert_gives(encoder, lambda images: by_hand(encoder.network, images), random_images(size))
    assert_trains(encoder, random_images(size))
    model = HierarchicalContrastive(
        dict(type="TimmEncoder", model_name=name, weights=False, **options), dict(type="ProjectionHead")
    )
    assert model.projection.layers[0].in_features == encoder(random_images(size)).shape[1]


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224", "vit_base_patch16_siglip_224.webli"])
def test_settings_are_timm_s_own(name):
    settings = TimmEncoder.data_settings(name)
    told = timm.data.resolve_model_data_config(timm.create_model(name))
    assert settings.size == told["input_size"][1]
    assert settings.mean == pytest.approx([255 * value for value in told["mean"]])
    assert settings.std == pytest.approx([255 * value for value in told["std"]])
    assert settings.interpolation == told["interpolation"]
    assert settings.resize == int(settings.size / told["crop_pct"])
    assert settings.fixed_size == name.startswith("vit")


def test_settings_of_other_sizes():
    assert TimmEncoder.data_settings("vit_tiny_patch16_224", img_size=64).size == 64
    assert not TimmEncoder.data_settings("vit_tiny_patch16_224", dynamic_img_size=True).fixed_size


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_of_a_file(tmp_path, suffix):
    torch.manual_seed(1)
    saved = timm.create_model("resnet10t")  # with its classifier, which is passed over
    file = tmp_path / f"mine.{suffix}"
    if suffix == "pth":
        torch.save({"state_dict": {f"module.{k}": v for k, v in saved.state_dict().items()}}, file)
    else:
        pytest.importorskip("safetensors.torch").save_file(saved.state_dict(), file)
    encoder = TimmEncoder("resnet10t", weights=str(file))
    encoder.init_weights()
    saved.reset_classifier(0)
    assert_gives(encoder, saved.eval(), random_images(64))


def test_errors_say_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"timm has no model 'resnet10'; did you mean 'resnet1"):
        TimmEncoder("resnet10")
    with pytest.raises(ValueError, match=r"timm has no weights 'nope' of resnet18"):
        TimmEncoder("resnet18.nope")
    with pytest.raises(ValueError, match=r"there is no file of weights .*none\.pth"):
        TimmEncoder("resnet10t", weights="none.pth").init_weights()
    (tmp_path / "bad.pth").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"bad\.pth is damaged or holds more than weights"):
        TimmEncoder("resnet10t", weights=str(tmp_path / "bad.pth")).init_weights()
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"bad\.safetensors is damaged"):
        TimmEncoder("resnet10t", weights=str(tmp_path / "bad.safetensors")).init_weights()
    torch.save([1], tmp_path / "none.pth")
    with pytest.raises(ValueError, match="holds no weights by name"):
        TimmEncoder("resnet10t", weights=str(tmp_path / "none.pth")).init_weights()
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        ImportError, match=r"TimmEncoder needs the package timm .*: pip install 'hierpretrain\[encoders\]'"
    ):
        TimmEncoder("resnet10t")


def test_what_cannot_be_downloaded_is_an_error_with_a_remedy(monkeypatch):
    encoder = TimmEncoder("resnet10t")
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: (_ for _ in ()).throw(OSError("no network")))
    with pytest.raises(
        ValueError, match=r"resnet10t cannot be downloaded: OSError: no network. Correct the name, or the"
    ):
        encoder.init_weights()
