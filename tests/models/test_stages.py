import math
from collections import OrderedDict

import pytest
import torch
import torchvision
from mmpretrain.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from hierpretrain.models import HierarchicalContrastive
from hierpretrain.models.stages import freeze_stages, keep_frozen_parts_in_evaluation, layer_depths, stages

DRAWN = ("vgg11", "googlenet", "inception_v3")  # whose weights take long to draw
SMALL = dict(type="ResNet", depth=18, base_channels=8, stem_channels=8)


def of_torchvision(name):
    return torchvision.models.get_model(name, weights=None, **dict(init_weights=False) if name in DRAWN else {})


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("resnet18", [f"layer{i}" for i in range(1, 5)]),
        ("regnet_y_400mf", [f"trunk_output.block{i}" for i in range(1, 5)]),
        ("densenet121", [f"features.denseblock{i}" for i in range(1, 5)]),
        ("mobilenet_v2", [f"features.{i}" for i in range(19)]),
        ("convnext_tiny", [f"features.{i}" for i in range(8)]),
        ("swin_t", [f"features.{i}" for i in range(8)]),
        ("vit_b_32", [f"encoder.layers.encoder_layer_{i}" for i in range(12)]),
        ("googlenet", [f"inception{name}" for name in "3a 3b 4a 4b 4c 4d 4e 5a 5b".split()]),
        ("inception_v3", [f"Mixed_{name}" for name in "5b 5c 5d 6a 6b 6c 6d 6e 7a 7b 7c".split()]),
    ],
)
def test_stages_of_torchvision_s_families(name, names):
    assert [name for name, _ in stages(of_torchvision(name))] == names


@pytest.mark.parametrize(
    ("name", "options", "names"),
    [
        ("resnet10t", {}, [f"layer{i}" for i in range(1, 5)]),
        ("vit_tiny_patch16_224", dict(depth=3), [f"blocks.{i}" for i in range(3)]),
        ("convnext_atto", {}, [f"stages.{i}" for i in range(4)]),
        ("tf_efficientnet_lite0", {}, [f"blocks.{i}" for i in range(7)]),
        ("swin_tiny_patch4_window7_224", {}, [f"layers.{i}" for i in range(4)]),
    ],
)
def test_stages_of_timm_s_families(name, options, names):
    timm = pytest.importorskip("timm")
    assert [name for name, _ in stages(timm.create_model(name, **options))] == names


def test_what_is_before_between_and_behind_the_stages():
    between = nn.Sequential()
    for name in ("stem", "stage1", "between", "stage2", "head"):
        between.add_module(name, nn.Linear(2, 2) if "stage" not in name else nn.Sequential(*[nn.Linear(2, 2)] * 2))
    between.stage1, between.stage2 = (nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)) for _ in range(2))
    depths = {name.split(".")[0]: depth for name, depth in layer_depths(between).items()}
    assert depths == dict(stem=0, stage1=1, between=1, stage2=2, head=3)
    assert set(layer_depths(nn.Linear(2, 2)).values()) == {0}
    assert stages(nn.Linear(2, 2)) == stages(nn.ReLU()) == []


@pytest.mark.parametrize("number", [-1, 0, 2, 4, 5])
def test_the_first_stages_are_frozen_and_keep_their_statistics(number):
    encoder = of_torchvision("resnet18")
    freeze_stages(encoder, number)
    keep_frozen_parts_in_evaluation(encoder.train())
    parts = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"]
    depth = dict(conv1=0, bn1=0, layer1=1, layer2=2, layer3=3, layer4=4, fc=5)
    for part in parts:
        module = encoder.get_submodule(part)
        frozen = depth[part] <= number
        assert {parameter.requires_grad for parameter in module.parameters()} == {not frozen}
        assert module.training == (not frozen)


@pytest.mark.parametrize("number", [-2, 6])
def test_there_are_only_so_many_stages(number):
    with pytest.raises(
        ValueError, match=rf"must be -1 \(nothing\) to 5 \(all\) for this ResNet, .* layer4; it is {number}"
    ):
        freeze_stages(of_torchvision("resnet18"), number)


def test_rates_of_the_layers_are_as_by_hand():
    model = HierarchicalContrastive(
        SMALL, dict(type="ProjectionHead"), dict(type="LevelCrossEntropyLoss", num_classes=2)
    )
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
        dict(
            type="LearningRateDecayOptimWrapperConstructor",
            optim_wrapper_cfg=dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=0.1, weight_decay=0.05)),
            paramwise_cfg=dict(layer_decay_rate=0.5),
        )
    )
    rates = {group["param_name"]: group["lr"] for group in constructor(model).optimizer.param_groups}
    assert rates.keys() == dict(model.named_parameters()).keys()
    layers = [
        "backbone.conv1",
        "backbone.layer1",
        "backbone.layer2",
        "backbone.layer3",
        "backbone.layer4",
        "projection",
    ]
    for name, rate in rates.items():
        name = name.replace("backbone.bn1", "backbone.conv1").replace("loss_module", "projection")
        depth = next(i for i, layer in enumerate(layers) if name.startswith(layer))
        assert math.isclose(rate, 0.1 * 0.5 ** (5 - depth)), name


def test_the_prefix_is_no_part_of_the_name():
    model = HierarchicalContrastive(SMALL)
    assert model.get_layer_depth("module.backbone.layer2.0.bn1.bias", "module.") == (2, 6)


def test_tokens_are_not_averaged_over_their_values():
    pytest.importorskip("timm")
    pooled = dict(type="GlobalAveragePooling", dim=1)
    vit = dict(type="TIMMBackbone", model_name="vit_tiny_patch16_224", depth=1)
    with pytest.raises(ValueError, match=r"197 tokens of 192 values, .* would average the values .*TimmEncoder"):
        HierarchicalContrastive(vit, neck=pooled)(torch.zeros(1, 3, 224, 224))
    with pytest.raises(ValueError, match=r"must be \(N, D\) or \(N, D, H, W\); it is \(1, 197, 192\).*TimmEncoder"):
        HierarchicalContrastive(vit)(torch.zeros(1, 3, 224, 224))
    arch = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32)
    raw = dict(type="VisionTransformer", arch=arch, img_size=32, patch_size=16, out_type="raw")
    with pytest.raises(ValueError, match="5 tokens of 16 values"):
        HierarchicalContrastive(raw, neck=pooled)(torch.zeros(1, 3, 32, 32))


def test_numbered_parts_of_one_block_are_no_stages_and_without_stages_nothing_can_be_frozen():
    def block():
        return nn.ModuleDict(dict(branch1=nn.Linear(2, 2), branch2=nn.Linear(2, 2)))

    branches = nn.Sequential(OrderedDict(first=block(), second=block(), third=block()))
    assert stages(branches) == []
    message = r"frozen_stages must be -1 \(nothing\) for this Sequential, in which no stages are found; it is 0. Set"
    with pytest.raises(ValueError, match=message):
        freeze_stages(branches, 0)
    freeze_stages(branches, -1)
    assert all(parameter.requires_grad for parameter in branches.parameters())
