"""Batches of triplets: an anchor and a positive of one node of the tree, and a negative of a sibling of that node."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hierpretrain.datasets.planned import PlannedBatchSampler
from hierpretrain.registry import DATA_SAMPLERS
from hierpretrain.taxonomy import PAD, prefix_ids

_STEPS = 256  # steps that are drawn together: their level first, then all triplets of a level in one go
_ATTEMPTS = 64  # at a negative that is none, before all of a node's triplets are looked at

Ints = NDArray[np.int64]


class _TripletSampler(PlannedBatchSampler):
    """Draws triplets from the pools of nodes, a level at a time."""

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
        triplets = len(self.labels) / 3 if triplets_per_epoch is None else triplets_per_epoch
        if triplets <= 0:
            raise ValueError(f"triplets_per_epoch must be at least 1 and the data not empty; it is {triplets}")
        self._length = math.ceil(triplets / (batch_size * self.world_size))

    def __len__(self) -> int:
        return self._length

    @abstractmethod
    def _pools_of(self, steps: int, rng: np.random.Generator) -> list[_Pools]:
        """Draws which pools each of some steps takes its triplets from."""

    def plan(self, start: int) -> Iterator[list[int]]:
        """Yields this process's batches; as those of one process with all the triplets, cut in equal parts."""
        together = self.batch_size * self.world_size
        own = slice(self.rank * self.batch_size, (self.rank + 1) * self.batch_size)
        for block in range(start // _STEPS, math.ceil(self._length / _STEPS)):
            rng = self._rng(block)
            steps = min(_STEPS, self._length - block * _STEPS)
            chosen = self._pools_of(steps, rng)
            triplets = np.empty((steps, 3, together), np.int64)
            for pools in dict.fromkeys(chosen):
                rows = [step for step, its in enumerate(chosen) if its is pools]
                drawn = pools.draw(rng, len(rows) * together)
                triplets[rows] = drawn.reshape(3, len(rows), together).swapaxes(0, 1)
            for step in range(max(start - block * _STEPS, 0), steps):
                yield triplets[step, :, own].ravel().tolist()

    def _rng(self, block: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, self._epoch, block))


