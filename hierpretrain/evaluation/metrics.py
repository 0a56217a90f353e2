"""The registered metrics of search, grouping and order: shells over :mod:`hierpretrain.functional`."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from hierpretrain.checks import check_at_least_1, check_flag, check_from_0, check_ks
from hierpretrain.evaluation.embeddings import (
    Embeddings,
    Levels,
    Splits,
    are_same,
    as_levels,
    as_tags,
    check_apart,
    check_levels,
    check_splits,
    collect,
    columns,
    inside_gallery,
)
from hierpretrain.functional.clustering import best_clustering, mean_over_parents, nmi_by_parent
from hierpretrain.functional.hierarchical_retrieval import scores_of_one_ranking
from hierpretrain.functional.retrieval import mean_scores, retrieval_scores
from hierpretrain.functional.violations import violation_counts, violation_fractions
from hierpretrain.registry import METRICS
from hierpretrain.taxonomy import PAD


class EmbeddingMetric(BaseMetric):
    """A metric of all embedded images together.

    A subclass defines :meth:`measure`, or, to have several processes share the work, :meth:`map` and :meth:`reduce`.
    :class:`EmbeddingEvaluator` collects the images; in MMEngine's own ``Evaluator`` a metric collects its own, and one
    process measures them.

    Args:
        levels: The levels, by name or number, and extra label columns, by name, that the metric looks at. One that the
            data set does not have is an error before training.
        splits: The split tags whose images :meth:`measure` gets; ``None`` or none: all. One that is not evaluated is an
            error before training.
        prefix: Stands, with a slash, before the names of the results.
        collect_device: As of every metric of MMEngine: where its ``Evaluator`` brings the images together.

    Attributes:
        levels: The levels as a tuple.
        splits: As the argument; ``None``: all.
        named_levels: All levels that the metric names. One that names more than ``levels`` sets them itself.
        named_splits: All split tags that the metric names. One that compares several sides sets them itself.
    """

    default_prefix = ""  # the names say it all

    def __init__(
        self,
        *,
        levels: Levels = (),
        splits: Splits | None = None,
        prefix: str | None = None,
        collect_device: str = "cpu",
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.levels = self.named_levels = as_levels(levels)
        self.splits, self.named_splits = splits or None, as_tags(splits)

    def measure(self, embedded: Embeddings) -> dict[str, float]:
        """Returns the results, by name, of all collected images of the metric's splits."""
        raise NotImplementedError(f"{type(self).__name__} must define measure, or map and reduce")

    def map(self, embedded: Embeddings, shard: tuple[int, int]) -> Any:
        """Does one process's part of the work; by default the first process does all of it.

        Args:
            embedded: All collected images.
            shard: (rank, world_size) of the process.

        Returns:
            Something small, which is pickled.
        """
        return self.measure(embedded.of(self.splits)) if shard[0] == 0 else None

    def reduce(self, parts: list[Any]) -> dict[str, float]:
        """Returns the results, by name, made of what :meth:`map` returned on every process, in the order of ranks."""
        return dict(parts[0])

    @BaseMetric.dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict[str, Any]) -> None:
        """Takes the data set's ``metainfo``, before training: what the data set lacks is an error then."""
        check_levels(self.named_levels, dataset_meta)
        check_splits(self.named_splits, dataset_meta)
        self._dataset_meta = dataset_meta

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Collects a batch, for MMEngine's ``Evaluator``."""
        self.results.extend(map(collect, data_samples))

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """Returns the results of what :meth:`process` collected, for MMEngine's ``Evaluator``."""
        embedded = Embeddings.from_columns(columns(results), self.dataset_meta)
        embedded.check()
        return self.reduce([self.map(embedded, (0, 1))])


class SearchMetric(EmbeddingMetric):
    """A metric of how a gallery ranks for each query.

    :class:`EmbeddingEvaluator` ranks once for all such metrics of the same sets, see :func:`map_together`.

    Args:
        query: Splits of the queries, see :meth:`Embeddings.search`.
        gallery: Splits of the gallery.
        levels: See :class:`EmbeddingMetric`.
        prefix: Stands, with a slash, before the names of the results.
        collect_device: See :class:`EmbeddingMetric`.
    """

    def __init__(
        self,
        *,
        query: Splits | None,
        gallery: Splits | None,
        levels: Levels = (),
        prefix: str | None = None,
        collect_device: str = "cpu",
    ) -> None:
        super().__init__(levels=levels, prefix=prefix, collect_device=collect_device)
        self.named_splits = as_tags(query) + as_tags(gallery)
        if not are_same(query, gallery) and not inside_gallery(query, gallery):
            check_apart(query, gallery)
        self.query, self.gallery = query, gallery

    def asks(self) -> list[tuple[int | str | None, dict[str, Any]]]:
        """Returns what :func:`scores_of_search` is to compute, and :meth:`reduce` gets of each process."""
        raise NotImplementedError(f"{type(self).__name__} must define asks")

    def map(self, embedded: Embeddings, shard: tuple[int, int]) -> list[dict[str, Tensor]]:
        """Scores a shard of the queries."""
        return map_together([self], embedded, shard)[0]


