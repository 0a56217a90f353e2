"""The batches of a training that counts iterations: begun anew, begun a second time, and counted in passes.

The loop of such a training holds one iterator of its data loader from before the training to its end.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_world_size
from mmengine.runner import IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader


def begin_anew(runner: Runner) -> None:
    """Stops workers that have begun to load images: a run that counts iterations has started them by now.

    It starts others, which see the data set and the sampler as they are now.
    """
    loop, loader = runner.train_loop, runner.train_dataloader
    if loader.num_workers:
        loader._iterator = None
        if isinstance(loop, IterBasedTrainLoop):
            _go_on(loop, loader, 0)


def load_ahead_anew(runner: Runner) -> None:
    """Has workers that have loaded ahead into the next pass load that again, after the last iteration of a pass.

    What they load belongs to the epoch in which they load it. Only a sampler without an end lets them go beyond a pass.
    """
    loop, loader = runner.train_loop, runner.train_dataloader
    if loader.num_workers and isinstance(loop, IterBasedTrainLoop) and _endless(loader) is not None:
        _go_on(loop, loader, runner.iter + 1)


def _go_on(loop: IterBasedTrainLoop, loader: DataLoader, batches: int) -> None:
    """Gives a loop another iterator of its loader, which goes on behind so many batches of an endless sampler."""
    if (sampler := _endless(loader)) is not None:  # its indices are one iterator, from which workers have taken some
        done = batches * loader.batch_sampler.batch_size
        sampler.indices = itertools.islice(sampler._indices_of_rank(), done, None)
    loop.dataloader_iterator = type(loop.dataloader_iterator)(loader)


@contextmanager
def beside(loader: DataLoader) -> Iterator[None]:
    """Has a loop go on, behind the context, with the iterator that it is in the middle of.

    Inside, ``iter(loader)`` is an iterator by itself, with workers of its own. Otherwise persistent workers would start
    the loop's iterator anew, since they have a single one, and ``InfiniteSampler``, which has a single sequence, would
    end it.
    """
    sampler, iterator = _endless(loader), loader._iterator
    loader._iterator = None
    if sampler is not None:
        indices, sampler.indices = sampler.indices, sampler._indices_of_rank()
    try:
        yield
    finally:
        loader._iterator = iterator
        if sampler is not None:
            sampler.indices = indices


def batches_of_a_pass(loader: DataLoader) -> int:
    """Returns after how many batches of this process its images, or those of all processes together, have all come."""
    if _endless(loader) is None:
        return len(loader)
    # its length is that of the data set, of which less than a batch is one, too
    return max(-(-len(loader) // get_world_size()), 1)


def _endless(loader: DataLoader) -> Any:
    """Returns the sampler of a loader if it is one whose indices have no end, else None."""
    sampler = getattr(loader.batch_sampler, "sampler", None)
    return sampler if isinstance(sampler, InfiniteSampler) else None
