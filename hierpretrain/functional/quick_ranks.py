"""The quick form of :func:`hierpretrain.functional.ranking.related_ranks`: what no rank depends on is not sorted."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hierpretrain.functional.products import inner_products
from hierpretrain.taxonomy import PAD, prefix_ids

_faiss: Any = faiss  # whose stubs leave this function out
MOST_LEVELS = 15  # whose numbers a key has room for
MOST_ITEMS = (1 << 28) - 1  # of a gallery, likewise

_QUERIES = 1024  # at a time while candidates are picked
_TILE = 1 << 19  # similarities at a time while candidates are picked: 2 MiB, which stay in a processor's cache
_PICKED = 1 << 23  # candidates and related items of a block of queries at most, of about 40 bytes each
_BLOCK = 1 << 24  # similarities with the whole gallery at a time: 64 MiB
_ROWS = 256  # queries at a time while all is counted
_CHUNK = 1 << 19  # of these at a time while they are counted: 2 MiB
_WIDTH = 2048  # gallery items whose similarities are computed at a time
_BINS = 15  # binary logarithm of the number of bins of a query, at most
_FRACTION = 4  # a query that has more than 1 / 4 of the gallery as candidates has all of it counted
_FLOOR = 256  # and so many candidates are never too many
_SAMPLE = 1024  # gallery items at most that tell how many candidates a query will have
_GROUP = 32  # queries whose related items are compared together
_MANY = 512  # one of more related items than 1 / 512 of the gallery surely stands too far behind
_MANY_ASKED = 24  # likewise, where no rank is asked for behind so many
_MANY_FLOOR = 48  # and of so few, none may

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

    The gallery is put in the order of the tree, in which the items of a node stand side by side. What stands behind a
    query's last related item needs no order: tile by tile, only the similarities that may be before it are kept, and
    these are sorted. A query that would keep too many has the items of the whole gallery counted in bins of similarity
    instead. Then only the items that share a bin with a related one are sorted.

    What is sorted are keys: similarities, as integers of the same order, with the match level in the lowest bits.

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
        left = left[ranking.first[left].argsort(kind="stable")]
        costs = len(gallery) + 4 * ranking.counts[left]
        blocks = ranking.blocks(left, _BLOCK // workers, costs, workers, _ROWS)
        for parts in _in_turns(pool, workers, ranking.by_counting, blocks):
            yield from parts
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(workers)  # of the library of matrix products, which the threads have set for all


def _in_turns(pool: ThreadPoolExecutor, workers: int, function: Any, blocks: Sequence[Any]) -> Iterator[Any]:
    """Maps blocks, of which no more are under way at a time than there are workers, and one that waits."""
    under_way: deque[Any] = deque()
    for block in blocks:
        under_way.append(pool.submit(function, block))
        if len(under_way) > workers:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()


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
        self.mask = (1 << self.bits) - 1
        ids = prefix_ids(torch.cat([gallery_labels, query_labels]))
        if (ids == PAD).any():  # as a node of its own
            ids = prefix_ids(ids.masked_fill(ids == PAD, int(ids.max()) + 1))
        nodes = ids.numpy()
        order = nodes[: len(gallery), -1].argsort(kind="stable")  # a child's number rises with its parent's
        of_gallery, of_query = nodes[order], nodes[len(gallery) :]
        # the items that share l levels with a query stand from first[:, l - 1] to before stop[:, l - 1]
        first, stop = (
            np.stack([np.searchsorted(of_gallery[:, m], of_query[:, m], side) for m in range(self.num_levels)], 1)
            for side in ("left", "right")
        )
        self.own: NDArray[np.int64] | None = None
        inner = first[:, -1:]  # among the items of the last level: where no item, or the query itself, is skipped
        if own_indices is not None:
            places = np.empty_like(order)
            places[order] = np.arange(len(order))
            self.own = places[own_indices.numpy()]
            inner = self.own[:, None]
        width = int(own_indices is not None)
        is_pad = (query_labels == PAD).numpy()  # a level with no item, or with the query alone
        first = np.hstack([np.where(is_pad, inner if width else first, first), inner])
        stop = np.hstack([np.where(is_pad, first[:, :-1] + width, stop), inner + width])
        self.first, self.counts = first[:, 0], stop[:, 0] - first[:, 0] - width
        # (Q, 2): where the related items on both sides of what is skipped begin, and how many there are
        self.begin = np.stack([first[:, 0], stop[:, -1]], 1)
        self.sizes = np.stack([first[:, -1], stop[:, 0]], 1) - self.begin
        # (Q, 2L): how many stand side by side at each of these levels
        self.levels = np.append(np.arange(1, self.num_levels + 1), np.arange(self.num_levels, 0, -1))
        self.widths = np.hstack([np.diff(first, axis=1), -np.diff(stop, axis=1)[:, ::-1]])
        self.query, self.gallery, self.order = query, gallery[torch.from_numpy(order)], order

        by_tree = self.first.argsort(kind="stable")
        is_far = self.counts > max(_MANY_FLOOR, len(gallery) // _MANY)
        if asked is not None:  # of more nearest items than that, sorting them takes longer than counting all
            is_far &= np.maximum(self.counts, asked) > len(gallery) // _MANY_ASKED
        self.few, self.many = by_tree[((self.counts > 0) & ~is_far)[by_tree]], np.flatnonzero(is_far)
        self.most = max(len(gallery) // _FRACTION, _FLOOR)  # candidates of a query
        self._held = threading.local()

    def blocks(
        self, queries: NDArray[np.int64], size: int, costs: NDArray[np.int64], workers: int, most: int
    ) -> list[NDArray[np.int64]]:
        """Splits queries into blocks of about the same cost, as many for each worker.

        Args:
            queries: (B,).
            size: What a block costs at most, or a query more.
            costs: (B,) of each.
            workers: How many share the blocks.
            most: How many queries a block has at most, if all cost the same.
        """
        if len(queries) == 0:
            return []
        total = costs.cumsum()
        number = max(-(-int(total[-1]) // max(size, 1)), -(-len(queries) // most))
        number = min(-(-number // workers) * workers, len(queries))
        edges = np.searchsorted(total, total[-1] / number * np.arange(1, number), "right")
        return [block for block in np.split(queries, edges) if len(block)]

    def _related(self, queries: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Returns the row, the column and the match level of every item that is related to one of (B,) queries."""
        begin, sizes, counts = self.begin[queries].ravel(), self.sizes[queries].ravel(), self.counts[queries]
        column = np.repeat(begin - sizes.cumsum() + sizes, sizes)
        column += np.arange(len(column))
        level = np.repeat(np.resize(self.levels, self.widths.shape[1] * len(queries)), self.widths[queries].ravel())
        row = np.repeat(np.arange(len(queries)), counts)
        return row, column, level

    # ---------------------------------------------------------------- what can be before the last related item
    def _limits(self, queries: NDArray[np.int64], row: NDArray[np.int64], column: NDArray[np.int64]) -> Any:
        """Returns the (B,) largest distances that matter to queries; -inf where too much of the gallery is as near."""
        query = -self.query[queries]
        sample = self.gallery[:: max(len(self.gallery) // _SAMPLE, 32)]
        distance = inner_products(query, sample).numpy()
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
            distance = inner_products(query, self.gallery[start : start + width]).numpy()
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
        key.sort()
        there, counts = self._there(key), self.counts[queries]
        row = np.repeat(np.arange(len(queries)), counts)
        starts = np.searchsorted(key, self._wide_keys(np.arange(len(queries)), np.full(len(queries), -2, np.float32)))
        ranks, level = there + 1 - starts[row], key[there] & self.mask
        done[row[self._are_tied(key, there)]] = False
        kept = done[row]
        ranked = Ranked(queries[done], counts[done], ranks[kept], level[kept], times=1 + self.both)
        return ranked, np.concatenate([left, queries[~done]])

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
    def by_counting(self, queries: NDArray[np.int64]) -> list[Ranked]:
        """Ranks (B,) queries by counting the items of the gallery in bins of similarity.

        Only the items that share a bin with a related one are sorted. The others are in front of it or behind it.
        """
        distance = self._all_distances(queries)
        step = max(1, _CHUNK // distance.shape[1])
        found = [
            part
            for start in range(0, len(queries), step)
            for part in self._counted(queries[start : start + step], distance[start : start + step])
        ]
        return [_joined([part for part in found if part.times == times]) for times in {part.times for part in found}]

    def _all_distances(self, queries: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns the (B, G) negative similarities, in memory that the thread's next call uses again."""
        size = len(queries) * len(self.gallery)
        if getattr(self._held, "buffer", np.empty(0)).size < size:
            self._held.buffer = np.empty(size, np.float32)
        found: NDArray[np.float32] = self._held.buffer[:size].reshape(len(queries), -1)
        query = -self.query[queries]
        for start in range(0, len(self.gallery), _WIDTH):
            found[:, start : start + _WIDTH] = inner_products(query, self.gallery[start : start + _WIDTH])
        if self.own is not None:
            row, own = np.arange(len(queries)), self.own[queries]
            found[row, own] = found[row, own - 1]  # no bin counts it, and no range of distances is the wider for it
        return found

    def _counted(self, queries: NDArray[np.int64], distance: NDArray[np.float32]) -> list[Ranked]:
        """Ranks (B,) queries by their (B, G) distances: once, or in both orders of ties."""
        row, column, level = self._related(queries)
        counts, num_items = self.counts[queries], distance.shape[1]
        flat = row * num_items + column
        value = distance.reshape(-1)[flat]
        bins, starts, num_bins = _binned(distance)
        if self.own is not None:
            bins[np.arange(len(queries)) * num_items + self.own[queries]] = num_bins
        front = np.zeros(num_bins + 1, np.int32)
        _faiss.ivec_hist(bins.size, faiss.swig_ptr(bins), num_bins, faiss.swig_ptr(front))

        # the items in bins of related ones are picked, and do not count as in front of a bin
        bin_of = bins[flat]
        is_shared = np.zeros(num_bins + 1, bool)
        is_shared[bin_of] = True
        front[bin_of] = 0
        bins[flat] = num_bins  # a related item is in no bin now
        picked = _few_nonzero(is_shared.take(bins, mode="clip"))
        picked_starts = np.searchsorted(picked, np.arange(len(queries) + 1) * num_items)
        picked_row = np.repeat(np.arange(len(queries)), np.diff(picked_starts))
        picked_column, picked_value = picked - picked_row * num_items, distance.reshape(-1)[picked]

        # in front of the i-th related item are the items of bins before its own, and of the keys those before its own
        np.cumsum(front, out=front)
        bin_of.sort()
        of_earlier_rows = np.append(0, front[starts[1:] - 1]) + picked_starts[:-1] + counts.cumsum() - counts
        in_bins = front[bin_of] - np.repeat(of_earlier_rows, counts)
        keys = self._full_keys(row, column, value) + level, self._full_keys(picked_row, picked_column, picked_value)
        rising = np.sort(np.concatenate(keys))
        there = self._there(rising)
        if not self.both or not self._are_tied(rising, there).any():
            return [Ranked(queries, counts, in_bins + there + 1, rising[there] & self.mask, times=1 + self.both)]
        falling = np.sort(rising ^ self.mask) ^ self.mask
        return [
            Ranked(queries, counts, in_bins + there + 1, keys[there] & self.mask)
            for keys, there in ((rising, there), (falling, self._there(falling)))
        ]

    def _there(self, ordered: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the indices of the keys of related items."""
        return np.flatnonzero((ordered & self.mask).astype(bool))

    def _are_tied(self, ordered: NDArray[np.int64], there: NDArray[np.int64]) -> Any:
        """Returns whether items at (n,) places of sorted keys have the similarity of an item of a lower level.

        Of equal similarities those of a higher level stand behind, so one has one of a lower level right before it.
        """
        changed = ordered[there] ^ ordered[there - 1]
        return (changed > 0) & (changed <= self.mask) & (there > 0)  # the first has none before

    def _full_keys(
        self, row: NDArray[np.int64], column: NDArray[np.int64], distance: NDArray[np.float32]
    ) -> NDArray[np.int64]:
        """Returns ``_wide_keys`` in which equal similarities stand in the order of the gallery, if they shall."""
        keys = self._wide_keys(row, distance)
        if self.both:
            return keys
        return (keys << len(self.gallery).bit_length()) + (self.order[column] << self.bits)


def _binned(distance: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.int32], int]:
    """Puts (B, G) distances in bins, whose numbers rise from row to row and, in a row, with the distance.

    Returns:
        (B * G,) numbers of bins, the (B,) first bin of each row, and how many bins there are.
    """
    least, most = distance.min(1, keepdims=True), distance.max(1, keepdims=True)
    size = 1 << max(4, min(distance.shape[1].bit_length() - 1, _BINS))
    # rounding keeps the order; 2^29 times a distance is an int32
    scale = np.minimum((size - 1) / np.maximum(most - least, np.float32(2.0**-100)), np.float32(2.0**29))
    place = distance - least
    place *= scale
    bins = place.astype(np.int32)
    starts = np.arange(len(distance), dtype=np.int32) * np.int32(size)
    bins += starts[:, None]
    return bins.reshape(-1), starts, len(distance) * size


def _joined(parts: list[Ranked]) -> Ranked:
    queries, counts, ranks, levels = (np.concatenate(column) for column in list(zip(*parts, strict=True))[:4])
    return Ranked(queries, counts, ranks, levels, times=parts[0].times)


def _few_nonzero(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Returns the indices of the entries that are True, if these are few in less time than ``np.flatnonzero``."""
    if np.count_nonzero(mask) > len(mask) // 10:  # which numpy finds without a branch for each
        return np.flatnonzero(mask)
    whole = len(mask) // 8 * 8
    words = mask[:whole].view(np.uint64)
    some = np.flatnonzero(words != 0)
    word, byte = np.divmod(np.flatnonzero(words[some].view(bool)), 8)
    return np.concatenate([some[word] * 8 + byte, whole + np.flatnonzero(mask[whole:])])