def map_together(
    metrics: Sequence[SearchMetric], embedded: Embeddings, shard: tuple[int, int]
) -> list[list[dict[str, Tensor]]]:
    """Returns what :meth:`SearchMetric.map` returns of each metric, from one ranking of each pair of sets."""
    by_sets: dict[Any, list[int]] = {}
    for number, metric in enumerate(metrics):
        sets = tuple(None if tags is None else frozenset(as_tags(tags)) for tags in (metric.query, metric.gallery))
        by_sets.setdefault(sets, []).append(number)
    parts: list[list[dict[str, Tensor]]] = [[] for _ in metrics]
    for numbers in by_sets.values():
        first = metrics[numbers[0]]
        query, gallery, same_set, queries = embedded.search_among(first.query, first.gallery)
        others = torch.ones(len(gallery.features), dtype=torch.bool)  # of the gallery, which are no queries
        if same_set:
            others[queries] = False
        queries = queries[shard[0] :: shard[1]]
        asks = [(number, *ask) for number in numbers for ask in metrics[number].asks()]
        found = scores_of_search(query, gallery, [ask[1:] for ask in asks], same_set=same_set, queries=queries)
        for (number, level, _), scores in zip(asks, found, strict=True):
            if level is not None and others.any() and shard[0] == 0:
                scores["ambiguous"] = (gallery.in_several(level) & others).nonzero()[:, 0]
            parts[number].append(scores)
    return parts


@METRICS.register_module()
class RetrievalMetric(SearchMetric):
    """Retrieval at chosen levels; see :func:`hierpretrain.functional.retrieval_metrics`.

    By default images of the split ``query`` are searched for among the images of the split ``gallery``; if the data set
    has not both, every image is a query among all others. Queries may also be a part of the gallery, as with
    ``query="test"`` and ``gallery=["test", "train"]``: each leaves itself out. Pictures and the report do not show such
    a search. Results are named ``<level>/<metric>``.

    An image that hangs at several nodes of a level (see :meth:`Embeddings.classes`) is neither query nor gallery item
    there; if there are such, ``num_ambiguous`` says how many.

    Args:
        levels: Levels, by name or number, and extra label columns, by name.
        ks: Lengths of the result lists that ``recall@k`` and ``precision@k`` look at.
        average_precision: Whether ``map`` is measured, which takes the whole ranking of the gallery.
        query: Splits of the queries, see :meth:`Embeddings.search`.
        gallery: Splits of the gallery.
        prefix: Stands, with a slash, before the names of the results.
        collect_device: See :class:`EmbeddingMetric`.
    """

    def __init__(
        self,
        levels: Levels,
        ks: Sequence[int] = (1, 10),
        *,
        average_precision: bool = True,
        query: Splits | None = None,
        gallery: Splits | None = None,
        prefix: str | None = None,
        collect_device: str = "cpu",
    ) -> None:
        super().__init__(query=query, gallery=gallery, levels=levels, prefix=prefix, collect_device=collect_device)
        check_ks(ks)
        check_flag(average_precision=average_precision)
        self.ks, self.average_precision = tuple(ks), average_precision

    def asks(self) -> list[tuple[int | str | None, dict[str, Any]]]:
        """Returns the levels, one by one."""
        return [(level, dict(ks=self.ks, average_precision=self.average_precision)) for level in self.levels]

    def reduce(self, parts: list[list[dict[str, Tensor]]]) -> dict[str, float]:
        """Takes the means over all queries."""
        results = {}
        for level, shards in zip(self.levels, zip(*parts, strict=True), strict=True):
            scores = _joined(shards)
            found = mean_scores(scores)
            num_ambiguous = int((scores["num_relevant"] == PAD).sum()) + len(scores.get("ambiguous", ()))
            found |= {"num_ambiguous": num_ambiguous} if num_ambiguous else {}
            results.update({f"{level}/{name}": value for name, value in found.items()})
        return results


