"""The ranks of the items that are related to each query, in its ranking of a gallery."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hierpretrain.functional.quick_ranks import MOST_ITEMS, MOST_LEVELS, Ranked, quick_ranks
from hierpretrain.taxonomy import shared_depth

_BLOCK = 1 << 20  # similarities at a time while all are sorted; with the rest 100 MiB
_QUICK = True  # whether what no rank depends on stays unsorted


def related_ranks(
    query: Tensor,
    query_labels: Tensor,
    gallery: Tensor,
    gallery_labels: Tensor,
    *,
    own_indices: Tensor | None = None,
    asked: int | None = None,
    ties: str = "gallery",
) -> Iterator[Ranked]:
    """Ranks a gallery for every query that is related to an item of it and says at which ranks these items stand.

    A query ranks the gallery by falling similarity. It is related to the items that share level 1 with it; how many
    levels they share is their match level.

    This is the readable form. For labels of one path :func:`hierpretrain.functional.quick_ranks.quick_ranks` finds the
    same in less time.

    Args:
        query: (Q, D) float32 unit vectors on the CPU, as ``unit_rows`` returns.
        query_labels: (Q, L) or (Q, P, L) int64 labels.
        gallery: (G, D) unit vectors.
        gallery_labels: (G, L) or (G, P, L) labels.
        own_indices: (Q,) the gallery index of each query itself, which has its labels and is left out of its ranking;
            ``None``: none is.
        asked: Only ranks up to this, and up to the number of related items, are asked for; a greater one may be any
            that is greater than both. ``None``: all are.
        ties: ``'gallery'``: equal similarities rank in the order of the gallery. ``'both'``: by falling and by rising
            level, so that a query comes twice, or once with ``times`` 2 where both are the same. The mean of what is
            counted in the two orders is what equal similarities count half in.

    Yields:
        For blocks of the queries that are related to an item, in any order: their indices, how many items each is
        related to, and the ranks and match levels of these items. Where items have several paths and ties rank in the
        order of the gallery, the nearest items are known as well.

    Example:
        >>> gallery, labels = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.8, 0.6]]), torch.tensor([[7], [7], [9]])
        >>> for ranked in related_ranks(gallery[:1], labels[:1], gallery, labels):
        ...     print(ranked.queries.tolist(), ranked.counts.tolist(), ranked.ranks.tolist(), ranked.levels.tolist())
        [0] [2] [1, 3] [1, 1]
    """
    sides = query, query_labels, gallery, gallery_labels
    if is_quick(query_labels, gallery_labels):
        yield from quick_ranks(*sides, own_indices=own_indices, asked=asked, ties=ties)
        return
    for block, order, items, levels in ranked_levels(*sides, own_indices):
        some = (levels > 0).any(1)
        if not some.any():
            continue
        if ties == "gallery":
            yield _related(block[some], levels[some], items[some, 0])
            continue
        for sign in (-1, 1):
            by_level = (order[some] * (2 * levels.shape[-1] + 2) + sign * levels[some]).argsort(1)
            yield _related(block[some], levels[some].gather(1, by_level))


def _related(queries: Tensor, levels: Tensor, nearest: Tensor | None = None) -> Ranked:
    """Finds the related items in (B, G) match levels in the order of the ranks."""
    row, column = levels.nonzero().unbind(1)
    counts, found = (levels > 0).sum(1), levels[row, column]
    first = None if nearest is None else nearest.numpy()
    return Ranked(queries.numpy(), counts.numpy(), (column + 1).numpy(), found.numpy(), first)


def is_quick(query_labels: Tensor, gallery_labels: Tensor) -> bool:
    """Returns whether :func:`quick_ranks` can rank by these labels: those of one path, of not too many levels."""
    fits = query_labels.shape[-1] <= MOST_LEVELS and len(gallery_labels) <= MOST_ITEMS
    return _QUICK and fits and query_labels.ndim == gallery_labels.ndim == 2


def ranked_levels(
    query: Tensor, query_labels: Tensor, gallery: Tensor, gallery_labels: Tensor, own_indices: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Ranks the whole gallery for blocks of queries and says how much of its path each item shares with the query.

    Args:
        query: (Q, D) float32 unit vectors on the CPU, as ``unit_rows`` returns.
        query_labels: (Q, L) or (Q, P, L) labels.
        gallery: (G, D) unit vectors.
        gallery_labels: (G, L) or (G, P, L) labels.
        own_indices: (Q,) the gallery index of each query itself, which is left out of its ranking; ``None``: none is.

    Yields:
        (B,) the block's queries; (B, G) int64 that rise with the rank and are equal where similarities are, without a
        meaning otherwise; (B, G) gallery indices and (B, G) int64 match levels in the order of the ranks. G is one less
        with ``own_indices``.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.8, 0.6]])
        >>> labels, own = torch.tensor([[0, 0], [0, 0], [0, 1]]), torch.tensor([0])
        >>> for queries, _, items, levels in ranked_levels(features[:1], labels[:1], features, labels, own):
        ...     print(queries.tolist(), items.tolist(), levels.tolist())
        [0] [[2, 1]] [[1, 2]]
    """
    if len(query) == 0 or len(gallery) == 0:
        return
    workers = torch.get_num_threads()
    with ThreadPoolExecutor(workers) as pool:  # numpy sorts far faster than torch, but with one thread
        for queries in torch.split(torch.arange(len(query)), max(1, _BLOCK // len(gallery))):
            distance = -query[queries] @ gallery.T
            if own_indices is not None:
                distance[torch.arange(len(queries)), own_indices[queries]] = torch.inf  # the last rank
            keys = torch.from_numpy(np.concatenate(list(pool.map(_sorted_keys, distance.tensor_split(workers)))))
            if own_indices is not None:
                keys = keys[:, :-1]
            levels, items = shared_depth(query_labels[queries], gallery_labels), keys & 0xFFFFFFFF
            yield queries, keys >> 32, items, levels.gather(1, items)


def _sorted_keys(distance: Tensor) -> NDArray[np.int64]:
    keys = distance_keys(distance.numpy(), np.arange(distance.shape[1]))
    keys.sort(axis=1)
    return keys


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
