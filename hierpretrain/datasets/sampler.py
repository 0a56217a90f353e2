"""The hierarchical batch sampler: batches in which every anchor meets a partner at every level of its path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hierpretrain.datasets.planned import PlannedBatchSampler
from hierpretrain.registry import DATA_SAMPLERS
from hierpretrain.taxonomy import PAD, check_labels, depth, prefix_ids


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
    5. The cost of a plan is linear in the number of images and their paths, whatever the tree.

    Corner cases: an image without a label is a tuple by itself. With ``drop_last=False``, what remains for the last
    batches is shared evenly, so that no process is without one.

    Args:
        sampler: What MMEngine builds from ``train_dataloader.sampler``: its ``dataset`` must have ``labels``, an
            (N, L) label matrix or, if images have several paths, (N, P, L), and its ``seed``, ``rank`` and
            ``world_size`` are taken over. Or the labels themselves, without MMEngine.
        batch_size: Images in a batch of one process.
        drop_last: Whether to leave out the images that do not fill a batch on every process.
        seed: Overrides that of ``sampler``.
        rank: Overrides that of ``sampler``.
        world_size: Overrides that of ``sampler``.

    Raises:
        ValueError: If there are too few images for one batch per process, or labels are malformed.

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
        self._tree = _Tree(self.labels)

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


class _Tree:
    """The tree of some labels in flat arrays, from which images are drawn without replacement in constant time.

    Besides the nodes of the label tree there is a *pool* below every node on which images hang. What is still unused
    is kept by two kinds of slices: a pool's images, in random order, of which the last is taken; and a node's children
    with unused images, from which a spent one is removed by swapping it with the last.

    An image of several paths has an entry in several pools. Taken from one, it is unused in none: the pools' numbers
    of unused images fall at once, and its other entries are passed over when they come to be the last.
    """

    def __init__(self, labels: Tensor) -> None:
        check_labels(labels, several_paths=True)
        self.image, rows = _paths(labels)  # of each entry
        ids, depths = prefix_ids(rows).numpy(), depth(rows).numpy()
        entries, levels = ids.shape
        starts = np.cumsum([1, *(int(column.max(initial=PAD)) + 1 for column in ids.T)])  # node 0 is the root
        nodes = np.concatenate([np.zeros((entries, 1), np.int64), np.where(ids == PAD, PAD, ids + starts[:-1])], 1)
        own = nodes[np.arange(entries), depths]  # the node that each image hangs on
        with_images, pool = np.unique(own, return_inverse=True)
        self.first_pool = int(starts[-1])
        self.pool = self.first_pool + pool  # of each entry
        self.pools: dict[int, list[int]] = {}  # of the images that are in several
        for entry in np.flatnonzero(np.bincount(self.image)[self.image] > 1).tolist():
            self.pools.setdefault(int(self.image[entry]), []).append(int(self.pool[entry]))
        parent = np.full(self.first_pool + len(with_images), -1)
        for level in range(levels):
            known = ids[:, level] != PAD
            parent[nodes[known, level + 1]] = nodes[known, level]
        parent[self.first_pool :] = with_images
        self.parent = parent.tolist()
        # children of each node, side by side
        order = np.argsort(parent[1:], kind="stable") + 1
        self.children = order.tolist()
        num_children = np.bincount(parent[1:], minlength=len(parent))
        self.first_child = (np.cumsum(num_children) - num_children).tolist()
        self.num_children = num_children.tolist()
        slot = np.zeros(len(parent), np.int64)
        slot[order] = np.arange(len(order))
        self.slot = slot.tolist()
        # entries of each pool, side by side
        self.num_images = np.bincount(pool, minlength=len(with_images))
        self.first_image = np.cumsum(self.num_images) - self.num_images

    def plan(self, sizes: list[int], rng: np.random.Generator) -> Iterator[list[int]]:
        """Yields one batch of each size."""
        shuffled = rng.permutation(len(self.pool))
        anchors = iter(self.pool[shuffled].tolist())  # a pool as often as it has images
        shuffled = rng.permutation(len(self.pool))
        images = self.image[shuffled[np.argsort(self.pool[shuffled], kind="stable")]].tolist()
        end = [0] * self.first_pool + (self.first_image + self.num_images).tolist()
        unused = [0] * self.first_pool + self.num_images.tolist()
        pools, spent = self.pools, set()  # spent: of the images in several pools, those that are taken
        parent, first_child, first_pool = self.parent, self.first_child, self.first_pool
        children, slot, alive = self.children.copy(), self.slot.copy(), self.num_children.copy()
        random = _uniforms(rng).__next__

        def take(pool: int) -> int:
            last = end[pool] - 1
            while (image := images[last]) in spent:
                last -= 1
            end[pool] = last
            if image in pools:
                spent.add(image)
                listed = pools[image]
            else:
                listed = (pool,)
            for own in listed:
                left = unused[own] - 1
                unused[own] = left
                if not left:
                    retire(own)
            return image

        def retire(child: int) -> None:
            while True:
                node = parent[child]
                alive[node] -= 1
                last = first_child[node] + alive[node]
                other = children[last]
                children[slot[child]], children[last] = other, child
                slot[other], slot[child] = slot[child], last
                if alive[node] or not node:
                    return
                child = node

        def draw(node: int, avoid: int) -> int:
            """Returns a random pool with unused images below ``node`` but not below its child ``avoid``, or 0."""
            first, choices = first_child[node], alive[node]
            place = slot[avoid]
            if place < first + choices:  # `avoid` is among those with unused images: leave its place out
                choices -= 1
                if not choices:
                    return 0
                chosen = first + int(random() * choices)
                child = children[chosen + (chosen >= place)]
            elif choices:
                child = children[first + int(random() * choices)]
            else:
                return 0
            while child < first_pool:
                child = children[first_child[child] + int(random() * alive[child])]
            return child

        sizes_left = iter(sizes)
        size, batch = next(sizes_left), []
        for pool in anchors:
            if not unused[pool]:
                continue
            batch.append(take(pool))
            child, node = pool, parent[pool]
            while node and len(batch) < size:  # up to, and without, the root
                partner = pool if child == pool and unused[pool] else draw(node, child)
                if partner:
                    batch.append(take(partner))
                child, node = node, parent[node]
            if len(batch) == size:
                yield batch
                batch = []
                size = next(sizes_left, 0)
                if not size:
                    return


def _paths(labels: Tensor) -> tuple[NDArray[np.int64], Tensor]:
    """Returns the (E,) images of all paths, ascending, and their (E, L) label rows; an image without any has one."""
    if labels.ndim == 2:
        return np.arange(len(labels)), labels
    there = (labels != PAD).any(2)  # (N, P)
    there[:, 0] |= ~there.any(1)
    return there.nonzero()[:, 0].numpy(), labels[there]


def _uniforms(rng: np.random.Generator, block: int = 8192) -> Iterator[float]:
    """Yields uniform numbers in [0, 1), drawn in blocks because one at a time is slow."""
    while True:
        yield from rng.random(block).tolist()
