"""Calibrated confidence in every node of a path: the chain rule down the tree, one logistic regression a level."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from hierpretrain.checks import as_tensor, check_finite, check_neighbours
from hierpretrain.taxonomy import PAD, as_labels, as_paths, check_labels, paired_depth

NUM_EVIDENCE = 2
"""What is known of a node on a path: how many of its parent's votes it has, and how near its nearest voter is."""
_SMALLEST = 1e-3  # of a fraction of votes, whose log-odds are evidence
_RIDGE = 1e-3  # the penalty on coefficients


def path_evidence(similarities: Tensor, indices: Tensor, labels: Tensor, nodes: Tensor, shares: Tensor) -> Tensor:
    """Returns what speaks for each node on the path that the neighbours of a query vote for.

    Args:
        similarities: (Q, K) cosines of the neighbours.
        indices: (Q, K) int64, the neighbours, as indices into ``labels``; ``PAD`` for none.
        labels: (N, L) or (N, P, L) labels.
        nodes: (Q, L) int64, the path, of :func:`~hierpretrain.functional.tree_knn.tree_knn`.
        shares: (Q, L) float64, the fraction of the votes of each node on it.

    Returns:
        (Q, L, 2) float64: the log-odds of the node's votes among its parent's, and the highest cosine of a neighbour in
        the node; both 0 where the path has ended.

    Raises:
        ValueError: If labels or neighbours are malformed (see :func:`~hierpretrain.checks.check_neighbours`), shapes
            disagree, or a fraction is not finite.

    Example:
        >>> labels = torch.tensor([[0, 0], [0, 1]])
        >>> evidence = path_evidence(torch.tensor([[0.9, 0.7]]), torch.tensor([[0, 1]]), labels, torch.tensor([[0, 0]]),
        ...                          torch.tensor([[1.0, 0.75]]))
        >>> [[round(value, 2) for value in node] for node in evidence[0].tolist()]
        [[6.91, 0.9], [1.1, 0.9]]
    """
    labels = check_labels(labels, several_paths=True)
    similarities, indices = check_neighbours(similarities, indices, len(labels))
    nodes, shares = as_labels(nodes, "nodes"), as_tensor(shares)
    if not nodes.shape == shares.shape == (len(indices), labels.shape[-1]):
        raise ValueError(
            f"nodes and shares must both be {(len(indices), labels.shape[-1])}, a column for each level; their shapes "
            f"are {tuple(nodes.shape)} and {tuple(shares.shape)}"
        )
    check_finite(shares, "shares")
    labels = as_paths(labels)  # (N, P, L)
    shares = shares.double()
    above = torch.cat([torch.ones_like(shares[:, :1]), shares[:, :-1]], 1)
    fraction = (shares / above.clamp(min=1e-300)).clamp(_SMALLEST, 1 - _SMALLEST)
    paths = labels[indices.clamp(min=0)]  # (Q, K, P, L)
    here = nodes[:, None, None].expand_as(paths)
    agreed = paired_depth(paths.flatten(0, 2), here.flatten(0, 2)).view(paths.shape[:3]).amax(2)  # (Q, K)
    agreed = agreed.masked_fill(indices == PAD, 0)
    inside = agreed[:, :, None] > torch.arange(nodes.shape[1])  # (Q, K, L)
    nearest = torch.where(inside, similarities.double()[:, :, None], -1.0).amax(1)  # (Q, L)
    evidence = torch.stack([torch.logit(fraction), nearest], 2)
    return torch.where((nodes != PAD)[:, :, None], evidence, 0.0)


def fit_path_confidence(evidence: Tensor, nodes: Tensor, correct: Tensor) -> Tensor:
    """Fits the confidence of every level on held-out images.

    Level by level, a logistic regression (Platt, *Probabilistic Outputs for Support Vector Machines*, 1999) tells from
    the evidence whether a node is right, among the images for which the node above it is. Coefficients are not below 0:
    more evidence never makes less sure. Where wrong neighbours are very near, as among the flags of emoji64, the free
    regression learns the contrary, and ranks images of unknown classes above known ones.

    One right and one wrong image of mean evidence are added at each level, by Laplace's rule: few images then give no
    certainty, and a level that no held-out image reaches is as likely wrong as right.

    Args:
        evidence: (Q, L, E) what is known of each node.
        nodes: (Q, L) int64, the nodes; ``PAD`` where a path has ended.
        correct: (Q, L) bool, whether each node is right, and so all above it.

    Returns:
        (L, E + 1) float64, the coefficients of each level, from 0, and the constant behind them.

    Raises:
        ValueError: If there is no image, evidence is not finite, ``correct`` is not bool, or a right node lies below a
            wrong one.

    Example:
        A level at which 3 of 4 images are right, whatever the evidence.

        >>> coefficients = fit_path_confidence(torch.zeros(4, 1, 1), torch.zeros(4, 1, dtype=torch.int64),
        ...                                    torch.tensor([[True], [True], [True], [False]]))
        >>> path_confidence(torch.zeros(1, 1, 1), torch.zeros(1, 1, dtype=torch.int64), coefficients).round(decimals=3)
        tensor([[0.6670]], dtype=torch.float64)
    """
    evidence, nodes, correct = as_tensor(evidence), as_labels(nodes, "nodes"), as_tensor(correct)
    if not len(evidence) == len(nodes) == len(correct) or len(evidence) == 0:
        raise ValueError(
            "evidence, nodes and correct must be of as many images, and of one at least; they are of "
            f"{len(evidence)}, {len(nodes)} and {len(correct)}"
        )
    if correct.dtype != torch.bool:
        raise ValueError(f"correct must be bool, whether each node is right; it is {correct.dtype}")
    check_finite(evidence.flatten(1), "evidence")
    above = torch.cat([torch.ones_like(correct[:, :1]), correct[:, :-1]], 1)  # (Q, L)
    if (correct & ~above).any():
        row = int((correct & ~above).any(1).nonzero()[0])
        raise ValueError(f"correct must not have a right node below a wrong one; row {row} is {correct[row].tolist()}")
    coefficients = torch.zeros(evidence.shape[1], evidence.shape[2] + 1, dtype=torch.float64)
    for level in range(evidence.shape[1]):
        some = above[:, level] & (nodes[:, level] != PAD)
        seen = evidence[some, level].double()  # (S, E)
        mean = seen.mean(0, keepdim=True) if len(seen) else torch.zeros(1, evidence.shape[2], dtype=torch.float64)
        inputs = torch.cat([seen, mean, mean])
        outputs = torch.cat([correct[some, level], torch.tensor([True, False])])
        coefficients[level] = _logistic_regression(inputs, outputs.double())
    return coefficients


