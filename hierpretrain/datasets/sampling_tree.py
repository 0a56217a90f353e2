"""The tree that the hierarchical batch sampler draws images from: flat arrays, copies of which a plan uses up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hierpretrain.taxonomy import PAD, check_labels, prefix_ids

PARENT, SLOT, FIRST, LEFT = range(4)  # the fields of a node's record
_FIELDS = 4
_BLOCK = 8192  # numbers that become Python's together, because one at a time is slow
_TOO_MANY = 2**31  # for 32 bits


class SamplingTree:
    """The tree of some labels, from which images are drawn without replacement in constant time.

    Images hang in *pools*. A leaf of the label tree is a pool; an inner node on which images hang has one more child, a
    *mixed* pool. What is still unused is kept by two kinds of slices: a pool's images, in random order, of which the
    last is taken; and a node's children with unused images, from which a spent one is removed by swapping it with the
    last. Every node has a record of four numbers:

    - ``PARENT``: the node above it.
    - ``SLOT``: its place in ``children``, where siblings stand side by side.
    - ``FIRST``: of an inner node, the place of its first child; of a pool, the place behind its last unused image.
    - ``LEFT``: the number of its children with unused images, or of its unused images.

    A node goes by the place of its record. Inner nodes come first, among them the root at 0, then the leaves, then the
    mixed pools, and those of one kind in the order of their paths. So what a tuple looks at lies close together: with
    millions of images most of the time would go into waiting for memory.

    An image of several paths has an entry in several pools. Taken from one, it is unused in none: what is left in each
    falls at once, and its other entries are passed over when they come to be the last.

    A tree has 20 bytes for each node and 8 for each path of an image (and 4 for each image, if one has several paths),
    and a plan under way as much again.

    Args:
        labels: (N, L) or (N, P, L) labels.

    Raises:
        ValueError: If labels are malformed.
    """

    def __init__(self, labels: Tensor) -> None:
        check_labels(labels, several_paths=True)
        images, rows = _entries(labels)
        own, above = _nodes(prefix_ids(rows).numpy())
        inner = np.bincount(above[1:], minlength=len(above)) > 0
        inner[0] = True
        mixed = np.flatnonzero(inner & (np.bincount(own, minlength=len(above)) > 0))
        mixed_pools = len(above) + np.arange(len(mixed))  # numbered behind the nodes of the labels, for now
        pool = np.arange(len(above))
        pool[mixed] = mixed_pools
        order = np.concatenate([np.flatnonzero(inner), np.flatnonzero(~inner), mixed_pools])
        number = np.empty_like(order)
        number[order] = np.arange(len(order))
        parent = number[np.concatenate([above, mixed])]
        children = np.argsort(parent[1:], kind="stable") + 1  # the root is no child
        pools = number[pool[own]]  # of each entry
        num_children = np.bincount(parent[1:], minlength=len(order))
        num_images = np.bincount(pools, minlength=len(order))
        first_leaf = int(inner.sum())
        records = np.zeros((len(order), _FIELDS), np.int64)
        records[number, PARENT] = parent * _FIELDS
        records[number[children], SLOT] = np.arange(len(children))
        records[:first_leaf, FIRST] = (np.cumsum(num_children) - num_children)[:first_leaf]
        records[first_leaf:, FIRST] = np.cumsum(num_images)[first_leaf:]
        records[:, LEFT] = num_children + num_images
        dtype = np.int32 if max(records.size, len(images)) < _TOO_MANY else np.int64
        self._first_leaf, self._first_mixed = first_leaf * _FIELDS, (len(order) - len(mixed)) * _FIELDS
        self._records = records.ravel().astype(dtype)
        self._children = (number[children] * _FIELDS).astype(dtype)
        self._pools, self._images = (pools * _FIELDS).astype(dtype), images.astype(dtype)  # of each entry
        self._first_entry = None  # of each image, if one has several
        if len(images) > len(labels):
            self._first_entry = np.searchsorted(images, np.arange(len(labels) + 1)).astype(dtype)

    def plan(self, sizes: Iterable[int], rng: np.random.Generator) -> Iterator[list[int]]:
        """Yields one batch of each size, of tuples as :class:`HierarchicalBatchSampler` describes them.

        Args:
            sizes: Images in each batch, at most as many in all as there are.
            rng: What anchors and partners are drawn with.
        """
        anchors, shuffled = self._shuffle(rng)
        images, left_in = memoryview(shuffled), self._records.copy()
        records, children = memoryview(left_in), memoryview(self._children.copy())
        left_in = left_in[LEFT:]  # indexed by nodes
        first_leaf, first_mixed = self._first_leaf, self._first_mixed
        random = chain.from_iterable(iter(lambda: rng.random(_BLOCK).tolist(), None)).__next__

        def take(pool: int) -> int:
            records[pool + FIRST] = last = records[pool + FIRST] - 1
            records[pool + LEFT] = left = records[pool + LEFT] - 1
            if not left:
                retire(pool)
            return images[last]

        if self._first_entry is not None:  # an image is taken from all of its pools
            spent = bytearray(len(self._first_entry))
            pools, first_entry = memoryview(self._pools), memoryview(self._first_entry)

            def take(pool: int) -> int:
                last = records[pool + FIRST] - 1
                while spent[image := images[last]]:
                    last -= 1
                records[pool + FIRST] = last
                spent[image] = True
                for own in pools[first_entry[image] : first_entry[image + 1]]:
                    records[own + LEFT] = left = records[own + LEFT] - 1
                    if not left:
                        retire(own)
                return image

        def retire(child: int) -> None:
            while True:
                node = records[child + PARENT]
                records[node + LEFT] = left = records[node + LEFT] - 1
                place, last = records[child + SLOT], records[node + FIRST] + left
                other = children[last]
                children[place], children[last] = other, child
                records[other + SLOT], records[child + SLOT] = place, last
                if left or not node:
                    return
                child = node

        def draw(node: int, avoid: int) -> int:
            """Returns a random pool with unused images below ``node`` but not below its child ``avoid``, or 0."""
            first, choices = records[node + FIRST], records[node + LEFT]
            place = records[avoid + SLOT]
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
            while child < first_leaf:
                child = children[records[child + FIRST] + int(random() * records[child + LEFT])]
            if child < first_mixed:
                random()  # when leaves had pools as inner nodes have, this chose among one; the plan of a seed stays
            return child

        sizes_left = iter(sizes)
        size, batch = next(sizes_left, 0), []
        for block in range(0, len(anchors), _BLOCK):
            candidates = anchors[block : block + _BLOCK]
            for pool in candidates[left_in[candidates] > 0].tolist():
                if not records[pool + LEFT]:
                    continue
                batch.append(take(pool))
                child, node = pool, records[pool + PARENT]
                if pool < first_mixed and records[pool + LEFT] and len(batch) < size:
                    batch.append(take(pool))
                while node and len(batch) < size:  # up to, and without, the root
                    same = child >= first_mixed and records[pool + LEFT]
                    partner = pool if same else draw(node, child)
                    if partner:
                        batch.append(take(partner))
                    child, node = node, records[node + PARENT]
                if len(batch) == size:
                    yield batch
                    size, batch = next(sizes_left, 0), []
                    if not size:
                        return

    def _shuffle(self, rng: np.random.Generator) -> tuple[NDArray[np.signedinteger], NDArray[np.signedinteger]]:
        """Returns the pools of all entries in random order, and their images, pool by pool, in another one."""
        entries = len(self._pools)
        anchors = self._pools[rng.permutation(entries)]  # a pool as often as it has images
        shuffled = rng.permutation(entries)
        # a stable sort by pool, of numbers that hold the place as well: several times as fast as an argsort
        keys = self._pools[shuffled] * np.int64(entries) + np.arange(entries)
        keys.sort()
        return anchors, self._images[shuffled[keys % max(entries, 1)]]


def _entries(labels: Tensor) -> tuple[NDArray[np.int64], Tensor]:
    """Returns the (E,) images of all paths, ascending, and their (E, L) label rows; an image without any has one."""
    if labels.ndim == 2:
        return np.arange(len(labels)), labels
    there = (labels != PAD).any(2)  # (N, P)
    there[:, 0] |= ~there.any(1)
    return there.nonzero()[:, 0].numpy(), labels[there]


def _nodes(ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers the nodes of all levels through, behind the root at 0.

    Args:
        ids: (E, L), as ``prefix_ids`` gives them.

    Returns:
        The node of each entry, (E,), and the one above each node, which for the root is itself.
    """
    starts = np.cumsum([1, *(int(column.max(initial=PAD)) + 1 for column in ids.T)])
    above = np.zeros(starts[-1], np.int64)
    own = np.zeros(len(ids), np.int64)
    for start, column in zip(starts, ids.T, strict=False):  # the last start is the end
        known = column != PAD
        nodes = start + column[known]
        above[nodes] = own[known]
        own[known] = nodes
    return own, above
