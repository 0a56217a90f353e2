"""The equations: losses and metrics as functions of plain tensors, without mmengine."""

from typing import TYPE_CHECKING

from hierpretrain._lazy import imported_on_demand

if TYPE_CHECKING:
    from hierpretrain.functional.average_precision import average_precision_metrics
    from hierpretrain.functional.calibration import calibration_noise, expected_calibration_error, log_loss, reliability
    from hierpretrain.functional.chain_rule import fit_path_confidence, path_confidence, path_evidence
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
    from hierpretrain.functional.open_set import (
        answer_metrics,
        grade_answers,
        known_part,
        mistake_severities,
        unknown_auroc,
    )
    from hierpretrain.functional.path_calibration import (
        PathCalibration,
        answer_paths,
        calibrate_paths,
        choose_thresholds,
    )
    from hierpretrain.functional.power import power_normalize
    from hierpretrain.functional.prototypes import distortion, distortion_loss, scale_free_distortion
    from hierpretrain.functional.proxies import cross_scale_loss, cross_scale_losses, proxy_anchor_losses
    from hierpretrain.functional.released import released_hmlc_loss
    from hierpretrain.functional.retrieval import recall_curve, retrieval_metrics
    from hierpretrain.functional.rince import rince_level_losses, rince_loss
    from hierpretrain.functional.selective import (
        area_under_risk_coverage,
        coverage_curve,
        false_alarm_threshold,
        precision_threshold,
    )
    from hierpretrain.functional.triplet import triplet_loss
    from hierpretrain.functional.violations import hierarchy_violations

__all__ = [
    "PathCalibration",
    "accuracy",
    "answer_metrics",
    "answer_paths",
    "area_under_risk_coverage",
    "average_precision_metrics",
    "calibrate_paths",
    "calibration_noise",
    "choose_thresholds",
    "class_distances",
    "clustering_metrics",
    "coverage_curve",
    "cross_scale_loss",
    "cross_scale_losses",
    "distortion",
    "distortion_loss",
    "expected_calibration_error",
    "false_alarm_threshold",
    "fit_path_confidence",
    "grade_answers",
    "haframe_losses",
    "happier_loss",
    "hierarchical_contrastive_loss",
    "hierarchical_cross_entropy",
    "hierarchical_retrieval_metrics",
    "hierarchy_aware_frame",
    "hierarchy_violations",
    "knn_classify",
    "known_part",
    "label_errors",
    "level_cross_entropies",
    "level_losses",
    "level_triplet_loss",
    "linear_probe",
    "linear_scores",
    "log_loss",
    "mistake_metrics",
    "mistake_severities",
    "neighbour_votes",
    "pairwise_distances",
    "path_confidence",
    "path_evidence",
    "power_normalize",
    "precision_threshold",
    "proxy_anchor_losses",
    "recall_curve",
    "released_hmlc_loss",
    "reliability",
    "retrieval_metrics",
    "rince_level_losses",
    "rince_loss",
    "scale_free_distortion",
    "soft_label_loss",
    "soft_labels",
    "supcon_loss",
    "triplet_loss",
    "unknown_auroc",
]

__getattr__ = imported_on_demand(__name__)
