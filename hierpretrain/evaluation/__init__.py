"""The registered metrics and the set of embedded images that they look at."""

from hierpretrain.evaluation.classification import AveragePrecisionMetric, KNNMetric, LinearProbeMetric
from hierpretrain.evaluation.embeddings import Embeddings, check_levels, check_splits, collect
from hierpretrain.evaluation.metrics import (
    ClusteringMetric,
    EmbeddingMetric,
    HierarchicalRetrievalMetric,
    RetrievalMetric,
    ViolationMetric,
)

__all__ = [
    "AveragePrecisionMetric",
    "ClusteringMetric",
    "EmbeddingMetric",
    "Embeddings",
    "HierarchicalRetrievalMetric",
    "KNNMetric",
    "LinearProbeMetric",
    "RetrievalMetric",
    "ViolationMetric",
    "check_levels",
    "check_splits",
    "collect",
]
