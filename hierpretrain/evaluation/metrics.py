"""The registered metrics: shells over :mod:`hierpretrain.functional`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import BaseMetric

from hierpretrain.evaluation.embeddings import Embeddings, collect
from hierpretrain.functional import clustering_metrics, retrieval_metrics
from hierpretrain.registry import METRICS


@METRICS.register_module()
class RetrievalMetric(BaseMetric):
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

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Collects a batch."""
        self.results.extend(map(collect, data_samples))

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
class ClusteringMetric(BaseMetric):
    """Clustering at chosen levels; see :func:`hierpretrain.functional.clustering_metrics`.

    Queries and gallery are clustered together. Results are named ``<level>/nmi`` and ``<level>/ami``, and for pairs
    also ``<level>/nmi_in_<parent>``: the agreement inside each node of the parent level, averaged over them (paper A's
    "product NMI").

    Args:
        levels: Levels, by name or number, and flat label columns, by name.
        within: Pairs (level, coarser level).
        seed: Of k-means.
        collect_device: Where processes exchange results.
    """

    default_prefix = ""

    def __init__(
        self,
        levels: Sequence[int | str] = (),
        within: Sequence[tuple[int | str, int | str]] = (),
        seed: int = 0,
        collect_device: str = "cpu",
    ) -> None:
        super().__init__(collect_device=collect_device)
        self.levels, self.within, self.seed = levels, within, seed

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Collects a batch."""
        self.results.extend(map(collect, data_samples))

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """Returns the metrics of all collected images."""
        embedded = Embeddings.from_samples(results, self.dataset_meta)
        metrics = {}
        for level, parent in [*((level, None) for level in self.levels), *self.within]:
            parents = None if parent is None else embedded.classes(parent)
            found = clustering_metrics(embedded.features, embedded.classes(level), parents=parents, seed=self.seed)
            metrics.update({f"{level}/{name}": found[name] for name in ("nmi", "ami")})
            if parent is not None:
                metrics[f"{level}/nmi_in_{parent}"] = found["nmi_in_parent"]
        return metrics
