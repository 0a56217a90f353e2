"""Stages that an encoder and its copy have in common run once, and change no bit."""

import os
import threading
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


class Twice(Stages):
    """Runs its stages twice, one after the other."""

    def forward(self, images):
        for stage in (*self.stages, *self.stages):
            images = stage(images).sin()
        return images


class Scaled(Stages):
    """Has a layer that is registered behind the stages and runs before them, and a number that is no weight."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.BatchNorm2d(3)
        self.register_buffer("factor", torch.ones(()), persistent=False)

    def forward(self, images):
        images = self.before(images) * self.factor
        for stage in self.stages:
            images = stage(images).sin()
        return images


class Direct(Stages):
    """Goes past the hooks of its first stage."""

    def forward(self, images):
        images = self.stages[0].forward(images)
        return self.stages[2](self.stages[1](images))


class Overwriting(Stages):
    """After each stage comes what overwrites its output."""

    def forward(self, images):
        for stage in self.stages:
            images = stage(images).sin_()
        return images


class OverwritingItsImages(Stages):
    """Overwrites what it is given."""

    def forward(self, images):
        return super().forward(images.mul_(0.5))


def counted(module):
    """Returns a list that grows by one with every call of a module as its class has it."""
    calls = []
    module.register_forward_pre_hook(lambda *_: calls.append(None))
    return calls


@torch.no_grad()
def both(before, encoder, images):
    with before.sharing_stages(encoder):
        return encoder(images), before.backbone(images)


@torch.no_grad()
def apart(before, encoder, images):
    return encoder(images), before.backbone(images)


def copied(kind):
    """Returns an encoder, changed in its last stage, and a copy of how it was."""
    torch.manual_seed(0)
    encoder = kind().eval()
    before = PretrainedCopy(0.5, encoder, None)
    with torch.no_grad():
        encoder.stages[-1][0].weight.add_(0.3)
    return encoder, before


IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


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
    shared = max(frozen_stages, 0)  # not the stem, which is no stage
    assert [len(of_stage) for of_stage in calls] == [0] * shared + [3] * (4 - shared)


@pytest.mark.parametrize("kind", [Stages, Twice, Scaled, Direct, Overwriting, OverwritingItsImages])
def test_the_result_is_the_same_whatever_the_encoder_does(kind):
    encoder, before = copied(kind)
    expected = apart(before, encoder, IMAGES.clone())
    calls = [counted(stage[0]) for stage in before.backbone.stages]
    assert all(map(torch.equal, both(before, encoder, IMAGES.clone()), expected))
    # not shared: a stage that is run past its hooks, what is overwritten, and the second round's first stages, whose
    # inputs differ
    runs = {Direct: [1, 0, 1], Overwriting: [1, 1, 1], OverwritingItsImages: [1, 1, 1], Twice: [1, 1, 2]}
    assert [len(of_stage) for of_stage in calls] == runs.get(kind, [0, 0, 1])


@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize("change", [lambda weight: weight.add_(1), lambda weight: weight.data.add_(1)])
def test_weights_that_change_are_seen(change, stage):
    encoder, before = copied(Stages)
    both(before, encoder, IMAGES)
    with torch.no_grad():
        change(encoder.stages[stage][0].weight)
    expected = apart(before, encoder, IMAGES)
    calls = counted(before.backbone.stages[0][0])
    assert all(map(torch.equal, both(before, encoder, IMAGES), expected))
    assert len(calls) == (stage == 0)


def change_layer(encoder):
    encoder.before.weight.data.fill_(3)


def change_factor(encoder):
    encoder.factor.fill_(3)


def change_mode(encoder):
    encoder.before.train()


def change_names(encoder):
    nn.utils.parametrizations.weight_norm(encoder.stages[0][0])


def change_kind(encoder):
    encoder.stages[0] = encoder.stages[0].double().float().append(nn.Dropout(0.0))


@pytest.mark.parametrize("change", [change_layer, change_factor, change_mode, change_names, change_kind])
def test_changes_of_any_kind_are_seen(change):
    encoder, before = copied(Scaled)
    both(before, encoder, IMAGES)
    change(encoder)
    expected = apart(before, encoder, IMAGES)
    assert all(map(torch.equal, both(before, encoder, IMAGES), expected))


def test_random_layers_of_a_stage_in_training_are_not_shared():
    encoder, before = copied(Stages)
    for part in (encoder, before.backbone):
        part.stages[0].append(nn.Dropout(0.5)).eval()
    encoder.stages[0][1].train()
    assert torch.equal(both(before, encoder, IMAGES)[1], apart(before, encoder, IMAGES)[1])


def test_nothing_is_shared_with_gradients_nor_of_no_images():
    encoder, before = copied(Stages)
    calls = counted(before.backbone.stages[0][0])
    with before.sharing_stages(encoder):
        encoder(IMAGES), before.backbone(IMAGES)
    assert len(calls) == 1
    assert [part.shape for part in both(before, encoder, IMAGES[:0])] == [(0, 3, 8, 8)] * 2


def test_threads_do_not_take_what_others_gave():
    encoder, before = copied(Stages)
    some = [torch.randn(3, 3, 32, 32) for _ in range(60)]
    expected = [apart(before, encoder, images) for images in some]
    ways = [both, apart, lambda before, encoder, images: (encoder(images), before.backbone(images))]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: ways[i % 3](before, encoder, some[i]), range(60)))
    for one, other in zip(found, expected, strict=True):
        assert all(map(torch.equal, one, other))


def test_what_another_thread_runs_meanwhile_is_its_own():
    encoder, before = copied(Stages)
    expected, theirs = apart(before, encoder, IMAGES), apart(before, encoder, IMAGES + 1)
    calls = counted(before.backbone.stages[0][0])
    with torch.no_grad(), before.sharing_stages(encoder), ThreadPoolExecutor(1) as pool:
        assert all(map(torch.equal, pool.submit(apart, before, encoder, IMAGES + 1).result(), theirs))
        first = encoder(IMAGES)
        assert all(map(torch.equal, pool.submit(apart, before, encoder, IMAGES + 1).result(), theirs))
        assert all(map(torch.equal, (first, before.backbone(IMAGES)), expected))
    assert len(calls) == 2  # theirs


def test_a_process_that_is_forked_meanwhile_shares_nothing_and_does_not_wait():
    encoder, before = copied(Stages)
    expected = apart(before, encoder, IMAGES)
    inside, done = threading.Event(), threading.Event()

    def hold():
        with torch.no_grad(), before.sharing_stages(encoder):
            encoder(IMAGES + 1)
            inside.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(60)
    child = os.fork()
    if child == 0:
        os._exit(0 if all(map(torch.equal, both(before, encoder, IMAGES), expected)) else 1)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_nothing_stays_on_the_modules():
    encoder, before = copied(Stages)
    both(before, encoder, IMAGES)
    with pytest.raises(RuntimeError, match="expected input"), torch.no_grad(), before.sharing_stages(encoder):
        encoder(torch.randn(2, 5, 8, 8))
    assert not any(part._forward_hooks for part in encoder.modules())
    assert not any("forward" in vars(part) for part in before.modules())
    assert all(map(torch.equal, both(before, encoder, IMAGES), apart(before, encoder, IMAGES)))


def test_what_has_hooks_of_its_own_is_not_shared():
    encoder, before = copied(Stages)
    encoder.stages[0].register_forward_hook(lambda module, inputs, output: output + 1)
    assert all(map(torch.equal, both(before, encoder, IMAGES), apart(before, encoder, IMAGES)))
