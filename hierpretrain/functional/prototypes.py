"""Class prototypes, and how well the distances between them keep the distances of the classes in a tree.

Garnot and Landrieu, *Leveraging Class Hierarchies with Metric-Guided Prototype Learning*, BMVC 2021. With ``d_kl`` the
Euclidean distance of the prototypes of two of K classes, ``D_kl`` the distance of the two classes in the tree and
``a_kl = d_kl / D_kl``, all means being taken over the K (K - 1) pairs of different classes::

    distortion            = mean |a_kl - 1|
    scale-free distortion = min over s of mean |s a_kl - 1|
    distortion loss       = mean (s a_kl - 1)^2        with s = 1, or with the best s = sum a_kl / sum a_kl^2
"""

from __future__ import annotations

import math
from typing import NoReturn

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hierpretrain.checks import as_tensor, check_finite, check_floating
from hierpretrain.functional.distances import check_squares, pairwise_distances

_BLOCK = 1 << 20  # distances at a time


def distortion(distances: Tensor, metric: Tensor) -> Tensor:
    """Computes the mean relative error of the distances between prototypes.

    Args:
        distances: (K, K) distances of the prototypes, at least 0.
        metric: (K, K) distances of the classes in the tree, above 0 off the diagonal.

    Returns:
        0-dim tensor, at least 0; 0 for a single class.

    Raises:
        ValueError: If shapes differ, or two classes have a distance that is not finite and above 0.

    Example:
        >>> distortion(torch.tensor([[0.0, 3.0], [3.0, 0.0]]), torch.tensor([[0.0, 2.0], [2.0, 0.0]])).item()
        0.5
    """
    return _mean((_ratios(distances, metric) - 1).abs())


def scale_free_distortion(distances: Tensor, metric: Tensor) -> Tensor:
    """Computes the smallest distortion that any scaling of the prototypes gives.

    The best scale is exact: ``mean |s a - 1| = mean a |s - 1 / a|`` is least at the median of ``1 / a`` weighted by
    ``a``.

    Args:
        distances: (K, K) distances of the prototypes, at least 0.
        metric: (K, K) distances of the classes in the tree, above 0 off the diagonal.

    Returns:
        0-dim tensor in [0, 1]; 1 if all prototypes are one point. The gradient goes through the scale.

    Raises:
        ValueError: If shapes differ, or two classes have a distance that is not finite and above 0.

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
    """Computes the smooth distortion that training adds to its loss.

    Each pair is taken once. The distances of a block of prototypes are computed anew for the gradient, so that the
    (K, K) matrix of all distances is never held: for 10,000 classes of 64 dimensions a step takes about 100 MB beside
    the metric, which takes 200 MB as int16.

    Args:
        prototypes: (K, D) prototypes, one per class.
        metric: (K, K) symmetric distances of the classes in the tree, of any type. Only the entries above the diagonal
            are read; they must be above 0.
        scale_free: Whether the prototypes are first scaled by the best s. The loss is least there, so that no gradient
            goes through s.

    Returns:
        0-dim tensor, at least 0, and at most 1 if ``scale_free``; 0 for a single class.

    Raises:
        ValueError: If shapes do not fit, or two classes have a distance that is not finite and above 0.

    Example:
        >>> prototypes, metric = torch.tensor([[0.0], [4.0]]), torch.tensor([[0, 2], [2, 0]])
        >>> distortion_loss(prototypes, metric).item(), distortion_loss(prototypes, metric, scale_free=False).item()
        (0.0, 1.0)
    """
    prototypes, metric = as_tensor(prototypes), as_tensor(metric)
    size = len(prototypes)
    if prototypes.ndim != 2 or metric.shape != (size, size):
        raise ValueError(
            f"prototypes must be (K, D) and metric (K, K); they are {tuple(prototypes.shape)} and {tuple(metric.shape)}"
        )
    check_floating(prototypes, "prototypes")
    check_finite(prototypes.detach(), "prototypes")
    check_squares(prototypes, "prototypes")
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
    """Returns the (b, K - start) ratios ``a_kl`` of the classes k of a block and all classes l from its first on.

    Beside them it returns which of them to count: the pairs with k < l. The ratio of all others is 0.
    """
    start, stop = block
    expected = metric[start:stop, start:].to(prototypes.dtype)
    pairs = torch.ones_like(expected, dtype=torch.bool).triu(1)
    expected = expected.masked_fill(~pairs, torch.inf)
    if not ((expected > 0) & ((expected < torch.inf) == pairs)).all():
        _raise_not_above_0(metric)
    return pairwise_distances(prototypes[start:stop], prototypes[start:]) / expected, pairs


def _ratios(distances: Tensor, metric: Tensor) -> Tensor:
    """Returns the (K (K - 1),) ratios ``a_kl`` of all pairs of different classes."""
    distances, metric = as_tensor(distances), as_tensor(metric)
    if distances.ndim != 2 or distances.shape[0] != distances.shape[1] or distances.shape != metric.shape:
        raise ValueError(
            f"distances and metric must both be (K, K); they are {tuple(distances.shape)} and {tuple(metric.shape)}"
        )
    expected = _off_diagonal(metric)
    if not ((expected > 0) & (expected < math.inf)).all():
        _raise_not_above_0(metric)
    return _off_diagonal(distances) / expected


def _raise_not_above_0(metric: Tensor) -> NoReturn:
    """Raises an error that names the first two classes whose distance in the metric is not above 0."""
    wrong = ~((metric > 0) & (metric < math.inf)) & ~torch.eye(len(metric), dtype=torch.bool, device=metric.device)
    first, second = wrong.nonzero()[0].tolist()
    raise ValueError(
        f"metric must be finite and above 0 between different classes; it is {metric[first, second].item()} between "
        f"{first} and {second}. Are they one class?"
    )


def _off_diagonal(square: Tensor) -> Tensor:
    """Returns the (K (K - 1),) entries off the diagonal, row by row."""
    size = len(square)
    # without the first entry, every K + 1 that follow end with one of the diagonal
    return square.flatten()[1:].reshape(max(size - 1, 0), size + 1)[:, :-1].flatten()


def _mean(errors: Tensor) -> Tensor:
    return errors.sum() / max(len(errors), 1)
