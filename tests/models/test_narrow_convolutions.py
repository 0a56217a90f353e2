import copy

import pytest
import torch
from torch import nn

from hierpretrain.models import HierarchicalContrastive
from hierpretrain.models.narrow_convolutions import step_before_narrow_convolutions


@pytest.mark.parametrize("size", [7, 56])
@pytest.mark.parametrize("stride", [2, 3, (1, 2)])
@pytest.mark.parametrize("channels", [1, 8, 15])
def test_the_values_and_gradients_stay(size, stride, channels):
    torch.manual_seed(0)
    plain = nn.Conv2d(channels, 12, 1, stride=stride).double()
    stepped = nn.Sequential(copy.deepcopy(plain)).to(memory_format=torch.channels_last)
    assert step_before_narrow_convolutions(stepped) == 1
    images = torch.randn(4, channels, size, size, dtype=torch.float64)
    ours = images.clone(memory_format=torch.channels_last).requires_grad_()
    theirs = images.clone().requires_grad_()  # in the usual layout, which torch computes right
    torch.testing.assert_close(stepped(ours), plain(theirs))
    weights = torch.randn_like(plain(theirs))
    (stepped(ours) * weights).sum().backward()
    (plain(theirs) * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(stepped[0].weight.grad, plain.weight.grad)
    assert stepped.state_dict().keys() == {"0.weight", "0.bias"}
    assert step_before_narrow_convolutions(stepped) == 0


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 8, 1),
        nn.Conv2d(16, 8, 1, stride=2),
        nn.Conv2d(8, 8, 3, stride=2, padding=1),
        nn.Conv2d(8, 8, 1, stride=2, padding=1),
        nn.Conv2d(8, 8, 1, stride=2, groups=8),
    ],
)
def test_others_are_left_alone(layer):
    stride = layer.stride
    assert step_before_narrow_convolutions(layer) == 0
    assert layer.stride == stride


def test_a_narrow_network_trains_with_channels_last():
    """It died of a segmentation fault."""
    torch.manual_seed(0)
    backbone = dict(type="ResNet", depth=18, base_channels=8, stem_channels=8)
    model = HierarchicalContrastive(backbone=backbone, channels_last=True)
    images = torch.randn(16, 3, 224, 224).to(memory_format=torch.channels_last)
    model.backbone(images)[-1].sum().backward()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in model.parameters())