@DATA_SAMPLERS.register_module()
class LevelTripletSampler(_TripletSampler):
    """Draws batches of triplets level by level, earlier levels among them (paper B, section 4).

    A triplet of level h: a node of depth h, drawn uniformly from those that triplets can be made of; anchor and
    positive, two different images of the node's pool; a sibling, drawn uniformly; and the negative, an image of the
    sibling's pool. The pool of a node is its own images and all that hang below it. A step's triplets are all of one
    level: with the probability ``replay`` one drawn uniformly from the first to the present level (or from those that
    :meth:`set_level` was given), else the present one.

    The rules where trees are not neat:

    - A node without a sibling, or with one image, has no triplet and is not drawn; as a sibling it gives negatives. A
      level without a node to draw is left out of :attr:`levels`.
    - Images on inner nodes belong to the pools of that node and of those above it.
    - An image of several paths is in the pool of each of their nodes, once. It is no negative if it shares any node of
      the level with the anchor: then another anchor, positive, sibling and negative are drawn for the node. So anchor
      and negative share exactly ``h - 1`` levels, and anchor and positive at least ``h``.

    What it promises:

    1. A batch has exactly ``3 * batch_size`` rows: the anchors, then their positives, then their negatives. ``len()``
       is exact and the same on all processes.
    2. All processes make one plan, from (seed, epoch, levels so far) alone; together, W processes draw the very
       triplets that one does with a W times larger batch. A step has one level on all of them.
    3. :meth:`state_dict` holds the epoch and the batches given; after :meth:`load_state_dict` the very next batch
       follows, without an image being loaded for those before. The level must be set as it was: the curriculum hook
       tells it from the epoch.

    Images are drawn with replacement, so an epoch is a number of triplets, not a pass over the data.

    Args:
        sampler: As for :class:`HierarchicalBatchSampler`: what MMEngine builds, or the label matrix.
        batch_size: Triplets in a batch of one process; a third of its images.
        level: The level at which it stands, one of :attr:`levels`, until :meth:`set_level` is called; the first of
            them by default.
        replay: r_p, the probability that a step draws its level anew, 0 to 1.
        triplets_per_epoch: Of all processes together, rounded up to whole steps; by default a third of the number of
            images.
        seed: Overrides that of ``sampler``.
        rank: Overrides that of ``sampler``.
        world_size: Overrides that of ``sampler``.

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
        if not 0 <= replay <= 1:
            raise ValueError(f"replay is a probability, 0 to 1; it is {replay}")
        self.replay = replay
        nodes = _nodes(self.labels)
        pools = {number: _Pools.of_level(nodes, number) for number in range(1, nodes.shape[2] + 1)}
        self._pools = {number: found for number, found in pools.items() if len(found.drawn)}
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
        """The level at which the curriculum stands."""
        return self._level

    def set_level(self, level: int, replayed: Sequence[int] | None = None) -> None:
        """Moves to a level; to be called before an epoch is iterated.

        Args:
            level: One of :attr:`levels`.
            replayed: The levels that ``replay`` draws from; by default all of :attr:`levels` down to the present one.

        Raises:
            ValueError: If a level has no triplets, or there is none to draw from.
        """
        drawn = [number for number in self.levels if number <= level] if replayed is None else list(replayed)
        if not drawn or (without := [number for number in (level, *drawn) if number not in self._pools]):
            raise ValueError(
                f"level must be one that triplets can be made of, {', '.join(map(str, self.levels))}; it is "
                f"{without[0] if drawn else replayed!r}"
            )
        self._level, self._replayed = level, drawn

    def nodes_drawn(self, level: int) -> int:
        """Returns how many nodes of a level triplets are drawn for."""
        return len(self._pools[level].drawn)

    def step_levels(self) -> list[int]:
        """Returns the level of each step of the present epoch, without drawing triplets."""
        levels = []
        for block in range(math.ceil(self._length / _STEPS)):
            levels += self._draw_levels(min(_STEPS, self._length - block * _STEPS), self._rng(block))
        return levels

    def _draw_levels(self, steps: int, rng: np.random.Generator) -> list[int]:
        so_far = np.array(self._replayed)
        replayed = rng.random(steps) < self.replay
        return np.where(replayed, so_far[rng.integers(len(so_far), size=steps)], self._level).tolist()

    def _pools_of(self, steps: int, rng: np.random.Generator) -> list[_Pools]:
        return [self._pools[level] for level in self._draw_levels(steps, rng)]


@DATA_SAMPLERS.register_module()
class LeafTripletSampler(_TripletSampler):
    """Draws triplets over the leaves alone, as if they were flat classes: paper B's baseline without the hierarchy.

    A leaf with two images or more is drawn uniformly, then anchor and positive from it, another leaf, uniformly from
    all others, and the negative from that. A leaf is a node that no image hangs below; images that hang on inner nodes
    only take no part. An image of several paths is no negative if it hangs in any of the anchor's leaves, or shares as
    much of the tree with the anchor by other paths.

    What :class:`LevelTripletSampler` promises holds here, and its arguments are these.

    Args:
        sampler: As for :class:`LevelTripletSampler`.
        batch_size: Triplets in a batch of one process.
        triplets_per_epoch: Of all processes together.
        seed: Overrides that of ``sampler``.
        rank: Overrides that of ``sampler``.
        world_size: Overrides that of ``sampler``.

    Raises:
        ValueError: If no triplet can be made, or an option is out of range.

    Example:
        >>> import torch
        >>> labels = torch.tensor([[0, 0], [0, 0], [0, -1], [1, -1]])  # leaves: the node of 0 and 1, and that of 3
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
        self._pools = _Pools.of_leaves(_nodes(self.labels))
        if not len(self._pools.drawn):
            raise ValueError(
                "no triplet can be made of the leaves: it takes one with two images and another one; there are "
                f"{len(self.labels)} images. Check the folders, or data_root"
            )

    def _pools_of(self, steps: int, rng: np.random.Generator) -> list[_Pools]:
        return [self._pools] * steps


