"""The registered metrics of search, grouping and order: shells over :mod:`hierpretrain.functional`."""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar
from weakref import WeakSet

from mmengine.dist import get_rank, get_world_size
from mmengine.evaluator import BaseMetric

from hierpretrain.evaluation.embeddings import (
    Embeddings,
    Splits,
    as_tags,
    check_levels,
    check_splits,
    collect,
    columns,
)
from hierpretrain.evaluation.exchange import Exchange, on_all
from hierpretrain.functional.clustering import best_clustering, mean_over_parents, nmi_by_parent
from hierpretrain.functional.hierarchical_retrieval import hierarchical_retrieval_sums
from hierpretrain.functional.retrieval import means, retrieval_sums
from hierpretrain.functional.violations import violation_counts, violation_shares
from hierpretrain.registry import METRICS


class EmbeddingMetric(BaseMetric):
    """Collects embeddings, which a subclass measures.

    Args:
        levels: The levels, by name or number, and flat label columns, by name, that the metric looks at.
        splits: The split tags that it names; they must be evaluated.
        prefix: Stands, with a slash, before the names of the results.
        collect_device: As every metric of MMEngine has; processes exchange on the device of their backend.
    """

    default_prefix = ""  # the names say it all
    _exchange: ClassVar[Exchange] = Exchange()  # of all metrics, which MMEngine makes, fills and reads apart
    _unread: ClassVar[WeakSet[EmbeddingMetric]] = WeakSet()

    def __init__(
        self,
        *,
        levels: Sequence[int | str] = (),
        splits: Sequence[str] = (),
        prefix: str | None = None,
        collect_device: str = "cpu",
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self._named_levels, self._named_splits = list(levels), list(splits)

    def measure(self, embedded: Embeddings) -> dict[str, float]:
        """Returns the metrics of all collected images; for a subclass whose work is not shared."""
        raise NotImplementedError(f"{type(self).__name__} must define measure, or share and merge")

    def share(self, embedded: Embeddings, part: tuple[int, int]) -> Any:
        """Does one process's share of the work; by default the first process does all of it.

        Args:
            embedded: All collected images.
            part: (i, n): this is process i of n.

        Returns:
            Something small, which is pickled.
        """
        return self.measure(embedded) if part[0] == 0 else None

    def merge(self, shares: list[Any]) -> dict[str, float]:
        """Returns the metrics, made of what :meth:`share` returned on every process."""
        return dict(shares[0])

    @property
    def dataset_meta(self) -> dict[str, Any] | None:
        """The data set's ``metainfo``, which MMEngine sets before training: what it lacks is an error then."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict[str, Any]) -> None:
        check_levels(self._named_levels, dataset_meta)
        check_splits(self._named_splits, dataset_meta)
        self._dataset_meta = dataset_meta

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Collects a batch."""
        self.results.extend(map(collect, data_samples))
        self._unread.add(self)

    def evaluate(self, size: int) -> dict[str, float]:
        """Returns the metrics of all images that all processes have collected, the same on every process.

        The embeddings are exchanged once for all metrics that have collected the same, and each process does its share
        of the work of each metric. What fails on one process fails on all.

        Args:
            size: The number of images, which the images themselves tell.
        """
        self._unread.discard(self)
        try:
            together = self._exchange(lambda: columns(self.results))
            embedded = partial(Embeddings.from_columns, together, self.dataset_meta)
            shares = on_all(lambda: self.share(embedded(), (get_rank(), get_world_size())))
            metrics = on_all(lambda: self.merge(shares))[0]
        finally:
            self.results.clear()
            if not self._unread:
                self._exchange.forget()
        return {f"{self.prefix}/{name}" if self.prefix else name: value for name, value in metrics.items()}

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """Returns the metrics of all collected images, computed by this process alone."""
        return self.merge([self.share(Embeddings.from_samples(results, self.dataset_meta), (0, 1))])


@METRICS.register_module()
class RetrievalMetric(EmbeddingMetric):
    """Retrieval at chosen levels; see :func:`hierpretrain.functional.retrieval_metrics`.

    By default images of the split ``query`` are searched for among those of the split ``gallery``; if the data set has
    not both, every image is a query among all others. Results are named ``<level>/<metric>``.

    An image that hangs at several nodes of a level (see :meth:`Embeddings.classes`) is neither query nor gallery item
    there; if there are such, ``num_ambiguous`` says how many.

    Args:
        levels: Levels, by name or number, and flat label columns, by name.
        ks: Lengths of the result lists that ``recall@k`` and ``precision@k`` look at.
        average_precision: Whether ``map`` is measured, which takes the whole ranking of the gallery.
        query: Splits of the queries, see :meth:`Embeddings.search`.
        gallery: Splits of the gallery.
        prefix: Stands, with a slash, before the names of the results.
        collect_device: As every metric of MMEngine has; processes exchange on the device of their backend.
    """

    def __init__(
        self,
        levels: Sequence[int | str],
        ks: Sequence[int] = (1, 10),
        *,
        average_precision: bool = True,
        query: Splits | None = None,
        gallery: Splits | None = None,
        prefix: str | None = None,
        collect_device: str = "cpu",
    ) -> None:
        splits = [*as_tags(query), *as_tags(gallery)]
        super().__init__(levels=levels, splits=splits, prefix=prefix, collect_device=collect_device)
        self.levels, self.ks, self.query, self.gallery = levels, tuple(ks), query, gallery
        self.average_precision = average_precision

    def share(self, embedded: Embeddings, part: tuple[int, int]) -> dict[int | str, dict[str, float]]:
        """Returns the sums over a share of the queries, by level."""
        query, gallery, same_set = embedded.search(self.query, self.gallery)
        sums = {}
        for level in self.levels:
            (asked, num_asked), (offered, num_offered) = query.of_one_class(level), gallery.of_one_class(level)
            sums[level] = retrieval_sums(
                asked.features,
                asked.classes(level),
                offered.features,
                offered.classes(level),
                ks=self.ks,
                same_set=same_set,
                average_precision=self.average_precision,
                part=part,
            )
            num_ambiguous = num_asked + (0 if same_set else num_offered)
            if num_ambiguous and part[0] == 0:
                sums[level]["num_ambiguous"] = num_ambiguous
        return sums

    def merge(self, shares: list[dict[int | str, dict[str, float]]]) -> dict[str, float]:
        """Returns the means over all queries."""
        found = {level: means(_total(share[level] for share in shares)) for level in self.levels}
        return {f"{level}/{name}": value for level, values in found.items() for name, value in values.items()}


@METRICS.register_module()
class HierarchicalRetrievalMetric(EmbeddingMetric):
    """Retrieval over all levels at once; see :func:`hierpretrain.functional.hierarchical_retrieval_metrics`.

    Results are named ``h_ap``, ``asi``, ``ndcg`` and so on.

    Args:
        ks: Lengths of the result lists that ``ndcg@k`` looks at.
        query: Splits of the queries, as for :class:`RetrievalMetric`.
        gallery: Splits of the gallery.
        prefix: Stands, with a slash, before the names of the results.
        collect_device: As every metric of MMEngine has; processes exchange on the device of their backend.
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
        super().__init__(splits=[*as_tags(query), *as_tags(gallery)], prefix=prefix, collect_device=collect_device)
        self.ks, self.query, self.gallery = tuple(ks), query, gallery

    def share(self, embedded: Embeddings, part: tuple[int, int]) -> dict[str, float]:
        """Returns the sums over a share of the queries."""
        query, gallery, same_set = embedded.search(self.query, self.gallery)
        sides = query.features, query.labels, gallery.features, gallery.labels
        return hierarchical_retrieval_sums(*sides, ks=self.ks, same_set=same_set, part=part)

    def merge(self, shares: list[dict[str, float]]) -> dict[str, float]:
        """Returns the means over all queries."""
        return means(_total(shares))


@METRICS.register_module()
class ClusteringMetric(EmbeddingMetric):
    """Clustering at chosen levels; see :func:`hierpretrain.functional.clustering_metrics`.

    Results are named ``<level>/nmi`` and ``<level>/ami``, and for pairs ``<level>/nmi_in_<parent>``: the agreement
    inside each node of the parent level, averaged over them (paper A's "product NMI"). An image without a single class
    at a level (see :meth:`Embeddings.classes`) is left out there.

    Args:
        levels: Levels, by name or number, and flat label columns, by name.
        within: Pairs (level, coarser level).
        splits: Splits whose images are clustered, all together; by default all that are evaluated.
        seed: Of k-means.
        prefix: Stands, with a slash, before the names of the results.
        collect_device: As every metric of MMEngine has; processes exchange on the device of their backend.
    """

    def __init__(
        self,
        levels: Sequence[int | str] = (),
        within: Sequence[tuple[int | str, int | str]] = (),
        *,
        splits: Splits | None = None,
        seed: int = 0,
        prefix: str | None = None,
        collect_device: str = "cpu",
    ) -> None:
        super().__init__(
            levels=[*levels, *(level for pair in within for level in pair)],
            splits=as_tags(splits),
            prefix=prefix,
            collect_device=collect_device,
        )
        self.levels, self.within, self.splits, self.seed = levels, within, splits, seed

    def share(self, embedded: Embeddings, part: tuple[int, int]) -> tuple[list[Any], list[dict[int, float]]]:
        """Returns what a share of the starts finds at each level, and in a share of the parents of each pair."""
        images = embedded.of(self.splits)
        at_levels, in_parents = [], []
        for level in self.levels:
            at_levels.append(best_clustering(images.features, images.classes(level), seed=self.seed, part=part))
        for level, parent in self.within:
            sides = images.classes(level), images.classes(parent)
            in_parents.append(nmi_by_parent(images.features, *sides, seed=self.seed, part=part))
        return at_levels, in_parents

    def merge(self, shares: list[tuple[list[Any], list[dict[int, float]]]]) -> dict[str, float]:
        """Returns the metrics of the best start, and the mean over all parents."""
        at_levels, in_parents = (list(zip(*parts, strict=True)) for parts in zip(*shares, strict=True))
        metrics = {}
        for level, found in zip(self.levels, at_levels, strict=True):
            _, best = min(found, key=lambda of_part: of_part[0])
            metrics.update({f"{level}/{name}": best[name] for name in ("nmi", "ami")})
        for (level, parent), found in zip(self.within, in_parents, strict=True):
            metrics[f"{level}/nmi_in_{parent}"] = mean_over_parents(dict(ChainMap(*found)))
        return metrics


@METRICS.register_module()
class ViolationMetric(EmbeddingMetric):
    """How often the order of the embedding contradicts the tree; see :func:`hierarchy_violations`.

    Args:
        splits: Splits whose images are compared, all together; by default all that are evaluated.
        max_anchors: How many images at most are anchors, drawn at random.
        seed: Of that draw.
        prefix: Stands, with a slash, before the names of the results.
        collect_device: As every metric of MMEngine has; processes exchange on the device of their backend.
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
        super().__init__(splits=as_tags(splits), prefix=prefix, collect_device=collect_device)
        self.splits, self.max_anchors, self.seed = splits, max_anchors, seed

    def share(self, embedded: Embeddings, part: tuple[int, int]) -> Any:
        """Returns the counts over a share of the anchors."""
        images = embedded.of(self.splits)
        options = dict(max_anchors=self.max_anchors, seed=self.seed, part=part)
        return violation_counts(images.features, images.labels, **options)

    def merge(self, shares: list[Any]) -> dict[str, float]:
        """Returns the shares over all anchors."""
        return violation_shares(*map(sum, zip(*shares, strict=True)))


def _total(sums: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Adds up numbers by name."""
    total: Counter[str] = Counter()
    for numbers in sums:
        total.update(numbers)
    return dict(total)
