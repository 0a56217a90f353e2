"""Neighbours, votes and evidence that are wrong: a message, where a plausible number came out."""

import math

import numpy as np
import pytest
import torch

from hierpretrain import functional
from hierpretrain.functional.tree_knn import tree_knn
from hierpretrain.taxonomy import PAD

LABELS = torch.tensor([[0, 0], [0, 1], [1, 2]])
SIMILARITIES = torch.tensor([[0.9, 0.5], [0.8, 0.1]])
INDICES = torch.tensor([[0, 1], [2, PAD]])
NODES, SHARES = torch.tensor([[0, 0], [1, 2]]), torch.tensor([[1.0, 0.6], [1.0, 1.0]])
CALIBRATION = functional.PathCalibration(0.1, ((1.0, 0.0, 0.0),) * 2, (0.5, 0.5))

USES = {
    "tree_knn": lambda x, i: tree_knn(x, i, LABELS)[1],
    "answer_paths": lambda x, i: functional.answer_paths(x, i, LABELS, CALIBRATION)[1],
    "calibrate_paths": lambda x, i: functional.calibrate_paths(x, i, LABELS, LABELS[:2, None], precision=0.5)[2],
    "path_evidence": lambda x, i: functional.path_evidence(x, i, LABELS, NODES, SHARES),
    "neighbour_votes": lambda x, i: functional.neighbour_votes(x, i, LABELS[:, 1])[1],
}


def changed(tensor, value):
    tensor = tensor.clone()
    tensor[0, 1] = value
    return tensor


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize(
    ("similarities", "indices", "message"),
    [
        (changed(SIMILARITIES, math.nan), INDICES, "similarities must be finite; row 0 is not"),
        (changed(SIMILARITIES, math.inf), INDICES, "similarities must be finite; row 0 is not"),
        (SIMILARITIES.long(), INDICES, "similarities must be floating-point; they are torch.int64"),
        (SIMILARITIES, changed(INDICES, 3), r"indices must be below 3, the number of items.*; row 0 is \[0, 3\]"),
        (SIMILARITIES, changed(INDICES, -2), r"or PAD \(-1\) for none; row 0 is \[0, -2\]"),
        (SIMILARITIES, INDICES > 0, "indices must be integers"),
        (SIMILARITIES, INDICES.float(), "indices must be integers"),
        (SIMILARITIES[:, :1], INDICES, r"must both be \(Q, K\), K at least 1; their shapes are \(2, 1\) and \(2, 2\)"),
    ],
)
def test_neighbours_that_are_none_are_told(use, similarities, indices, message):
    with pytest.raises(ValueError, match=message):
        USES[use](similarities, indices)


@pytest.mark.parametrize("use", USES)
def test_neighbours_of_any_integers_and_as_arrays_give_one_value(use):
    expected = USES[use](SIMILARITIES, INDICES)
    nothing_there = torch.where(INDICES == PAD, -math.inf, SIMILARITIES)  # as faiss has it
    assert torch.equal(USES[use](nothing_there, INDICES), expected)
    for kind in (torch.int8, torch.int32):
        assert torch.equal(USES[use](SIMILARITIES, INDICES.to(kind)), expected)
    assert torch.equal(USES[use](SIMILARITIES.numpy(), INDICES.numpy().astype(np.int16)), expected)


def test_votes_for_classes_of_any_integers():
    expected = functional.neighbour_votes(SIMILARITIES, INDICES, LABELS[:, 1])
    found = functional.neighbour_votes(SIMILARITIES, INDICES, LABELS[:, 1].to(torch.uint8))  # PAD is none of these
    assert all(map(torch.equal, found, expected))
    with pytest.raises(ValueError, match=r"classes must be ids from 0, or PAD \(-1\) for none; row 0 is -2"):
        functional.neighbour_votes(SIMILARITIES, INDICES, LABELS[:, 1] - 2)


