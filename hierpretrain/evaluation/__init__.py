"""The registered metrics and the set of embedded images that they look at."""

from typing import TYPE_CHECKING

from hierpretrain._lazy import imported_on_demand

if TYPE_CHECKING:
    from hierpretrain.evaluation.calibration import CalibrationMetric
    from hierpretrain.evaluation.embeddings import Embeddings, check_levels, check_splits, collect
    from hierpretrain.evaluation.evaluator import EmbeddingEvaluator
    from hierpretrain.evaluation.metrics import (
        ClusteringMetric,
        EmbeddingMetric,
        HierarchicalRetrievalMetric,
        RetrievalMetric,
        ViolationMetric,
    )
    from hierpretrain.evaluation.probes import AveragePrecisionMetric, KNNMetric, LinearProbeMetric
    from hierpretrain.evaluation.search_sets import SearchSets, measured_searches

__all__ = [
    "AveragePrecisionMetric",
    "CalibrationMetric",
    "ClusteringMetric",
    "EmbeddingEvaluator",
    "EmbeddingMetric",
    "Embeddings",
    "HierarchicalRetrievalMetric",
    "KNNMetric",
    "LinearProbeMetric",
    "RetrievalMetric",
    "SearchSets",
    "ViolationMetric",
    "check_levels",
    "check_splits",
    "collect",
    "measured_searches",
]

__getattr__ = imported_on_demand(__name__)
