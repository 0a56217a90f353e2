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


def nearest_inside(
    query: Tensor, gallery: Tensor, asked: Tensor, offered: Tensor, neighbours: Tensor, *, same_set: bool
) -> Tensor:
    """Finds the nearest gallery image of some queries among the images of one part of the tree.

    Most have one among the neighbours that are known already; only the others are searched for.

    Args:
        query: (Q, D) embeddings.
        gallery: (G, D) embeddings.
        asked: (R,) different indices of the part's queries.
        offered: (M,) different indices of the part's gallery images.
        neighbours: (Q, K) indices of the nearest gallery images of each query, the nearest first, never itself.
        same_set: Query and gallery are the same images, and so are ``asked`` and ``offered``.

    Returns:
        (R,) int64: the index of the nearest in ``offered``, never the query itself; ``PAD`` if there is none.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.3], [0.0, 1.0]])
        >>> neighbours, part = nearest_others(features, 1)[1], torch.tensor([0, 2, 3])
        >>> nearest_inside(features, features, part, part, neighbours, same_set=True).tolist()
        [2, 0, 2]
    """
    found = torch.full_like(asked, PAD)
    if len(offered) < 1 + same_set:
        return found
    is_inside = torch.zeros(len(gallery), dtype=torch.bool)
    is_inside[offered] = True
    inside = is_inside[neighbours[asked]]  # (R, K)
    known = inside.any(1)
    if known.any():
        first = inside[known].int().argmax(1, keepdim=True)
        found[known] = neighbours[asked[known]].gather(1, first)[:, 0]
    if not known.all():
        lacking = asked[~known]
        _, columns = nearest(query[lacking], gallery[offered], 1 + same_set)
        near = offered[columns]  # one of two may be the query itself
        found[~known] = torch.where(near[:, 0] == lacking, near[:, 1], near[:, 0]) if same_set else near[:, 0]
    return found
