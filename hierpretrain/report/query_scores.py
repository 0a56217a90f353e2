"""How well each query finds its own at every level: what the headline, the curves and the examples are made of."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from hierpretrain.evaluation import Embeddings
from hierpretrain.evaluation.embeddings import Splits
from hierpretrain.functional.hierarchical_retrieval import ranked_levels
from hierpretrain.functional.search import unit_pair
from hierpretrain.report.places import in_several

MOST_PAIRS = 10**8
"""Of queries and gallery items that are compared: 10,000 images are all queries, of 50,000 only 2,000 are."""


def most_queries(num_items: int) -> int:
    """Returns how many queries can be afforded in a gallery: 1,000 at least.

    Example:
        >>> most_queries(50_000), most_queries(1_000_000)
        (2000, 1000)
    """
    return max(1000, MOST_PAIRS // num_items)


@dataclass(frozen=True)
class QueryScores:
    """Q queries in a gallery, at L levels.

    Attributes:
        rows: (Q,) int64, their rows among all queries, ascending.
        num_relevant: (Q, L) int64, gallery items that share the node of the level with the query.
        first_rank: (Q, L) int64, the rank from 1 of the first of them; 0 if there is none.
        map_at_r: (Q, L) float64, ``1/R sum_{i <= R} rel_i P@i`` for R relevant items; 0 if there is none.
        average_precision: (Q, L) float64, the mean precision at the ranks of all relevant items; 0 if there is none.
        neighbours: (Q, K) int64, the gallery rows of the first ranks.
        shared: (Q, K) int64, how many levels they share with the query.
    """

    rows: Tensor
    num_relevant: Tensor
    first_rank: Tensor
    map_at_r: Tensor
    average_precision: Tensor
    neighbours: Tensor
    shared: Tensor

    def recall(self, level: int, ks: Tensor) -> Tensor:
        """Returns recall@k at a level (a number from 1), of the queries with a relevant item, for (K,) ranks."""
        found = self.first_rank[self.num_relevant[:, level - 1] > 0, level - 1]
        return (found[:, None] <= ks).double().mean(0)

    def mean_map_at_r(self, level: int) -> float:
        """Returns the mean of ``map_at_r`` at a level (a number from 1), of the queries with a relevant item."""
        return float(self.map_at_r[self.num_relevant[:, level - 1] > 0, level - 1].mean())


def query_scores(
    query: Embeddings, gallery: Embeddings, *, same_set: bool, k: int = 8, max_queries: int | None = None, seed: int = 0
) -> QueryScores:
    """Ranks the whole gallery for each query, or for a sample of them, and scores the ranking at every level.

    An item is relevant at a level if it shares the node of that level with the query. One that hangs on several nodes
    of the level is neither query nor item there. So the means over the queries that have a relevant item are the
    numbers of :class:`hierpretrain.evaluation.RetrievalMetric`.

    Args:
        query: Q images, with labels of at least one level.
        gallery: G images.
        same_set: Query and gallery are the same images, and none is an answer to itself.
        k: How many neighbours to keep; of a smaller gallery, all are.
        max_queries: Of more queries, so many are drawn; by default :func:`most_queries`.
        seed: Of that draw.

    Returns:
        The scores.

    Example:
        >>> from hierpretrain.taxonomy import Taxonomy
        >>> tree = Taxonomy([("cat",), ("dog",)], ("kind",))
        >>> labels = tree.encode([("cat",), ("cat",), ("dog",)])
        >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.5], [1.0, 0.6]])
        >>> pets = Embeddings(features, labels, labels[:, :0], ["all"] * 3, ["a", "b", "c"], tree, ())
        >>> scores = query_scores(pets, pets, same_set=True)
        >>> scores.first_rank[:, 0].tolist(), scores.map_at_r[:, 0].tolist(), scores.recall(1, torch.arange(1, 3))
        ([1, 2, 0], [1.0, 0.0, 0.0], tensor([0.5000, 1.0000], dtype=torch.float64))
    """
    queries, items = unit_pair(query.features, gallery.features)
    rows = torch.arange(len(queries))
    max_queries = most_queries(len(items)) if max_queries is None else max_queries
    if len(rows) > max_queries:
        drawn = np.random.default_rng(seed).choice(len(rows), max_queries, replace=False)
        rows = torch.from_numpy(np.sort(drawn))
    num_levels = query.taxonomy.num_levels
    k = min(k, len(items) - same_set)
    shape = len(rows), num_levels
    scores = QueryScores(
        rows=rows,
        num_relevant=torch.zeros(shape, dtype=torch.int64),
        first_rank=torch.zeros(shape, dtype=torch.int64),
        map_at_r=torch.zeros(shape, dtype=torch.float64),
        average_precision=torch.zeros(shape, dtype=torch.float64),
        neighbours=torch.zeros(len(rows), k, dtype=torch.int64),
        shared=torch.zeros(len(rows), k, dtype=torch.int64),
    )
    own_rows = rows if same_set else None
    several = [(in_several(query, level)[rows], in_several(gallery, level)) for level in range(1, num_levels + 1)]
    for block, _, ranked, levels in ranked_levels(queries[rows], query.labels[rows], items, gallery.labels, own_rows):
        scores.neighbours[block], scores.shared[block] = ranked[:, :k], levels[:, :k]
        for column in range(num_levels):
            # the relevant items of all rows, one after the other and in the order of their ranks: (n,) each
            asked, offered = several[column]
            relevant = (levels > column) & ~asked[block, None]
            if not offered.any():
                row, place = relevant.nonzero().unbind(1)
            else:
                left_out = offered[ranked]
                row, place = (relevant & ~left_out).nonzero().unbind(1)
                place -= left_out.cumsum(1)[row, place]  # those behind move up
            number = row.bincount(minlength=len(block))
            hits = torch.arange(1, len(row) + 1) - (number.cumsum(0) - number)[row]
            precision = hits.double() / (place + 1)
            in_front = place < number[row]
            scores.num_relevant[block, column] = number
            scores.first_rank[block[row[hits == 1]], column] = place[hits == 1] + 1
            for mean, values in (
                (scores.map_at_r, precision * in_front),
                (scores.average_precision, precision),
            ):
                total = torch.zeros(len(block), dtype=torch.float64).index_add_(0, row, values)
                mean[block, column] = total / number.clamp(min=1)
    return scores


@dataclass(frozen=True)
class Searched:
    """A search among the images of a report.

    Attributes:
        query: Q images that are searched with.
        gallery: G images that are searched for.
        same_set: The two are the same images, and none is an answer to itself.
        query_rows: Q rows of them among all images of the report.
        gallery_rows: G rows.
        scores: Of the queries, or of a sample of them.
    """

    query: Embeddings
    gallery: Embeddings
    same_set: bool
    query_rows: list[int]
    gallery_rows: list[int]
    scores: QueryScores


def search(
    images: Embeddings,
    query: Splits | None = None,
    gallery: Splits | None = None,
    *,
    k: int = 8,
    max_queries: int | None = None,
    seed: int = 0,
) -> Searched | None:
    """Searches for the queries in the gallery, and remembers which of all images they are.

    Args:
        images: All images.
        query: Splits of the queries, as for :meth:`Embeddings.search`.
        gallery: Splits of the gallery.
        k: How many neighbours of each query to keep.
        max_queries: Of more queries, so many are drawn; by default :func:`most_queries`.
        seed: Of that draw.

    Returns:
        The search; ``None`` if there are no labels, or no image but the query.

    Raises:
        ValueError: If a split has no image, as :meth:`Embeddings.search`.
    """
    asked, offered, same_set = images.search(query, gallery)
    if not images.taxonomy.num_levels or (same_set and len(asked.features) < 2):
        return None
    numbered = replace(images, paths=[str(row) for row in range(len(images.paths))])
    rows = [[int(row) for row in side.paths] for side in numbered.search(query, gallery)[:2]]
    scores = query_scores(asked, offered, same_set=same_set, k=k, max_queries=max_queries, seed=seed)
    return Searched(asked, offered, same_set, *rows, scores)
