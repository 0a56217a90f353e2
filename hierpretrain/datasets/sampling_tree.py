"""The tree that the hierarchical batch sampler draws images from, without replacement, kept in flat arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hierpretrain.datasets.image_kinds import ImageKinds
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

    The *classes* are the children of the root: the nodes of the first level and, for images without a label, the root's
    mixed pool. A plan counts their unused images, to notice in time that one class would be left over alone.

    The tree takes 20 bytes for each node and 8 for each path of an image, and 4 more for each image if any image has
    several paths. A plan that is being made takes as much again, and 4 more for each node.

    Args:
        labels: (N, L) label matrix, or (N, P, L) if images have several paths.

    Raises:
        ValueError: If labels are malformed.
    """

    def __init__(self, labels: Tensor) -> None:
        labels = check_labels(labels, several_paths=True)
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
        state, siblings = self._records.copy(), self._children.copy()
        images, records, children = memoryview(shuffled), memoryview(state), memoryview(siblings)
        num_left = state[LEFT:]  # of the node at an offset
        first_leaf, first_mixed = self._first_leaf, self._first_mixed
        random = chain.from_iterable(iter(lambda: rng.random(_BLOCK).tolist(), None)).__next__
        classes = self._classes()
        class_sizes = self._class_sizes(classes)
        class_of, unused = memoryview(classes), memoryview(class_sizes)  # of a node; images of a class

        def take(pool: int) -> int:
            """Returns an unused image of a pool and marks it as used."""
            records[pool + FIRST] = last = records[pool + FIRST] - 1
            records[pool + LEFT] = left = records[pool + LEFT] - 1
            unused[class_of[pool // _FIELDS]] -= 1
            if not left:
                retire(pool)
            return images[last]

        several_paths = self._first_entry is not None
        if several_paths:
            used = bytearray(len(self._first_entry))
            pools, first_entry = memoryview(self._pools), memoryview(self._first_entry)

            def classes_of(image: int) -> set[int]:
                return {class_of[own // _FIELDS] for own in pools[first_entry[image] : first_entry[image + 1]]}

            def next_of(pool: int) -> int:
                """Returns the image that would be taken from a pool."""
                last = records[pool + FIRST] - 1
                while used[image := images[last]]:  # taken from another pool
                    last -= 1
                records[pool + FIRST] = last + 1
                return image

            def use(image: int) -> int:
                """Marks an image as used in all of its pools and classes, and returns it."""
                used[image] = True
                for number in classes_of(image):
                    unused[number] -= 1
                for own in pools[first_entry[image] : first_entry[image + 1]]:
                    records[own + LEFT] = left = records[own + LEFT] - 1
                    if not left:
                        retire(own)
                return image

            kinds = ImageKinds(images, classes_of, used, random)

            def take(pool: int) -> int:
                """Does the same where an image may be in several pools."""
                return use(next_of(pool))

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

        def pools_of_anchors(anchors: NDArray[np.signedinteger]) -> Iterator[int]:
            """Yields the pools of the anchors, as long as they have unused images."""
            while True:
                for block in range(0, len(anchors), _BLOCK):
                    # Leave out, all at once, the candidates whose pool is used up by now.
                    candidates = anchors[block : block + _BLOCK]
                    for pool in candidates[num_left[candidates] > 0].tolist():
                        if records[pool + LEFT]:
                            yield pool
                # Some were passed over, and their images are left: they are the anchors of another round.
                left = np.arange(first_leaf, len(state), _FIELDS)
                anchors = rng.permutation(np.repeat(left, num_left[left]))

        def largest() -> tuple[int, int]:
            """Returns the class with the most unused images, and how many images the next one has."""
            numbers = classes[siblings[: records[LEFT]] // _FIELDS]
            counts = class_sizes[numbers]
            first = int(counts.argmax())
            counts[first] = -1
            return int(numbers[first]), max(int(counts.max()), 0)

        sizes = list(sizes)
        next_anchor = pools_of_anchors(anchors).__next__
        left = len(self._images) if not several_paths else len(self._first_entry) - 1
        # Batches to come that can hold two classes, also those that drop_last leaves out: plans begin alike with them.
        later = sum(size > 1 for size in sizes)
        if later:
            later += (left - sum(sizes)) // max(sizes)
        leader, second = largest()
        for size in sizes:
            batch: list[int] = []
            shared: set[int] = set()  # the classes that all images of the batch hang in
            later -= size > 1
            # Every later batch needs an image from outside the largest class. This batch can leave too few of them only
            # if one class outnumbers all others together. (No class but `leader` has more than `second` images.)
            scarce = later > 0 and left - max(unused[leader], second) - later < size
            while len(batch) < size:
                pool = next_anchor()
                start, held, end = len(batch), class_of[pool // _FIELDS], size
                if scarce:
                    if unused[leader] < second or left - second - later < size:
                        leader, second = largest()
                    others = second if held == leader else unused[leader]  # the largest class but for this one
                    spare = left - others - later  # images that this batch may still take from outside of that
                    if spare < 1 and held != leader and not (start == size - 1 and leader in shared):
                        continue  # images of the leader only, or it would be left over alone
                    end = min(end, start + max(spare, 1))
                single = None  # the image that takes the last slot instead of a tuple
                if (shared or not start) and size > 1 and left > unused[held]:
                    # So far the batch holds one class alone, and there are images of others: one gets the last slot.
                    if start < size - 1:
                        end = min(end, size - 1) if several_paths or not start or held in shared else end
                    elif several_paths:
                        if not shared.isdisjoint(classes_of(next_of(pool))):
                            single = kinds.draw(shared)
                    elif held in shared:
                        pool = draw(0, int(self._children[held]))
                # A new tuple begins: the anchor, then its partner in the same leaf.
                batch.append(take(pool) if single is None else use(single))
                child, node = pool, records[pool + PARENT]
                if pool < first_mixed and records[pool + LEFT] and len(batch) < end:
                    batch.append(take(pool))
                # All levels below `node` now have their partner. The partner at the level of `node` comes from outside
                # of the branch `child`; for an anchor on `node` itself, it comes from the same mixed pool first.
                while node and len(batch) < end:  # up to level 1; the root is no level
                    same = child >= first_mixed and records[pool + LEFT]
                    partner = pool if same else draw(node, child)
                    if partner:
                        batch.append(take(partner))
                    child, node = node, records[node + PARENT]
                left -= len(batch) - start
                if shared or not start:
                    if several_paths:
                        shared = set.intersection(*map(classes_of, batch[start:]), *([shared] if start else []))
                    else:
                        shared = {held} if not start else shared & {class_of[pool // _FIELDS]}
            yield batch

    def _classes(self) -> NDArray[np.signedinteger]:
        """Returns the class of each node, as its number among the children of the root, the first in ``children``."""
        parents = self._records[PARENT::_FIELDS] // _FIELDS
        top = np.arange(len(parents))
        while len(below := np.flatnonzero(parents[top])):
            top[below] = parents[top[below]]
        return self._records[SLOT::_FIELDS][top]

    def _class_sizes(self, classes: NDArray[np.signedinteger]) -> NDArray[np.int64]:
        """Returns the number of images of each class; an image that hangs in several counts in each of them."""
        number = int(self._records[LEFT])
        if self._first_entry is None:
            images = self._records[LEFT::_FIELDS][self._first_leaf // _FIELDS :]
            sizes = np.bincount(classes[self._first_leaf // _FIELDS :], images, number)  # exact, although in doubles
            return sizes.astype(np.int64)
        pairs = np.unique(self._images * np.int64(number) + classes[self._pools // _FIELDS])
        return np.bincount(pairs % number, minlength=number)

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
