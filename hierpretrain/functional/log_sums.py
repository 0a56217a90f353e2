"""Logarithms of sums of exponentials over some entries of a matrix."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_logsumexp(values: Tensor, mask: Tensor, dim: int) -> Tensor:
    """Computes the log-sum-exp over the entries that a mask has, with a finite gradient also where it has none.

    Args:
        values: Floating-point tensor of any shape.
        mask: Booleans of the same shape.
        dim: The dimension to sum over.

    Returns:
        Without that dimension; -inf, whose softplus is 0, over no entry.

    Example:
        >>> values = torch.tensor([[0.0, 0.0, 9.0], [1.0, 2.0, 3.0]])
        >>> masked_logsumexp(values, torch.tensor([[True, True, False], [False, False, False]]), 1)
        tensor([0.6931,   -inf])
    """
    # of a sum over nothing the gradient is NaN, which masked_fill turns into 0 on its way back
    return values.masked_fill(~mask, -torch.inf).logsumexp(dim)
