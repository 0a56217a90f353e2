"""Uniform samples of items, for what would take too long with all of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def sample_indices(number: int, most: int, *, seed: int) -> Tensor:
    """Draws at most ``most`` of ``number`` indices uniformly, without replacement; all where there are no more.

    Returns:
        (min(most, number),) int64, ascending.

    Example:
        >>> sample_indices(3, 5, seed=0).tolist(), len(sample_indices(5000, 1000, seed=0))
        ([0, 1, 2], 1000)
    """
    if number <= most:
        return torch.arange(number)
    return torch.from_numpy(np.sort(np.random.default_rng(seed).choice(number, most, replace=False)))