def _logistic_regression(inputs: Tensor, outputs: Tensor) -> Tensor:
    """Returns the (E + 1,) coefficients, from 0, and the constant that make (S,) outputs of (S, E) inputs likeliest."""
    from scipy.optimize import minimize  # slow to import, and answers do without

    inputs = torch.cat([inputs, torch.ones_like(inputs[:, :1])], 1)
    columns = inputs.shape[1]

    def loss(coefficients: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        given = torch.from_numpy(coefficients)
        logits = inputs @ given
        ridge = _RIDGE * given * (torch.arange(columns) < columns - 1)  # so that there is one solution
        value = binary_cross_entropy_with_logits(logits, outputs, reduction="sum")
        slope = inputs.T @ (logits.sigmoid() - outputs)
        return float(value + (ridge * given).sum() / 2), (slope + ridge).numpy()

    bounds = [(0, None)] * (columns - 1) + [(None, None)]
    return torch.from_numpy(minimize(loss, np.zeros(columns), jac=True, method="L-BFGS-B", bounds=bounds).x)


def path_confidence(evidence: Tensor, nodes: Tensor, coefficients: Tensor) -> Tensor:
    """Computes the confidence in each node of a path, by the chain rule.

        c_l = prod_{k <= l} P(node k is right | node k - 1 is, evidence at k)

    It never rises on the way down.

    Args:
        evidence: (Q, L, E) what is known of each node.
        nodes: (Q, L) int64, the nodes; ``PAD`` where a path has ended.
        coefficients: (L, E + 1), of :func:`fit_path_confidence`.

    Returns:
        (Q, L) float64 in 0 to 1; 0 where a path has ended.

    Raises:
        ValueError: If evidence or coefficients are not finite.

    Example:
        >>> evidence, nodes = torch.zeros(1, 2, 1), torch.tensor([[3, 4]])
        >>> path_confidence(evidence, nodes, torch.tensor([[1.0, 0.0], [1.0, 0.0]])).tolist()
        [[0.5, 0.25]]
    """
    evidence, nodes, coefficients = as_tensor(evidence), as_labels(nodes, "nodes"), as_tensor(coefficients)
    check_finite(evidence.flatten(1), "evidence")
    check_finite(coefficients, "coefficients")
    coefficients = coefficients.double()
    logits = (evidence.double() * coefficients[:, :-1]).sum(2) + coefficients[:, -1]  # (Q, L)
    conditional = torch.where(nodes == PAD, 0.0, torch.sigmoid(logits))
    return conditional.cumprod(1)


def cross_fitted_confidence(
    evidence: Tensor, nodes: Tensor, correct: Tensor, *, folds: int = 5, seed: int = 0
) -> Tensor:
    """Computes the confidence in the nodes of held-out images, each by coefficients that were fitted on the others.

    What is measured or chosen by these confidences is not flattered by images that the coefficients know.

    Args:
        evidence: (Q, L, E) what is known of each node.
        nodes: (Q, L) int64, the nodes.
        correct: (Q, L) bool, whether each node is right.
        folds: In how many parts the images are divided, from 2; with fewer images, one each.
        seed: Of the division.

    Returns:
        (Q, L) float64, as :func:`path_confidence`.

    Raises:
        ValueError: If there are fewer than two images, and as :func:`fit_path_confidence`.

    Example:
        >>> nodes, correct = torch.zeros(4, 1, dtype=torch.int64), torch.tensor([[True], [True], [True], [False]])
        >>> confidences = cross_fitted_confidence(torch.zeros(4, 1, 1), nodes, correct)
        >>> [round(value, 2) for value in confidences.flatten().tolist()]  # by 2 of 3, and the last by 3 of 3
        [0.6, 0.6, 0.6, 0.8]
    """
    if len(evidence) < 2:
        raise ValueError(f"there must be at least 2 held-out images; there is {len(evidence)}")
    parts = torch.randperm(len(evidence), generator=torch.Generator().manual_seed(seed)) % min(folds, len(evidence))
    confidences = torch.zeros(nodes.shape, dtype=torch.float64)
    for part in range(min(folds, len(evidence))):
        held, rest = parts == part, parts != part
        coefficients = fit_path_confidence(evidence[rest], nodes[rest], correct[rest])
        confidences[held] = path_confidence(evidence[held], nodes[held], coefficients)
    return confidences
