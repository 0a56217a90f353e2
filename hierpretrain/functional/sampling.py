"""Samples of items: uniform ones, and ones that go round the branches of a tree."""

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


def over_branches(labels: Tensor, order: Tensor) -> Tensor:
    """Reorders items so that they go round the branches of a tree, at every level.

    Any number of first items is spread over the nodes of the first level as evenly as these have items; those of one
    such node are spread over its children in the same way, and so on. Of one deepest node, items keep their order.

    Args:
        labels: (N, L) label matrix, or (N, P, L) if items have several paths, of which the first counts.
        order: (N,) int64, the items in the order in which a branch's are taken, such as a random one or the best first.

    Returns:
        (N,) int64, the items of ``order``. Labels of no level leave it as it is.

    Example:
        >>> labels = torch.tensor([[0, 0], [0, 0], [0, 1], [1, 2], [1, 2]])
        >>> over_branches(labels, torch.arange(5)).tolist()
        [0, 3, 2, 4, 1]
    """
    paths = labels if labels.ndim == 2 else labels[:, 0]
    for level in reversed(range(paths.shape[1])):
        # after this level, items of one node stand as the finer levels left them, and nodes take turns; paths that end
        # above it are a node of their own in their parent
        nodes = torch.unique(paths[order, : level + 1], dim=0, return_inverse=True)[1] if len(order) else order
        grouped = nodes.argsort(stable=True)
        counts = nodes[grouped].unique_consecutive(return_counts=True)[1]
        turn = torch.empty_like(order)
        turn[grouped] = torch.arange(len(order)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
        order = order[turn.argsort(stable=True)]
    return order
