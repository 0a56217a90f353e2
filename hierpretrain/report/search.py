"""A search for the queries of a report in its gallery, scored by the functions that the metrics are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hierpretrain.evaluation import Embeddings
from hierpretrain.evaluation.metrics import scores_of_search
from hierpretrain.evaluation.search_sets import SearchSets
from hierpretrain.functional.retrieval import recall_at
from hierpretrain.functional.sampling import sample_indices
from hierpretrain.functional.search import nearest
from hierpretrain.taxonomy import PAD, as_paths, depth, paired_depth

MOST_PAIRS = 10**8
"""The most pairs of query and gallery item: 10,000 images are all queries, of 50,000 only 2,000 are."""

_BY_DEFAULT = SearchSets()
_SCORES = ("recall@1", "map@r", "map", "num_relevant", "first_rank")  # that the report has


def most_queries(num_items: int) -> int:
    """Returns how many queries can be afforded in a gallery: 1,000 at least.

    Example:
        >>> most_queries(50_000), most_queries(1_000_000)
        (2000, 1000)
    """
    return max(1000, MOST_PAIRS // num_items)


@dataclass(frozen=True)
class Searched:
    """A search among the images of a report, of which S of Q queries are scored.

    Attributes:
        sets: The splits of the two sides, and whether the config measures them.
        query: Q images that are searched with; their ``indices`` are among all images of the report.
        gallery: G images that are searched for; their ``indices`` likewise.
        same_set: Query and gallery are the same images, and none is an answer to itself.
        drawn: (S,) int64, which of the Q queries are scored, ascending.
        of_levels: The scores of the S queries at each level, the coarsest first, as
            :func:`hierpretrain.evaluation.metrics.scores_at_level` returns them.
        of_tree: The scores of the S queries over all levels, as ``hierarchical_retrieval_scores`` returns them.
        similarities: (Q, K) cosine similarities of each query with its nearest images of the gallery.
        neighbours: (Q, K) int64, these images, the nearest first.
        shared: (S, K) int64, how many levels they share with each scored query.
        whole: (S, K) bool, whether that is a whole path of the query.
    """

    sets: SearchSets
    query: Embeddings
    gallery: Embeddings
    same_set: bool
    drawn: Tensor
    of_levels: Sequence[Mapping[str, Tensor]]
    of_tree: Mapping[str, Tensor]
    similarities: Tensor
    neighbours: Tensor
    shared: Tensor
    whole: Tensor

    @property
    def title(self) -> str:
        """What is searched for where, in a line."""
        return self.sets.title(self.query, self.gallery, self.same_set)

    def scores(self, level: int, name: str) -> Tensor:
        """Returns a score at a level (a number from 1) of each of the S queries that has a relevant item."""
        scores = self.of_levels[level - 1]
        return scores[name][scores["num_relevant"] > 0]

    def recall(self, level: int, ks: Tensor) -> Tensor:
        """Returns recall@k at a level (a number from 1) for (K,) ranks: (K,) float64 in [0, 1]."""
        return recall_at(self.scores(level, "first_rank"), ks)


def search(
    images: Embeddings,
    sets: SearchSets = _BY_DEFAULT,
    *,
    k: int = 8,
    max_queries: int | None = None,
    seed: int = 0,
) -> Searched | None:
    """Searches for the queries, or for a sample of them, in the whole gallery.

    Args:
        images: All images.
        sets: The splits of the queries and of the gallery.
        k: How many neighbours of each query to keep; all, if there are fewer.
        max_queries: Of more queries, so many are drawn; by default :func:`most_queries`.
        seed: Draws the queries.

    Returns:
        The search; ``None`` if there are no labels, or no image but the query.

    Raises:
        ValueError: If a split has no image, as :meth:`Embeddings.search`.

    Example:
        >>> from hierpretrain.taxonomy import Taxonomy
        >>> tree = Taxonomy([("cat",), ("dog",)], ("kind",))
        >>> labels = tree.encode([("cat",), ("cat",), ("dog",)])
        >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.5], [1.0, 0.6]])
        >>> pets = Embeddings(features, labels, labels[:, :0], ["all"] * 3, ["a", "b", "c"], tree, ())
        >>> searched = search(pets)
        >>> searched.scores(1, "first_rank").tolist(), searched.recall(1, torch.arange(1, 3)).tolist()
        ([1, 2], [0.5, 1.0])
    """
    numbered = replace(images, indices=torch.arange(len(images.features)))
    asked, offered, same_set = numbered.search(sets.query, sets.gallery)
    number, available = len(asked.features), len(offered.features) - same_set
    if not images.taxonomy.num_levels or not available:
        return None
    max_queries = most_queries(len(offered.features)) if max_queries is None else max_queries
    drawn = sample_indices(number, max_queries, seed=seed)
    levels = range(1, images.taxonomy.num_levels + 1)
    known = [i for i in levels if not (asked.in_several(i).all() or offered.in_several(i).all())]
    asks = [(level, dict(ks=(1,), average_precision=True)) for level in known]
    *found, of_tree = scores_of_search(asked, offered, [*asks, (None, dict(ks=()))], same_set=same_set, queries=drawn)
    unknown = dict.fromkeys(_SCORES, torch.full((len(drawn),), PAD))
    own = torch.arange(number) if same_set else None
    similarities, neighbours = nearest(asked.features, offered.features, min(k, available), own_indices=own)
    shared, whole = _in_common(asked.labels[drawn], offered.labels[neighbours[drawn]])
    return Searched(
        sets=sets,
        query=asked,
        gallery=offered,
        same_set=same_set,
        drawn=drawn,
        of_levels=[found[known.index(level)] if level in known else unknown for level in levels],
        of_tree=of_tree,
        similarities=similarities,
        neighbours=neighbours,
        shared=shared,
        whole=whole,
    )


def _in_common(labels: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
    """Compares (S, L) or (S, P, L) labels with the labels of (S, K, ...) neighbours.

    Returns:
        (S, K) int64, the levels in common, and (S, K) bool, whether these are a whole path of the query.
    """
    paths = as_paths(labels)  # (S, P, L)
    shape = paths.shape[0], paths.shape[1], near.shape[1]
    mine = paths[:, :, None].expand(*shape, -1).flatten(0, 2)
    theirs = near[:, None].expand(shape[0], shape[1], *near.shape[1:]).flatten(0, 2)
    common = paired_depth(mine, theirs).view(shape)  # (S, P, K)
    whole = (common > 0) & (common == depth(paths.flatten(0, 1)).view(shape[:2])[..., None])
    return common.amax(1), whole.any(1)
