"""How sure one must be of a node of a path to name it: thresholds for a stated precision or rate of false alarms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hierpretrain.functional.open_set import correct_nodes, is_known
from hierpretrain.functional.selective import false_alarm_threshold, precision_threshold
from hierpretrain.taxonomy import PAD


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
        false_alarms: What fraction of the images that the index knows at a level, and that are named at the level above,
            may go without a name; see :func:`~hierpretrain.functional.selective.false_alarm_threshold`. One of the two.

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
    if (precision is None) == (false_alarms is None):
        raise ValueError("give either a precision or a rate of false alarms, and not both")
    right, known = correct_nodes(nodes, truth), is_known(truth)
    thresholds: list[float] = []
    named = torch.ones(len(nodes), dtype=torch.bool)
    for level in range(nodes.shape[1]):
        sure = confidences[:, level]
        if precision is not None:
            asked = named & (nodes[:, level] != PAD)
            chosen = precision_threshold(sure[asked], right[asked, level], precision) if asked.any() else math.inf
        else:
            asked = named & known[:, level]
            chosen = false_alarm_threshold(sure[asked], false_alarms) if asked.any() else math.inf
        thresholds.append(chosen)
        named &= sure >= chosen
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
