"""Batches of triplets: an anchor and a positive of one node of the tree, and a negative of a sibling of that node."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from hierpretrain.checks import check_at_least_1, check_fraction, check_whole
from hierpretrain.datasets.planned import PlannedBatchSampler
from hierpretrain.datasets.triplet_pools import TripletPools, path_nodes
from hierpretrain.registry import DATA_SAMPLERS

_BLOCK = 256  # steps that are drawn together: first their levels, then all triplets of a level at once


class _TripletSampler(PlannedBatchSampler):
    """Yields batches of triplets from the pools that a subclass draws for each step, see :meth:`_draw_pools`."""

    def __init__(
        self,
        sampler: Any,
        batch_size: int,
        *,
        triplets_per_epoch: int | None,
        seed: int | None,
        rank: int | None,
        world_size: int | None,
    ) -> None:
        super().__init__(sampler, batch_size, seed=seed, rank=rank, world_size=world_size)
        if triplets_per_epoch is not None:
            check_at_least_1(triplets_per_epoch=triplets_per_epoch)
        elif not len(self.labels):
            raise ValueError("triplets need images, and the data is empty")
        triplets = len(self.labels) / 3 if triplets_per_epoch is None else triplets_per_epoch
        self._length = math.ceil(triplets / (batch_size * self.world_size))

    @property
    def images_per_batch(self) -> int:
        """How many images a batch of one process has, three for each of its triplets."""
        return 3 * self.batch_size

    def __len__(self) -> int:
        return self._length

    @abstractmethod
    def _draw_pools(self, steps: int, rng: np.random.Generator) -> list[TripletPools]:
        """Draws the pools of each of some steps."""

    def plan(self, start: int) -> Iterator[list[int]]:
        """Yields this process's batches, from number ``start`` on.

        A step's triplets are drawn for all processes together, and every process takes its part of them.
        """
        together = self.batch_size * self.world_size
        own = slice(self.rank * self.batch_size, (self.rank + 1) * self.batch_size)
        for block in range(start // _BLOCK, math.ceil(self._length / _BLOCK)):
            rng = self._rng(block)
            steps = self._steps_of(block)
            chosen = self._draw_pools(steps, rng)
            triplets = np.empty((steps, 3, together), np.int64)
            for pools in dict.fromkeys(chosen):
                same = [step for step, its in enumerate(chosen) if its is pools]
                drawn = pools.draw(rng, len(same) * together)
                triplets[same] = drawn.reshape(3, len(same), together).swapaxes(0, 1)
            for step in range(max(start - block * _BLOCK, 0), steps):
                yield triplets[step, :, own].ravel().tolist()

    def _steps_of(self, block: int) -> int:
        """Returns the number of steps in a block; the last one may be shorter."""
        return min(_BLOCK, self._length - block * _BLOCK)

    def _rng(self, block: int) -> np.random.Generator:
        """Returns the generator of a block, so that a resumed epoch begins with the block that it is in."""
        return np.random.default_rng((self.seed, self._epoch, block))


@DATA_SAMPLERS.register_module()
class LevelTripletSampler(_TripletSampler):
    """Draws batches of triplets level by level, with replay of the levels trained before (paper B, section 4).

    A triplet of level h is made in four draws: a node of depth h, uniformly from those that have triplets; anchor and
    positive, two different images of the node's pool; a sibling of the node, uniformly; and the negative, an image of
    the sibling's pool. The pool of a node holds its own images and all images below it.

    All triplets of a step are of one level. With probability ``replay`` it is drawn uniformly from the first to the
    current level, or from the levels given to :meth:`set_level`; otherwise it is the current level.

    Where trees are not neat:

    - A node without a sibling, or with one image, has no triplet and is not drawn. Its images can be negatives of its
      siblings. A level where no node can be drawn is left out of :attr:`levels`.
    - An image on an inner node is in the pool of that node and of all nodes above it.
    - An image with several paths is in the pool of each node on them, once. It is no negative if it shares any node of
      level h with the anchor; anchor, positive, sibling and negative are then drawn again for the same node. So anchor
      and negative always share exactly ``h - 1`` levels, and anchor and positive at least ``h``.

    What it promises:

    1. A batch has exactly ``3 * batch_size`` indices: the anchors, then their positives, then their negatives.
       ``len()`` is exact and the same on all processes.
    2. All processes make the same plan, from seed, epoch and the levels set so far. Together, W processes draw exactly
       the triplets that one process draws with a W times larger batch. A step has the same level on all processes.
    3. :meth:`state_dict` holds the epoch and the number of batches given. After :meth:`load_state_dict` the next batch
       follows, and no image is loaded for the batches before. The level has to be set as it was, which
       ``LevelCurriculumHook`` does from the epoch.

    Images are drawn with replacement, so an epoch is a number of triplets, not a pass over the data.

    Args:
        sampler: What MMEngine builds from ``train_dataloader.sampler``; its ``dataset.labels``, ``seed``, ``rank`` and
            ``world_size`` are used. Without MMEngine, the data set or its label matrix.
        batch_size: The number of triplets in a batch of one process, a third of its images.
        level: The current level, one of :attr:`levels`, until :meth:`set_level` is called; by default the coarsest.
        replay: The probability r_p that a step draws its level, 0 to 1.
        triplets_per_epoch: The number of triplets in an epoch of all processes together, rounded up to whole steps; by
            default a third of the number of images.
        seed: An integer from 0; by default the seed of ``sampler``, or 0.
        rank: The number of this process, from 0; by default the rank of ``sampler``, or 0.
        world_size: The number of processes; by default the world size of ``sampler``, or 1.

    Raises:
        ValueError: If no triplet can be made, or an option is out of range.

    Example:
        >>> import torch
        >>> labels = torch.tensor([[0, 0], [0, 0], [0, 1], [1, 2], [1, 2]])
        >>> sampler = LevelTripletSampler(labels, batch_size=1, level=2, replay=0.0, seed=0)
        >>> next(iter(sampler))  # of level 2 there are only pairs of 0 and 1 against 2
        [0, 1, 2]
        >>> sampler.levels
        (1, 2)
    """

    def __init__(
        self,
        sampler: Any,
        batch_size: int,
        *,
        level: int | None = None,
        replay: float = 0.5,
        triplets_per_epoch: int | None = None,
        seed: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        super().__init__(
            sampler, batch_size, triplets_per_epoch=triplets_per_epoch, seed=seed, rank=rank, world_size=world_size
        )
        check_fraction(replay=replay)
        self.replay = replay
        nodes = path_nodes(self.labels)
        pools = {number: TripletPools.of_level(nodes, number) for number in range(1, nodes.shape[2] + 1)}
        self._pools = {number: found for number, found in pools.items() if len(found.drawable)}
        if not self._pools:
            raise ValueError(
                "no triplet can be made of the labels: it takes a node with two images and a sibling with another; "
                f"there are {len(self.labels)} images. Check the folders, or data_root"
            )
        self.set_level(self.levels[0] if level is None else level)

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels that have triplets, the coarsest first."""
        return tuple(self._pools)

    @property
    def level(self) -> int:
        """The current level."""
        return self._level

    def set_level(self, level: int, replayed: Sequence[int] | None = None) -> None:
        """Sets the current level. Call it before the epoch is iterated.

        Args:
            level: One of :attr:`levels`.
            replayed: The levels that ``replay`` draws from; by default all of :attr:`levels` up to ``level``.

        Raises:
            ValueError: If a level has no triplets, or ``replayed`` is empty.
        """
        check_whole(level=level)
        drawn = [number for number in self.levels if number <= level] if replayed is None else list(replayed)
        if not drawn or (without := [number for number in (level, *drawn) if number not in self._pools]):
            raise ValueError(
                f"level must be one that triplets can be made of, {', '.join(map(str, self.levels))}; it is "
                f"{without[0] if drawn else level if replayed is None else replayed!r}"
            )
        self._level, self._replayed = level, drawn

    def nodes_drawn(self, level: int) -> int:
        """Returns the number of nodes of a level that triplets are drawn for."""
        return len(self._pools[level].drawable)

    def step_levels(self) -> list[int]:
        """Returns the level of each step of the current epoch, without drawing triplets."""
        levels = []
        for block in range(math.ceil(self._length / _BLOCK)):
            levels += self._draw_levels(self._steps_of(block), self._rng(block))
        return levels

    def _draw_levels(self, steps: int, rng: np.random.Generator) -> list[int]:
        choices = np.array(self._replayed)
        replays = rng.random(steps) < self.replay
        return np.where(replays, choices[rng.integers(len(choices), size=steps)], self._level).tolist()

    def _draw_pools(self, steps: int, rng: np.random.Generator) -> list[TripletPools]:
        return [self._pools[level] for level in self._draw_levels(steps, rng)]


