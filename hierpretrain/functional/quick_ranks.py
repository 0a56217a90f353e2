"""The quick form of :func:`hierpretrain.functional.ranking.related_ranks`: what no rank depends on is not sorted."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hierpretrain.taxonomy import PAD, prefix_ids

MOST_LEVELS = 15  # whose numbers a key has room for

_QUERIES = 1024  # at a time while candidates are picked
_TILE = 1 << 19  # similarities at a time while candidates are picked: 2 MiB, which stay in a processor's cache
_PICKED = 1 << 22  # candidates and related items of a block of queries at most, of about 40 bytes each
_BLOCK = 1 << 24  # similarities with the whole gallery at a time: 64 MiB
_ROWS = 256  # queries at a time while all is sorted
_CHUNK = 1 << 17  # of these at a time while they are sorted: 512 KiB
_FRACTION = 10  # a query that has more than 1 / 10 of the gallery as candidates has all of it sorted
_FLOOR = 256  # and so many candidates are never too many
_SAMPLE = 1024  # gallery items at most that tell how many candidates a query will have
_GROUP = 32  # queries whose related items are compared together
_FEW_TIES = 16  # similarities that are compared one by one with all, to put their items in order
_MANY = 512  # one of more related items than 1 / 512 of the gallery surely stands too far behind
_MANY_FLOOR = 48  # and of so few, none may

_BEHIND = np.float32(1.9375)  # a distance above that of any pair of unit vectors
_MAGNITUDE = np.int32(0x7FFFFFFF)  # bits of a float32 but its sign


class Ranked(NamedTuple):
    """Where the items that are related to B queries, n together, stand in the queries' rankings of the gallery."""

    queries: NDArray[np.int64]  # (B,)
    counts: NDArray[np.int64]  # (B,) related items of each, at least 1
    ranks: NDArray[np.int64]  # (n,) from 1, ascending in each query
    levels: NDArray[np.int64]  # (n,) match levels from 1
    nearest: NDArray[np.int64] | None = None  # (B,) gallery indices of the first items, where they are known
    times: int = 1  # how often the B queries count