@METRICS.register_module()
class HierarchicalRetrievalMetric(SearchMetric):
    """Retrieval over all levels at once; see :func:`hierpretrain.functional.hierarchical_retrieval_metrics`.

    Results are named ``h_ap``, ``asi``, ``ndcg`` and so on.

    Args:
        ks: Lengths of the result lists that ``ndcg@k`` looks at.
        query: Splits of the queries, as for :class:`RetrievalMetric`.
        gallery: Splits of the gallery.
        prefix: Stands, with a slash, before the names of the results.
        collect_device: See :class:`EmbeddingMetric`.
    """

    def __init__(
        self,
        ks: Sequence[int] = (10, 100),
        *,
        query: Splits | None = None,
        gallery: Splits | None = None,
        prefix: str | None = None,
        collect_device: str = "cpu",
    ) -> None:
        super().__init__(query=query, gallery=gallery, prefix=prefix, collect_device=collect_device)
        check_ks(ks)
        self.ks = tuple(ks)

    def asks(self) -> list[tuple[int | str | None, dict[str, Any]]]:
        """Returns the whole tree."""
        return [(None, dict(ks=self.ks))]

    def reduce(self, parts: list[list[dict[str, Tensor]]]) -> dict[str, float]:
        """Takes the means over all queries."""
        return mean_scores(_joined([part[0] for part in parts]))


@METRICS.register_module()
class ClusteringMetric(EmbeddingMetric):
    """Clustering at chosen levels; see :func:`hierpretrain.functional.clustering_metrics`.

    Results are named ``<level>/nmi`` and ``<level>/ami``, and for pairs ``<level>/nmi_in_<parent>``: the agreement
    inside each node of the parent level, averaged over them (paper A's "product NMI"). An image without a single class
    at a level (see :meth:`Embeddings.classes`) is left out there.

    Args:
        levels: Levels, by name or number, and extra label columns, by name.
        within: Pairs (level, coarser level).
        splits: Splits whose images are clustered, all together; by default all that are evaluated.
        seed: Draws the first centroids of k-means.
        prefix: Stands, with a slash, before the names of the results.
        collect_device: See :class:`EmbeddingMetric`.
    """

    def __init__(
        self,
        levels: Levels = (),
        within: Sequence[tuple[int | str, int | str]] = (),
        *,
        splits: Splits | None = None,
        seed: int = 0,
        prefix: str | None = None,
        collect_device: str = "cpu",
    ) -> None:
        super().__init__(levels=levels, splits=splits, prefix=prefix, collect_device=collect_device)
        if any(len(as_levels(pair)) != 2 for pair in within):
            raise ValueError(
                "within must be pairs of a level and a coarser one, such as [('product', 'category')]; it is "
                f"{within!r}"
            )
        self.named_levels += tuple(level for pair in within for level in pair)
        check_from_0(seed=seed)
        self.within, self.seed = within, seed

    def map(self, embedded: Embeddings, shard: tuple[int, int]) -> tuple[list[Any], list[dict[int, float]]]:
        """Clusters by a shard of the starts at each level, and inside a shard of the parents of each pair."""
        images = embedded.of(self.splits)
        options = dict(seed=self.seed, shard=shard)
        at_levels = [best_clustering(images.features, images.classes(level), **options) for level in self.levels]
        in_parents = [
            nmi_by_parent(images.features, images.classes(level), images.classes(parent), **options)
            for level, parent in self.within
        ]
        return at_levels, in_parents

    def reduce(self, parts: list[tuple[list[Any], list[dict[int, float]]]]) -> dict[str, float]:
        """Takes the best start, and the mean over all parents."""
        at_levels, in_parents = (list(zip(*found, strict=True)) for found in zip(*parts, strict=True))
        metrics = {}
        for level, found in zip(self.levels, at_levels, strict=True):
            _, best = min(found, key=lambda of_shard: of_shard[0])
            metrics.update({f"{level}/{name}": best[name] for name in ("nmi", "ami")})
        for (level, parent), found in zip(self.within, in_parents, strict=True):
            metrics[f"{level}/nmi_in_{parent}"] = mean_over_parents(dict(ChainMap(*found)))
        return metrics


@METRICS.register_module()
class ViolationMetric(EmbeddingMetric):
    """Hierarchy violations of the embedding; see :func:`hierpretrain.functional.hierarchy_violations`.

    Args:
        splits: Splits whose images are compared, all together; by default all that are evaluated.
        max_anchors: How many images at most are anchors, drawn at random.
        seed: Draws the anchors.
        prefix: Stands, with a slash, before the names of the results.
        collect_device: See :class:`EmbeddingMetric`.
    """

    def __init__(
        self,
        *,
        splits: Splits | None = None,
        max_anchors: int = 2000,
        seed: int = 0,
        prefix: str | None = None,
        collect_device: str = "cpu",
    ) -> None:
        super().__init__(splits=splits, prefix=prefix, collect_device=collect_device)
        check_at_least_1(max_anchors=max_anchors)
        check_from_0(seed=seed)
        self.max_anchors, self.seed = max_anchors, seed

    def map(self, embedded: Embeddings, shard: tuple[int, int]) -> Any:
        """Counts the triples of a shard of the anchors."""
        images = embedded.of(self.splits)
        options = dict(max_anchors=self.max_anchors, seed=self.seed, shard=shard)
        return violation_counts(images.features, images.labels, **options)

    def reduce(self, parts: list[Any]) -> dict[str, float]:
        """Takes the fractions over all anchors."""
        return violation_fractions(*map(sum, zip(*parts, strict=True)))


