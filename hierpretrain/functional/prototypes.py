"""Class prototypes, and how well their distances keep those of a tree.

Garnot and Landrieu, *Leveraging Class Hierarchies with Metric-Guided Prototype Learning*, BMVC 2021. With ``d_kl`` the
Euclidean distance of the prototypes of two of K classes, ``D_kl`` that of the classes in the tree and
``a_kl = d_kl / D_kl``, taken over the K (K - 1) pairs of different classes::

    distortion            = mean |a_kl - 1|
    scale-free distortion = min over s of mean |s a_kl - 1|
    distortion loss       = mean (s a_kl - 1)^2        with s = 1, or the best one: s = sum a_kl / sum a_kl^2
"""

from __future__ import annotations

import torch
from torch import Tensor

from hierpretrain.functional.triplet import root


def prototype_distances(features: Tensor, prototypes: Tensor, *, squared: bool = False) -> Tensor:
    """Returns the Euclidean distance of every row to every prototype; minus it are the paper's logits.

    Args:
        features: (N, D) rows of any length.
        prototypes: (K, D) rows, one per class.
        squared: Whether to return the squares.

    Returns:
        (N, K) distances from 0. The gradient of a distance of 0 is 0.

    Example:
        >>> prototype_distances(torch.zeros(1, 2), torch.tensor([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [[5.0, 0.0]]
    """
    # as far as shifting both changes no distance, the rounding of the expanded square is least around 0
    centre = prototypes.detach().mean(0)
    features, prototypes = features - centre, prototypes - centre
    squares = features.square().sum(1)[:, None] + prototypes.square().sum(1)
    squares = torch.addmm(squares, features, prototypes.T, alpha=-2).clamp(min=0)
    return squares if squared else root(squares)


def distortion(distances: Tensor, metric: Tensor) -> Tensor:
    """Returns the mean relative error of the distances between prototypes.

    Args:
        distances: (K, K) distances of the prototypes, from 0.
        metric: (K, K) distances of the classes, above 0 off the diagonal.

    Returns:
        0-dim tensor from 0; 0 for a single class.

    Raises:
        ValueError: If shapes differ, or two classes have a distance that is not above 0.

    Example:
        >>> distortion(torch.tensor([[0.0, 3.0], [3.0, 0.0]]), torch.tensor([[0.0, 2.0], [2.0, 0.0]])).item()
        0.5
    """
    return _mean((_ratios(distances, metric) - 1).abs())


def scale_free_distortion(distances: Tensor, metric: Tensor) -> Tensor:
    """Returns the smallest distortion that scaling the prototypes can give.

    The best scale is exact: ``mean |s a - 1| = mean a |s - 1 / a|`` is least at the median of ``1 / a`` weighted by
    ``a``.

    Args:
        distances: As for :func:`distortion`.
        metric: As for :func:`distortion`.

    Returns:
        0-dim tensor in [0, 1]; 1 if all prototypes are one point. The gradient goes through the scale.

    Raises:
        ValueError: As :func:`distortion`.

    Example:
        >>> scale_free_distortion(torch.tensor([[0.0, 3.0], [3.0, 0.0]]), torch.tensor([[0.0, 2.0], [2.0, 0.0]])).item()
        0.0
    """
    ratios = _ratios(distances, metric)
    ascending, order = ratios.detach().double().sort()
    below = ascending.cumsum(0)
    if len(ratios) == 0 or below[-1] == 0:
        return distortion(distances, metric)
    median = order[torch.searchsorted(below, below[-1:] / 2)[0]]
    return _mean((ratios / ratios[median] - 1).abs())


def distortion_loss(distances: Tensor, metric: Tensor, *, scale_free: bool = True) -> Tensor:
    """Returns the smooth distortion that training adds to its loss.

    Args:
        distances: As for :func:`distortion`.
        metric: As for :func:`distortion`.
        scale_free: Whether the prototypes are first scaled as suits them best, with gradient through the scale.

    Returns:
        0-dim tensor from 0, and up to 1 if ``scale_free``; 0 for a single class.

    Raises:
        ValueError: As :func:`distortion`.

    Example:
        >>> metric = torch.tensor([[0.0, 2.0], [2.0, 0.0]])
        >>> distortion_loss(2 * metric, metric).item(), distortion_loss(2 * metric, metric, scale_free=False).item()
        (0.0, 1.0)
    """
    ratios = _ratios(distances, metric)
    if scale_free:
        ratios = ratios * (ratios.sum() / ratios.square().sum().clamp(min=torch.finfo(ratios.dtype).tiny))
    return _mean((ratios - 1).square())


def _ratios(distances: Tensor, metric: Tensor) -> Tensor:
    """Returns ``d_kl / D_kl`` of all pairs of different classes, flat."""
    if distances.ndim != 2 or distances.shape[0] != distances.shape[1] or distances.shape != metric.shape:
        raise ValueError(
            f"distances and metric must both be (K, K); they are {tuple(distances.shape)} and {tuple(metric.shape)}"
        )
    expected = _off_diagonal(metric)
    if not (expected > 0).all():
        wrong = ~(metric > 0) & ~torch.eye(len(metric), dtype=torch.bool, device=metric.device)
        first, second = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"metric must be above 0 between different classes; it is {metric[first, second].item()} between "
            f"{first} and {second}. Are they one class?"
        )
    return _off_diagonal(distances) / expected


def _off_diagonal(square: Tensor) -> Tensor:
    """Returns the (K (K - 1),) entries off the diagonal, row by row."""
    size = len(square)
    # without the first entry, every K + 1 that follow end with one of the diagonal
    return square.flatten()[1:].reshape(max(size - 1, 0), size + 1)[:, :-1].flatten()


def _mean(errors: Tensor) -> Tensor:
    return errors.sum() / max(len(errors), 1)
