"""Functions of plain tensors take arrays of NumPy's as well, and give the same."""

import inspect

import pytest
import torch

from hierpretrain import functional
from hierpretrain.taxonomy import Taxonomy

PATHS = [("animal", "cat"), ("animal", "dog"), ("tool", "saw"), ("tool", "axe")]
TREE = Taxonomy(PATHS, ("kingdom", "kind"))
LABELS, CLASSES = TREE.encode(PATHS), torch.arange(4)
ROWS = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
OTHERS = ROWS.flip(0)
UNIT = torch.nn.functional.normalize(ROWS, dim=1)
DISTANCES = functional.class_distances(TREE, "kind")
CONFIDENCES, RIGHT = torch.tensor([0.9, 0.2, 0.7, 0.5]), torch.tensor([True, False, True, True])

NEAR, FIRST = CONFIDENCES[:, None] - torch.tensor([0.0, 0.1]), torch.tensor([[0, 1], [1, 0], [2, 3], [3, 2]])
EVIDENCE = functional.path_evidence(NEAR, FIRST, LABELS, LABELS[FIRST[:, 0]], NEAR)
COEFFICIENTS = torch.randn(2, EVIDENCE.shape[-1] + 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
NODES, TRUTH = LABELS[FIRST[:, 0]], LABELS[:, None]

CALLS = {
    "accuracy": lambda f, a: f(a(FIRST), a(CLASSES), ks=(1, 2)),
    "answer_metrics": lambda f, a: f(
        a(NODES), a(CONFIDENCES[:, None].expand(4, 2)), a(CLASSES % 3), a(TRUTH), a(torch.full((4,), 2))
    ),
    "area_under_risk_coverage": lambda f, a: f(a(CONFIDENCES), a(RIGHT)),
    "average_precision_metrics": lambda f, a: f(a(ROWS), a(CLASSES), a(CLASSES)),
    "calibrate_paths": lambda f, a: f(a(NEAR), a(FIRST), a(LABELS), a(TRUTH), precision=0.5),
    "calibration_noise": lambda f, a: f(a(CONFIDENCES), draws=3),
    "coverage_curve": lambda f, a: f(a(CONFIDENCES), a(RIGHT)),
    "cross_scale_loss": lambda f, a: f(a(UNIT), a(LABELS), a(CLASSES)),
    "distortion": lambda f, a: f(a(ROWS.abs()), a(DISTANCES)),
    "distortion_loss": lambda f, a: f(a(ROWS), a(DISTANCES)),
    "expected_calibration_error": lambda f, a: f(a(CONFIDENCES), a(RIGHT)),
    "false_alarm_threshold": lambda f, a: f(a(CONFIDENCES), 0.4),
    "grade_answers": lambda f, a: f(a(LABELS), a(LABELS.flip(0)[:, None])),
    "haframe_losses": lambda f, a: f(a(ROWS), a(CLASSES), a(UNIT)),
    "happier_loss": lambda f, a: f(a(UNIT), a(LABELS)),
    "hierarchical_contrastive_loss": lambda f, a: f(a(UNIT), a(LABELS), temperature=0.1),
    "hierarchical_cross_entropy": lambda f, a: f(a(ROWS), a(LABELS), a(CLASSES), alpha=0.1),
    "hierarchy_violations": lambda f, a: f(a(ROWS), a(LABELS)),
    "level_cross_entropies": lambda f, a: f([a(ROWS[:, :2]), a(ROWS)], a(LABELS)),
    "level_triplet_loss": lambda f, a: f(
        a(ROWS), a(OTHERS), a(ROWS[[1, 0, 3, 2]]), level=a(CLASSES % 2 + 1), max_level=2, min_margin=0.1
    ),
    "log_loss": lambda f, a: f(a(CONFIDENCES), a(RIGHT)),
    "mistake_metrics": lambda f, a: f(a(ROWS.argsort(1)), a(CLASSES), a(DISTANCES), ks=[1, 2]),
    "mistake_severities": lambda f, a: f(a(LABELS), a(LABELS.flip(0)[:, None]), TREE),
    "pairwise_distances": lambda f, a: f(a(ROWS), a(OTHERS)),
    "power_normalize": lambda f, a: f(a(ROWS)),
    "proxy_anchor_losses": lambda f, a: f(
        a(UNIT), a(LABELS), [a(ROWS[:2]), a(ROWS)], [a(TREE.node_labels(1)), a(TREE.node_labels(2))]
    ),
    "released_hmlc_loss": lambda f, a: f(a(UNIT), a(LABELS[[0, 2, 0, 2]]), temperature=0.1),
    "rince_loss": lambda f, a: f(a(UNIT), a(LABELS[[0, 0, 2, 2]]), temperatures=(0.1, 0.2)),
    "scale_free_distortion": lambda f, a: f(a(ROWS.abs()), a(DISTANCES)),
    "soft_label_loss": lambda f, a: f(a(ROWS), a(ROWS.softmax(1))),
    "soft_labels": lambda f, a: f(a(DISTANCES), beta=3.0),
    "supcon_loss": lambda f, a: f(a(UNIT), a(CLASSES % 2), temperature=0.1),
    "triplet_loss": lambda f, a: f(a(UNIT), a(CLASSES % 2), margin=0.2),
    "choose_thresholds": lambda f, a: f(a(NEAR), a(NODES), a(TRUTH), precision=0.5, false_alarms=None),
    "clustering_metrics": lambda f, a: f(a(ROWS), a(CLASSES % 2), parents=a(CLASSES // 2)),
    "cross_scale_losses": lambda f, a: f(a(UNIT), a(LABELS), a(CLASSES), known=a(CLASSES < 4)),
    "fit_path_confidence": lambda f, a: f(a(EVIDENCE), a(NODES), a(RIGHT[:, None].expand(4, 2))),
    "hierarchical_retrieval_metrics": lambda f, a: f(a(ROWS), a(LABELS), a(OTHERS), a(LABELS), queries=a(CLASSES[1:])),
    "hierarchy_aware_frame": lambda f, a: f(a(DISTANCES)),
    "knn_classify": lambda f, a: f(a(ROWS), a(CLASSES), a(OTHERS), k=2),
    "known_part": lambda f, a: f(a(LABELS), a(LABELS[:2])),
    "label_errors": lambda f, a: f(a(CLASSES % 2), a(FIRST % 2), a(ROWS[:, :2].softmax(1))),
    "level_losses": lambda f, a: f(a(UNIT), a(LABELS), instances=a(CLASSES)),
    "linear_probe": lambda f, a: f(a(ROWS), a(CLASSES), a(OTHERS), epochs=2, k=2),
    "linear_scores": lambda f, a: f(a(ROWS), a(CLASSES), a(OTHERS)),
    "neighbour_votes": lambda f, a: f(a(NEAR), a(FIRST), a(CLASSES)),
    "path_confidence": lambda f, a: f(a(EVIDENCE), a(NODES), a(COEFFICIENTS)),
    "path_evidence": lambda f, a: f(a(NEAR), a(FIRST), a(LABELS), a(NODES), a(NEAR)),
    "precision_threshold": lambda f, a: f(a(CONFIDENCES), a(RIGHT), 0.5),
    "recall_curve": lambda f, a: f(a(ROWS), a(CLASSES), a(OTHERS), a(CLASSES), max_k=3, queries=a(CLASSES[1:])),
    "reliability": lambda f, a: f(a(CONFIDENCES), a(RIGHT)),
    "retrieval_metrics": lambda f, a: f(a(ROWS), a(CLASSES), a(OTHERS), a(CLASSES), queries=a(CLASSES[1:])),
    "rince_level_losses": lambda f, a: f(a(UNIT), a(LABELS), instances=a(CLASSES)),
    "unknown_auroc": lambda f, a: f(a(CONFIDENCES), a(RIGHT), a(~RIGHT)),
}


@pytest.mark.parametrize("name", CALLS)
def test_arrays_are_taken_as_tensors_are(name):
    function = getattr(functional, name)
    expected = CALLS[name](function, lambda tensor: tensor)
    found = CALLS[name](function, lambda tensor: tensor.numpy())
    assert type(found) is type(expected)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_no_function_of_tensors_is_left_out():
    calibration = {"answer_paths"}  # takes a calibration, of tensors
    kinds = ("Tensor", "LabelsLike")
    public = {
        name
        for name in functional.__all__
        if inspect.isfunction(function := getattr(functional, name))
        and any(kind in str(p.annotation) for p in inspect.signature(function).parameters.values() for kind in kinds)
    }
    assert public - CALLS.keys() == calibration