def scores_of_search(
    query: Embeddings,
    gallery: Embeddings,
    asks: Sequence[tuple[int | str | None, Mapping[str, Any]]],
    *,
    same_set: bool,
    queries: Tensor | None = None,
) -> list[dict[str, Tensor]]:
    """Scores each query at several levels of the tree, in extra label columns and over the whole tree.

    The gallery is ranked once for the levels and the tree. It is ranked again for each extra label column, and, where
    images have several paths, for each level, as those that are in several classes are then left out.

    Args:
        query: Q images.
        gallery: G images.
        asks: What to compute: a level, by name or number, or a column, by name, with ``ks`` and ``average_precision``
            of :func:`scores_at_level`; or ``None`` for the whole tree, with options of
            :func:`hierpretrain.functional.hierarchical_retrieval.hierarchical_retrieval_scores`.
        same_set: Query and gallery are the same images, and none is an answer to itself.
        queries: (S,) int64, the indices of the queries to evaluate; ``None``: all of them.

    Returns:
        For each of ``asks`` the scores of the S queries by name.

    Raises:
        ValueError: As :func:`scores_at_level`.
    """
    options: dict[str, Any] = dict(same_set=same_set, queries=queries)
    one_path = query.labels.ndim == gallery.labels.ndim == 2
    of_levels = [i for i, (level, _) in enumerate(asks) if level is not None]
    if one_path:  # these of the tree are ranked together, the others alone
        together = [i for i in of_levels if asks[i][0] not in query.extra_names]
    else:
        together = []
    trees = [i for i, (level, _) in enumerate(asks) if level is None]
    found: dict[int, dict[str, Tensor]] = {}
    if together or trees:
        by_level, by_tree = scores_of_one_ranking(
            query.features,
            query.labels,
            gallery.features,
            gallery.labels,
            levels=[(query.taxonomy.level(asks[i][0]), asks[i][1]) for i in together],
            trees=[asks[i][1] for i in trees],
            **options,
        )
        found = dict(zip([*together, *trees], [*by_level, *by_tree], strict=True))
    for i in of_levels:
        if i not in found:
            found[i] = scores_at_level(query, gallery, asks[i][0], **options, **asks[i][1])
    return [found[i] for i in range(len(asks))]


def scores_at_level(
    query: Embeddings,
    gallery: Embeddings,
    level: int | str,
    *,
    same_set: bool,
    queries: Tensor | None = None,
    **options: Any,
) -> dict[str, Tensor]:
    """Scores each query at one level of the tree or in an extra label column.

    An image of several paths that is in several classes at the level (see :meth:`Embeddings.classes`) is no wrong
    answer to a question about one of them, so it is neither query nor gallery item.

    Args:
        query: Q images.
        gallery: G images.
        level: The level, by name or number, or the column, by name.
        same_set: Query and gallery are the same images, and none is an answer to itself.
        queries: (S,) int64, the indices of the queries to evaluate; ``None``: all of them.
        options: ``ks`` and ``average_precision`` of :func:`hierpretrain.functional.retrieval.retrieval_scores`.

    Returns:
        As ``retrieval_scores``, S of each. A query in several classes has the ``num_relevant`` ``PAD`` and else 0.

    Raises:
        ValueError: If every query, or every image of the gallery, is in several classes.
    """
    asked, offered = ~query.in_several(level), ~gallery.in_several(level)
    if not (asked.any() and offered.any()):
        raise ValueError(
            f"every image is in several classes of {query.level_name(level)!r}; measure another level or all together "
            "(HierarchicalRetrievalMetric), or give the data set paths='first' or 'longest'"
        )
    queries = torch.arange(len(asked)) if queries is None else queries
    scored = asked[queries]
    found = retrieval_scores(
        query.features[asked],
        query.classes(level)[asked],
        gallery.features[offered],
        gallery.classes(level)[offered],
        same_set=same_set,
        queries=(asked.cumsum(0) - 1)[queries[scored]],  # among those that are asked
        **options,
    )
    scores = {name: torch.zeros(len(queries), dtype=of.dtype).masked_scatter(scored, of) for name, of in found.items()}
    scores["num_relevant"].masked_fill_(~scored, PAD)
    return scores


def _joined(shards: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Puts the scores of several shards of the queries together."""
    return {name: torch.cat([scores[name] for scores in shards if name in scores]) for name in shards[0]}
