import pytest
import torch
from torch import nn

from hierpretrain.models import HierarchicalContrastive
from hierpretrain.models.baselines import HAPPIERLoss
from hierpretrain.registry import MODELS
from tests.models.test_stages import SMALL


@MODELS.register_module()
class OneSize(nn.Module):
    """A backbone that reads images of one size, draws random numbers, and has batch statistics."""

    def __init__(self, size, mean=0.0):
        super().__init__()
        self.layer, self.size = nn.Sequential(nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6)), size

    def forward(self, inputs):
        if inputs.shape[2] != self.size:
            raise RuntimeError(f"only {self.size}")
        return self.layer(inputs) + torch.rand(())


def test_projection_and_loss_take_the_width_of_what_they_get():
    classifier = dict(type="LevelCrossEntropyLoss", num_classes=3)
    both = HierarchicalContrastive(SMALL, dict(type="ProjectionHead", out_channels=5), classifier)
    assert both.projection.layers[0].weight.shape == (64, 64)
    assert both.loss_module.classifier.weight.shape == (3, 5)
    assert HierarchicalContrastive(SMALL, loss=classifier).loss_module.classifier.weight.shape == (3, 64)
    neck = dict(type="VGG16FullyConnected", in_channels=64, out_channels=7)
    assert HierarchicalContrastive(SMALL, neck=neck, loss=classifier).loss_module.classifier.weight.shape == (3, 7)


@pytest.mark.parametrize("size", [64, 32])
def test_finding_it_changes_nothing(size):
    torch.manual_seed(0)
    expected = nn.Conv2d(3, 6, 1), torch.rand(3)
    torch.manual_seed(0)
    model = HierarchicalContrastive(dict(type="OneSize", size=size), dict(type="SameWidth"))
    assert torch.equal(torch.rand(3), expected[1])
    assert torch.equal(model.backbone.layer[0].weight, expected[0].weight)
    assert model.backbone.layer[1].num_batches_tracked == 0
    assert all(module.training for module in model.modules())
    assert model.projection.in_channels == 6


@MODELS.register_module()
class SameWidth(nn.Identity):
    """A projection that does nothing, and notes its width."""

    def __init__(self, in_channels):
        super().__init__()
        self.in_channels = in_channels


def test_a_wrong_number_is_an_error_with_the_right_one():
    with pytest.raises(
        ValueError, match=r"model\.projection\.in_channels is 32, but its input has 64 values; leave it"
    ):
        HierarchicalContrastive(SMALL, dict(type="ProjectionHead", in_channels=32))
    loss = dict(type="LevelCrossEntropyLoss", num_classes=3, in_channels=64)
    with pytest.raises(ValueError, match=r"model\.loss\.in_channels is 64, but its input has 5 values"):
        HierarchicalContrastive(SMALL, dict(type="ProjectionHead", out_channels=5), loss)


def test_a_backbone_that_reads_none_of_the_images_tried_wants_the_number():
    backbone = dict(type="OneSize", size=100)
    with pytest.raises(
        ValueError, match=r"model\.projection needs in_channels, the width of its input: .*only 100\. Set"
    ):
        HierarchicalContrastive(backbone, dict(type="ProjectionHead"))
    assert HierarchicalContrastive(backbone, dict(type="ProjectionHead", in_channels=6)).projection is not None


def test_grey_images_are_tried_for_a_preprocessor_of_one_channel():
    grey = dict(type="MultiViewPreprocessor", mean=(127.5,), std=(127.5,))
    model = HierarchicalContrastive(dict(SMALL, in_channels=1), dict(type="ProjectionHead"), data_preprocessor=grey)
    assert model.projection.layers[0].in_features == 64
    lenet = HierarchicalContrastive(dict(type="LeNet5"), dict(type="ProjectionHead"), data_preprocessor=grey)
    assert lenet.projection.layers[0].in_features == 120


@MODELS.register_module()
class OwnLoss(HAPPIERLoss):
    """Hands on the options that it does not have itself, in_channels among them."""

    def __init__(self, *, extra=1.0, **options):
        super().__init__(**options)
        self.extra = extra


@pytest.mark.parametrize("joint", [False, True])
def test_a_loss_that_hands_its_options_on_gets_the_width(joint):
    loss = dict(type="OwnLoss", num_classes=3, extra=2.0)
    if joint:
        loss = dict(type="HierarchicalJointLoss", num_classes=[2, 3], contrastive=loss)
    model = HierarchicalContrastive(SMALL, loss=loss)
    (own,) = (part for part in model.modules() if isinstance(part, OwnLoss))
    assert (own.extra, own.proxies.shape) == (2.0, (3, 64))
