"""Votes of neighbours, added up for each class that gets some."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from hierpretrain.taxonomy import PAD


def added_up(candidates: Tensor, votes: Tensor) -> tuple[Tensor, Tensor]:
    """Adds up the votes for equal candidates of a row.

    Args:
        candidates: (Q, K) int64 ids, ``PAD`` for none.
        votes: (Q, K) floating-point, what each counts; of ``PAD`` it counts nothing.

    Returns:
        (Q, K) int64, each candidate of a row once, in ascending order but for ``PAD``, which fills the rest; and (Q, K)
        their votes, 0 in the rest. Memory is O(Q K), whatever the number of classes.

    Example:
        >>> added_up(torch.tensor([[7, 5, -1, 7]]), torch.tensor([[0.5, 2.0, 9.0, 1.0]]))
        (tensor([[-1,  5,  7, -1]]), tensor([[0.0000, 2.0000, 1.5000, 0.0000]]))
    """
    votes = votes.masked_fill(candidates == PAD, 0.0)
    ids, order = candidates.sort(dim=1, stable=True)
    run = pad((ids.diff(dim=1) != 0).long().cumsum(1), (1, 0))  # equal ids now stand together: number the runs
    sums = torch.zeros_like(votes).scatter_add(1, run, votes.gather(1, order))
    return torch.full_like(ids, PAD).scatter(1, run, ids), sums
