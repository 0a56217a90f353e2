"""The registered metrics and the set of embedded images that they look at."""

from hierpretrain.evaluation.embeddings import Embeddings, check_levels, collect
from hierpretrain.evaluation.metrics import ClusteringMetric, RetrievalMetric

__all__ = ["ClusteringMetric", "Embeddings", "RetrievalMetric", "check_levels", "collect"]
