"""The registered metrics of search, grouping and order: shells over :mod:`hierpretrain.functional`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import BaseMetric

from hierpretrain.evaluation.embeddings import Embeddings, Splits, as_tags, check_levels, check_splits, collect
from hierpretrain.functional import (
    clustering_metrics,
    hierarchical_retrieval_metrics,
    hierarchy_violations,
    retrieval_metrics,
)
from hierpretrain.functional.clustering import nmi_in_parents
from hierpretrain.registry import METRICS


class EmbeddingMetric(BaseMetric):
    """Collects embeddings, which a subclass measures.

    Args:
        levels: The levels, by name or number, and flat label columns, by name, that the metric looks at.
        splits: The split tags that it names; they must be evaluated.
        prefix: Stands, with a slash, before the names of the results.
        collect_device: Where processes exchange results.
    """

    default_prefix = ""  # the names say it all

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

    @abstractmethod
    def measure(self, embedded: Embeddings) -> dict[str, float]:
        """Returns the metrics of all collected images."""

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

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """Returns the metrics of all collected images."""
        return self.measure(Embeddings.from_samples(results, self.dataset_meta))


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
        query: Splits of the queries, see :meth:`Embeddings.search`.
        gallery: Splits of the gallery.
        prefix: Stands, with a slash, before the names of the results.
        collect_device: Where processes exchange results.
    """

    def __init__(
        self,
        levels: Sequence[int | str],
        ks: Sequence[int] = (1, 10),
        *,
        query: Splits | None = None,
        gallery: Splits | None = None,
        prefix: str | None = None,
        collect_device: str = "cpu",
    ) -> None:
        splits = [*as_tags(query), *as_tags(gallery)]
        super().__init__(levels=levels, splits=splits, prefix=prefix, collect_device=collect_device)
        self.levels, self.ks, self.query, self.gallery = levels, tuple(ks), query, gallery

    def measure(self, embedded: Embeddings) -> dict[str, float]:
        """Returns the metrics of all collected images."""
        query, gallery, same_set = embedded.search(self.query, self.gallery)
        metrics = {}
        for level in self.levels:
            (asked, num_asked), (offered, num_offered) = query.of_one_class(level), gallery.of_one_class(level)
            found = retrieval_metrics(
                asked.features,
                asked.classes(level),
                offered.features,
                offered.classes(level),
                ks=self.ks,
                same_set=same_set,
            )
            if num_ambiguous := num_asked + (0 if same_set else num_offered):
                found["num_ambiguous"] = num_ambiguous
            metrics.update({f"{level}/{name}": value for name, value in found.items()})
        return metrics


@METRICS.register_module()
class HierarchicalRetrievalMetric(EmbeddingMetric):
    """Retrieval over all levels at once; see :func:`hierpretrain.functional.hierarchical_retrieval_metrics`.

    Results are named ``h_ap``, ``asi``, ``ndcg`` and so on.

    Args:
        ks: Lengths of the result lists that ``ndcg@k`` looks at.
        query: Splits of the queries, as for :class:`RetrievalMetric`.
        gallery: Splits of the gallery.
        prefix: Stands, with a slash, before the names of the results.
        collect_device: Where processes exchange results.
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

    def measure(self, embedded: Embeddings) -> dict[str, float]:
        """Returns the metrics of all collected images."""
        query, gallery, same_set = embedded.search(self.query, self.gallery)
        return hierarchical_retrieval_metrics(
            query.features, query.labels, gallery.features, gallery.labels, ks=self.ks, same_set=same_set
        )


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
        collect_device: Where processes exchange results.
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

    def measure(self, embedded: Embeddings) -> dict[str, float]:
        """Returns the metrics of all collected images."""
        images = embedded.of(self.splits)
        metrics = {}
        for level in self.levels:
            found = clustering_metrics(images.features, images.classes(level), seed=self.seed)
            metrics.update({f"{level}/{name}": found[name] for name in ("nmi", "ami")})
        for level, parent in self.within:
            classes, parents = images.classes(level), images.classes(parent)
            metrics[f"{level}/nmi_in_{parent}"], _ = nmi_in_parents(images.features, classes, parents, seed=self.seed)
        return metrics


@METRICS.register_module()
class ViolationMetric(EmbeddingMetric):
    """How often the order of the embedding contradicts the tree; see :func:`hierarchy_violations`.

    Args:
        splits: Splits whose images are compared, all together; by default all that are evaluated.
        max_anchors: How many images at most are anchors, drawn at random.
        seed: Of that draw.
        prefix: Stands, with a slash, before the names of the results.
        collect_device: Where processes exchange results.
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

    def measure(self, embedded: Embeddings) -> dict[str, float]:
        """Returns the metrics of all collected images."""
        images = embedded.of(self.splits)
        return hierarchy_violations(images.features, images.labels, max_anchors=self.max_anchors, seed=self.seed)