@DATA_SAMPLERS.register_module()
class LeafTripletSampler(_TripletSampler):
    """Draws batches of triplets over the leaves alone, as if they were flat classes: paper B's baseline.

    A triplet is made in four draws: a leaf with two images or more, uniformly; anchor and positive, two of its images;
    another leaf, uniformly from all others; and the negative, one of that leaf's images. A leaf is a node with no image
    below it. Images that are on inner nodes only take no part. An image with several paths is no negative if it is in
    any of the anchor's leaves, or shares a node of the leaf's depth with the anchor.

    Batches, processes and resuming are as :class:`LevelTripletSampler` promises.

    Args:
        sampler: What MMEngine builds from ``train_dataloader.sampler``; its ``dataset.labels``, ``seed``, ``rank`` and
            ``world_size`` are used. Without MMEngine, the data set or its label matrix.
        batch_size: The number of triplets in a batch of one process, a third of its images.
        triplets_per_epoch: The number of triplets in an epoch of all processes together, rounded up to whole steps; by
            default a third of the number of images.
        seed: An integer from 0; by default the seed of ``sampler``, or 0.
        rank: The number of this process, from 0; by default the rank of ``sampler``, or 0.
        world_size: The number of processes; by default the world size of ``sampler``, or 1.

    Raises:
        ValueError: If no triplet can be made, or an option is out of range.

    Example:
        >>> import torch
        >>> labels = torch.tensor([[0, 0], [0, 0], [0, -1], [1, -1]])  # two leaves: images 0 and 1, image 3
        >>> next(iter(LeafTripletSampler(labels, batch_size=1, seed=0)))
        [1, 0, 3]
    """

    def __init__(
        self,
        sampler: Any,
        batch_size: int,
        *,
        triplets_per_epoch: int | None = None,
        seed: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        super().__init__(
            sampler, batch_size, triplets_per_epoch=triplets_per_epoch, seed=seed, rank=rank, world_size=world_size
        )
        self._pools = TripletPools.of_leaves(path_nodes(self.labels))
        if not len(self._pools.drawable):
            raise ValueError(
                "no triplet can be made of the leaves: it takes one with two images and another one; there are "
                f"{len(self.labels)} images. Check the folders, or data_root"
            )

    def _draw_pools(self, steps: int, rng: np.random.Generator) -> list[TripletPools]:
        return [self._pools] * steps
