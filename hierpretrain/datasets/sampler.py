"""The hierarchical batch sampler: batches in which every anchor has a partner at every level of its path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from hierpretrain.checks import check_flag
from hierpretrain.datasets.planned import PlannedBatchSampler
from hierpretrain.datasets.sampling_tree import SamplingTree
from hierpretrain.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class HierarchicalBatchSampler(PlannedBatchSampler):
    """Fills batches with tuples of an anchor and one partner per level, the finest level first (paper A, section 3.5).

    The partner at a level shares the anchor's node of that level, and no finer one. The first partner is another image
    of the anchor's own node, or, if none is left there, an image below that node. Anchors are drawn uniformly from the
    images. Partners are drawn from the node downwards, where every child with unused images is equally likely; so small
    nodes are met as often as large ones.

    An image with several paths is an anchor by one of them: anchors are drawn uniformly from the paths of all unused
    images. It is a partner by any of its paths: it shares the anchor's node of the level, and may share more by another
    path.

    What it promises, for any tree:

    1. Every image comes at most once an epoch, and exactly once with ``drop_last=False``. Every batch has exactly
       ``batch_size`` images, except for the last ones with ``drop_last=False``. ``len()`` is exact.
    2. A tuple has a partner at every level for which an unused image exists. Where none is left, the next tuple takes
       the slot; no image is repeated. A tuple that meets the end of its batch is cut there and loses its coarse
       partners. Where promise 6 needs it, a tuple is cut earlier.
    3. All processes make the same plan, from seed and epoch alone, and take its batches in turn. They have equally many
       batches, of whole tuples, and no image in common.
    4. :meth:`state_dict` holds the epoch and the number of batches given. After :meth:`load_state_dict` the next batch
       follows, and no image is loaded for the batches before.
    5. The time and memory of a plan are linear in the number of images and their paths, whatever the tree.
    6. While images of two top-level classes are unused, no batch holds one class alone, since such a batch has no
       negatives. With one path for each image, there are as few batches of one class as the numbers of images allow:
       none if the images outside the largest class are at least as many as the batches. With several paths, there may
       be a few more, towards the end of an epoch.

    Promises 2 and 6 pull against each other, and 6 wins. A tuple that would fill a batch with its class is cut one
    short, and the last slot goes to an image of another class, drawn like a partner: every other class is equally
    likely. Where the images outside a dominant class would become fewer than the batches to come, a batch takes no more
    of them than can be spared, down to a single one without partners. With 950 images of one class and 50 of another,
    in batches of 32, there are tuples of the rare class until one image is left for each batch to come. With one path
    for each image, a plan in which no batch would be of one class anyway is not touched.

    Corner cases: a batch of one image holds one class. Images without a label count as one more class, since they are
    negatives of all. An image with several paths is of several classes: a batch holds one class alone if there is a
    class that all of its images hang in; the last slot then goes to an image that hangs in none of the classes they
    share, if one is unused. An image without a label is a tuple by itself. With ``drop_last=False``, the images that
    are left at the end are spread evenly over one last batch of each process.

    Args:
        sampler: What MMEngine builds from ``train_dataloader.sampler``: its ``dataset`` must have ``labels``, an
            (N, L) label matrix or, if images have several paths, (N, P, L); its ``seed``, ``rank`` and ``world_size``
            are used. Without MMEngine, the data set or its label matrix.
        batch_size: The number of images in a batch of one process.
        drop_last: Whether to leave out the images that do not fill a batch on every process.
        seed: An integer from 0; by default the seed of ``sampler``, or 0. ``ExactResumeHook`` sets it to the run's
            seed.
        rank: The number of this process, from 0; by default the rank of ``sampler``, or 0.
        world_size: The number of processes; by default the world size of ``sampler``, or 1.

    Raises:
        ValueError: If there are too few images for one batch per process, labels are malformed, or an argument is out
            of its range.

    Example:
        >>> import torch
        >>> labels = torch.tensor([[0, 0], [0, 0], [0, 1], [1, 2], [1, 2], [1, 3]])
        >>> list(HierarchicalBatchSampler(labels, batch_size=3, seed=0))  # two images of a node, one of another class
        [[3, 4, 2], [5, 0, 1]]
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
        check_flag(drop_last=drop_last)
        super().__init__(sampler, batch_size, seed=seed, rank=rank, world_size=world_size)
        self.sizes = _batch_sizes(len(self.labels), batch_size, self.world_size, drop_last)
        self._tree = SamplingTree(self.labels)

    def __len__(self) -> int:
        return len(self.sizes) // self.world_size

    def plan(self, start: int) -> Iterator[list[int]]:
        """Yields this process's batches, every ``world_size``-th one of the plan, from number ``start`` on."""
        rng = np.random.default_rng((self.seed, self._epoch))
        for number, batch in enumerate(self._tree.plan(self.sizes, rng)):
            position, rank = divmod(number, self.world_size)
            if rank == self.rank and position >= start:
                yield batch


def _batch_sizes(images: int, batch_size: int, world_size: int, drop_last: bool) -> list[int]:
    """Returns the sizes of the batches of all processes, in the order of the plan: a multiple of ``world_size``."""
    together = batch_size * world_size
    if images < (together if drop_last else world_size):
        raise ValueError(
            f"{images} images do not fill one batch of {batch_size if drop_last else 1} on each of {world_size} "
            f"process(es); lower batch_size or the number of processes{', or set drop_last=False' if drop_last else ''}"
        )
    rounds, rest = divmod(images, together)
    if drop_last or not rest:
        return [batch_size] * (rounds * world_size)
    if batch_size == 1:
        raise ValueError(
            f"{images} images cannot be shared evenly by {world_size} processes in batches of 1; "
            "set drop_last=True or a larger batch_size"
        )
    num_last = world_size
    if rest < world_size:  # too few for a batch on each process: spread the last full round as well
        rounds, rest, num_last = rounds - 1, rest + together, 2 * world_size
    last = [rest // num_last + (i < rest % num_last) for i in range(num_last)]
    return [batch_size] * (rounds * world_size) + last
