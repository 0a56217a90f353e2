"""The hierarchical batch sampler: batches in which every anchor meets a partner at every level of its path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from hierpretrain.datasets.planned import PlannedBatchSampler
from hierpretrain.datasets.sampling_tree import SamplingTree
from hierpretrain.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class HierarchicalBatchSampler(PlannedBatchSampler):
    """Fills batches with tuples of an anchor and one partner per level, the finest level first (paper A, section 3.5).

    An anchor's partner at a level shares its node of that level and parts from it right below; at the finest level it
    is another image of the same node (or, if none is left there, one that hangs below it). Partners are
    drawn node by node, every child with unused images being equally likely, so that small nodes are met as often as
    large ones; anchors are drawn image by image.

    An image that hangs in several places is an anchor by one of its paths, drawn with those of all images, and a
    partner by any: it shares the anchor's node of the level along the anchor's path, and through another of its own it
    may share more.

    What it promises, for any tree:

    1. Every image comes at most once an epoch, and exactly once with ``drop_last=False``; every batch has exactly
       ``batch_size`` images (but for the last ones, with ``drop_last=False``); ``len()`` is exact.
    2. If an image that could be a level's partner is unused, the tuple has one; if none is left, the next tuple takes
       the slot, never a repetition. A tuple that meets the end of its batch is cut there, coarse partners first.
    3. All processes make one plan, from (seed, epoch) alone, and take its batches in turn: equal numbers of batches,
       no image twice, whole tuples.
    4. :meth:`state_dict` holds the epoch and the batches already given; after :meth:`load_state_dict` the very next
       batch follows, without an image being loaded for those before.
    5. The time and memory of a plan are linear in the number of images and their paths, whatever the tree.

    Corner cases: an image without a label is a tuple by itself. With ``drop_last=False``, what remains for the last
    batches is shared evenly, so that no process is without one.

    Args:
        sampler: What MMEngine builds from ``train_dataloader.sampler``: its ``dataset`` must have ``labels``, an
            (N, L) label matrix or, if images have several paths, (N, P, L), and its ``seed``, ``rank`` and
            ``world_size`` are taken over. Or the labels themselves, without MMEngine.
        batch_size: Images in a batch of one process.
        drop_last: Whether to leave out the images that do not fill a batch on every process.
        seed: From 0; overrides that of ``sampler``. ``ExactResumeHook`` puts the run's in its place.
        rank: From 0 to ``world_size - 1``; overrides that of ``sampler``.
        world_size: The number of processes; overrides that of ``sampler``.

    Raises:
        ValueError: If there are too few images for one batch per process, labels are malformed, or an argument is out
            of its range.

    Example:
        >>> import torch
        >>> labels = torch.tensor([[0, 0], [0, 0], [0, 1], [1, 2], [1, 2], [1, 3]])
        >>> batches = list(HierarchicalBatchSampler(labels, batch_size=3, seed=0))
        >>> sorted(map(sorted, batches))  # an image, another one of its node, one of the node's sibling
        [[0, 1, 2], [3, 4, 5]]
    """

    def __init__(
        self,
        sampler: Any,
        batch_size: int,
        *,
        drop_last: bool = False,
        seed: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        super().__init__(sampler, batch_size, seed=seed, rank=rank, world_size=world_size)
        self.sizes = _batch_sizes(len(self.labels), batch_size, self.world_size, drop_last)
        self._tree = SamplingTree(self.labels)

    def __len__(self) -> int:
        return len(self.sizes) // self.world_size

    def plan(self, start: int) -> Iterator[list[int]]:
        """Yields this process's batches: every ``world_size``-th one of the plan."""
        rng = np.random.default_rng((self.seed, self._epoch))
        for number, batch in enumerate(self._tree.plan(self.sizes, rng)):
            position, rank = divmod(number, self.world_size)
            if rank == self.rank and position >= start:
                yield batch


def _batch_sizes(images: int, batch_size: int, world_size: int, drop_last: bool) -> list[int]:
    """Returns the sizes of all processes' batches in the order of the plan; their number divides by ``world_size``."""
    together = batch_size * world_size
    if images < (together if drop_last else world_size):
        raise ValueError(
            f"{images} images do not fill one batch of {batch_size if drop_last else 1} on each of {world_size} "
            f"process(es); lower batch_size or the number of processes{', or set drop_last=False' if drop_last else ''}"
        )
    rounds, rest = divmod(images, together)
    if drop_last or not rest:
        return [batch_size] * (rounds * world_size)
    last_rounds = 1
    if batch_size == 1:
        raise ValueError(
            f"{images} images cannot be shared evenly by {world_size} processes in batches of 1; "
            "set drop_last=True or a larger batch_size"
        )
    if rest < world_size:  # too few for a batch on each process: share the last full round as well
        rounds, rest, last_rounds = rounds - 1, rest + together, 2
    shares = last_rounds * world_size
    return [batch_size] * (rounds * world_size) + [rest // shares + (i < rest % shares) for i in range(shares)]
