"""The equations: losses and metrics as functions of plain tensors, without mmengine."""

from hierpretrain.functional.clustering import clustering_metrics
from hierpretrain.functional.contrastive import hierarchical_contrastive_loss, supcon_loss
from hierpretrain.functional.released import released_hmlc_loss
from hierpretrain.functional.retrieval import retrieval_metrics

__all__ = [
    "clustering_metrics",
    "hierarchical_contrastive_loss",
    "released_hmlc_loss",
    "retrieval_metrics",
    "supcon_loss",
]
