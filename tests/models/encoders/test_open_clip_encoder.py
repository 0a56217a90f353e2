import json

import pytest
import torch

from hierpretrain.models import HierarchicalContrastive, OpenCLIPEncoder
from tests.models.encoders.images import assert_gives, assert_trains, random_images

open_clip = pytest.importorskip("open_clip")

TEXT = dict(context_length=8, vocab_size=20, width=16, heads=2, layers=1)
SMALL = {
    "vit": dict(embed_dim=16, vision_cfg=dict(image_size=32, layers=2, width=64, patch_size=16), text_cfg=TEXT),
    "resnet": dict(embed_dim=16, vision_cfg=dict(image_size=64, layers=[1, 1, 1, 1], width=16), text_cfg=TEXT),
    "siglip": dict(
        embed_dim=192,
        custom_text=True,
        vision_cfg=dict(
            image_size=32, timm_model_name="vit_tiny_patch16_siglip_224", timm_pool="map", timm_proj="none"
        ),
        text_cfg=TEXT,
    ),
}
PREPROCESSING = dict(mean=[0.5] * 3, std=[0.5] * 3, interpolation="bicubic", resize_mode="squash")


@pytest.fixture(params=["vit", "resnet"])
def folder(request, tmp_path):
    """A folder as open_clip saves it, and its model."""
    torch.manual_seed(0)
    config = dict(model_cfg=SMALL[request.param], preprocess_cfg=PREPROCESSING)
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    model = open_clip.create_model(f"local-dir:{tmp_path}", load_weights=False)
    torch.save(model.state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    return f"local-dir:{tmp_path}", model.eval(), SMALL[request.param]["vision_cfg"]["image_size"]


def test_vectors_are_those_of_encode_image(folder):
    name, model, size = folder
    encoder = OpenCLIPEncoder(name, weights=True)
    encoder.init_weights()
    assert_gives(encoder, model.encode_image, random_images(size))
    assert_trains(encoder, random_images(size))
    by_file = OpenCLIPEncoder(name, weights=f"{name.partition(':')[2]}/open_clip_pytorch_model.bin")
    by_file.init_weights()
    assert_gives(by_file, model.encode_image, random_images(size))
    made = HierarchicalContrastive(
        dict(type="OpenCLIPEncoder", model_name=name, weights=None), dict(type="ProjectionHead")
    )
    assert made.projection.layers[0].in_features == 16


def test_settings(folder):
    name, _, size = folder
    settings = OpenCLIPEncoder.data_settings(name, True)
    assert (settings.size, settings.resize, settings.mean) == (size, (size, size), (127.5,) * 3)
    openai = OpenCLIPEncoder.data_settings("ViT-B-32-quickgelu", "openai")
    assert openai.mean == pytest.approx([255 * value for value in open_clip.OPENAI_DATASET_MEAN])
    assert (openai.resize, openai.fixed_size) == (224, True)
    siglip = OpenCLIPEncoder.data_settings("ViT-B-16-SigLIP", "webli")
    assert (siglip.resize, siglip.mean) == ((224, 224), (127.5,) * 3)


def test_the_projection_to_the_joint_space_is_trained_last(tmp_path):
    (tmp_path / "open_clip_config.json").write_text(json.dumps(dict(model_cfg=SMALL["vit"])))
    encoder = OpenCLIPEncoder(f"local-dir:{tmp_path}", weights=None, frozen_stages=2)
    trained = {name for name, parameter in encoder.network.named_parameters() if parameter.requires_grad}
    assert trained == {"proj", "ln_post.weight", "ln_post.bias"}


def test_the_activation_is_the_weights(tmp_path):
    quick = [OpenCLIPEncoder("ViT-B-32", tag).network.transformer.resblocks[0].mlp.gelu for tag in ("openai", None)]
    assert [type(part).__name__ for part in quick] == ["QuickGELU", "GELU"]


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="open_clip has no model 'ViT-B-23'; did you mean 'ViT-B-32'"):
        OpenCLIPEncoder("ViT-B-23", None)
    with pytest.raises(
        ValueError, match=r"weights of ViT-B-32 must be a file, None or one of the tags 'openai'.*'nope'"
    ):
        OpenCLIPEncoder("ViT-B-32", "nope")
