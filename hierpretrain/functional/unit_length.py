"""Rows of length 1, with gradient."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


def unit_length(features: Tensor) -> Tensor:
    """Divides every row by its length, as ``torch.nn.functional.normalize`` does, whatever the length is.

    That function squares the entries: it gives zeros for a float32 row longer than 1.8e19, and a row shorter than 1e-12
    stays short.

    Args:
        features: (N, D) floating-point rows, D at least 1.

    Returns:
        (N, D) rows of length 1, with gradient; a row of zeros stays one.

    Example:
        >>> unit_length(torch.tensor([[3e30, 4e30], [3e-30, 4e-30], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    largest = features.detach().abs().amax(1, keepdim=True)
    # far enough from what overflows or is cut off where it is squared
    ordinary = (largest == 0) | ((largest > 1e-10) & (largest < torch.finfo(features.dtype).max ** 0.4))
    # a compiler cannot ask, nor can anybody of meta tensors; to divide by 1 changes nothing
    if torch.compiler.is_compiling() or features.is_meta or not bool(ordinary.all()):
        features = features / torch.where(ordinary, 1.0, largest)
    return normalize(features, dim=1)
