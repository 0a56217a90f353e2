"""Retrieval metrics at one level of the tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from hierpretrain.functional.ranking import relevant_ranks
from hierpretrain.functional.search import flat_labels, unit_pair


def retrieval_metrics(
    query: Tensor,
    query_labels: Tensor,
    gallery: Tensor,
    gallery_labels: Tensor,
    *,
    ks: Sequence[int] = (1, 10),
    same_set: bool = False,
    average_precision: bool = True,
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

    Similarities are computed a tile at a time and only those that can stand before a query's last relevant item are
    kept and sorted (see :func:`relevant_ranks`), so a good embedding costs little more than the products. Beside the
    rows of both sets scaled to length 1, about 300 MiB are held at most: 400 MiB for 100,000 x 100,000 rows of 128
    numbers.

    Args:
        query: (Q, D) floating-point features on any device, of any length but 0.
        query_labels: (Q,) integers: node ids from 0, or ``PAD``.
        gallery: (G, D) features.
        gallery_labels: (G,) labels.
        ks: The k of ``recall@k`` and ``precision@k``; one given twice counts once.
        same_set: Query and gallery are the same rows, and row ``i`` is no answer to itself. It is removed by its
            index, so a duplicate of it stays an answer.
        average_precision: Whether ``map`` is measured. All else follows from the nearest max(k, R) items; without it
            classes of thousands, or a poor embedding, take half the time or less.

    Returns:
        ``recall@k`` and ``precision@k`` for every k, ``r_precision``, ``map@r`` and ``map`` as fractions in [0, 1], and
        the integers ``num_queries`` (evaluated) and ``num_lone_queries`` (left out).

    Raises:
        ValueError: If features or labels are malformed (see ``unit_rows`` and ``flat_labels``), a k is below 1,
            ``same_set`` is given different sets, or no query has a relevant item.

    Example:
        The first query ranks the gallery 0, 2, 1, 3 and finds its two at ranks 1 and 3; the second has no relevant one.

        >>> from hierpretrain.taxonomy import PAD
        >>> gallery = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.8, 0.6], [0.0, 1.0]])
        >>> query, query_labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([7, 8])
        >>> metrics = retrieval_metrics(query, query_labels, gallery, torch.tensor([7, 7, 9, PAD]), ks=[1])
        >>> {name: round(value, 4) for name, value in metrics.items()}  # doctest: +NORMALIZE_WHITESPACE
        {'recall@1': 1.0, 'precision@1': 1.0, 'r_precision': 0.5, 'map@r': 0.5, 'map': 0.8333,
         'num_queries': 1, 'num_lone_queries': 1}
    """
    return means(
        retrieval_sums(
            query,
            query_labels,
            gallery,
            gallery_labels,
            ks=ks,
            same_set=same_set,
            average_precision=average_precision,
        )
    )


def retrieval_sums(
    query: Tensor,
    query_labels: Tensor,
    gallery: Tensor,
    gallery_labels: Tensor,
    *,
    ks: Sequence[int] = (1, 10),
    same_set: bool = False,
    average_precision: bool = True,
    part: tuple[int, int] = (0, 1),
) -> dict[str, float]:
    """Adds up what :func:`retrieval_metrics` takes the mean of, over one of several shares of the queries.

    Args:
        query: As for :func:`retrieval_metrics`, all of them, and so are the next six.
        query_labels: (Q,) labels.
        gallery: (G, D) features.
        gallery_labels: (G,) labels.
        ks: The k of ``recall@k`` and ``precision@k``.
        same_set: Query and gallery are the same rows.
        average_precision: Whether ``map`` is measured.
        part: (i, n): the queries i, i + n, i + 2 n and so on are evaluated.

    Returns:
        Numbers of the same names, which can be added up over the parts; :func:`means` makes metrics of them.

    Raises:
        ValueError: As :func:`retrieval_metrics`, but for a share without any relevant item.

    Example:
        >>> rows, labels = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.3]]), torch.tensor([0, 0, 1])
        >>> sums = retrieval_sums(rows, labels, rows, labels, ks=[1], same_set=True, part=(0, 2))
        >>> sums["recall@1"], sums["num_queries"], sums["num_lone_queries"]
        (1.0, 1, 1)
    """
    ks = tuple(dict.fromkeys(ks))  # a k given twice would add up twice
    query, gallery = unit_pair(query, gallery)
    query_labels = flat_labels(query_labels, len(query), "query_labels")
    gallery_labels = flat_labels(gallery_labels, len(gallery), "gallery_labels")
    if wrong := [k for k in ks if k < 1]:
        raise ValueError(f"every k of ks must be at least 1; {wrong[0]} is not")
    if same_set:
        check_same_set(query_labels, gallery_labels)

    names = [f"{name}@{k}" for k in ks for name in ("recall", "precision")] + ["r_precision", "map@r"]
    sums: dict[str, float] = dict.fromkeys([*names, *(["map"] if average_precision else [])], 0.0)
    rows = torch.arange(part[0], len(query), part[1])
    num_queries = 0
    for ranks, found in relevant_ranks(
        query[rows],
        query_labels[rows],
        gallery,
        gallery_labels,
        own_rows=rows if same_set else None,
        nearest=None if average_precision else max(ks, default=1),
    ):
        num_relevant = found.sum(1)
        precision = torch.arange(1, ranks.shape[1] + 1) / ranks.double() * found  # P@rank of every relevant item
        in_front = ranks <= num_relevant[:, None]
        for k in ks:
            sums[f"recall@{k}"] += (ranks[:, 0] <= k).sum().item()
            sums[f"precision@{k}"] += ((ranks <= k) & found).sum().item() / k
        sums["r_precision"] += ((in_front & found).sum(1) / num_relevant.double()).sum().item()
        sums["map@r"] += ((precision * in_front).sum(1) / num_relevant).sum().item()
        if average_precision:
            sums["map"] += (precision.sum(1) / num_relevant).sum().item()
        num_queries += len(ranks)
    return sums | {"num_queries": num_queries, "num_lone_queries": len(rows) - num_queries}


def means(sums: Mapping[str, float]) -> dict[str, float]:
    """Divides sums over queries by the number of these.

    Args:
        sums: With ``num_queries``, the divisor, and ``num_lone_queries``; numbers ``num_...`` stay as they are.

    Returns:
        The means and the numbers, these as integers.

    Raises:
        ValueError: If no query was evaluated, since there is then nothing to take the mean of.

    Example:
        >>> means({"recall@1": 3.0, "num_queries": 4, "num_lone_queries": 0})
        {'recall@1': 0.75, 'num_queries': 4, 'num_lone_queries': 0}
    """
    num_queries = int(sums["num_queries"])
    check_some_relevant(num_queries, num_queries + int(sums["num_lone_queries"]))
    return {name: int(n) if name.startswith("num_") else n / num_queries for name, n in sums.items()}


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
    own_rows = torch.arange(len(query)) if same_set else None
    for ranks, _ in relevant_ranks(query, query_labels, gallery, gallery_labels, own_rows=own_rows, nearest=max_k):
        at_rank += ranks[:, 0].clamp(max=max_k + 1).bincount(minlength=max_k + 2)
    num_queries = int(at_rank.sum())
    check_some_relevant(num_queries, len(query))
    return at_rank[1:-1].cumsum(0).double() / num_queries


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
