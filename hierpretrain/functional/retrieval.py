"""Retrieval metrics at one level of the tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from hierpretrain.checks import check_at_least_1, check_flat, check_ks
from hierpretrain.functional.quick_ranks import Ranked
from hierpretrain.functional.ranking import related_ranks
from hierpretrain.functional.search import unit_pair
from hierpretrain.taxonomy import as_labels


def retrieval_metrics(
    query: Tensor,
    query_labels: Tensor,
    gallery: Tensor,
    gallery_labels: Tensor,
    *,
    ks: Sequence[int] = (1, 10),
    same_set: bool = False,
    average_precision: bool = True,
    queries: Tensor | None = None,
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

    Equal similarities rank in the order of the gallery; they are float32, and two identical items may differ in the
    last bit. A query without any relevant item, or without a label (``PAD``, which equals nothing),
    is left out and counted.

    Only similarities that can stand before a query's last relevant item are kept and sorted (see
    :func:`hierpretrain.functional.quick_ranks.quick_ranks`). Beside both sets scaled to length 1 and a copy of the
    gallery, about 400 MiB are held at most.

    Args:
        query: (Q, D) floating-point features on any device, of any length but 0.
        query_labels: (Q,) integers: node ids from 0, or ``PAD``.
        gallery: (G, D) features.
        gallery_labels: (G,) labels.
        ks: The k of ``recall@k`` and ``precision@k``; one given twice counts once.
        same_set: Query and gallery are the same items, and item ``i`` is no answer to itself, while a duplicate of it
            is.
        average_precision: Whether ``map`` is measured. All else follows from the nearest max(k, R) items, which takes
            less time where R is below a twenty-fourth of the gallery.
        queries: (S,) int64, the indices of the queries to evaluate; ``None``: all of them. With ``same_set`` they are
            a query set inside a larger gallery: each is searched for among all items but itself.

    Returns:
        ``recall@k`` and ``precision@k`` for every k, ``r_precision``, ``map@r`` and ``map`` as fractions in [0, 1], and
        the integers ``num_queries`` (evaluated) and ``num_queries_without_positives`` (left out), which is also there
        by its older name, ``num_lone_queries``.

    Raises:
        ValueError: If features or labels are malformed (see ``unit_rows`` and ``check_flat``), a k is below 1,
            ``same_set`` is given different sets, ``queries`` are no indices, or no query has a relevant item.

    Example:
        The first query ranks the gallery 0, 2, 1, 3 and finds its two at ranks 1 and 3; the second has no relevant one.

        >>> from hierpretrain.taxonomy import PAD
        >>> gallery = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.8, 0.6], [0.0, 1.0]])
        >>> query, query_labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([7, 8])
        >>> metrics = retrieval_metrics(query, query_labels, gallery, torch.tensor([7, 7, 9, PAD]), ks=[1])
        >>> {name: round(value, 4) for name, value in metrics.items()}  # doctest: +NORMALIZE_WHITESPACE
        {'recall@1': 1.0, 'precision@1': 1.0, 'r_precision': 0.5, 'map@r': 0.5, 'map': 0.8333,
         'num_queries': 1, 'num_queries_without_positives': 1, 'num_lone_queries': 1}
    """
    scores = retrieval_scores(
        query,
        query_labels,
        gallery,
        gallery_labels,
        ks=ks,
        same_set=same_set,
        average_precision=average_precision,
        queries=queries,
    )
    return mean_scores(scores)


def retrieval_scores(
    query: Tensor,
    query_labels: Tensor,
    gallery: Tensor,
    gallery_labels: Tensor,
    *,
    ks: Sequence[int] = (1, 10),
    same_set: bool = False,
    average_precision: bool = True,
    queries: Tensor | None = None,
) -> dict[str, Tensor]:
    """Computes for each query what :func:`retrieval_metrics` takes the mean of.

    Args:
        query: (Q, D) floating-point features on any device, of any length but 0.
        query_labels: (Q,) integers: node ids from 0, or ``PAD``.
        gallery: (G, D) features.
        gallery_labels: (G,) labels.
        ks: The k of ``recall@k`` and ``precision@k``; one given twice counts once.
        same_set: Query and gallery are the same images, and image ``i`` is no answer to itself.
        average_precision: Whether ``map`` is measured, which takes the whole ranking of the gallery.
        queries: (S,) int64, the indices of the queries to evaluate; ``None``: all of them.

    Returns:
        Scores of the S queries, in the order given. (S,) float64 fractions: ``recall@k`` (0 or 1) and ``precision@k``
        for every k, ``r_precision``, ``map@r`` and ``map``. (S,) int64: ``num_relevant``, how many gallery items have
        the query's label, and ``first_rank``, the rank of the first of them from 1 (without ``average_precision``, any
        number above max(k, R) if it is above that). All are 0 for a query without a relevant item.

    Raises:
        ValueError: As :func:`retrieval_metrics`, but not if no query has a relevant item.

    Example:
        >>> features, labels = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.3]]), torch.tensor([0, 0, 1])
        >>> scores = retrieval_scores(features, labels, features, labels, ks=[1], same_set=True)
        >>> scores["recall@1"].tolist(), scores["num_relevant"].tolist()
        ([1.0, 1.0, 0.0], [1, 1, 0])
    """
    query, gallery = unit_pair(query, gallery)
    query_labels = check_flat(query_labels, len(query), "query_labels")
    gallery_labels = check_flat(gallery_labels, len(gallery), "gallery_labels")
    check_ks(ks)
    ks = tuple(dict.fromkeys(ks))
    if same_set:
        check_same_set(query_labels, gallery_labels)

    queries = torch.arange(len(query)) if queries is None else check_queries(queries, len(query))
    scores = LevelScores(1, len(queries), len(gallery), ks=ks, average_precision=average_precision)
    for ranked in related_ranks(
        query[queries],
        query_labels[queries, None],
        gallery,
        gallery_labels[:, None],
        own_indices=queries if same_set else None,
        asked=scores.asked,
    ):
        scores.add(ranked)
    return scores.scores


