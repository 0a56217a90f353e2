"""Statistics of batch normalisation over the batches of any sampler."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MMLogger

from hierpretrain.datasets import LevelTripletSampler
from hierpretrain.models import HierarchicalContrastive
from hierpretrain.registry import HOOKS


class Batches(list):
    """A loader of batches that its sampler has made."""

    batch_size = None
    batch_sampler = SimpleNamespace(batch_size=4)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return HierarchicalContrastive(dict(type="ResNet", depth=18, base_channels=8, stem_channels=8)).train()


def runner_of(model, number=3):
    generator = torch.Generator().manual_seed(1)
    images = [torch.randint(256, (2, 4, 3, 32, 32), generator=generator, dtype=torch.uint8) for _ in range(number)]
    batches = Batches(dict(inputs=list(views), data_samples=None) for views in images)  # two views of four images
    logger = MMLogger.get_instance("precise_bn")
    return SimpleNamespace(model=model, train_loop=SimpleNamespace(dataloader=batches), logger=logger), images


def hook(**options):
    return HOOKS.build(dict(type="PreciseBNHook", _scope_="hierpretrain", **options))


@pytest.mark.parametrize(("num_samples", "used"), [(1000, 3), (8, 2), (1, 1)])
def test_the_statistics_are_the_means_over_the_batches(model, num_samples, used):
    runner, images = runner_of(model)
    expected_mean, expected_var = 0, 0
    for views in images[:used]:
        batch = model.data_preprocessor.prepare(views.flatten(0, 1))
        outputs = model.backbone.conv1(batch)
        expected_mean = expected_mean + outputs.mean((0, 2, 3)) / used
        expected_var = expected_var + outputs.var((0, 2, 3), unbiased=True) / used
    hook(num_samples=num_samples)._perform_precise_bn(runner)
    torch.testing.assert_close(model.backbone.bn1.running_mean, expected_mean.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.backbone.bn1.running_var, expected_var.detach(), rtol=1e-4, atol=1e-5)
    assert model.backbone.bn1.momentum == 0.1


def test_a_sampler_that_does_not_say_its_size_is_refused_before_the_training(model):
    runner, _ = runner_of(model)
    runner.train_loop.dataloader.batch_sampler = SimpleNamespace()
    with pytest.raises(
        ValueError, match="PreciseBNHook counts images by the batch_size of the batch sampler, and Simpl"
    ):
        hook().before_train(runner)


def test_batches_of_triplets_are_counted_by_their_images(model):
    runner, images = runner_of(model)
    sampler = LevelTripletSampler([[0, 0], [0, 0], [0, 1], [0, 1], [1, 2], [1, 2]], batch_size=2)
    assert sampler.images_per_batch == len(next(iter(sampler))) == 6
    runner.train_loop.dataloader.batch_sampler = sampler
    hook(num_samples=12)._perform_precise_bn(runner)
    means = [
        model.backbone.conv1(model.data_preprocessor.prepare(views.flatten(0, 1))).mean((0, 2, 3)) for views in images
    ]
    expected = torch.stack(means[:2]).mean(0).detach()
    torch.testing.assert_close(model.backbone.bn1.running_mean, expected, rtol=1e-4, atol=1e-5)
