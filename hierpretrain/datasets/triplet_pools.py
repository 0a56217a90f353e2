"""Pools of images to draw triplets from: an anchor and a positive of one node, a negative of one of its siblings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hierpretrain.taxonomy import PAD, as_paths, prefix_ids

_ATTEMPTS = 64  # to find a negative at random, before all candidates of a node are listed

Ints = NDArray[np.int64]


def path_nodes(labels: Tensor) -> Ints:
    """Returns the (N, P, L) nodes on the paths of (N, L) or (N, P, L) labels; ``PAD`` below a path's end."""
    ids = prefix_ids(labels)
    return as_paths(ids).numpy()


class TripletPools:
    """The images of K nodes, and which of these nodes are siblings.

    Images with several paths are what makes this long. Such an image is in the pool of each of its nodes, so that a
    sibling's image may be the anchor's as well and then is no negative.

    Args:
        nodes: (N, P, L) nodes of all levels, as :func:`path_nodes` returns them.
        member: (N, P), for each path the index of the one of the K nodes that it leads through; ``PAD`` for none.
        group: (K,), equal for siblings.
        depth: (K,), the depth of each node in the tree.

    Attributes:
        drawable: (D,) indices of the nodes that triplets can be drawn for.
    """

    def __init__(self, nodes: Ints, member: Ints, group: Ints, depth: Ints) -> None:
        self.nodes, self.depth = nodes, depth
        # Where the K nodes are of several depths, two images may share one of them without sharing a node of the depth
        # that a triplet is drawn for; only then is `member` needed to tell.
        self.member = member if len(np.unique(depth)) > 1 else None
        self.several_paths = member.shape[1] > 1

        # The pools, one behind the other: images[first[k] : first[k] + size[k]] are node k's, each once.
        image, path = np.nonzero(member != PAD)
        pairs = _sorted_unique(member[image, path] * len(nodes) + image)  # one number for a node and an image
        owner, self.images = np.divmod(pairs, max(len(nodes), 1))
        self.size = np.bincount(owner, minlength=len(group))
        self.first = np.cumsum(self.size) - self.size

        # The nodes, siblings side by side: node k is siblings[first_sibling[k] + rank[k]].
        self.siblings = np.argsort(group, kind="stable")
        group_size = np.bincount(group)
        self.num_siblings = group_size[group]  # with the node itself
        self.first_sibling = (np.cumsum(group_size) - group_size)[group]
        self.rank = np.empty(len(group), np.int64)
        self.rank[self.siblings] = np.arange(len(group))
        self.rank -= self.first_sibling

        self.drawable = self._find_drawable(owner, group)

    @classmethod
    def of_level(cls, nodes: Ints, level: int) -> TripletPools:
        """Makes the pools of all nodes of one level, from 1 (coarsest); siblings have the same parent."""
        member = nodes[..., level - 1]
        above = nodes[..., level - 2] if level > 1 else np.zeros_like(member)
        group = np.zeros(int(member.max(initial=PAD)) + 1, np.int64)
        group[member[member != PAD]] = above[member != PAD]
        return cls(nodes, member, group, np.full(len(group), level))

    @classmethod
    def of_leaves(cls, nodes: Ints) -> TripletPools:
        """Makes the pools of all leaves; every leaf is a sibling of every other."""
        member = np.full(nodes.shape[:2], PAD)
        depths: list[Ints] = [np.zeros(0, np.int64)]
        for level in range(nodes.shape[2]):
            ids = nodes[..., level]
            inner = np.zeros(int(ids.max(initial=PAD)) + 1, bool)
            if level + 1 < nodes.shape[2]:
                inner[ids[nodes[..., level + 1] != PAD]] = True
            leaves = np.cumsum(~inner) - 1 + sum(map(len, depths))  # numbered through all levels
            at_leaf = (ids != PAD) & ~inner[ids.clip(min=0)] if len(inner) else np.zeros_like(ids, bool)
            member[at_leaf] = leaves[ids[at_leaf]]
            depths.append(np.full(int((~inner).sum()), level + 1))
        depth = np.concatenate(depths)
        return cls(nodes, member, np.zeros(len(depth), np.int64), depth)

    def _find_drawable(self, owner: Ints, group: Ints) -> Ints:
        """Returns the nodes of two images or more, one of which has a negative; ``owner`` is each image's node."""
        if not self.several_paths:
            return np.nonzero((self.size > 1) & (self.num_siblings > 1))[0]
        # Necessary: the siblings together have an image that the node lacks.
        in_group = _sorted_unique(group[owner] * len(self.nodes) + self.images) // len(self.nodes)
        found = (self.size > 1) & (np.bincount(in_group)[group] > self.size)
        # Sufficient with that: an anchor in no other node of this depth, to which each of those images is a negative.
        paths = self.nodes[self.images, :, self.depth[owner] - 1]  # (len(images), P)
        sole = _all_one(paths)
        if self.member is not None:
            sole &= _all_one(self.member[self.images])
        doubtful = np.nonzero(found & (np.bincount(owner[sole], minlength=len(self.size)) == 0))[0]
        # Most of the others have so many triplets that one is soon met at random.
        rng = np.random.default_rng(0)
        for _ in range(_ATTEMPTS):
            if not len(doubtful):
                break
            anchors, _, candidates = self._draw_candidates(doubtful, rng)
            doubtful = doubtful[self._related(anchors, candidates, doubtful)]
        # The few that are left are looked through.
        for node in doubtful:
            found[node] = any(len(self.negatives(anchor, node)) for anchor in self.pool(node))
        return np.nonzero(found)[0]

    def pool(self, node: int) -> Ints:
        """Returns the images of a node."""
        return self.images[self.first[node] : self.first[node] + self.size[node]]

    def negatives(self, anchor: int, node: int) -> Ints:
        """Returns the negatives of an image of a node: images of siblings, repeated if several siblings have them."""
        first = self.first_sibling[node]
        siblings = self.siblings[first : first + self.num_siblings[node]]
        images = np.concatenate([self.pool(sibling) for sibling in siblings if sibling != node])
        return images[~self._related(np.full(len(images), anchor), images, np.full(len(images), node))]

    def draw(self, rng: np.random.Generator, number: int) -> Ints:
        """Draws triplets for nodes that are themselves drawn uniformly from :attr:`drawable`.

        Returns:
            (3, number) images: anchors, positives and negatives.
        """
        nodes = self.drawable[rng.integers(len(self.drawable), size=number)]
        triplets = self._draw_candidates(nodes, rng)
        if self.several_paths:
            # What turned out to be no negative is drawn anew, with anchor and positive, for the same node.
            wrong = np.nonzero(self._related(triplets[0], triplets[2], nodes))[0]
            for _ in range(_ATTEMPTS):
                if not len(wrong):
                    return triplets
                triplets[:, wrong] = self._draw_candidates(nodes[wrong], rng)
                wrong = wrong[self._related(triplets[0, wrong], triplets[2, wrong], nodes[wrong])]
            for column in wrong:
                triplets[:, column] = self._draw_listed(nodes[column], rng)
        return triplets

    def _draw_candidates(self, nodes: Ints, rng: np.random.Generator) -> Ints:
        """Draws an anchor, another image and a sibling's image for each node; the last may turn out no negative."""
        anchor = rng.integers(self.size[nodes])
        positive = rng.integers(self.size[nodes] - 1)
        positive += positive >= anchor  # any but the anchor
        rank = rng.integers(self.num_siblings[nodes] - 1)
        rank += rank >= self.rank[nodes]  # any but the node
        siblings = self.siblings[self.first_sibling[nodes] + rank]
        negative = rng.integers(self.size[siblings])
        return np.stack(
            [
                self.images[self.first[nodes] + anchor],
                self.images[self.first[nodes] + positive],
                self.images[self.first[siblings] + negative],
            ]
        )

    def _draw_listed(self, node: int, rng: np.random.Generator) -> Ints:
        """Draws a triplet of a node that has few, from the list of an anchor's negatives."""
        pool = self.pool(node)
        for anchor in rng.permutation(pool):
            if len(negatives := self.negatives(anchor, node)):
                return np.array([anchor, rng.choice(pool[pool != anchor]), rng.choice(negatives)])
        raise AssertionError("a node is drawn only if it has a triplet")

    def _related(self, anchors: Ints, others: Ints, nodes: Ints) -> NDArray[np.bool_]:
        """Returns for which of (B,) pairs of images, drawn for (B,) nodes, the second is no negative of the first.

        It is none if the two share one of the K nodes, or any node of the depth of the one they are drawn for.
        """
        level = self.depth[nodes] - 1
        shared = _in_common(self.nodes[anchors, :, level], self.nodes[others, :, level])
        return shared if self.member is None else shared | _in_common(self.member[anchors], self.member[others])


def _in_common(a: Ints, b: Ints) -> NDArray[np.bool_]:
    """Returns for each row of two (B, P) arrays whether they have a number in common that is not ``PAD``."""
    return ((a[:, :, None] == b[:, None]) & (a != PAD)[:, :, None]).any((1, 2))


def _all_one(numbers: Ints) -> NDArray[np.bool_]:
    """Returns for each row of a (B, P) array whether all of its numbers but ``PAD`` are the same."""
    return ((numbers == PAD) | (numbers == numbers.max(1, keepdims=True))).all(1)


def _sorted_unique(values: Ints) -> Ints:
    """Returns ``np.unique(values)``; NumPy's own hashes, which takes ten times as long for millions of numbers."""
    values = np.sort(values)
    return values[np.concatenate([np.ones(len(values[:1]), bool), values[1:] != values[:-1]])]