def _nodes(labels: Tensor) -> Ints:
    """Returns the number of the node of each image, path and level, (N, P, L), ``PAD`` below a path's end."""
    ids = prefix_ids(labels)
    return (ids if ids.ndim == 3 else ids[:, None]).numpy()


def _in_common(a: Ints, b: Ints) -> NDArray[np.bool_]:
    """Tells of each row of two (B, P) arrays whether they have a number in common that is not ``PAD``."""
    return ((a[:, :, None] == b[:, None]) & (a != PAD)[:, :, None]).any((1, 2))


def _all_one(numbers: Ints) -> NDArray[np.bool_]:
    """Tells of each row of a (B, P) array whether all of its numbers but ``PAD`` are the same."""
    return ((numbers == PAD) | (numbers == numbers.max(1, keepdims=True))).all(1)


def _sorted_unique(values: Ints) -> Ints:
    """Returns what ``np.unique`` does, which hashes: ten times slower for millions of different numbers."""
    values = np.sort(values)
    return values[np.concatenate([np.ones(len(values[:1]), bool), values[1:] != values[:-1]])]


class _Pools:
    """The images of each of some nodes, and which other nodes are a node's siblings.

    Args:
        nodes: (N, P, L) of all levels, as :func:`_nodes` gives them.
        member: (N, P), the place among these nodes that each path goes through, ``PAD`` for none.
        group: Of each of these nodes, (K,): siblings have one.
        depth: Of each of these nodes, (K,).
    """

    def __init__(self, nodes: Ints, member: Ints, group: Ints, depth: Ints) -> None:
        self.nodes, self.depth = nodes, depth
        # where nodes are of several depths, two images may share one without sharing any of the depth of another
        self.member = member if len(np.unique(depth)) > 1 else None
        image, path = np.nonzero(member != PAD)
        pairs = member[image, path] * len(nodes) + image  # one number per (node, image)
        pairs = _sorted_unique(pairs)
        of, self.images = np.divmod(pairs, max(len(nodes), 1))
        self.size = np.bincount(of, minlength=len(group))
        self.first = np.cumsum(self.size) - self.size
        # siblings side by side
        self.siblings = np.argsort(group, kind="stable")
        self.num_siblings = np.bincount(group)[group]  # with the node itself
        groups = np.cumsum(np.bincount(group)) - np.bincount(group)
        self.first_sibling = groups[group]
        self.place = np.empty(len(group), np.int64)
        self.place[self.siblings] = np.arange(len(group))
        self.place -= self.first_sibling
        self.several = member.shape[1] > 1
        self.drawn = self._drawable(of, group)

    @classmethod
    def of_level(cls, nodes: Ints, level: int) -> _Pools:
        """Makes the pools of all nodes of one level; siblings have one parent."""
        member = nodes[..., level - 1]
        above = nodes[..., level - 2] if level > 1 else np.zeros_like(member)
        group = np.zeros(int(member.max(initial=PAD)) + 1, np.int64)
        group[member[member != PAD]] = above[member != PAD]
        return cls(nodes, member, group, np.full(len(group), level))

    @classmethod
    def of_leaves(cls, nodes: Ints) -> _Pools:
        """Makes the pools of all leaves, which are each other's siblings."""
        member = np.full(nodes.shape[:2], PAD)
        depths: list[Ints] = [np.zeros(0, np.int64)]
        for level in range(nodes.shape[2]):
            ids = nodes[..., level]
            inner = np.zeros(int(ids.max(initial=PAD)) + 1, bool)
            if level + 1 < nodes.shape[2]:
                inner[ids[nodes[..., level + 1] != PAD]] = True
            leaves = np.cumsum(~inner) - 1 + sum(map(len, depths))
            at_leaf = (ids != PAD) & ~inner[ids.clip(min=0)] if len(inner) else np.zeros_like(ids, bool)
            member[at_leaf] = leaves[ids[at_leaf]]
            depths.append(np.full(int((~inner).sum()), level + 1))
        depth = np.concatenate(depths)
        return cls(nodes, member, np.zeros(len(depth), np.int64), depth)

    def _drawable(self, of: Ints, group: Ints) -> Ints:
        """Returns the nodes of two images or more for which there is an anchor with a negative.

        Args:
            of: The node of each entry of ``images``.
            group: Of each node.
        """
        if not self.several:
            return np.nonzero((self.size > 1) & (self.num_siblings > 1))[0]
        different = _sorted_unique(group[of] * len(self.nodes) + self.images) // len(self.nodes)
        with_others = np.bincount(different)[group] > self.size  # siblings have images that the node has not
        # for an anchor that hangs in no other node of this depth, each of these will do
        paths = self.nodes[self.images, :, self.depth[of] - 1]  # (entries, P)
        sole = _all_one(paths)
        if self.member is not None:
            sole &= _all_one(self.member[self.images])
        simple = np.bincount(of[sole], minlength=len(self.size)) > 0
        found = (self.size > 1) & with_others
        doubtful = np.nonzero(found & ~simple)[0]
        rng = np.random.default_rng(0)
        for _ in range(_ATTEMPTS):  # most have so many triplets that one is soon met
            if not len(doubtful):
                break
            anchors, _, negatives = self._candidates(doubtful, rng)
            doubtful = doubtful[self._share(anchors, negatives, doubtful)]
        for node in doubtful:
            found[node] = any(len(self.negatives(anchor, node)) for anchor in self.pool(node))
        return np.nonzero(found)[0]

    def pool(self, node: int) -> Ints:
        """Returns the images of a node."""
        return self.images[self.first[node] : self.first[node] + self.size[node]]

    def negatives(self, anchor: int, node: int) -> Ints:
        """Returns the images of the node's siblings that are negatives of an anchor, as often as siblings have them."""
        first = self.first_sibling[node]
        siblings = self.siblings[first : first + self.num_siblings[node]]
        images = np.concatenate([self.pool(sibling) for sibling in siblings if sibling != node])
        return images[~self._share(np.full(len(images), anchor), images, np.full(len(images), node))]

    def draw(self, rng: np.random.Generator, number: int) -> Ints:
        """Draws triplets: anchors, positives and negatives, (3, number)."""
        nodes = self.drawn[rng.integers(len(self.drawn), size=number)]
        triplets = self._candidates(nodes, rng)
        if self.several:
            wrong = np.nonzero(self._share(triplets[0], triplets[2], nodes))[0]
            for _ in range(_ATTEMPTS):
                if not len(wrong):
                    return triplets
                triplets[:, wrong] = self._candidates(nodes[wrong], rng)
                wrong = wrong[self._share(triplets[0, wrong], triplets[2, wrong], nodes[wrong])]
            for row in wrong:
                triplets[:, row] = self._rare(nodes[row], rng)
        return triplets

    def _candidates(self, nodes: Ints, rng: np.random.Generator) -> Ints:
        """Draws an anchor, another image and a sibling's image for each node; the last may be no negative."""
        anchor = rng.integers(self.size[nodes])
        positive = rng.integers(self.size[nodes] - 1)
        positive += positive >= anchor  # any but the anchor
        place = rng.integers(self.num_siblings[nodes] - 1)
        place += place >= self.place[nodes]  # any but the node
        siblings = self.siblings[self.first_sibling[nodes] + place]
        negative = rng.integers(self.size[siblings])
        return np.stack(
            [
                self.images[self.first[nodes] + anchor],
                self.images[self.first[nodes] + positive],
                self.images[self.first[siblings] + negative],
            ]
        )

    def _share(self, anchors: Ints, others: Ints, nodes: Ints) -> NDArray[np.bool_]:
        """Tells whether two images share one of these nodes, or any of the depth of the one that they are drawn for."""
        level = self.depth[nodes] - 1
        shared = _in_common(self.nodes[anchors, :, level], self.nodes[others, :, level])
        return shared if self.member is None else shared | _in_common(self.member[anchors], self.member[others])

    def _rare(self, node: int, rng: np.random.Generator) -> Ints:
        """Draws a triplet of a node that has few, from a list of them."""
        pool = self.pool(node)
        for anchor in rng.permutation(pool):
            if len(negatives := self.negatives(anchor, node)):
                return np.array([anchor, rng.choice(pool[pool != anchor]), rng.choice(negatives)])
        raise AssertionError("a node is drawn only if it has a triplet")
