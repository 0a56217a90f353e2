"""The nearest neighbours that several sections of a report share, searched for once."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpretrain.functional.search import nearest
from hierpretrain.taxonomy import PAD


def nearest_others(features: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Finds the k nearest other images of each of N images, or all of fewer others.

    Returns:
        (N, K) cosine similarities, the highest first, and (N, K) int64 indices, K = min(k, N - 1).

    Example:
        >>> nearest_others(torch.tensor([[1.0, 0.0], [4.0, 3.0], [0.0, 1.0]]), 1)[1].tolist()
        [[1], [0], [1]]
        >>> nearest_others(torch.ones(1, 2), 1)[1].tolist()
        [[]]
    """
    k = min(k, len(features) - 1)
    if k < 1:
        return torch.empty(len(features), 0), torch.empty(len(features), 0, dtype=torch.int64)
    return nearest(features, features, k, own_indices=torch.arange(len(features)))


def nearest_inside(features: Tensor, indices: Tensor, neighbours: Tensor) -> Tensor:
    """Finds the nearest other image of each image among the images of one part of the tree.

    Most have one among the neighbours that are known already; only the others are searched for.

    Args:
        features: (N, D) embeddings.
        indices: (R,) different indices of the part's images.
        neighbours: (N, K) indices of the nearest other images of each image, the nearest first.

    Returns:
        (R,) int64: the index of the nearest of the others in ``indices``; ``PAD`` if there is no other.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.3], [0.0, 1.0]])
        >>> neighbours = nearest_others(features, 1)[1]
        >>> nearest_inside(features, torch.tensor([0, 2, 3]), neighbours).tolist()
        [2, 0, 2]
    """
    if len(indices) < 2:
        return torch.full_like(indices, PAD)
    is_inside = torch.zeros(len(features), dtype=torch.bool)
    is_inside[indices] = True
    inside = is_inside[neighbours[indices]]  # (R, K)
    known = inside.any(1)
    nearest_known = inside.int().argmax(1, keepdim=True) if inside.shape[1] else None
    found = indices.clone() if nearest_known is None else neighbours[indices].gather(1, nearest_known)[:, 0]
    if not known.all():
        asked = indices[~known]
        _, columns = nearest(features[asked], features[indices], 2)
        two = indices[columns]  # one of them may be the image itself
        found[~known] = torch.where(two[:, 0] == asked, two[:, 1], two[:, 0])
    return found
