"""Products of all pairs of float32 vectors, by the quickest library that torch has."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor


def inner_products(query: Tensor, gallery: Tensor) -> Tensor:
    """Computes the inner product of every query with every gallery item, in float32.

    torch multiplies float32 matrices by MKL, which on processors of other makers than Intel leaves half of the vector
    unit idle; oneDNN, which comes with torch as well, does not. The threads of torch share the work.

    Args:
        query: (Q, D) float32 on the CPU.
        gallery: (G, D) float32 on the CPU.

    Returns:
        (Q, G) float32, each a sum of D products, which float32 rounds in an order of the library's.

    Example:
        >>> inner_products(torch.eye(2), torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
        tensor([[1., 3., 5.],
                [2., 4., 6.]])
    """
    if 0 not in (*query.shape, *gallery.shape) and _has_onednn():
        return _by_onednn(query.contiguous(), gallery.contiguous())  # which is slow on any other order in memory
    return query @ gallery.T


def _by_onednn(query: Tensor, gallery: Tensor) -> Tensor:
    # what torch.compile puts in the place of a linear layer; the public way to oneDNN copies both sides and the result
    return torch.ops.mkldnn._linear_pointwise(query, gallery, None, "none", [], "")  # type: ignore[no-any-return]


@cache
def _has_onednn() -> bool:
    """Returns whether torch comes with oneDNN, and with the operator in the form that is used here."""
    try:
        return torch.equal(_by_onednn(torch.eye(2), torch.eye(2)), torch.eye(2))
    except (AttributeError, RuntimeError, TypeError):
        return False
