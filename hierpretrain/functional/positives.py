"""Which keys are positives of which rows at each level of the tree, never as a matrix of all pairs.

Sorted by their paths, the rows below a node stand side by side, at all levels at once. So the positives of a row at a
level are a range of places less a range within it, those of a chunk of rows lie in one narrow block of columns, and
sums over them are sums over nodes: :class:`OnePath`. Items with several paths have no such order, and all pairs are
looked at, a chunk of rows at a time: :class:`SeveralPaths`. Both have the same attributes and methods::

    rows (m, D), keys (M, D)   of this process and of all processes, in the order of this object
    place (m,)                 which key is the row itself
    counts (m, L)              |P_l(i)|
    anchors(total)             (L,): the rows of all processes that have a positive; total sums over processes
    sums()                     (m, L): sum_{j in P_l(i)} r_i . k_j
    products(u)                V k (m, D) and V^T r (M, D), where v_ij sums u_il over the levels with j in P_l(i)
    blocks(), mask(b, l)       blocks that hold all rows with their positives; which pairs of a block are of level l
    restore(of_rows, of_keys)  the gradients of rows and keys in the order in which they were given; of one process,
                               where the two are one tensor, their sum and None
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from hierpretrain.functional.log_sum_exp import rows_at_a_time
from hierpretrain.taxonomy import PAD, by_path, prefix_ids, shared_depth_of_paths

Positives = Literal["share", "diverge"]

_CPU_BLOCK, _GPU_BLOCK = 128, 2048  # rows: fewer make more calls, more make wider blocks
_GPU_BLOCK_OF_PAIRS = 512  # of several paths, whose blocks are as wide as there are keys
_HELD_PAIRS = 1 << 24  # of several paths: up to 32 MiB of shared depths are kept rather than found again


class Block(NamedTuple):
    """A chunk of rows and the columns in which all their positives stand; of each level, some of these columns."""

    rows: slice
    columns: slice
    levels: tuple[slice, ...]

    def of_level(self, level: int) -> slice:
        """Returns the columns of a level (0 is the coarsest), counted within the block."""
        columns = self.levels[level]
        return slice(columns.start - self.columns.start, columns.stop - self.columns.start)


class OnePath:
    """The positives of rows with one path each, as ranges of the keys sorted by their paths.

    Args:
        rows: (m, D) rows of this process.
        keys: (M, D) rows of all processes.
        labels: (M, L) label matrix of the keys.
        first: The place of the first own row among the keys.
        kind: ``'share'`` or ``'diverge'``.
        chunk_size: Rows of a block; ``None`` for a number that is fast.
    """

    def __init__(
        self, rows: Tensor, keys: Tensor, labels: Tensor, first: int, kind: Positives, chunk_size: int | None
    ) -> None:
        self.kind, self.chunk_size = kind, chunk_size
        nodes = prefix_ids(labels)
        self.order = _order(nodes)
        start, stop = _ranges(nodes[self.order])
        self.node = start  # (M, L): where a node's range begins is its number
        everyone = torch.arange(len(keys), device=keys.device)
        self.returned = torch.empty_like(self.order).index_copy_(0, self.order, everyone)  # the order's inverse
        self.keys = keys.index_select(0, self.order)
        if rows is keys:
            self.rows, self.place = self.keys, everyone
        else:
            self.place, order = self.returned[first : first + len(rows)].sort()
            self.rows = rows.index_select(0, order)
            self.rows_returned = order.argsort()
        below = stop - start  # rows at or below the node; 1, the row itself, where its path has ended
        alone = torch.ones_like(below[:, :1])
        counts = below - (torch.cat([below[:, 1:], alone], 1) if kind == "diverge" else alone)
        self._anchors = (counts > 0).sum(0)
        self.counts, self.start = counts[self.place], start[self.place]  # (m, L) each
        self.ranges = self.start.int(), stop[self.place].int()

    def anchors(self, total: Callable[[Tensor], Tensor]) -> Tensor:
        """Returns how many rows of all processes have a positive, (L,)."""
        return self._anchors

    def sums(self) -> Tensor:
        """Returns ``sum_{j in P_l(i)} r_i . k_j``, (m, L)."""
        itself = (self.rows * self.rows).sum(1, keepdim=True)
        below = [itself[:, :0]]
        for level, own in enumerate(self.start.T):
            below.append((self.rows * self._by_node(level).index_select(0, own)).sum(1, keepdim=True))
        sums = torch.cat(below, 1)
        return sums - (torch.cat([sums[:, 1:], itself], 1) if self.kind == "diverge" else itself)

    def _by_node(self, level: int) -> Tensor:
        """Returns the sum of the keys at or below each node of a level, in the row where its range begins, (M, D)."""
        return torch.zeros_like(self.keys).index_add_(0, self.node[:, level], self.keys)

    def products(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Returns ``V k`` (m, D) and ``V^T r`` (M, D), where ``v_ij`` sums the (m, L) weights of i over j's levels.

        The weights of a level must be the same for rows of the same counts.
        """
        symmetric = self.kind == "share" and self.rows is self.keys
        if self.kind == "diverge":  # what level l takes in, level l + 1 leaves out again
            weights = torch.cat([weights[:, :1], weights[:, 1:] - weights[:, :-1]], 1)
        whole = weights.sum(1, keepdim=True)
        of_rows = self.rows * -whole  # a row stands below all its nodes, but is no positive of its own
        of_keys = of_rows if symmetric else torch.zeros_like(self.keys).index_copy_(0, self.place, of_rows)
        for level, own in enumerate(self.start.T):
            weight = weights[:, level, None]
            of_rows.addcmul_(weight, self._by_node(level).index_select(0, own))
            if not symmetric:
                by_node = torch.zeros_like(self.keys).index_add_(0, own, weight * self.rows)
                of_keys += by_node.index_select(0, self.node[:, level])
        return of_rows, of_keys

    def blocks(self) -> Iterator[Block]:
        """Yields blocks that together hold all rows and their positives."""
        rows, size = len(self.rows), _block_rows(self.rows, self.keys, self.chunk_size, _GPU_BLOCK)
        firsts = torch.arange(0, rows, size, device=self.place.device)
        lasts = (firsts + size - 1).clamp(max=rows - 1)
        starts, stops = self.ranges[0][firsts].tolist(), self.ranges[1][lasts].tolist()  # the one wait for the device
        for i, (start, stop) in enumerate(zip(starts, stops, strict=True)):
            part = slice(i * size, min((i + 1) * size, rows))
            yield Block(part, slice(start[0], stop[0]), tuple(map(slice, start, stop)))

    def mask(self, block: Block, level: int) -> Tensor:
        """Returns which of a block's pairs, of the columns of a level, are positives of the level."""
        columns = block.levels[level]
        places = torch.arange(columns.start, columns.stop, dtype=torch.int32, device=self.place.device)
        mask = self._within(places, block.rows, level)
        if self.kind == "diverge" and level + 1 < len(block.levels):
            return mask & ~self._within(places, block.rows, level + 1)
        return mask.scatter_(1, (self.place[block.rows] - columns.start)[:, None], False)

    def _within(self, places: Tensor, rows: slice, level: int) -> Tensor:
        start, stop = (of_all[rows, level, None] for of_all in self.ranges)
        return (places >= start).logical_and_(places < stop)

    def restore(self, of_rows: Tensor, of_keys: Tensor) -> tuple[Tensor, Tensor | None]:
        """Returns the gradients in the order in which rows and keys were given; ``None``: the first is of both."""
        if self.rows is self.keys:
            return of_rows.add_(of_keys).index_select(0, self.returned), None
        return of_rows.index_select(0, self.rows_returned), of_keys.index_select(0, self.returned)