class LevelScores:
    """What :func:`retrieval_scores` finds at one level of the labels that the queries were ranked by.

    Args:
        level: The match level from which on an item is relevant.
        num_queries: Q.
        num_items: The last rank there is.
        ks: The k of ``recall@k`` and ``precision@k``, each once.
        average_precision: Whether ``map`` is measured.

    Attributes:
        scores: (Q,) scores by name; 0 for a query until it is added.
        asked: The ranks that are looked at, see :func:`hierpretrain.functional.ranking.related_ranks`.
    """

    def __init__(
        self, level: int, num_queries: int, num_items: int, *, ks: Sequence[int], average_precision: bool
    ) -> None:
        self.level, self.ks, self.num_items, self.average_precision = level, ks, num_items, average_precision
        self.asked = None if average_precision else max(ks, default=1)
        names = [f"{name}@{k}" for k in ks for name in ("recall", "precision")] + ["r_precision", "map@r"]
        names += ["map"] if average_precision else []
        self.scores = {name: torch.zeros(num_queries, dtype=torch.float64) for name in names}
        self.scores |= {name: torch.zeros(num_queries, dtype=torch.int64) for name in ("num_relevant", "first_rank")}

    def add(self, ranked: Ranked) -> None:
        """Scores the queries of a block that have a relevant item."""
        block, counts, ranks = ranked.queries, ranked.counts, ranked.ranks
        if self.level > 1:
            is_relevant = ranked.levels >= self.level
            counts = np.add.reduceat(is_relevant, counts.cumsum() - counts, dtype=np.int64)
            block, counts, ranks = block[counts > 0], counts[counts > 0], ranks[is_relevant]
            if len(block) == 0:
                return
        values = {name: of.numpy() for name, of in self.scores.items()}
        first = counts.cumsum() - counts  # of each query's relevant items
        precision = (np.arange(1, len(ranks) + 1) - np.repeat(first, counts)) / ranks  # P@rank of each relevant item
        base = np.arange(len(block)) * (self.num_items + 2)
        rising = ranks + np.repeat(base, counts)
        in_front = np.searchsorted(rising, base + counts, "right") - first  # relevant items at ranks up to R
        for k in self.ks:
            found = np.searchsorted(rising, base + min(k, self.num_items), "right") - first
            values[f"recall@{k}"][block], values[f"precision@{k}"][block] = found > 0, found / k
        halves = np.add.reduceat(np.append(precision, 0), np.stack([first, first + in_front], 1).reshape(-1))
        halves = halves.reshape(-1, 2) * np.stack([in_front > 0, in_front < counts], 1)
        values["r_precision"][block], values["map@r"][block] = in_front / counts, halves[:, 0] / counts
        if self.average_precision:
            values["map"][block] = halves.sum(1) / counts
        values["num_relevant"][block], values["first_rank"][block] = counts, ranks[first]


def mean_scores(scores: Mapping[str, Tensor]) -> dict[str, float]:
    """Takes the mean of each score over the queries that have a relevant item.

    Args:
        scores: What :func:`retrieval_scores` returns: (Q,) fractions, and (Q,) ``num_relevant``, 0 for a query without
            a relevant item and ``PAD`` for one that does not count at all. Other integers are passed over.

    Returns:
        The mean of each fraction, and the integers ``num_queries``, how many have a relevant item, and
        ``num_queries_without_positives``, how many have none, also by its older name ``num_lone_queries``.

    Raises:
        ValueError: If no query has a relevant item.

    Example:
        >>> mean_scores({"recall@1": torch.tensor([1.0, 0.5, 0.0]), "num_relevant": torch.tensor([3, 1, 0])})
        {'recall@1': 0.75, 'num_queries': 2, 'num_queries_without_positives': 1, 'num_lone_queries': 1}
    """
    num_queries = int((scores["num_relevant"] > 0).sum())
    num_without = int((scores["num_relevant"] == 0).sum())
    check_some_relevant(num_queries, num_queries + num_without)
    means = {name: of.sum().item() / num_queries for name, of in scores.items() if of.is_floating_point()}
    counts = {"num_queries": num_queries, "num_queries_without_positives": num_without}
    return means | counts | {"num_lone_queries": num_without}


