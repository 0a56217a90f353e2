"""Statistics of batch normalisation that are measured with the weights as they are, for any sampler of batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

from mmengine.dist import get_world_size
from mmengine.runner import IterBasedTrainLoop, Runner
from mmpretrain.engine.hooks import PreciseBNHook as _MMPretrainHook
from mmpretrain.engine.hooks.precise_bn_hook import update_bn_stats

from hierpretrain.engine.training_batches import beside
from hierpretrain.registry import HOOKS


class _Batches:
    """The batches of a loader whose sampler makes whole batches; torch then says no ``batch_size`` of it.

    Args:
        loader: The data loader.
        aside: Whether a loop is in the middle of the loader's batches, and goes on with them afterwards.
    """

    def __init__(self, loader: Any, aside: bool = False) -> None:
        self._loader, self._aside = loader, aside
        sampler = loader.batch_sampler
        size = loader.batch_size or getattr(sampler, "images_per_batch", getattr(sampler, "batch_size", None))
        if size is None:
            raise ValueError(
                f"PreciseBNHook counts images by the batch_size of the batch sampler, and "
                f"{type(sampler).__name__} has none; give it one, or leave the hook out"
            )
        self.batch_size = size

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        with beside(self._loader) if self._aside else nullcontext():
            yield from self._loader


@HOOKS.register_module()
class PreciseBNHook(_MMPretrainHook):
    """mmpretrain's hook of this name, which also takes the batches of our samplers.

    After every ``interval`` epochs it replaces the running statistics of each batch normalisation by their mean over
    batches, all of which see the weights of the moment (Wu and Johnson, Rethinking "Batch" in BatchNorm, 2021, section
    3). mmpretrain's own ends the training where the config has a ``batch_sampler``.

    Args:
        num_samples: Images that are measured, one batch of each process at least.
        interval: Epochs between two measurements, or iterations in a training that counts these.

    Raises:
        ValueError: If the batch sampler has no ``batch_size``.
    """

    def before_train(self, runner: Runner) -> None:
        """Checks the sampler before anything is trained."""
        _Batches(runner.train_loop.dataloader)

    def _perform_precise_bn(self, runner: Runner) -> None:
        counts_iterations = isinstance(runner.train_loop, IterBasedTrainLoop)
        batches = _Batches(runner.train_loop.dataloader, aside=counts_iterations)
        least = batches.batch_size * get_world_size()  # of no batch at all, the statistics would be 0
        update_bn_stats(runner.model, batches, max(self.num_samples, least), logger=runner.logger)