def _order(nodes: Tensor) -> Tensor:
    """Returns the order of the rows of (M, L) node numbers, by the first column, then by the second, and so on."""
    order = torch.arange(len(nodes), device=nodes.device)
    for column in reversed(nodes.unbind(1)):
        order = order[column[order].argsort(stable=True)]
    return order


def _ranges(nodes: Tensor) -> tuple[Tensor, Tensor]:
    """Returns where the range of each row's node begins and ends, (M, L) each; of ``PAD``, that of the row itself."""
    new = torch.ones_like(nodes, dtype=torch.bool)
    new[1:] = (nodes[1:] != nodes[:-1]) | (nodes[1:] == PAD)
    last = new.roll(-1, 0)  # the row after the last one is the first, which is new
    place = torch.arange(len(nodes), device=nodes.device)[:, None]
    start = torch.where(new, place, 0).cummax(0).values
    stop = torch.where(last, place + 1, len(nodes)).flip(0).cummin(0).values.flip(0)
    return start, stop


class SeveralPaths:
    """The positives of rows of which some have several paths, pair by pair; what it takes is as :class:`OnePath`."""

    def __init__(
        self, rows: Tensor, keys: Tensor, labels: Tensor, first: int, kind: Positives, chunk_size: int | None
    ) -> None:
        self.rows, self.keys, self.kind, self.chunk_size = rows, keys, kind, chunk_size
        self.place = torch.arange(first, first + len(rows), device=rows.device)
        self._held: dict[int, Tensor] = {}
        self._hold_all = chunk_size is None and len(rows) * len(keys) <= _HELD_PAIRS
        self.counts = labels.new_zeros(len(rows), labels.shape[-1], dtype=torch.int64)
        nodes = prefix_ids(labels)  # (M, P, L)
        self._of_keys = by_path(nodes)
        self._of_rows = {block.rows.start: by_path(nodes[self.place[block.rows]]) for block in self.blocks()}
        for block in self.blocks():
            for level in range(len(block.levels)):
                self.counts[block.rows, level] = self.mask(block, level).sum(1)

    def anchors(self, total: Callable[[Tensor], Tensor]) -> Tensor:
        """Returns how many rows of all processes have a positive, (L,)."""
        return total((self.counts > 0).sum(0))

    def sums(self) -> Tensor:
        """Returns ``sum_{j in P_l(i)} r_i . k_j``, (m, L)."""
        sums = self.rows.new_empty(self.counts.shape)
        for block in self.blocks():
            similarities = self.rows[block.rows] @ self.keys.T
            for level in range(len(block.levels)):
                sums[block.rows, level] = (similarities * self.mask(block, level)).sum(1)
        return sums

    def products(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Returns ``V k`` (m, D) and ``V^T r`` (M, D), where ``v_ij`` sums the (m, L) weights of i over j's levels."""
        of_rows, of_keys = torch.empty_like(self.rows), torch.zeros_like(self.keys)
        for block in self.blocks():
            v = self.rows.new_zeros(block.rows.stop - block.rows.start, len(self.keys))
            for level in range(len(block.levels)):
                v += weights[block.rows, level, None] * self.mask(block, level)
            of_rows[block.rows] = v @ self.keys
            of_keys.addmm_(v.T, self.rows[block.rows])
        return of_rows, of_keys

    def blocks(self) -> Iterator[Block]:
        """Yields blocks that together hold all rows and their positives: all keys."""
        everything = slice(0, len(self.keys))
        size = _block_rows(self.rows, self.keys, self.chunk_size, _GPU_BLOCK_OF_PAIRS)
        for start in range(0, len(self.rows), size):
            part = slice(start, min(start + size, len(self.rows)))
            yield Block(part, everything, (everything,) * self.counts.shape[1])

    def mask(self, block: Block, level: int) -> Tensor:
        """Returns which of a block's pairs are positives of a level."""
        shared = self._held.get(block.rows.start)
        if shared is None:
            if not self._hold_all:
                self._held.clear()  # before the next, so that there are never two
            place = self.place[block.rows]
            shared = shared_depth_of_paths(self._of_rows[block.rows.start], self._of_keys, torch.int16)
            shared.scatter_(1, place[:, None], 0)  # a row is no positive of its own
            self._held[block.rows.start] = shared
        return shared > level if self.kind == "share" else shared == level + 1

    def restore(self, of_rows: Tensor, of_keys: Tensor) -> tuple[Tensor, Tensor | None]:
        """Returns the gradients of rows and keys; ``None``: the first is of both."""
        return (of_rows.add_(of_keys), None) if self.rows is self.keys else (of_rows, of_keys)


def _block_rows(rows: Tensor, keys: Tensor, chunk_size: int | None, gpu_block: int) -> int:
    size = rows_at_a_time(len(rows), len(keys), rows.device, chunk_size)
    return min(size, chunk_size or (_CPU_BLOCK if rows.device.type == "cpu" else gpu_block))


Pairs: TypeAlias = OnePath | SeveralPaths
