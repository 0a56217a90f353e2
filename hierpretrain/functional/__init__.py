"""The equations: losses and metrics as functions of plain tensors, without mmengine."""

from hierpretrain.functional.average_precision import average_precision_metrics
from hierpretrain.functional.classification import accuracy, knn_classify, linear_probe, linear_scores
from hierpretrain.functional.clustering import clustering_metrics
from hierpretrain.functional.confident_learning import label_errors, neighbour_votes
from hierpretrain.functional.contrastive import hierarchical_contrastive_loss, level_losses, supcon_loss
from hierpretrain.functional.distances import pairwise_distances
from hierpretrain.functional.frame import haframe_losses, hierarchy_aware_frame
from hierpretrain.functional.happier import happier_loss
from hierpretrain.functional.hierarchical_retrieval import hierarchical_retrieval_metrics
from hierpretrain.functional.hierarchical_softmax import hierarchical_cross_entropy, soft_label_loss, soft_labels
from hierpretrain.functional.joint import level_cross_entropies
from hierpretrain.functional.level_triplet import level_triplet_loss
from hierpretrain.functional.mistakes import class_distances, mistake_metrics
from hierpretrain.functional.power import power_normalize
from hierpretrain.functional.prototypes import distortion, distortion_loss, scale_free_distortion
from hierpretrain.functional.proxies import cross_scale_loss, proxy_anchor_losses
from hierpretrain.functional.released import released_hmlc_loss
from hierpretrain.functional.retrieval import recall_curve, retrieval_metrics
from hierpretrain.functional.rince import rince_level_losses, rince_loss
from hierpretrain.functional.triplet import triplet_loss
from hierpretrain.functional.violations import hierarchy_violations

__all__ = [
    "accuracy",
    "average_precision_metrics",
    "class_distances",
    "clustering_metrics",
    "cross_scale_loss",
    "distortion",
    "distortion_loss",
    "haframe_losses",
    "happier_loss",
    "hierarchical_contrastive_loss",
    "hierarchical_cross_entropy",
    "hierarchical_retrieval_metrics",
    "hierarchy_aware_frame",
    "hierarchy_violations",
    "knn_classify",
    "label_errors",
    "level_cross_entropies",
    "level_losses",
    "level_triplet_loss",
    "linear_probe",
    "linear_scores",
    "mistake_metrics",
    "neighbour_votes",
    "pairwise_distances",
    "power_normalize",
    "proxy_anchor_losses",
    "recall_curve",
    "released_hmlc_loss",
    "retrieval_metrics",
    "rince_level_losses",
    "rince_loss",
    "scale_free_distortion",
    "soft_label_loss",
    "soft_labels",
    "supcon_loss",
    "triplet_loss",
]