def test_votes_that_are_none():
    classes = torch.tensor([0, 1])
    with pytest.raises(ValueError, match="fractions must be finite; row 0 is not"):
        functional.label_errors(classes, NODES, changed(SHARES, math.nan))
    with pytest.raises(ValueError, match="candidates must be ids from 0"):
        functional.label_errors(classes, changed(NODES, -2), SHARES)
    with pytest.raises(ValueError, match=r"must both be \(N, K\); their shapes are \(2, 2\) and \(2, 1\)"):
        functional.label_errors(classes, NODES, SHARES[:, :1])


def test_evidence_that_is_none():
    evidence, correct = torch.ones(2, 2, 1), torch.tensor([[True, True], [True, False]])
    coefficients = torch.ones(2, 2)
    for wrong in (math.nan, math.inf):
        with pytest.raises(ValueError, match="evidence must be finite; row 0 is not"):
            functional.fit_path_confidence(changed(evidence, wrong), NODES, correct)
        with pytest.raises(ValueError, match="evidence must be finite; row 0 is not"):
            functional.path_confidence(changed(evidence, wrong), NODES, coefficients)
        with pytest.raises(ValueError, match="coefficients must be finite; row 0 is not"):
            functional.path_confidence(evidence, NODES, changed(coefficients, wrong))
    with pytest.raises(ValueError, match=r"correct must be bool, whether each node is right; it is torch\.int64"):
        functional.fit_path_confidence(evidence, NODES, correct.long())
    with pytest.raises(ValueError, match=r"nodes and shares must both be \(2, 2\).* are \(2, 2\) and \(1, 2\)"):
        functional.path_evidence(SIMILARITIES, INDICES, LABELS, NODES, SHARES[:1])


def test_answers_that_are_none():
    known = torch.tensor([True, True, False])
    with pytest.raises(ValueError, match=r"known and unknown must be bool; they are torch\.int64 and torch\.bool"):
        functional.unknown_auroc(torch.rand(3), known.long(), ~known)
    with pytest.raises(ValueError, match="scores must be finite; row 1 is not"):
        functional.unknown_auroc(torch.tensor([0.1, math.nan, 0.2]), known, ~known)
    with pytest.raises(ValueError, match=r"must all be \(N,\); their shapes are \(3,\), \(3,\) and \(\)"):
        functional.unknown_auroc(torch.rand(3), known, torch.tensor(True))
    named, depths = torch.tensor([2, 2]), torch.tensor([2, 2])
    expected = functional.answer_metrics(NODES, SHARES, named, NODES[:, None], depths)
    assert functional.answer_metrics(NODES, SHARES, named.numpy(), NODES[:, None], depths.to(torch.uint16)) == expected
    with pytest.raises(ValueError, match=r"named must be \(2,\)"):
        functional.answer_metrics(NODES, SHARES, named[:1], NODES[:, None], depths)
    with pytest.raises(ValueError, match=r"nodes and confidences must both be \(N, L\)"):
        functional.answer_metrics(NODES, SHARES[:1], named, NODES[:, None], depths)


def test_the_distance_to_nan_is_nan_and_not_0():
    distances = functional.pairwise_distances(torch.tensor([[math.nan, 0.0], [3.0, 4.0]]), torch.zeros(1, 2))
    assert distances.isnan().tolist() == [[True], [False]]
    assert distances[1].item() == 5.0
    near = torch.zeros(1, 2, requires_grad=True)
    functional.pairwise_distances(near, torch.zeros(1, 2)).sum().backward()
    assert near.grad.tolist() == [[0.0, 0.0]]


def test_scores_that_overflow_are_told():
    train, labels = torch.tensor([[1.0, 0.1], [0.9, 0.2], [0.1, 1.0], [0.2, 0.9]]), torch.tensor([7, 7, 3, 3])
    for use in (functional.linear_scores, functional.linear_probe):
        with pytest.raises(ValueError, match="logits of the test features must be finite; row 1 is not"):
            use(train, labels, torch.tensor([[1.0, 0.0], [3e38, 3e38]]))


def test_a_distance_of_classes_is_finite():
    metric = torch.tensor([[0.0, math.inf], [math.inf, 0.0]])
    for use in (functional.distortion, functional.scale_free_distortion):
        with pytest.raises(ValueError, match="metric must be finite and above 0 between different classes; it is inf"):
            use(torch.ones(2, 2), metric)
