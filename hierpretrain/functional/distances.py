"""Euclidean distances between two sets of features."""

from __future__ import annotations

from typing import NoReturn

import torch
from torch import Tensor

from hierpretrain.checks import as_tensor

_SMALLEST, _LARGEST = 1e-24, 1e4  # squared lengths of which float32 rounds no distance that matters


def pairwise_distances(features: Tensor, others: Tensor, *, squared: bool = False) -> Tensor:
    """Computes the Euclidean distances of all pairs of one set of features and another, such as class prototypes.

    Args:
        features: (N, D) features of any length.
        others: (K, D) features of any length.
        squared: Whether to return the squares of the distances.

    Returns:
        (N, K) distances, at least 0; NaN to and from features with NaN. The gradient of a distance of 0 is 0. The
        squares are rounded by about 1e-7 of the square of the largest distance to the mean of ``others``; where that
        is a distance above 100, by 1e-16 of it, as they are computed in float64.

    Example:
        >>> pairwise_distances(torch.zeros(1, 2), torch.tensor([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [[5.0, 0.0]]
    """
    features, others = as_tensor(features), as_tensor(others)
    # a shift of both matrices changes no distance, and |x|^2 - 2 x.y + |y|^2 rounds least around 0
    centre = others.detach().mean(0) if len(others) else 0.0
    features, others = features - centre, others - centre
    of_features, of_others = features.square().sum(1), others.square().sum(1)
    largest = torch.cat([of_features, of_others]).detach().amax() if len(features) + len(others) else 1.0
    if features.dtype != torch.float64 and not _SMALLEST < float(largest) < _LARGEST:
        return pairwise_distances(features.double(), others.double(), squared=squared).to(features.dtype)
    squares = of_features[:, None] + of_others
    squares = torch.addmm(squares, features, others.T, alpha=-2).clamp(min=0)
    return squares if squared else square_root(squares)


def square_root(squares: Tensor) -> Tensor:
    """Computes the square root of a tensor, with gradient 0 at 0, where the gradient of ``torch.sqrt`` is infinite.

    Example:
        >>> square_root(torch.tensor([4.0, 0.0])).tolist()
        [2.0, 0.0]
    """
    above = ~(squares <= 0)  # NaN stays NaN
    return torch.where(above, squares, 1.0).sqrt() * above


def check_squares(features: Tensor, name: str = "features") -> None:
    """Raises a ValueError if sums of squared distances of (M, D) features could overflow.

    Example:
        >>> check_squares(torch.tensor([[3e19, 0.0]]))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: features must be shorter, or their squared distances overflow torch.float32; the norm of ...
    """
    longest = features.detach().square().sum(1).amax() if len(features) else features.new_zeros(())
    if not (4 * len(features) * longest).isfinite():
        raise_too_long(features, name)


def raise_too_long(features: Tensor, name: str = "features") -> NoReturn:
    """Raises the ValueError about features whose distances overflow."""
    norm = features.detach().double().norm(dim=1).amax()
    raise ValueError(
        f"{name} must be shorter, or their squared distances overflow {features.dtype}; the norm of the longest is "
        f"{norm:.3g}. Normalize them, or lower the learning rate"
    )