def quick_ranks(
    query: Tensor,
    query_labels: Tensor,
    gallery: Tensor,
    gallery_labels: Tensor,
    *,
    own_indices: Tensor | None = None,
    asked: int | None = None,
    ties: str = "gallery",
) -> Iterator[Ranked]:
    """Ranks a gallery for every query that is related to an item of it, with ``nearest`` unknown.

    A key is a similarity, as an integer of the same order, with the match level in its lowest bits: sorted keys tell
    the ranks, but of equal similarities of different levels, which are then put in order.

    The gallery is put in the order of the tree, in which the items of a node stand side by side. What stands behind a
    query's last related item needs no order: tile by tile, only the similarities that may be before it are kept, and
    these are sorted. Of a query that would keep too many, all are sorted, which takes less time for each.

    It holds a copy of the gallery and about 400 MiB at most, however large the gallery.

    Args:
        query: (Q, D) float32 unit vectors on the CPU, as ``unit_rows`` returns.
        query_labels: (Q, L) int64 labels of at most ``MOST_LEVELS`` levels.
        gallery: (G, D) unit vectors.
        gallery_labels: (G, L) labels.
        own_indices: (Q,) the gallery index of each query itself, which has its labels and is left out of its ranking.
        asked: Only ranks up to this, and up to the number of related items, are asked for; a greater one may be any
            that is greater than both. ``None``: all are.
        ties: ``'gallery'``: equal similarities rank in the order of the gallery. ``'both'``: by falling and by rising
            level, so that a query with ties comes twice, and one without ties once, with ``times`` 2.

    Example:
        >>> gallery, labels = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.8, 0.6]]), torch.tensor([[7], [7], [9]])
        >>> for ranked in quick_ranks(gallery[:1], labels[:1], gallery, labels):
        ...     print(ranked.queries.tolist(), ranked.counts.tolist(), ranked.ranks.tolist(), ranked.levels.tolist())
        [0] [2] [1, 3] [1, 1]
    """
    if len(gallery) == 0 or len(query) == 0:
        return
    ranking = _Ranking(query, query_labels, gallery, gallery_labels, own_indices, asked, ties == "both")
    workers = torch.get_num_threads()
    # each thread takes queries of its own: products shared by all threads would leave these waiting for each other
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    try:
        few, far = ranking.few, [ranking.many]
        blocks = ranking.blocks(few, _PICKED // workers, ranking.counts[few] + ranking.most // 2, workers, _QUERIES)
        for ranked, left in _in_turns(pool, workers, ranking.by_candidates, blocks):
            far.append(left)
            if len(ranked.queries):
                yield ranked
        left = np.concatenate(far)
        left = left[ranking.first[left, 0].argsort(kind="stable")]
        costs = len(gallery) + 4 * ranking.counts[left]
        blocks = ranking.blocks(left, _BLOCK // workers, costs, workers, _ROWS)
        for parts in _in_turns(pool, workers, ranking.by_sorting, blocks):
            yield from parts
    finally:
        pool.shutdown()
        torch.set_num_threads(workers)  # of the library of matrix products, which the threads have set for all


def _in_turns(pool: ThreadPoolExecutor, workers: int, function: Any, blocks: Sequence[Any]) -> Iterator[Any]:
    """Maps blocks, of which no more are in memory at a time than there are workers."""
    for start in range(0, len(blocks), workers):
        yield from pool.map(function, blocks[start : start + workers])


class _Ranking:
    """The arguments of :func:`quick_ranks`, with the gallery in the order of the tree."""

    def __init__(
        self,
        query: Tensor,
        query_labels: Tensor,
        gallery: Tensor,
        gallery_labels: Tensor,
        own_indices: Tensor | None,
        asked: int | None,
        both: bool,
    ) -> None:
        self.num_levels, self.asked, self.both = query_labels.shape[1], asked, both
        self.bits = self.num_levels.bit_length()  # of a key that hold the level
        ids = prefix_ids(torch.cat([gallery_labels, query_labels]))
        if (ids == PAD).any():  # as a node of its own
            ids = prefix_ids(ids.masked_fill(ids == PAD, int(ids.max()) + 1))
        nodes = ids.numpy()
        order = nodes[: len(gallery), -1].argsort(kind="stable")  # a child's number rises with its parent's
        of_gallery, of_query = nodes[order], nodes[len(gallery) :]
        # the items that share l levels with a query stand from first[:, l - 1] to before stop[:, l - 1]
        self.first, self.stop = (
            np.stack([np.searchsorted(of_gallery[:, m], of_query[:, m], side) for m in range(self.num_levels)], 1)
            for side in ("left", "right")
        )
        self.stop = np.where((query_labels == PAD).numpy(), self.first, self.stop)
        self.counts = self.stop[:, 0] - self.first[:, 0]
        self.own: NDArray[np.int64] | None = None
        if own_indices is not None:
            self.own = np.empty_like(order)
            self.own[order] = np.arange(len(order))
            self.own = self.own[own_indices.numpy()]
            self.counts = self.counts - (self.counts > 0)
        self.query, self.gallery, self.order = query, gallery[torch.from_numpy(order)], order

        by_tree = self.first[:, 0].argsort(kind="stable")
        is_far = self.counts > max(_MANY_FLOOR, len(gallery) // _MANY)
        is_far &= asked is None or len(gallery) // _FRACTION < max(asked, int(self.counts.max()))
        self.few, self.many = by_tree[((self.counts > 0) & ~is_far)[by_tree]], np.flatnonzero(is_far)
        self.most = max(len(gallery) // _FRACTION, _FLOOR)  # candidates of a query
        self._held = threading.local()

    def blocks(
        self, queries: NDArray[np.int64], size: int, costs: NDArray[np.int64], workers: int, most: int
    ) -> list[NDArray[np.int64]]:
        """Splits queries into blocks of at most ``most`` that cost about ``size``, or one query does."""
        most = max(1, min(most, -(-len(queries) // workers)))
        blocks, start, total = [], 0, costs.cumsum()
        while start < len(queries):
            before = total[start - 1] if start else 0
            stop = min(start + most, max(start + 1, int(np.searchsorted(total, before + size, "right"))))
            blocks.append(queries[start:stop])
            start = stop
        return blocks

    def _distances(self, query: Tensor, gallery: Tensor) -> NDArray[np.float32]:
        """Returns the (B, G) products of both, in memory that the thread's next call uses again."""
        size = len(query) * len(gallery)
        if getattr(self._held, "buffer", torch.empty(0)).numel() < size:
            self._held.buffer = torch.empty(size)
        out = self._held.buffer[:size].view(len(query), -1)
        return torch.mm(query, gallery.T, out=out).numpy()

    def _related(self, queries: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Returns the row, the column and the match level of every item that is related to one of (B,) queries."""
        first, stop = self.first[queries], self.stop[queries]
        sizes = stop[:, 0] - first[:, 0]
        row = np.repeat(np.arange(len(queries)), sizes)
        column = np.arange(len(row)) + np.repeat(first[:, 0] - (sizes.cumsum() - sizes), sizes)
        level = np.ones_like(row)
        for m in range(1, self.num_levels):
            level += (column >= first[row, m]) & (column < stop[row, m])
        if self.own is not None:
            other = column != self.own[queries][row]
            row, column, level = row[other], column[other], level[other]
        return row, column, level

    # ---------------------------------------------------------------- what can be before the last related item
    def _limits(self, queries: NDArray[np.int64], row: NDArray[np.int64], column: NDArray[np.int64]) -> Any:
        """Returns the (B,) largest distances that matter to queries; -inf where too much of the gallery is as near."""
        query = -self.query[queries]
        sample = self.gallery[:: max(len(self.gallery) // _SAMPLE, 32)]
        distance = self._distances(query, sample)
        sampled = len(sample) / len(self.gallery)
        starts = np.flatnonzero(np.diff(row, prepend=-1))
        limit = np.maximum.reduceat(self._pairs(query, row, column), starts)
        limit += np.float32(2 * query.shape[1] * 2.0**-24)  # two sums of the D products of unit vectors differ by less
        if self.asked is not None:
            expected = max(self.asked, int(self.counts[queries].max())) * sampled
            last = min(int(expected + 4 * expected**0.5 + 4), len(sample) - 1)  # hardly ever are there fewer
            limit = np.minimum(limit, np.partition(distance, last, axis=1)[:, last])
        too_many = (distance <= limit[:, None]).sum(1) > self.most * sampled
        limit[too_many & (len(self.gallery) > self.most)] = -np.inf
        return limit

    def _pairs(self, query: Tensor, row: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns the (n,) products of rows of (B, D) queries, in the order of the tree, and columns."""
        found = []
        starts = np.searchsorted(row, np.arange(0, len(query), _GROUP))
        for group, pair in zip(torch.split(query, _GROUP), np.split(np.arange(len(row)), starts[1:]), strict=True):
            of, to = row[pair] - row[pair[0]], column[pair]
            low, high = int(to.min()), int(to.max()) + 1
            if high - low <= len(pair):  # neighbours in the tree share most of their columns
                found.append((group @ self.gallery[low:high].T)[of, to - low])
            else:
                found.append((group[of] * self.gallery[to]).sum(1))
        return torch.cat(found).numpy()

    def by_candidates(self, queries: NDArray[np.int64]) -> tuple[Ranked, NDArray[np.int64]]:
        """Ranks the (B,) queries that have few enough candidates and no ties.

        Returns:
            Their ranks, and the other queries.
        """
        row, column, level = self._related(queries)
        limit = self._limits(queries, row, column)
        left = queries[limit == -np.inf]
        queries, limit = queries[limit > -np.inf], limit[limit > -np.inf]
        if len(left):
            row, column, level = self._related(queries)
        by_column = column.argsort(kind="stable")
        row, column, level = row[by_column], column[by_column], level[by_column]
        own_row, own = self._own_columns(queries)

        query, number, near = -self.query[queries], *np.zeros((2, len(queries)), np.int64)
        keys, width = [], max(1, _TILE // max(1, len(queries)))
        for start in range(0, len(self.gallery) if len(queries) else 0, width):
            distance = self._distances(query, self.gallery[start : start + width])
            here = slice(*np.searchsorted(column, [start, start + width]))
            at = row[here], column[here] - start
            value = distance[at]
            keys.append(self._wide_keys(at[0], value) + level[here])
            near += np.bincount(at[0][value <= limit[at[0]]], minlength=len(queries))
            distance[at] = np.inf
            here = slice(*np.searchsorted(own, [start, start + width]))
            distance[own_row[here], own[here] - start] = np.inf
            picked = _few_nonzero((distance <= limit[:, None]).reshape(-1))
            at_row = picked // distance.shape[1]
            keys.append(self._wide_keys(at_row, distance.reshape(-1)[picked]))
            number += np.bincount(at_row, minlength=len(queries))
            limit[number > self.most] = -np.inf
        is_ranked = near == self.counts[queries]
        if self.asked is not None:
            available = len(self.gallery) - (self.own is not None)
            is_ranked |= number + near >= np.minimum(np.maximum(self.asked, self.counts[queries]), available)
        done = is_ranked & (limit > -np.inf)
        key = np.concatenate(keys) if keys else np.empty(0, np.int64)
        of_row = (key + (1 << (30 + self.bits))) >> (31 + self.bits)
        if not done.all():
            key, of_row = key[done[of_row]], of_row[done[of_row]]
        starts = np.bincount(of_row, minlength=len(queries)).cumsum()
        starts = np.concatenate([np.zeros(1, np.int64), starts[:-1]])[done]
        key.sort()
        queries, far = queries[done], [left, queries[~done]]
        counts, there = self.counts[queries], self._there(key)
        level, ranks = key[there] & ((1 << self.bits) - 1), there + 1 - np.repeat(starts, counts)
        ties = np.flatnonzero(self._are_tied(key, there))
        if len(ties):
            equal = np.zeros(len(queries), bool)
            equal[np.searchsorted(counts.cumsum(), ties, "right")] = True
            kept = np.repeat(~equal, counts)
            far.append(queries[equal])
            queries, counts, ranks, level = queries[~equal], counts[~equal], ranks[kept], level[kept]
        return Ranked(queries, counts, ranks, level, times=1 + self.both), np.concatenate(far)

    def _own_columns(self, queries: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns the rows of queries, by the columns of the queries themselves, and these columns."""
        if self.own is None:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        order = self.own[queries].argsort()
        return order, self.own[queries][order]

    def _wide_keys(self, row: NDArray[np.int64], distance: NDArray[np.float32]) -> NDArray[np.int64]:
        """Returns (n,) integers in the order of (row, distance), with zeros in the bits of the level."""
        value = (distance + np.float32(0)).view(np.int32)  # + 0, for -0.0 equals 0.0 but has other bits
        value ^= (value >> 31) & _MAGNITUDE  # floats below 0 count down in their bits
        return ((row << 31) + value) << self.bits

    # ---------------------------------------------------------------- the whole gallery
    def by_sorting(self, queries: NDArray[np.int64]) -> list[Ranked]:
        """Ranks (B,) queries by sorting all their similarities."""
        distance = self._distances(-self.query[queries], self.gallery)
        if self.own is not None:
            distance[np.arange(len(queries)), self.own[queries]] = _BEHIND
        step = max(1, _CHUNK // distance.shape[1])
        found = [
            part
            for start in range(0, len(queries), step)
            for part in self._sorted(queries[start : start + step], distance[start : start + step])
        ]
        return [_joined([part for part in found if part.times == times]) for times in {part.times for part in found}]

    def _sorted(self, queries: NDArray[np.int64], distance: NDArray[np.float32]) -> Iterator[Ranked]:
        most = (1 << self.bits) - 1
        keys = self._narrow_keys(distance)
        for row, first, stop in zip(keys, self.first[queries].tolist(), self.stop[queries].tolist(), strict=True):
            for begin, end in zip(first, stop, strict=True):  # each level's items are among the one above
                row[begin:end] += 1
        if self.own is not None:
            keys[np.arange(len(queries)), self.own[queries]] &= ~most
        ordered = np.sort(keys, axis=1)
        there = self._there(ordered)
        tied = np.unique(there[self._are_tied(ordered, there)] // ordered.shape[1])
        if len(tied) == 0:
            yield self._read(queries, ordered, there, 1 + self.both)
        elif not self.both:
            for row in tied:
                at, columns = self._ties(keys[row], ordered[row])
                ordered[row, at] = keys[row, columns]
            yield self._read(queries, ordered, self._there(ordered), 1)
        else:
            rest = np.setdiff1d(np.arange(len(queries)), tied)
            if len(rest):
                yield self._read(queries[rest], ordered[rest], self._there(ordered[rest]), 2)
            yield self._read(queries[tied], ordered[tied], self._there(ordered[tied]), 1)
            keys ^= most
            ordered = np.sort(keys[tied], axis=1) ^ most
            yield self._read(queries[tied], ordered, self._there(ordered), 1)

    def _there(self, ordered: NDArray[Any]) -> NDArray[np.int64]:
        """Returns the flat indices of the keys of related items."""
        return np.flatnonzero((ordered & ((1 << self.bits) - 1)).astype(bool))

    def _are_tied(self, ordered: NDArray[Any], there: NDArray[np.int64]) -> Any:
        """Returns whether items at (n,) flat places of sorted keys have the similarity of an item of a lower level.

        Of equal similarities those of a higher level stand behind, so one has one of a lower level right before it.
        """
        keys = ordered.reshape(-1)
        changed = keys[there] ^ keys[there - 1]
        return (changed > 0) & (changed < 1 << self.bits) & (there % ordered.shape[-1] > 0)  # the first has none before

    def _ties(self, keys: NDArray[np.int32], ordered: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Finds the ties of items of different levels in a query's (G,) keys.

        Returns:
            Where they are in the sorted keys, and the columns that belong there in the order of the gallery.
        """
        there = self._there(ordered)
        values = np.unique(ordered[there[self._are_tied(ordered, there)]] >> self.bits)
        if len(values) > _FEW_TIES:
            columns = np.arange(len(keys))
            at = columns
        else:
            of_value = [np.flatnonzero((keys >> self.bits) == value) for value in values]
            columns = np.concatenate(of_value)
            begin = np.searchsorted(ordered, values << self.bits)
            at = np.concatenate([np.arange(len(of)) + start for of, start in zip(of_value, begin, strict=True)])
        by_gallery = ((keys[columns].astype(np.int64) >> self.bits) << 31) | self.order[columns]
        return at, columns[by_gallery.argsort()]

    def _read(self, queries: NDArray[np.int64], ordered: NDArray[np.int32], there: Any, times: int) -> Ranked:
        """Reads the ranks from (B, G) keys in the order of the ranks, in which the related items are ``there``."""
        counts = self.counts[queries]
        ranks = there + np.repeat(1 - np.arange(len(queries)) * ordered.shape[1], counts)
        level = ordered.reshape(-1)[there].astype(np.int64) & ((1 << self.bits) - 1)
        return Ranked(queries, counts, ranks, level, times=times)

    def _narrow_keys(self, distance: NDArray[np.float32]) -> NDArray[np.int32]:
        """Turns distances, in place, into 32-bit integers of the same order, with zeros in the bits of the level.

        The exponents of numbers below 2, of which float32 has 128, need 7 of its 8 bits, and one more is saved by each
        halving of their number: those that 2^-s scales out of float32 become 0. Of 15 levels these are the numbers
        below 2^-37, a thousandth of the rounding of a similarity.
        """
        shift = (1 << 7) - (1 << (8 - self.bits))
        distance *= np.float32(2.0**-shift)
        distance += np.float32(0)
        keys = distance.view(np.int32)
        keys ^= (keys >> 31) & _MAGNITUDE
        keys <<= self.bits
        return keys


def _joined(parts: list[Ranked]) -> Ranked:
    queries, counts, ranks, levels = (np.concatenate(column) for column in list(zip(*parts, strict=True))[:4])
    return Ranked(queries, counts, ranks, levels, times=parts[0].times)


def _few_nonzero(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Returns the indices of the entries that are True, if these are few in less time than ``np.flatnonzero``."""
    whole = len(mask) // 8 * 8
    words = mask[:whole].view(np.uint64)
    some = np.flatnonzero(words != 0)
    word, byte = np.divmod(np.flatnonzero(words[some].view(bool)), 8)
    return np.concatenate([some[word] * 8 + byte, whole + np.flatnonzero(mask[whole:])])
