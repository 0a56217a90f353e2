"""Stages that an encoder and its copy have in common run once, and change no bit."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from hierpretrain.models.pretrained_copy import PretrainedCopy
from tests.models.test_contrastive import make, trained


class Stages(nn.Module):
    """Numbered stages."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.Sequential(*[nn.Sequential(nn.Conv2d(3, 3, 1)) for _ in range(3)])

    def forward(self, images):
        for stage in self.stages:
            images = stage(images).sin()
        return images


class Overwriting(Stages):
    """After each stage comes what overwrites its output."""

    def forward(self, images):
        for stage in self.stages:
            images = stage(images).sin_()
        return images


class Twice(Stages):
    """Runs its stages twice, one after the other."""

    def forward(self, images):
        for stage in (*self.stages, *self.stages):
            images = stage(images).sin()
        return images


def counted(module):
    """Returns a list that grows by one with every call of a module as its class has it."""
    calls = []
    module.register_forward_pre_hook(lambda *_: calls.append(None))
    return calls


def both(before, encoder, images):
    with before.sharing_stages(encoder, images):
        return encoder(images), before.backbone(images)


def copied(encoder, changed=None):
    """Returns an encoder, changed in its last stage, and a copy of how it was."""
    torch.manual_seed(0)
    encoder = encoder.eval()
    before = PretrainedCopy(0.5, encoder, None)
    with torch.no_grad():
        for parameter in (encoder.stages[-1] if changed is None else changed(encoder)).parameters():
            parameter.add_(0.3)
    return encoder, before


@pytest.mark.parametrize("frozen_stages", [-1, 0, 1, 3])
def test_frozen_stages_run_once_and_embeddings_are_what_they_were(frozen_stages):
    backbone = dict(type="ResNet", depth=18, base_channels=8, stem_channels=8, frozen_stages=frozen_stages)
    model, images = make(backbone, pretrained_share=0.5), torch.randn(5, 3, 32, 32)
    model.init_weights()
    trained(model)
    with torch.no_grad():
        parts = model.backbone(images)[-1].mean((2, 3)), model.pretrained.backbone(images)[-1].mean((2, 3))
        calls = [counted(getattr(model.pretrained.backbone, f"layer{i}")[0].conv1) for i in range(1, 5)]
        found = [model(images) for _ in range(3)]
    expected = 0.5**0.5 * torch.cat([nn.functional.normalize(part, dim=1) for part in parts], 1)
    assert all(torch.equal(one, expected) for one in found)
    shared = max(frozen_stages, 0)  # a stem alone is run by both
    # shared stages run once, to compare, and the others each time
    assert [len(of_stage) for of_stage in calls] == [1] * shared + [3 + 2 * (shared > 0)] * (4 - shared)


@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize("change", [lambda weight: weight.add_(1), lambda weight: weight.data.add_(1)])
def test_weights_that_change_are_seen(change, stage):
    encoder, before = copied(Stages())
    images = torch.randn(4, 3, 8, 8)
    both(before, encoder, images)
    with torch.no_grad():
        change(encoder.stages[stage][0].weight)
    whole = encoder(images), before.backbone(images)
    calls = counted(before.backbone.stages[0][0])
    assert all(map(torch.equal, both(before, encoder, images), whole))
    assert len(calls) == [1, 1, 0][stage]  # by itself, to compare what one stage gives, and not at all


def test_stages_whose_outputs_are_overwritten_run_by_themselves():
    encoder, before = copied(Overwriting())
    images = torch.randn(4, 3, 8, 8)
    whole = encoder(images), before.backbone(images)
    calls = counted(before.backbone.stages[0][0])
    for _ in range(2):
        assert all(map(torch.equal, both(before, encoder, images), whole))
    assert len(calls) == 3  # and the first by a comparison


def test_stages_that_run_twice_give_twice():
    encoder, before = copied(Twice(), changed=lambda encoder: encoder.stages[1:])
    images = torch.randn(4, 3, 8, 8)
    whole = encoder(images), before.backbone(images)
    assert all(map(torch.equal, both(before, encoder, images), whole))


def test_in_training_nothing_is_shared():
    model = make(pretrained_share=0.5).train()
    calls = counted(model.pretrained.backbone.layer1[0].conv1)
    model.embed(torch.randn(4, 3, 32, 32))
    assert len(calls) == 1


def test_threads_do_not_take_what_others_gave():
    encoder, before = copied(Stages())
    some = [torch.randn(3, 3, 32, 32) for _ in range(40)]
    whole = [(encoder(images), before.backbone(images)) for images in some]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda images: both(before, encoder, images), some))
    for one, other in zip(found, whole, strict=True):
        assert all(map(torch.equal, one, other))


def test_nothing_stays_on_the_modules():
    encoder, before = copied(Stages())
    both(before, encoder, torch.randn(2, 3, 8, 8))
    with pytest.raises(RuntimeError, match="expected input"), before.sharing_stages(encoder, torch.randn(2, 3, 8, 8)):
        encoder(torch.randn(2, 5, 8, 8))
    assert not any(part._forward_hooks for part in encoder.modules())
    assert not any("forward" in vars(part) for part in before.modules())
