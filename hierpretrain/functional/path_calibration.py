"""From the neighbours of images to calibrated answers down the tree: a path, confidences, and where to stop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hierpretrain.checks import as_tensor
from hierpretrain.functional.calibration import log_loss
from hierpretrain.functional.chain_rule import (
    cross_fitted_confidence,
    fit_path_confidence,
    path_confidence,
    path_evidence,
)
from hierpretrain.functional.open_set import correct_nodes, is_known
from hierpretrain.functional.selective import check_between, false_alarm_threshold, precision_threshold
from hierpretrain.functional.tree_knn import tree_knn
from hierpretrain.taxonomy import PAD, as_labels

TEMPERATURES = (0.02, 0.03, 0.05, 0.07, 0.1)
"""Of the votes, among which a calibration chooses."""


@dataclass(frozen=True)
class PathCalibration:
    """How sure the vote of neighbours is, and how sure it must be.

    Attributes:
        temperature: Of the votes.
        coefficients: L rows of :func:`~hierpretrain.functional.chain_rule.fit_path_confidence`.
        thresholds: The confidence that a node of each of the L levels needs to be named; ``None``: none is enough.
    """

    temperature: float
    coefficients: tuple[tuple[float, ...], ...]
    thresholds: tuple[float | None, ...]


def calibrate_paths(
    similarities: Tensor,
    indices: Tensor,
    labels: Tensor,
    truth: Tensor,
    *,
    precision: float | None = None,
    false_alarms: float | None = None,
    temperatures: Sequence[float] = TEMPERATURES,
) -> tuple[PathCalibration, Tensor, Tensor]:
    """Fits confidences and thresholds on held-out images.

    Args:
        similarities: (N, K) cosines of the neighbours of the held-out images.
        indices: (N, K) int64, the neighbours, as indices into ``labels``; ``PAD`` for none.
        labels: (G, L) or (G, P, L) labels of the images that vote.
        truth: (N, P, L) the right answers, as far down as the images that vote know them; see
            :func:`~hierpretrain.functional.open_set.known_part`.
        precision: See :func:`choose_thresholds`.
        false_alarms: See :func:`choose_thresholds`.
        temperatures: Of the votes; the one by which confidences have the smallest
            :func:`~hierpretrain.functional.calibration.log_loss` is chosen.

    Returns:
        The calibration; and of the held-out images the (N, L) nodes, and the (N, L) confidences, each by coefficients
        that were fitted on the other images. Thresholds are chosen by these.

    Raises:
        ValueError: If there are fewer than two images, and as :func:`choose_thresholds`.

    Example:
        >>> labels, indices = torch.tensor([[0], [1]]), torch.tensor([[0, 1], [1, 0]]).repeat(50, 1)
        >>> calibration, nodes, confidences = calibrate_paths(
        ...     torch.tensor([[0.9, 0.1]]).repeat(100, 1), indices, labels, labels[indices[:, :1]], precision=0.95)
        >>> nodes[:4, 0].tolist(), bool(confidences.min() > 0.95)
        ([0, 1, 0, 1], True)
    """
    check_goal(precision, false_alarms)
    tried = []
    for temperature in temperatures:
        nodes, shares = tree_knn(similarities, indices, labels, temperature=temperature)
        evidence = path_evidence(similarities, indices, labels, nodes, shares)
        right = correct_nodes(nodes, truth)
        confidences = cross_fitted_confidence(evidence, nodes, right)
        tried.append((log_loss(confidences, right), temperature, nodes, evidence, right, confidences))
    _, temperature, nodes, evidence, right, confidences = min(tried, key=lambda trial: trial[0])
    coefficients = fit_path_confidence(evidence, nodes, right)
    thresholds = choose_thresholds(confidences, nodes, truth, precision=precision, false_alarms=false_alarms)
    return PathCalibration(temperature, tuple(map(tuple, coefficients.tolist())), thresholds), nodes, confidences


def answer_paths(
    similarities: Tensor, indices: Tensor, labels: Tensor, calibration: PathCalibration
) -> tuple[Tensor, Tensor, Tensor]:
    """Answers down the tree, as a calibration says.

    Args:
        similarities: (Q, K) cosines, of as many neighbours as the calibration was fitted with.
        indices: (Q, K) int64, the neighbours, as indices into ``labels``.
        labels: (G, L) or (G, P, L) labels.
        calibration: Of :func:`calibrate_paths`.

    Returns:
        (Q, L) int64, the nodes; (Q, L) float64, the confidence in each; and (Q,) int64, how many of them are named.

    Example:
        >>> labels, coefficients = torch.tensor([[0], [1]]), ((1.0, 0.0, 0.0),)
        >>> calibration = PathCalibration(0.1, coefficients, (0.6,))
        >>> nodes, confidences, num_named = answer_paths(
        ...     torch.tensor([[0.5, 0.4], [0.5, 0.49]]), torch.tensor([[0, 1], [0, 1]]), labels, calibration)
        >>> nodes.tolist(), [round(value, 2) for value in confidences.flatten().tolist()], num_named.tolist()
        ([[0], [0]], [0.73, 0.52], [1, 0])
    """
    nodes, shares = tree_knn(similarities, indices, labels, temperature=calibration.temperature)
    evidence = path_evidence(similarities, indices, labels, nodes, shares)
    confidences = path_confidence(evidence, nodes, torch.tensor(calibration.coefficients, dtype=torch.float64))
    return nodes, confidences, num_named(confidences, nodes, calibration.thresholds)


def choose_thresholds(
    confidences: Tensor, nodes: Tensor, truth: Tensor, *, precision: float | None, false_alarms: float | None
) -> tuple[float | None, ...]:
    """Chooses the confidence that a node of each level needs to be named.

    Args:
        confidences: (N, L) the confidence in each node on the path of each held-out image.
        nodes: (N, L) int64, the nodes; ``PAD`` where a path has ended.
        truth: (N, P, L) the right answers, as far down as the index knows them.
        precision: What fraction of the names shall be right, level by level among the images that are named at the
            level above; see :func:`~hierpretrain.functional.selective.precision_threshold`.
        false_alarms: What fraction of the images that are known at a level, and named at the level above, may go
            without a name; see :func:`~hierpretrain.functional.selective.false_alarm_threshold`. One of the two.

    Returns:
        L thresholds; ``None`` for a level at which no name is sure enough, and below.

    Raises:
        ValueError: If not exactly one of the two is given, or it is not above 0 and below 1.

    Example:
        >>> confidences = torch.tensor([[0.9], [0.8], [0.2]]).repeat(50, 1)
        >>> truth = torch.tensor([[[0]], [[0]], [[-1]]]).repeat(50, 1, 1)
        >>> nodes = torch.zeros(150, 1, dtype=torch.int64)
        >>> [round(t, 2) for t in choose_thresholds(confidences, nodes, truth, precision=0.95, false_alarms=None)]
        [0.8]
    """
    check_goal(precision, false_alarms)
    confidences, nodes, truth = as_tensor(confidences), as_labels(nodes, "nodes"), as_labels(truth, "truth")
    right, known = correct_nodes(nodes, truth), is_known(truth)
    thresholds: list[float] = []
    named = torch.ones(len(nodes), dtype=torch.bool)
    for level in range(nodes.shape[1]):
        sure = confidences[:, level]
        if precision is not None:
            asked = named & (nodes[:, level] != PAD)
            chosen = precision_threshold(sure[asked], right[asked, level], precision) if asked.any() else math.inf
        elif false_alarms is not None:
            asked = named & known[:, level]
            chosen = false_alarm_threshold(sure[asked], false_alarms) if asked.any() else math.inf
        thresholds.append(chosen)
        named &= (sure >= chosen) & (nodes[:, level] != PAD)  # a path that ends has no name here, as in num_named
    return tuple(None if threshold == math.inf else threshold for threshold in thresholds)


def num_named(confidences: Tensor, nodes: Tensor, thresholds: Sequence[float | None]) -> Tensor:
    """Returns how many nodes of each path are sure enough, one below the other: (Q,) int64.

    Example:
        >>> confidences = torch.tensor([[0.9, 0.8, 0.1], [0.9, 0.3, 0.2], [0.4, 0.4, 0.4]])
        >>> num_named(confidences, torch.zeros(3, 3, dtype=torch.int64), (0.5, 0.5, None)).tolist()
        [2, 1, 0]
    """
    needed = torch.tensor([math.inf if one is None else one for one in thresholds], dtype=torch.float64)
    return ((confidences >= needed) & (nodes != PAD)).long().cumprod(1).sum(1)


def check_goal(precision: float | None, false_alarms: float | None) -> None:
    """Raises a ValueError unless one of the two is given and it is above 0 and below 1.

    Example:
        >>> check_goal(0.95, 0.05)
        Traceback (most recent call last):
        ValueError: give either a precision or a rate of false alarms, and not both
    """
    if (precision is None) == (false_alarms is None):
        raise ValueError("give either a precision or a rate of false alarms, and not both")
    check_between(**({"false_alarms": false_alarms} if precision is None else {"precision": precision}))
