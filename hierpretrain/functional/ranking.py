"""The ranks of the relevant items in each query's ranking of a gallery, of which no more is sorted than needed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hierpretrain.taxonomy import PAD

_QUERIES = 2048  # at a time; below 2^16
_TILE = 1 << 21  # similarities at a time while candidates are picked: 8 MiB
_PICKED = 1 << 22  # candidates of a block of queries at most, of about 30 bytes each
_BLOCK = 1 << 24  # similarities with the whole gallery at a time: 64 MiB
_FRACTION = 32  # a query that has more than 1 / 32 of the gallery as candidates has all of it ranked
_FLOOR = 256  # and so many candidates are never too many
_SAMPLE = 1024  # gallery items that tell how many candidates a query will have
_MANY = 64  # of more relevant items than this, one surely stands too far behind
_FEW = 16  # up to so many items that stand far behind, counting what is before each is faster than sorting all
_LAST = np.iinfo(np.int64).max


def relevant_ranks(
    query: Tensor,
    query_labels: Tensor,
    gallery: Tensor,
    gallery_labels: Tensor,
    *,
    own_indices: Tensor | None = None,
    nearest: int | None = None,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Ranks a gallery for every query that has a relevant item and says at which ranks the relevant items stand.

    A relevant item has the query's label. A query ranks the gallery by falling similarity, equal ones in the order of
    the gallery. What stands behind its last relevant item needs no order, so of each tile of similarities only those
    that can be before it are kept, and these are sorted. A query that would keep too many has all its similarities
    computed: then what stands before each relevant item is counted or, where there are many, all are sorted.

    Beside its arguments and (Q,) integers it holds about 300 MiB at most and 8 MiB a thread, however large the gallery.

    Args:
        query: (Q, D) float32 unit vectors on the CPU, as ``unit_rows`` returns.
        query_labels: (Q,) int64 labels.
        gallery: (G, D) unit vectors.
        gallery_labels: (G,) int64 labels.
        own_indices: (Q,) the gallery index of each query itself, which has the query's label and is left out of its
            ranking; ``None``: none is.
        nearest: Only ranks up to this, and up to the number of relevant items, are asked for; ``None``: all.

    Yields:
        For blocks of the queries that have a relevant item, in any order: the (B,) indices of the queries, (B, C) int64
        ranks from 1, ascending, and the (B, C) mask of the entries that are relevant items. With ``nearest``, the rank
        of an item behind the last that was asked for may be G + 1.

    Example:
        >>> gallery, labels = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.8, 0.6]]), torch.tensor([7, 7, 9])
        >>> for queries, ranks, found in relevant_ranks(gallery[:1], labels[:1], gallery, labels):
        ...     print(queries.tolist(), ranks.tolist(), found.tolist())
        [0] [[1, 3]] [[True, True]]
    """
    ranking = _Ranking(query, query_labels, gallery, gallery_labels, own_indices, nearest)
    workers = torch.get_num_threads()
    # each thread takes queries of its own: products shared by all threads would leave these waiting for each other
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    try:
        bounds = list(pool.map(ranking.bounds, ranking.blocks(ranking.queries, _QUERIES, workers)))
        bound = torch.cat([*bounds, torch.empty(0)])
        near, far = bound > -torch.inf, [ranking.queries[bound == -torch.inf]]
        blocks = ranking.blocks(ranking.queries[near], min(_QUERIES, _PICKED // ranking.most // workers), workers)
        limits = torch.split(bound[near], [len(block) for block in blocks]) if blocks else []
        for start in range(0, len(blocks), workers):  # no more at a time, for they hold memory
            turn = slice(start, start + workers)
            for block, (ranks, found, done) in zip(
                blocks[turn], pool.map(ranking.by_candidates, blocks[turn], limits[turn]), strict=True
            ):
                far.append(block[~done])
                if done.any():
                    yield block[done], ranks[done], found[done]
        blocks = ranking.blocks(torch.cat(far), _BLOCK // len(gallery) // workers, workers)
        for start in range(0, len(blocks), workers):
            turn = slice(start, start + workers)
            for block, (ranks, found) in zip(blocks[turn], pool.map(ranking.in_full, blocks[turn]), strict=True):
                yield block, ranks, found
    finally:
        pool.shutdown()
        torch.set_num_threads(workers)  # of the library of matrix products, which the threads have set for all


class _Ranking:
    """The arguments of :func:`relevant_ranks`, and where each label's items are."""

    def __init__(
        self,
        query: Tensor,
        query_labels: Tensor,
        gallery: Tensor,
        gallery_labels: Tensor,
        own_indices: Tensor | None,
        nearest: int | None,
    ) -> None:
        self.query, self.query_labels = query, query_labels
        self.gallery, self.gallery_labels = gallery, gallery_labels
        self.own_indices, self.nearest = own_indices, nearest
        sorted_labels, self.by_label = gallery_labels.sort(stable=True)
        self.first = torch.searchsorted(sorted_labels, query_labels)
        num_relevant = torch.searchsorted(sorted_labels, query_labels, right=True) - self.first
        if own_indices is not None:
            self.own_slot = self.by_label.argsort()[own_indices] - self.first  # among the items of its label
            num_relevant -= 1
        self.num_relevant = num_relevant.masked_fill(query_labels == PAD, 0)
        order = self.num_relevant.argsort(descending=True, stable=True)  # a block then has about as many of each query
        self.queries = order[: int((self.num_relevant > 0).sum())]
        asked = 0 if nearest is None else max(nearest, *self.num_relevant[self.queries[:1]].tolist(), 1)
        self.most = max(len(gallery) // _FRACTION, 4 * asked, _FLOOR)  # candidates of a query
        self._held = threading.local()

    def blocks(self, queries: Tensor, size: int, workers: int) -> list[Tensor]:
        """Splits queries into blocks of at most ``size``.

        They have fewer where some worker would have none, or where the relevant items of a block are many.
        """
        blocks, start = [], 0
        size = min(size, -(-len(queries) // workers))
        while start < len(queries):
            by_relevant = _BLOCK // 8 // int(self.num_relevant[queries[start]]) // workers
            stop = start + max(1, min(size, by_relevant))
            blocks.append(queries[start:stop])
            start = stop
        return blocks

    def _product(self, query: Tensor, gallery: Tensor) -> Tensor:
        """Returns the (B, G) products of both, in memory that the thread's next call uses again."""
        size = len(query) * len(gallery)
        if getattr(self._held, "buffer", torch.empty(0)).numel() < size:
            self._held.buffer = torch.empty(size)
        return torch.mm(query, gallery.T, out=self._held.buffer[:size].view(len(query), -1))

    def _relevant(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the (B, C) gallery indices that are relevant to (B,) queries, and the mask of those there are."""
        slot = torch.arange(int(self.num_relevant[queries].max()))
        found = slot < self.num_relevant[queries, None]
        position = self.first[queries, None] + slot
        if self.own_indices is not None:
            position += slot >= self.own_slot[queries, None]
        return self.by_label[position.clamp(max=len(self.gallery) - 1)], found

    # ---------------------------------------------------------------- what can be before the last relevant item
    def bounds(self, queries: Tensor) -> Tensor:
        """Returns the (B,) largest distances that matter to queries; -inf where too much of the gallery is as near."""
        columns, found = self._relevant(queries)
        query = -self.query[queries]
        bound = torch.full((len(queries),), -torch.inf)
        if self.nearest is None and columns.shape[1] > _MANY:
            return bound
        gallery = self.gallery[:: max(1, len(self.gallery) // _SAMPLE)]
        sample = self._product(query, gallery)
        sampled = len(gallery) / len(self.gallery)
        if self.nearest is None:
            for column, there in zip(columns.unbind(1), found.unbind(1), strict=True):
                distance = (query * self.gallery[column]).sum(1)
                bound = torch.where(there, bound.maximum(distance), bound)
            bound += 2 * query.shape[1] * 2.0**-24  # two sums of the D products of unit vectors differ by less
        else:
            expected = max(self.nearest, columns.shape[1]) * sampled
            last = min(int(expected + 4 * expected**0.5 + 4), len(gallery) - 1)  # hardly ever are there fewer
            bound = torch.from_numpy(np.partition(sample.numpy(), last, axis=1)[:, last])
        too_many = (sample <= bound[:, None]).sum(1) > self.most * sampled
        return bound.masked_fill(too_many, -torch.inf)

    def by_candidates(self, queries: Tensor, bound: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Ranks the (B,) queries that have few enough gallery items up to their (B,) bounds.

        Returns:
            (B, C) ranks, the (B, C) mask of relevant items, and (B,) whether the query was ranked.
        """
        columns, found = self._relevant(queries)
        query, limit = -self.query[queries], bound.numpy()
        own = None if self.own_indices is None else self.own_indices[queries].numpy()
        number = np.zeros(len(queries), np.int64)
        picked: list[tuple[NDArray[np.uint16], NDArray[np.int64]]] = []
        width = max(1, _TILE // len(queries))
        for start in range(0, len(self.gallery), width):
            distance = self._product(query, self.gallery[start : start + width]).numpy()
            row, column, value = _pick(distance, limit, None if own is None else own - start)
            number += np.bincount(row, minlength=len(queries))
            picked.append((row.astype(np.uint16), distance_keys(value, column + start)))
            limit[number > self.most] = -np.inf
        done = limit > -np.inf
        if self.nearest is not None:
            available = len(self.gallery) - (own is not None)
            done &= number >= np.minimum(np.maximum(self.nearest, found.sum(1).numpy()), available)
        row, keys = (np.concatenate(parts) for parts in zip(*picked, strict=True))
        kept = np.flatnonzero(done[row])
        kept = kept[row[kept].argsort(kind="stable")]  # of 16 bits, which numpy sorts in linear time
        number[~done] = 0
        ordered = np.full((len(queries), number.max()), _LAST)
        ordered[np.arange(ordered.shape[1]) < number[:, None]] = keys[kept]
        ordered.sort(axis=1)
        labels = self.gallery_labels.numpy().take(ordered & 0xFFFFFFFF, mode="clip")
        relevant = (labels == self.query_labels[queries, None].numpy()) & (ordered != _LAST)
        ranks = np.full(columns.shape, len(self.gallery) + 1)
        ranks[np.arange(ranks.shape[1]) < relevant.sum(1)[:, None]] = relevant.nonzero()[1] + 1
        return torch.from_numpy(ranks), found, torch.from_numpy(done)

    # ---------------------------------------------------------------- the whole gallery
    def in_full(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Ranks (B,) queries from all their similarities.

        Returns:
            (B, C) ranks and the (B, C) mask of relevant items.
        """
        columns, found = self._relevant(queries)
        distance = self._product(-self.query[queries], self.gallery)
        if self.own_indices is not None:
            distance[torch.arange(len(queries)), self.own_indices[queries]] = torch.inf
        ranks = torch.full(columns.shape, len(self.gallery) + 1)
        for row, there in enumerate(found):
            ranks[row, there] = torch.from_numpy(_rank_columns(distance[row].numpy(), columns[row, there].numpy()))
        return ranks, found


def _pick(
    distance: NDArray[np.float32], limit: NDArray[np.float32], own: NDArray[np.int64] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Returns row, column and value of the (B, T) distances up to each row's (B,) limit, without each row's own."""
    at = np.flatnonzero(distance <= limit[:, None])
    row, column = np.divmod(at, distance.shape[1])
    if own is not None:
        other = column != own[row]
        at, row, column = at[other], row[other], column[other]
    return row, column, distance.reshape(-1)[at]


def distance_keys(distance: NDArray[np.float32], column: NDArray[np.int64]) -> NDArray[np.int64]:
    """Turns distances into integers of which no two are equal, so that any sorting algorithm breaks ties alike.

    Args:
        distance: float32, finite or infinite, of any shape.
        column: int64 of a shape that fits, 0 to 2^32 - 1.

    Returns:
        int64 in the order of (distance, column); the column is its lower half.

    Example:
        >>> distance_keys(np.float32([0.0, -0.0, -1.0]), np.arange(3)).argsort().tolist()
        [2, 0, 1]
    """
    bits = (distance + np.float32(0)).view(np.int32)  # + 0, for -0.0 equals 0.0 but has other bits
    bits ^= (bits >> 31) & 0x7FFFFFFF  # floats below 0 count down in their bits
    return (bits.astype(np.int64) << 32) | column


def _rank_columns(distance: NDArray[np.float32], columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the ascending ranks from 1, among all (G,) distances, of those in (R,) ascending columns."""
    wanted = distance[columns]
    if len(columns) > _FEW:
        split = np.partition(wanted, len(wanted) - _FEW)[-_FEW]
        if np.count_nonzero(distance <= split) * _FRACTION > len(distance):
            return _rank_by_sorting(distance, columns)
    columns = columns[wanted.argsort(kind="stable")]
    ranks = np.empty(len(columns), np.int64)
    before = np.empty(len(distance), bool)
    for slot in range(len(columns) - 1, -1, -1):
        column = columns[slot]
        np.less_equal(distance[:column], distance[column], out=before[:column])
        np.less(distance[column:], distance[column], out=before[column:])
        ranks[slot] = 1 + np.count_nonzero(before)
        if ranks[slot] * _FRACTION <= len(distance):  # the others are among a few
            items = np.flatnonzero(before)
            ordered = np.sort(distance_keys(distance[items], items))
            ranks[:slot] = 1 + ordered.searchsorted(distance_keys(distance[columns[:slot]], columns[:slot]))
            break
    return ranks


def _rank_by_sorting(distance: NDArray[np.float32], columns: NDArray[np.int64]) -> NDArray[np.int64]:
    ordered, wanted = np.sort(distance), np.sort(distance[columns])
    ranks = ordered.searchsorted(wanted)
    following = np.minimum(ranks + 1, len(ordered) - 1)
    if ((ordered[following] == wanted) & (following > ranks)).any():  # ties: the order of the gallery decides
        ordered = np.sort(distance_keys(distance, np.arange(len(distance))))
        ranks = ordered.searchsorted(np.sort(distance_keys(distance[columns], columns)))
    return 1 + ranks
