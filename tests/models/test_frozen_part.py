import pytest
import timm
import torch
from mmpretrain.models.backbones import ConvNeXt, MobileNetV2, ResNet, SwinTransformer, VisionTransformer
from torch import nn

from hierpretrain.models.frozen_part import FrozenPart
from hierpretrain.models.stages import freeze_stages, keep_frozen_parts_in_evaluation, stages

ENCODERS = {
    "ResNet": lambda: ResNet(18, base_channels=8, stem_channels=8),
    "ResNet, two outputs": lambda: ResNet(18, base_channels=8, stem_channels=8, out_indices=(2, 3)),
    "ConvNeXt": lambda: ConvNeXt(dict(depths=[1, 1, 1, 1], channels=[8, 8, 16, 16])),
    "VisionTransformer": lambda: VisionTransformer(
        dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32), img_size=32, patch_size=8
    ),
    "MobileNetV2": lambda: MobileNetV2(widen_factor=0.25),
    "timm's EfficientNet": lambda: timm.models.efficientnet._gen_efficientnet_lite(
        "efficientnet_lite0", channel_multiplier=0.25, num_classes=0
    ),
    "timm's VisionTransformer": lambda: timm.models.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=16, depth=4, num_heads=2, num_classes=0
    ),
    "timm's ConvNeXt": lambda: timm.models.ConvNeXt(depths=(1, 1, 1, 1), dims=(8, 8, 16, 16), num_classes=0),
    "timm's ResNet": lambda: timm.models.ResNet(timm.models.resnet.BasicBlock, (1, 1, 1, 1), num_classes=0),
}


class Chain(nn.Module):
    """Three stages, of which a test changes what is needed."""

    def __init__(self, frozen=2):
        super().__init__()
        for number in (1, 2, 3):
            setattr(self, f"stage{number}", nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)))
        freeze_stages(self, frozen)

    def train(self, mode=True):
        super().train(mode)
        keep_frozen_parts_in_evaluation(self)
        return self

    def forward(self, x):
        return self.stage3(self.stage2(self.stage1(x)))


def made(name, frozen):
    torch.manual_seed(0)
    encoder = ENCODERS[name]()
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):  # statistics that have been taken, and branches that are on
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
    freeze_stages(encoder, frozen)
    own = encoder.train

    def train(mode=True):
        own(mode)
        keep_frozen_parts_in_evaluation(encoder)
        return encoder

    encoder.train = train
    return encoder.train()


def last(outputs):
    return outputs[-1] if isinstance(outputs, tuple | list) else outputs


HEADLESS = ("ResNet", "ResNet, two outputs", "timm's ResNet")  # nothing of theirs stands behind the last stage


@pytest.mark.parametrize(
    ("name", "from_the_end"), [(name, end) for name in ENCODERS for end in (0, 1, 2) if end or name not in HEADLESS]
)
def test_both_halves_are_the_whole_with_its_gradients(name, from_the_end):
    frozen = len(stages(ENCODERS[name]())) - from_the_end
    encoder = made(name, frozen)
    images = torch.randn(3, 3, 32, 32)
    part = FrozenPart(encoder)
    modes = [module.training for module in encoder.modules()]
    state = {key: tensor.clone() for key, tensor in encoder.state_dict().items()}
    part.prepare(images)
    assert part.name == stages(encoder)[frozen - 1][0]
    assert [module.training for module in encoder.modules()] == modes
    assert all(torch.equal(tensor, state[key]) for key, tensor in encoder.state_dict().items())

    def trained(outputs):
        encoder.zero_grad()
        last(outputs).square().sum().backward()
        gradients = {key: p.grad.clone() for key, p in encoder.named_parameters() if p.grad is not None}
        after = {key: tensor.clone() for key, tensor in encoder.state_dict().items()}
        encoder.load_state_dict(state)
        return last(outputs).detach(), gradients, after

    kept = part.features(images)
    assert not kept.requires_grad
    torch.manual_seed(1)
    whole = trained(encoder(images))
    torch.manual_seed(1)
    halves = trained(part.go_on(kept))
    torch.testing.assert_close(halves, whole, rtol=1e-5, atol=1e-5)
    assert halves[1]
    assert "forward" not in vars(part.stages[0])