def recall_curve(
    query: Tensor,
    query_labels: Tensor,
    gallery: Tensor,
    gallery_labels: Tensor,
    *,
    max_k: int = 1000,
    same_set: bool = False,
    queries: Tensor | None = None,
) -> Tensor:
    """Measures ``recall@k`` of :func:`retrieval_metrics` for every k at once, for a plot.

    Args:
        query: (Q, D) floating-point features on any device, of any length but 0.
        query_labels: (Q,) integers: node ids from 0, or ``PAD``.
        gallery: (G, D) features.
        gallery_labels: (G,) labels.
        max_k: The last k, at least 1; beyond the size of the gallery the curve stays at 1.
        same_set: Query and gallery are the same items, and item ``i`` is no answer to itself.
        queries: (S,) int64, the indices of the queries to evaluate; ``None``: all of them.

    Returns:
        (max_k,) float64 in [0, 1], never falling: entry ``k - 1`` is the fraction of the queries with a
        relevant item whose first relevant item has a rank of at most k.

    Raises:
        ValueError: As :func:`retrieval_metrics`, or if ``max_k`` is below 1.

    Example:
        The first query finds its label at rank 1, the second at rank 2.

        >>> gallery, query = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.1], [1.0, 0.2]])
        >>> recall_curve(query, torch.tensor([7, 8]), gallery, torch.tensor([7, 8]), max_k=3).tolist()
        [0.5, 1.0, 1.0]
    """
    check_at_least_1(max_k=max_k)
    sides = query, query_labels, gallery, gallery_labels
    scores = retrieval_scores(*sides, ks=[max_k], same_set=same_set, average_precision=False, queries=queries)
    return recall_at(scores["first_rank"], torch.arange(1, max_k + 1))


def recall_at(first_rank: Tensor, ks: Tensor) -> Tensor:
    """Computes ``recall@k``, (K,) float64, for (K,) many k from the (Q,) ranks of each query's first relevant item.

    Ranks count from 1; a query of 0 or less is left out.

    Raises:
        ValueError: If every query is left out.

    Example:
        >>> recall_at(torch.tensor([2, 0, 1, 7]), torch.tensor([1, 2, 5])).tolist()
        [0.3333333333333333, 0.6666666666666666, 0.6666666666666666]
    """
    ranks = first_rank[first_rank > 0].sort().values
    check_some_relevant(len(ranks), len(first_rank))
    return torch.searchsorted(ranks, ks, right=True).double() / len(ranks)


def check_queries(queries: Tensor, num_items: int) -> Tensor:
    """Returns the indices of the queries to evaluate on the CPU, once each is known to be of one of the items.

    Raises:
        ValueError: If they are no (S,) indices from 0 to the last item.

    Example:
        >>> check_queries(torch.tensor([2, 0], dtype=torch.int32), 3)
        tensor([2, 0])
        >>> check_queries(torch.tensor([1, 3]), 3)
        Traceback (most recent call last):
        ValueError: queries must be indices from 0 to 2; these are 1 to 3
    """
    queries = as_labels(queries, "queries").cpu()
    if queries.ndim != 1:
        raise ValueError(f"queries must be (S,) indices; these have shape {tuple(queries.shape)}")
    least, greatest = map(int, queries.aminmax()) if len(queries) else (0, 0)
    if least < 0 or greatest >= max(num_items, 1):
        raise ValueError(f"queries must be indices from 0 to {num_items - 1}; these are {least} to {greatest}")
    return queries


def check_same_set(query_labels: Tensor, gallery_labels: Tensor) -> None:
    """Raises a ValueError unless the labels of a query and a gallery that shall be one set are equal."""
    if not torch.equal(query_labels, gallery_labels):
        raise ValueError(
            "same_set takes query i for gallery item i, but their labels differ; pass features and labels twice"
        )


def check_some_relevant(num_queries: int, num_given: int) -> None:
    """Raises a ValueError if no query was evaluated, since there is then nothing to take the mean of."""
    if num_queries == 0:
        raise ValueError(
            f"at least one query must have a relevant gallery item; none of {num_given} has; check that both label "
            "columns are of one level and that same_set is meant"
        )
