"""The registered metrics: shells over :mod:`hierpretrain.functional`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import BaseMetric

from hierpretrain.evaluation.embeddings import Embeddings, check_levels, collect
from hierpretrain.functional import clustering_metrics, retrieval_metrics
from hierpretrain.functional.clustering import nmi_in_parents
from hierpretrain.registry import METRICS


class _EmbeddingMetric(BaseMetric):
    """Collects embeddings; a subclass names the levels that it looks at and computes."""

    default_prefix = ""  # the names say it all

    def _levels(self) -> list[int | str]:
        raise AssertionError("a subclass names its levels")

    @property
    def dataset_meta(self) -> dict[str, Any] | None:
        """The data set's ``metainfo``, which MMEngine sets before training: a level that it lacks is an error then."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict[str, Any]) -> None:
        check_levels(self._levels(), dataset_meta)
        self._dataset_meta = dataset_meta

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Collects a batch."""
        self.results.extend(map(collect, data_samples))


@METRICS.register_module()
class RetrievalMetric(_EmbeddingMetric):
    """Retrieval at chosen levels; see :func:`hierpretrain.functional.retrieval_metrics`.

    Images of the split ``query`` are searched for among those of the split ``gallery``. If the data set has not both,
    every image is a query among all others. Results are named ``<level>/<metric>``.

    Args:
        levels: Levels, by name or number, and flat label columns, by name.
        ks: Lengths of the result lists that ``recall@k`` and ``precision@k`` look at.
        collect_device: Where processes exchange results.
    """

    default_prefix = ""  # the names say it all

    def __init__(self, levels: Sequence[int | str], ks: Sequence[int] = (1, 10), collect_device: str = "cpu") -> None:
        super().__init__(collect_device=collect_device)
        self.levels, self.ks = levels, tuple(ks)

    def _levels(self) -> list[int | str]:
        return list(self.levels)

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """Returns the metrics of all collected images."""
        embedded = Embeddings.from_samples(results, self.dataset_meta)
        query, gallery = embedded.is_query, embedded.is_gallery
        metrics = {}
        for level in self.levels:
            classes = embedded.classes(level)
            found = retrieval_metrics(
                embedded.features[query],
                classes[query],
                embedded.features[gallery],
                classes[gallery],
                ks=self.ks,
                same_set=embedded.same_set,
            )
            metrics.update({f"{level}/{name}": value for name, value in found.items()})
        return metrics


@METRICS.register_module()
class ClusteringMetric(_EmbeddingMetric):
    """Clustering at chosen levels; see :func:`hierpretrain.functional.clustering_metrics`.

    Queries and gallery are clustered together. Results are named ``<level>/nmi`` and ``<level>/ami``, and for pairs
    ``<level>/nmi_in_<parent>``: the agreement inside each node of the parent level, averaged over them (paper A's
    "product NMI").

    Args:
        levels: Levels, by name or number, and flat label columns, by name.
        within: Pairs (level, coarser level).
        seed: Of k-means.
        collect_device: Where processes exchange results.
    """

    def __init__(
        self,
        levels: Sequence[int | str] = (),
        within: Sequence[tuple[int | str, int | str]] = (),
        seed: int = 0,
        collect_device: str = "cpu",
    ) -> None:
        super().__init__(collect_device=collect_device)
        self.levels, self.within, self.seed = levels, within, seed

    def _levels(self) -> list[int | str]:
        return [*self.levels, *(level for pair in self.within for level in pair)]

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """Returns the metrics of all collected images."""
        embedded = Embeddings.from_samples(results, self.dataset_meta)
        metrics = {}
        for level in self.levels:
            found = clustering_metrics(embedded.features, embedded.classes(level), seed=self.seed)
            metrics.update({f"{level}/{name}": found[name] for name in ("nmi", "ami")})
        for level, parent in self.within:
            classes, parents = embedded.classes(level), embedded.classes(parent)
            metrics[f"{level}/nmi_in_{parent}"], _ = nmi_in_parents(embedded.features, classes, parents, seed=self.seed)
        return metrics
