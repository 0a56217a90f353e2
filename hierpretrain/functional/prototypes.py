"""Class prototypes, and how well their distances keep those of a tree.

Garnot and Landrieu, *Leveraging Class Hierarchies with Metric-Guided Prototype Learning*, BMVC 2021. With ``d_kl`` the
Euclidean distance of the prototypes of two of K classes, ``D_kl`` that of the classes in the tree and
``a_kl = d_kl / D_kl``, taken over the K (K - 1) pairs of different classes::

    distortion            = mean |a_kl - 1|
    scale-free distortion = min over s of mean |s a_kl - 1|
    distortion loss       = mean (s a_kl - 1)^2        with s = 1, or the best one: s = sum a_kl / sum a_kl^2
"""

from __future__ import annotations

from typing import NoReturn

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hierpretrain.functional.triplet import root

_BLOCK = 1 << 20  # distances at a time


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


def distortion_loss(prototypes: Tensor, metric: Tensor, *, scale_free: bool = True) -> Tensor:
    """Returns the smooth distortion that training adds to its loss.

    Each pair is taken once, and the distances of a block of rows are computed anew for the gradient, so the (K, K)
    matrix of them is never held: for 10,000 classes of 64 dimensions a step takes about 100 MB beside the metric, which
    is 200 MB as int16.

    Args:
        prototypes: (K, D) rows, one per class.
        metric: (K, K) symmetric distances of the classes, of any type; what is above the diagonal is read, and must be
            above 0.
        scale_free: Whether the prototypes are first scaled as suits them best. The gradient through the scale is 0,
            since the loss is least there.

    Returns:
        0-dim tensor from 0, and up to 1 if ``scale_free``; 0 for a single class.

    Raises:
        ValueError: If shapes do not fit, or two classes have a distance that is not above 0.

    Example:
        >>> prototypes, metric = torch.tensor([[0.0], [4.0]]), torch.tensor([[0, 2], [2, 0]])
        >>> distortion_loss(prototypes, metric).item(), distortion_loss(prototypes, metric, scale_free=False).item()
        (0.0, 1.0)
    """
    size = len(prototypes)
    if prototypes.ndim != 2 or metric.shape != (size, size):
        raise ValueError(
            f"prototypes must be (K, D) and metric (K, K); they are {tuple(prototypes.shape)} and {tuple(metric.shape)}"
        )
    step = max(1, _BLOCK // max(size, 1))
    blocks = [(start, min(start + step, size)) for start in range(0, size, step)]
    scale = prototypes.new_ones(())
    if scale_free:
        sums = prototypes.new_zeros(2)
        with torch.no_grad():
            for block in blocks:
                ratios, _ = _ratios_of_block(prototypes, metric, block)
                sums += torch.stack([ratios.sum(), ratios.square().sum()])
        scale = sums[0] / sums[1].clamp(min=torch.finfo(sums.dtype).tiny)
    loss = prototypes.new_zeros(())
    for block in blocks:
        loss = loss + checkpoint(
            _errors_of_block, prototypes, metric, block, scale, use_reentrant=False, preserve_rng_state=False
        )
    return loss / max(size * (size - 1) // 2, 1)


def _errors_of_block(prototypes: Tensor, metric: Tensor, block: tuple[int, int], scale: Tensor) -> Tensor:
    ratios, pairs = _ratios_of_block(prototypes, metric, block)
    return (scale * ratios - pairs.to(ratios.dtype)).square().sum()


def _ratios_of_block(prototypes: Tensor, metric: Tensor, block: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Returns (b, K - start) ratios of the classes of a block to those from its first on, and which to count.

    A pair of the block counts where the second class stands behind the first; all others have the ratio 0.
    """
    start, stop = block
    expected = metric[start:stop, start:].to(prototypes.dtype)
    pairs = torch.ones_like(expected, dtype=torch.bool).triu(1)
    expected = expected.masked_fill(~pairs, torch.inf)
    if not expected.min() > 0:
        _refuse(metric)
    return prototype_distances(prototypes[start:stop], prototypes[start:]) / expected, pairs


def _ratios(distances: Tensor, metric: Tensor) -> Tensor:
    """Returns ``d_kl / D_kl`` of all pairs of different classes, flat."""
    if distances.ndim != 2 or distances.shape[0] != distances.shape[1] or distances.shape != metric.shape:
        raise ValueError(
            f"distances and metric must both be (K, K); they are {tuple(distances.shape)} and {tuple(metric.shape)}"
        )
    expected = _off_diagonal(metric)
    if not (expected > 0).all():
        _refuse(metric)
    return _off_diagonal(distances) / expected


def _refuse(metric: Tensor) -> NoReturn:
    """Raises the error that names the first two classes of a metric with a distance that is not above 0."""
    wrong = ~(metric > 0) & ~torch.eye(len(metric), dtype=torch.bool, device=metric.device)
    first, second = wrong.nonzero()[0].tolist()
    raise ValueError(
        f"metric must be above 0 between different classes; it is {metric[first, second].item()} between "
        f"{first} and {second}. Are they one class?"
    )


def _off_diagonal(square: Tensor) -> Tensor:
    """Returns the (K (K - 1),) entries off the diagonal, row by row."""
    size = len(square)
    # without the first entry, every K + 1 that follow end with one of the diagonal
    return square.flatten()[1:].reshape(max(size - 1, 0), size + 1)[:, :-1].flatten()


def _mean(errors: Tensor) -> Tensor:
    return errors.sum() / max(len(errors), 1)
