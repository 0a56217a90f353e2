"""Losses of cosines: features and learnt proxies of any length that their type can express give one value."""

import pytest
import torch

from hierpretrain.models import HierarchicalContrastive
from hierpretrain.registry import MODELS
from tests.models.test_wrong_features import FEATURES, LABELS, TREE

LENGTHS = [1e-30, 1e18, 1e20, 1e30]
OF_PROXIES = [
    dict(type="CSLLoss", num_classes=4, in_channels=16),
    dict(type="CSLLoss", num_classes=6, in_channels=16, level=None),
    dict(type="HAPPIERLoss", num_classes=4, in_channels=16),
    dict(type="LevelProxyLoss", num_classes=[2, 4], in_channels=16),
    dict(type="HierarchicalJointLoss", num_classes=[2, 4], in_channels=16, heads="cosine"),
]


def build(config):
    torch.manual_seed(0)
    loss = MODELS.build(dict(config))
    loss.set_taxonomy(TREE)
    return loss


def value_and_gradient(loss, features):
    features = features.clone().requires_grad_()
    value = loss(features, LABELS, torch.arange(8))
    value.backward()
    return value.detach(), features.grad


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("config", OF_PROXIES, ids=lambda config: config["type"])
def test_learnt_proxies_of_any_length(config, length):
    loss = build(config)
    expected, gradient = value_and_gradient(loss, FEATURES)
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.mul_(length)
    found, found_gradient = value_and_gradient(loss, FEATURES)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(found_gradient, gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("length", LENGTHS)
def test_features_of_any_length_for_the_joint_loss_of_cosines(length):
    loss = build(OF_PROXIES[-1])
    expected, gradient = value_and_gradient(loss, FEATURES)
    found, found_gradient = value_and_gradient(loss, FEATURES * length)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(found_gradient.double() * length, gradient.double(), rtol=1e-3, atol=1e-4)


class Scaled(torch.nn.Module):
    """A backbone that gives the mean color of an image, times a number."""

    length = 1.0

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, images):
        return images.mean((2, 3)) * self.weight * self.length


def test_an_encoder_of_great_outputs_embeds_and_learns():
    if "ScaledForTest" not in MODELS.module_dict:
        MODELS.register_module(name="ScaledForTest", module=Scaled)
    model = HierarchicalContrastive(dict(type="ScaledForTest"), loss=dict(type="SupConLoss"))
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = model.embed(images)
    for length in LENGTHS:
        model.backbone.length = length
        torch.testing.assert_close(model.embed(images), expected)
