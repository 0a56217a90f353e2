import os
import re
from pathlib import Path

import pytest
import torch
import torchvision
from mmengine.registry import DefaultScope
from torch import nn

from hierpretrain.apis import check_checkpoint, load_config
from hierpretrain.models import HierarchicalContrastive, select_weights
from hierpretrain.registry import MODELS

BASES = Path(__file__).parents[2] / "configs/_base_/models"

EXTRA = {  # what else is in the files of Towers of Babel
    "aspp.conv1.weight": torch.zeros(2),
    "fc8_skip.0.weight": torch.zeros(2),
    "fc8_x.weight": torch.zeros(2),
    "shallow_mask.fc.weight": torch.zeros(2),
    "sg.conv1.weight": torch.zeros(2),
    "last_conv.0.weight": torch.zeros(2),
    "decoder.layer1.0.conv1.weight": torch.zeros(2),
    "_aff.weight": torch.zeros(2),
}


@pytest.fixture(scope="module")
def towers():
    """A ResNet-18 of torchvision's whose last stage keeps the resolution, as the encoder of Towers of Babel."""
    torch.manual_seed(0)
    resnet = torchvision.models.resnet18()
    for module in resnet.modules():
        if isinstance(module, nn.BatchNorm2d):  # else the identity
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    resnet.layer4[0].conv1.stride = resnet.layer4[0].downsample[0].stride = (1, 1)
    return resnet.eval()


def encoder(towers):
    return {name: tensor for name, tensor in towers.state_dict().items() if not name.startswith("fc.")}


def prefixed(prefix, weights):
    return {prefix + name: tensor for name, tensor in weights.items()}


def load(path, depth=18, strides=(1, 2, 2, 1), **options):
    torch.manual_seed(1)
    init_cfg = dict(type="Pretrained", checkpoint=str(path), **options)
    backbone = dict(type="ResNet", depth=depth, strides=strides, frozen_stages=4, init_cfg=init_cfg)
    model = HierarchicalContrastive(backbone)
    model.init_weights()
    return model.eval()


