"""The tree that the hierarchical batch sampler draws images from, without replacement, kept in flat arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hierpretrain.taxonomy import PAD, check_labels, prefix_ids

PARENT, SLOT, FIRST, LEFT = range(4)  # the fields of a node's record
_FIELDS = 4
_BLOCK = 8192  # numbers that NumPy turns into Python's together, because one at a time is slow
_END_OF_32_BITS = 2**31


class SamplingTree:
    """The tree of some labels, from which images are drawn without replacement in constant time.

    Images are kept in *pools*. Every leaf of the label tree is a pool. An inner node that has images of its own gets
    one more child for them, a *mixed* pool.

    Two kinds of slices hold what is still unused. One is a pool's unused images, in random order; the last of them is
    taken. The other is a node's children with unused images; a child that is used up is swapped with the last of them
    and so leaves the slice. Every node has a record of four numbers:

    - ``PARENT``: the parent node.
    - ``SLOT``: the position in ``children``, where siblings stand side by side.
    - ``FIRST``: for an inner node, the position of its first child in ``children``; for a pool, the position behind its
      last unused image.
    - ``LEFT``: for an inner node, the number of its children with unused images; for a pool, of its unused images.

    A node is referred to by the offset of its record. Inner nodes come first, with the root at 0, then the leaves, then
    the mixed pools, each kind in the order of the paths. What one tuple looks at is therefore close together in memory;
    with millions of images, most of the time would otherwise go into waiting for memory.

    An image with several paths has an entry in several pools. Once it is taken from one of them, ``LEFT`` falls in all
    of them, and its other entries are skipped when they come to be the last.

    The tree takes 20 bytes for each node and 8 for each path of an image, and 4 more for each image if any image has
    several paths. A plan that is being made takes as much again.

    Args:
        labels: (N, L) label matrix, or (N, P, L) if images have several paths.

    Raises:
        ValueError: If labels are malformed.
    """

    def __init__(self, labels: Tensor) -> None:
        check_labels(labels, several_paths=True)
        images, paths = _entries(labels)
        own, above = _nodes(prefix_ids(paths).numpy())

        # An inner node with images of its own gets a mixed pool, numbered behind the nodes of the labels for now.
        inner = np.bincount(above[1:], minlength=len(above)) > 0
        inner[0] = True
        mixed = np.flatnonzero(inner & (np.bincount(own, minlength=len(above)) > 0))
        mixed_pools = len(above) + np.arange(len(mixed))
        pool = np.arange(len(above))
        pool[mixed] = mixed_pools

        # The final numbers: inner nodes, leaves, mixed pools.
        order = np.concatenate([np.flatnonzero(inner), np.flatnonzero(~inner), mixed_pools])
        number = np.empty_like(order)
        number[order] = np.arange(len(order))
        parent = number[np.concatenate([above, mixed])]
        children = np.argsort(parent[1:], kind="stable") + 1  # siblings side by side; the root is no child
        pools = number[pool[own]]  # of each entry

        # The records of an unused tree.
        num_children = np.bincount(parent[1:], minlength=len(order))
        num_images = np.bincount(pools, minlength=len(order))
        first_leaf = int(inner.sum())
        records = np.zeros((len(order), _FIELDS), np.int64)
        records[number, PARENT] = parent * _FIELDS
        records[number[children], SLOT] = np.arange(len(children))
        records[:first_leaf, FIRST] = (np.cumsum(num_children) - num_children)[:first_leaf]
        records[first_leaf:, FIRST] = np.cumsum(num_images)[first_leaf:]
        records[:, LEFT] = num_children + num_images

        dtype = np.int32 if max(records.size, len(images)) < _END_OF_32_BITS else np.int64
        self._first_leaf, self._first_mixed = first_leaf * _FIELDS, (len(order) - len(mixed)) * _FIELDS
        self._records = records.ravel().astype(dtype)
        self._children = (number[children] * _FIELDS).astype(dtype)
        self._pools, self._images = (pools * _FIELDS).astype(dtype), images.astype(dtype)  # of each entry
        self._first_entry = None  # of each image, if any image has several
        if len(images) > len(labels):
            self._first_entry = np.searchsorted(images, np.arange(len(labels) + 1)).astype(dtype)

    def plan(self, sizes: Iterable[int], rng: np.random.Generator) -> Iterator[list[int]]:
        """Yields batches of tuples, as :class:`HierarchicalBatchSampler` describes them.

        Args:
            sizes: The number of images in each batch; their sum is at most the number of images.
            rng: The generator that anchors and partners are drawn with.
        """
        # The plan changes copies of the arrays. Through memoryviews, single numbers are read faster than from arrays.
        anchors, shuffled = self._shuffle(rng)
        images, state = memoryview(shuffled), self._records.copy()
        records, children = memoryview(state), memoryview(self._children.copy())
        num_left = state[LEFT:]  # of the node at an offset
        first_leaf, first_mixed = self._first_leaf, self._first_mixed
        random = chain.from_iterable(iter(lambda: rng.random(_BLOCK).tolist(), None)).__next__

        def take(pool: int) -> int:
            """Returns an unused image of a pool and marks it as used."""
            records[pool + FIRST] = last = records[pool + FIRST] - 1
            records[pool + LEFT] = left = records[pool + LEFT] - 1
            if not left:
                retire(pool)
            return images[last]

        if self._first_entry is not None:
            used = bytearray(len(self._first_entry))
            pools, first_entry = memoryview(self._pools), memoryview(self._first_entry)

            def take(pool: int) -> int:
                """Does the same where an image may be in several pools."""
                last = records[pool + FIRST] - 1
                while used[image := images[last]]:  # taken from another pool
                    last -= 1
                records[pool + FIRST] = last
                used[image] = True
                for own in pools[first_entry[image] : first_entry[image + 1]]:
                    records[own + LEFT] = left = records[own + LEFT] - 1
                    if not left:
                        retire(own)
                return image

        def retire(child: int) -> None:
            """Takes a used-up node out of its parent's slice, and so on upwards if that used up the parent."""
            while True:
                node = records[child + PARENT]
                records[node + LEFT] = left = records[node + LEFT] - 1
                slot, last = records[child + SLOT], records[node + FIRST] + left
                other = children[last]
                children[slot], children[last] = other, child
                records[other + SLOT], records[child + SLOT] = slot, last
                if left or not node:
                    return
                child = node

        def draw(node: int, avoid: int) -> int:
            """Returns a random pool with unused images below ``node`` but not below its child ``avoid``, or 0."""
            first, choices = records[node + FIRST], records[node + LEFT]
            slot = records[avoid + SLOT]
            if slot < first + choices:  # `avoid` has unused images: choose among the others of the slice
                choices -= 1
                if not choices:
                    return 0
                chosen = first + int(random() * choices)
                child = children[chosen + (chosen >= slot)]
            elif choices:
                child = children[first + int(random() * choices)]
            else:
                return 0
            while child < first_leaf:  # an inner node
                child = children[records[child + FIRST] + int(random() * records[child + LEFT])]
            return child

        sizes_left = iter(sizes)
        size, batch = next(sizes_left, 0), []
        for block in range(0, len(anchors), _BLOCK):
            # Leave out, all at once, the candidates whose pool is used up by now.
            candidates = anchors[block : block + _BLOCK]
            for pool in candidates[num_left[candidates] > 0].tolist():
                if not records[pool + LEFT]:
                    continue
                # A new tuple begins: the anchor, then its partner in the same leaf.
                batch.append(take(pool))
                child, node = pool, records[pool + PARENT]
                if pool < first_mixed and records[pool + LEFT] and len(batch) < size:
                    batch.append(take(pool))
                # All levels below `node` now have their partner. The partner at the level of `node` comes from outside
                # of the branch `child`; for an anchor on `node` itself, it comes from the same mixed pool first.
                while node and len(batch) < size:  # up to level 1; the root is no level
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
        """Returns the pools of all entries in random order, and the images pool by pool, shuffled inside each pool."""
        entries = len(self._pools)
        anchors = self._pools[rng.permutation(entries)]  # a pool as often as it has images
        shuffled = rng.permutation(entries)
        # A stable sort by pool. The keys hold the position as well, because that is several times faster than argsort.
        keys = self._pools[shuffled] * np.int64(entries) + np.arange(entries)
        keys.sort()
        return anchors, self._images[shuffled[keys % max(entries, 1)]]


def _entries(labels: Tensor) -> tuple[NDArray[np.int64], Tensor]:
    """Returns one entry for each path of each image: (E,) image numbers, ascending, and (E, L) paths.

    An image without any label has one entry, all ``PAD``.
    """
    if labels.ndim == 2:
        return np.arange(len(labels)), labels
    given = (labels != PAD).any(2)  # (N, P)
    given[:, 0] |= ~given.any(1)
    return given.nonzero()[:, 0].numpy(), labels[given]


def _nodes(ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers the nodes of all levels consecutively, from 1 on; the root is 0.

    Returns the (E,) node of each of (E, L) ``prefix_ids``, and the parent of each node; the root's parent is the root.
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
