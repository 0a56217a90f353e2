"""Retrieval metrics at one level of the tree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from hierpretrain.functional.search import flat_labels, unit_pair
from hierpretrain.taxonomy import PAD

_BLOCK = 1 << 23  # similarities at a time: 32 MiB, and as much again for their sorted copy
_CACHED = 1 << 18  # similarities that stay in a core's cache while they are compared with several numbers
_FEW = 8  # up to so many relevant items, comparing every similarity with each is faster than sorting


def retrieval_metrics(
    query: Tensor,
    query_labels: Tensor,
    gallery: Tensor,
    gallery_labels: Tensor,
    *,
    ks: Sequence[int] = (1, 10),
    same_set: bool = False,
) -> dict[str, float]:
    """Measures how far each query's gallery, ranked by cosine similarity, has the items of the query's label in front.

    With R the number of gallery items of the query's label and rel_i = 1 if the one at rank i is among them, P@k =
    1/k sum_{i<=k} rel_i, and the mean over queries is taken of

    - ``recall@k``: 1 if any rel_i = 1 for i <= k (top-k accuracy);
    - ``precision@k``: P@k. The divisor is k even where the gallery has fewer items: 2 relevant ones in a gallery of 3
      give ``precision@10`` = 0.2 at best;
    - ``r_precision``: P@R;
    - ``map@r``: 1/R sum_{i<=R} rel_i P@i (Musgrave et al., *A Metric Learning Reality Check*, 2020, section 3.2);
    - ``map``: 1/R sum_i rel_i P@i, average precision over the whole gallery.

    Equal similarities (float32; the product may round those of two identical rows differently in the last bit) rank in
    the order of the gallery. A query without any relevant item, or without a label (``PAD``,
    which equals nothing), is left out and counted.

    Every number follows from the ranks of the relevant items alone, so one pass over blocks of similarities gives all
    of them in bounded memory, whatever k is: a matrix product, and then a sort of each row or, for small R, a count.
    (A search for the nearest k, as :func:`nearest` has faiss make, would not do for ``map``.)

    Args:
        query: (Q, D) floating-point features on any device, of any length but 0.
        query_labels: (Q,) integers: node ids from 0, or ``PAD``.
        gallery: (G, D) features.
        gallery_labels: (G,) labels.
        ks: The k of ``recall@k`` and ``precision@k``; one given twice counts once.
        same_set: Query and gallery are the same rows, and row ``i`` is no answer to itself. It is removed by its
            index, so a duplicate of it stays an answer.

    Returns:
        ``recall@k`` and ``precision@k`` for every k, ``r_precision``, ``map@r`` and ``map`` as fractions in [0, 1], and
        the integers ``num_queries`` (evaluated) and ``num_lone_queries`` (left out).

    Raises:
        ValueError: If features or labels are malformed (see ``unit_rows`` and ``flat_labels``), a k is below 1,
            ``same_set`` is given different sets, or no query has a relevant item.

    Example:
        The first query ranks the gallery 0, 2, 1, 3 and finds its two at ranks 1 and 3; the second has no relevant one.

        >>> gallery = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.8, 0.6], [0.0, 1.0]])
        >>> query, query_labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([7, 8])
        >>> metrics = retrieval_metrics(query, query_labels, gallery, torch.tensor([7, 7, 9, PAD]), ks=[1])
        >>> {name: round(value, 4) for name, value in metrics.items()}  # doctest: +NORMALIZE_WHITESPACE
        {'recall@1': 1.0, 'precision@1': 1.0, 'r_precision': 0.5, 'map@r': 0.5, 'map': 0.8333,
         'num_queries': 1, 'num_lone_queries': 1}
    """
    ks = tuple(dict.fromkeys(ks))  # a k given twice would add up twice
    query, gallery = unit_pair(query, gallery)
    query_labels = flat_labels(query_labels, len(query), "query_labels")
    gallery_labels = flat_labels(gallery_labels, len(gallery), "gallery_labels")
    if wrong := [k for k in ks if k < 1]:
        raise ValueError(f"every k of ks must be at least 1; {wrong[0]} is not")
    if same_set:
        check_same_set(query_labels, gallery_labels)

    sums: dict[str, float] = dict.fromkeys(
        [f"{name}@{k}" for k in ks for name in ("recall", "precision")] + ["r_precision", "map@r", "map"], 0.0
    )
    num_queries = 0
    for ranks, found in _ranks_of_relevant(query, query_labels, gallery, gallery_labels, same_set):
        num_relevant = found.sum(1)
        precision = torch.arange(1, ranks.shape[1] + 1) / ranks.double() * found  # P@rank of every relevant item
        in_front = ranks <= num_relevant[:, None]
        for k in ks:
            sums[f"recall@{k}"] += (ranks[:, 0] <= k).sum().item()
            sums[f"precision@{k}"] += ((ranks <= k) & found).sum().item() / k
        sums["r_precision"] += ((in_front & found).sum(1) / num_relevant.double()).sum().item()
        sums["map@r"] += ((precision * in_front).sum(1) / num_relevant).sum().item()
        sums["map"] += (precision.sum(1) / num_relevant).sum().item()
        num_queries += len(ranks)
    check_some_relevant(num_queries, len(query))
    means = {name: total / num_queries for name, total in sums.items()}
    return means | {"num_queries": num_queries, "num_lone_queries": len(query) - num_queries}


def recall_curve(
    query: Tensor,
    query_labels: Tensor,
    gallery: Tensor,
    gallery_labels: Tensor,
    *,
    max_k: int = 1000,
    same_set: bool = False,
) -> Tensor:
    """Measures ``recall@k`` of :func:`retrieval_metrics` for every k at once, for a plot.

    Args:
        query: (Q, D) floating-point features on any device, of any length but 0.
        query_labels: (Q,) integers: node ids from 0, or ``PAD``.
        gallery: (G, D) features.
        gallery_labels: (G,) labels.
        max_k: The last k, at least 1; beyond the size of the gallery the curve stays at 1.
        same_set: Query and gallery are the same rows, and row ``i`` is no answer to itself.

    Returns:
        (max_k,) float64 in [0, 1], never falling: entry ``k - 1`` is the share of the queries, those without any
        relevant item left out, whose first relevant item has a rank of at most k.

    Raises:
        ValueError: As :func:`retrieval_metrics`, or if ``max_k`` is below 1.

    Example:
        The first query finds its label at rank 1, the second at rank 2.

        >>> gallery, query = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.1], [1.0, 0.2]])
        >>> recall_curve(query, torch.tensor([7, 8]), gallery, torch.tensor([7, 8]), max_k=3).tolist()
        [0.5, 1.0, 1.0]
    """
    query, gallery = unit_pair(query, gallery)
    query_labels = flat_labels(query_labels, len(query), "query_labels")
    gallery_labels = flat_labels(gallery_labels, len(gallery), "gallery_labels")
    if max_k < 1:
        raise ValueError(f"max_k must be at least 1; it is {max_k}")
    if same_set:
        check_same_set(query_labels, gallery_labels)
    at_rank = torch.zeros(max_k + 2, dtype=torch.int64)  # the first relevant item's, from 0; the last entry: beyond
    for ranks, _ in _ranks_of_relevant(query, query_labels, gallery, gallery_labels, same_set):
        at_rank += ranks[:, 0].clamp(max=max_k + 1).bincount(minlength=max_k + 2)
    num_queries = int(at_rank.sum())
    check_some_relevant(num_queries, len(query))
    return at_rank[1:-1].cumsum(0) / float(num_queries)


def check_same_set(query_labels: Tensor, gallery_labels: Tensor) -> None:
    """Raises a ValueError unless the labels of a query and a gallery that shall be one set are equal."""
    if not torch.equal(query_labels, gallery_labels):
        raise ValueError(
            "same_set takes query i for gallery row i, but their labels differ; pass the same rows and labels twice"
        )


def check_some_relevant(num_queries: int, num_given: int) -> None:
    """Raises a ValueError if no query was evaluated, since there is then nothing to take the mean of."""
    if num_queries == 0:
        raise ValueError(
            f"at least one query must have a relevant gallery item; none of {num_given} has; check that both label "
            "columns are of one level and that same_set is meant"
        )


def _ranks_of_relevant(
    query: Tensor, query_labels: Tensor, gallery: Tensor, gallery_labels: Tensor, same_set: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields, for blocks of the queries that have a relevant item, where those stand.

    Yields:
        (B, C) int64 ranks from 1, ascending, and the (B, C) mask of the entries that are relevant items.
    """
    sorted_labels, by_label = gallery_labels.sort(stable=True)
    first = torch.searchsorted(sorted_labels, query_labels)
    count = torch.searchsorted(sorted_labels, query_labels, right=True) - first  # with the query itself in same_set
    num_relevant = torch.where(query_labels == PAD, 0, count - int(same_set))
    queries = num_relevant.argsort(descending=True, stable=True)  # rows of a block then have about as many relevant
    queries = queries[: int((num_relevant > 0).sum())]

    if len(queries) == 0:
        return
    longest = len(gallery) + 8 * int(num_relevant.max())  # the int64 and float64 arrays of ranks count as well
    num_rows = max(1, min(_BLOCK // longest, len(queries)))
    buffer = torch.empty(2, num_rows, len(gallery))
    workers = torch.get_num_threads()
    with ThreadPoolExecutor(workers) as pool:  # numpy's vectorised loops use one thread each

        def sort_rows(keys: Tensor) -> Tensor:
            """Sorts in place; numpy is 20 times as fast at it as torch."""
            list(pool.map(lambda part: part.numpy().sort(axis=1), keys.tensor_split(workers)))
            return keys

        for start in range(0, len(queries), num_rows):
            rows = queries[start : start + num_rows]
            most = int(num_relevant[rows[0]])
            slot = torch.arange(most + int(same_set))
            columns = by_label[(first[rows, None] + slot).clamp(max=len(gallery) - 1)]  # (B, C)
            missing = slot >= count[rows, None]
            found = slot[:most] < num_relevant[rows, None]
            distance = torch.mm(-query[rows], gallery.T, out=buffer[0, : len(rows)])  # (B, G)
            if same_set:
                distance[torch.arange(len(rows)), rows] = torch.inf  # the last rank, which [:, :most] cuts off

            wanted = sort_rows(distance.gather(1, columns).masked_fill(missing, torch.inf))[:, :most]
            if most <= _FEW:
                parts = pool.map(_count, distance.tensor_split(workers), wanted.tensor_split(workers))
                nearer, as_near = torch.cat(list(parts), 1)
            else:
                ordered = sort_rows(buffer[1, : len(rows)].copy_(distance))
                nearer = torch.searchsorted(ordered, wanted.contiguous())
                following = (nearer + 1).clamp(max=len(gallery) - 1)
                as_near = torch.where(ordered.gather(1, following) == wanted, following, nearer) + 1
            if (tied := ((as_near > nearer + 1) & found).any(1)).any():
                keys = _keys(distance[tied])
                wanted = keys.gather(1, columns[tied]).masked_fill(missing[tied], torch.iinfo(torch.int64).max)
                nearer[tied] = torch.searchsorted(sort_rows(keys), sort_rows(wanted)[:, :most].contiguous())
            yield nearer + 1, found


def _count(distance: Tensor, wanted: Tensor) -> Tensor:
    """Returns (2, B, C): how many of a row's (B, G) distances are below, and how many not above, its (B, C) wanted."""
    counts = torch.empty(2, *wanted.shape, dtype=torch.int64)
    step = max(1, _CACHED // distance.shape[1])
    for start in range(0, len(distance), step):
        rows = slice(start, start + step)
        for slot in range(wanted.shape[1]):
            for i, compare in enumerate((np.less, np.less_equal)):
                bits = np.packbits(compare(distance[rows].numpy(), wanted[rows, slot, None].numpy()), axis=1)
                counts[i, rows, slot] = torch.from_numpy(np.bitwise_count(bits).sum(1, dtype=np.int64))
    return counts


def _keys(distance: Tensor) -> Tensor:
    """Returns (B, G) different int64 per row in the order of (distance, column)."""
    bits = (distance + 0.0).view(torch.int32)  # + 0.0, for -0.0 equals 0.0 but has other bits
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # floats below 0 count down in their bits
    return (ordered.long() << 32) | torch.arange(distance.shape[1])