FORMATS = {
    "bare": lambda weights: weights | EXTRA,
    "data parallel": lambda weights: prefixed("module.", weights | EXTRA),
    "classifier": lambda weights: prefixed("model_ft.", weights) | {"model_ft.fc.weight": torch.zeros(2)},
    "classifier, data parallel": lambda weights: prefixed("module.model_ft.", weights),
    "plain CAM": lambda weights: weights | {"fc8.weight": torch.zeros(2)},
    "mmpretrain": lambda weights: {"meta": {}, "state_dict": prefixed("backbone.", weights)},
    "hierpretrain": lambda weights: {
        "meta": {"epoch": 3},
        "state_dict": prefixed("backbone.", weights) | {"projection.layers.0.weight": torch.zeros(2)},
        "optimizer": {"state": {}},
    },
    "without counts": lambda weights: {name: w for name, w in weights.items() if "num_batches" not in name},
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("scope", ["hierpretrain", "mmengine"])
def test_every_format_gives_the_outputs_of_the_network_that_was_saved(towers, form, scope, tmp_path):
    torch.save(FORMATS[form](encoder(towers)), tmp_path / "x.pth")
    with DefaultScope.overwrite_default_scope(scope):
        model = load(tmp_path / "x.pth")
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = nn.Sequential(*list(towers.children())[:-2])(images)  # all but the pooling and the classifier
        (maps,) = model.backbone(images)
        torch.testing.assert_close(maps, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(model.extract_feat(images), expected.mean((2, 3)), rtol=1e-5, atol=1e-5)
    assert maps.shape == (2, 512, 4, 4)


def test_the_base_of_towers_of_babel_makes_a_checkpoint_to_evaluate(towers, tmp_path):
    torch.save(encoder(towers) | EXTRA, tmp_path / "x.pth")
    options = {"model.backbone.depth": 18, "model.backbone.init_cfg.checkpoint": str(tmp_path / "x.pth")}
    config = load_config(BASES / "towers_resnet50.py", options)
    model = MODELS.build({**config.model, "_scope_": "hierpretrain"})
    with pytest.raises(ValueError, match="is damaged or no checkpoint"):
        check_checkpoint(model, str(tmp_path / "x.pth"))
    model.init_weights()
    torch.save({"state_dict": model.state_dict()}, tmp_path / "towers.pth")
    check_checkpoint(model, str(tmp_path / "towers.pth"))
    (maps,) = model.eval().backbone(torch.zeros(1, 3, 64, 64))
    assert maps.shape == (1, 512, 4, 4)


@pytest.mark.parametrize("base", ["resnet50_frozen", "towers_resnet50", "vgg16_fc"])
def test_the_bases_are_frozen_whole_and_hang_together(base):
    config = load_config(BASES / f"{base}.py")
    with torch.device("meta" if base == "vgg16_fc" else "cpu"):  # mmpretrain's ResNet cannot be built on the former
        model = MODELS.build({**config.model, "_scope_": "hierpretrain"})
        embedding = model(torch.zeros(2, 3, 64, 64))
    assert model.frozen
    assert embedding.shape == (2, dict(resnet50_frozen=128, towers_resnet50=2048, vgg16_fc=4096)[base])


def test_the_stride_of_the_last_stage_is_not_in_the_file(towers, tmp_path):
    torch.save(encoder(towers), tmp_path / "x.pth")
    images = torch.randn(1, 3, 64, 64)
    assert load(tmp_path / "x.pth", strides=(1, 2, 2, 2)).backbone(images)[0].shape == (1, 512, 2, 2)


def test_a_given_prefix_is_the_only_one(towers, tmp_path):
    weights = encoder(towers)
    other = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
    torch.save(other | prefixed("momentum.", weights), tmp_path / "x.pth")
    for prefix in ("momentum.", "momentum"):
        loaded = load(tmp_path / "x.pth", prefix=prefix).backbone
        assert torch.equal(loaded.conv1.weight, towers.conv1.weight)
    with pytest.raises(ValueError, match=r"lacks .* of this ResNet under 'teacher', the first of them conv1\.weight"):
        load(tmp_path / "x.pth", prefix="teacher")


def test_of_the_places_where_names_are_found_the_fullest_counts():
    weights = {"a": 1, "backbone.a": 2, "backbone.b": 3, "c": 4}
    assert select_weights(weights, ["a", "b"]) == {"a": 2, "b": 3}
    assert select_weights(weights, ["a"]) == {"a": 1}
    assert select_weights({"state_dict": weights, "a": 5}, ["a", "c"]) == {"a": 1, "c": 4}
    assert select_weights({"module.a": 1, "b": 2}, ["a", "b"]) == {"b": 2}  # not of DataParallel


def test_an_incomplete_or_misshapen_checkpoint_is_named(towers, tmp_path):
    weights = encoder(towers)
    path = tmp_path / "x.pth"
    torch.save({name: w for name, w in weights.items() if name != "layer3.1.bn2.running_mean"}, path)
    with pytest.raises(ValueError, match=r"x\.pth lacks 1 of the 120 weights of this ResNet, the first of them layer3"):
        load(path)
    torch.save(weights | {"layer2.0.conv1.weight": torch.zeros(128, 64, 1, 1)}, path)
    wrong = r"x\.pth is no checkpoint of this ResNet: 1 weights are of another shape: layer2\.0\.conv1\.weight is \(128"
    with pytest.raises(ValueError, match=wrong):
        load(path)
    torch.save(weights, path)
    with pytest.raises(ValueError, match=r"the file has conv1\.weight, bn1\.weight, bn1\.bias, \.\.\. Give the"):
        load(path, depth=34)
    torch.save(prefixed("encoder.", weights), path)
    with pytest.raises(ValueError, match=r"the file has encoder\.conv1\.weight, .*, or the prefix of its names"):
        load(path)


class Malicious:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def test_missing_damaged_and_hostile_files_are_named(towers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"there is no checkpoint no\.pth; give a file or an address"):
        load("no.pth")
    torch.save(encoder(towers), "x.pth")
    with open("x.pth", "r+b") as file:
        file.truncate(1000)
    with pytest.raises(ValueError, match=r"x\.pth is damaged or holds more than weights"):
        load("x.pth")
    torch.save(encoder(towers) | {"x": Malicious()}, "x.pth")
    with pytest.raises(
        ValueError, match=r"x\.pth is damaged or holds more than weights: unsupported GLOBAL \w+\.system"
    ) as told:
        load("x.pth")
    assert "weights_only" not in str(told.value)  # torch's advice, which would run it
    assert not os.path.exists("pwned")
    for data, message in {
        b"": "it is empty",
        b"<!DOCTYPE html>": "it begins with b'<!DOCTYPE ht', as no file of torch.save does",
        b"version https://git-lfs.github.com/spec/v1\n": "it is a pointer of Git LFS in place of the file",
    }.items():
        Path("x.pth").write_bytes(data)
        with pytest.raises(ValueError, match=rf"x\.pth is damaged or holds more than weights: {re.escape(message)}"):
            load("x.pth")
    for nothing in ([torch.zeros(1)], {"epoch": 3}, {"state_dict": [torch.zeros(1)]}):
        torch.save(nothing, "x.pth")
        with pytest.raises(ValueError, match=r"x\.pth holds no weights by name"):
            load("x.pth")


def test_a_frozen_resnet_keeps_weights_and_statistics_while_training(towers, tmp_path):
    torch.save(encoder(towers), tmp_path / "x.pth")
    model = load(tmp_path / "x.pth").train()
    assert model.frozen
    assert not any(module.training for module in model.backbone.modules())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert not model.extract_feat(torch.randn(4, 3, 32, 32)).requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