def test_another_size_is_prepared_for_beside_the_first():
    encoder = made("ResNet", 3)
    part = FrozenPart(encoder)
    for size in (32, 64):
        part.prepare(torch.randn(2, 3, size, size))
    encoder.eval()
    for size in (64, 32):
        images = torch.randn(5, 3, size, size)
        torch.testing.assert_close(part.go_on(part.features(images))[0], encoder(images)[0])
    with pytest.raises(ValueError, match=r"ResNet was not prepared for features of \(32, 6, 6\) but for \(32, 2"):
        part.go_on(torch.zeros(1, 32, 6, 6))


def test_the_state_is_that_of_the_stem_and_the_frozen_stages():
    names = [name for name, _ in FrozenPart(made("timm's EfficientNet", 2)).state()]
    every = list(made("timm's EfficientNet", 2).state_dict())
    assert names == [name for name in every if name.startswith(("conv_stem.", "bn1.", "blocks.0.", "blocks.1."))]
    assert "bn1.running_mean" in names
    names = [name for name, _ in FrozenPart(made("timm's VisionTransformer", 1)).state()]
    assert {name.partition(".")[0] for name in names} == {"cls_token", "pos_embed", "patch_embed", "blocks"}
    assert not any(name.startswith(("blocks.1.", "norm")) for name in names)


def test_what_cannot_be_split_is_said():
    images = torch.randn(3, 3, 8, 8)
    with pytest.raises(ValueError, match=r"no first stages of the backbone Chain are frozen: 12 of .* first of"):
        FrozenPart(Chain(-1))
    with pytest.raises(ValueError, match=r"backbone Linear are frozen: 2 of .*weight and has no stages\. Freeze"):
        FrozenPart(nn.Linear(2, 2))

    def message(**changes):
        chain = Chain()
        for name, change in changes.items():
            setattr(chain, name, change.__get__(chain))
        with pytest.raises(ValueError, match="Chain") as caught:
            FrozenPart(chain.train()).prepare(images)
        return str(caught.value)

    around = message(forward=lambda self, x: self.stage3(self.stage2(self.stage1(x)) + x))
    assert "Chain gives something else from the kept output of stage2" in around
    assert "Freeze fewer stages, or all of the backbone, or remove FrozenFeaturesHook" in around
    assert "Chain does not run its frozen stage stage1 before stage2" in message(
        forward=lambda self, x: self.stage3(self.stage2(x))
    )
    assert "Chain did not run stage2, its last frozen" in message(forward=lambda self, x: self.stage1(x))
    assert "stage2, the last frozen stage of the backbone Chain, depends on parameters that are trained" in message(
        forward=lambda self, x: self.stage2(self.stage1(self.stage3(x)))
    )
    training = message(train=lambda self, mode=True: nn.Module.train(self, mode))
    assert "stage1.1, a frozen part of the backbone Chain, is in training mode while the backbone trains" in training
    assert "call hierpretrain.models.stages.keep_frozen_parts_in_evaluation" in training
    dropped = message(
        forward=lambda self, x: self.stage3(self.stage2(self.stage1(nn.functional.dropout(x, 0.5, self.training))))
    )
    assert "differs between training and evaluation: something before it, such as dropout" in dropped
    swin = SwinTransformer(dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1]), img_size=64, window_size=2)
    freeze_stages(swin, 2)
    swin.eval()
    with pytest.raises(ValueError, match=r"stages\.1, the last frozen stage of .* SwinTransformer, gives a tuple"):
        FrozenPart(swin).prepare(torch.randn(2, 3, 64, 64))
