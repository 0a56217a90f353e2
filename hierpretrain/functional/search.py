"""Exact cosine search."""

from __future__ import annotations

import faiss
import torch
from torch import Tensor

from hierpretrain.checks import check_directions, check_features, check_one_width

_BLOCK = 1024  # features at a time


def nearest(query: Tensor, gallery: Tensor, k: int, *, own_indices: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Finds the ``k`` gallery items of highest cosine similarity to each query, exactly and without a (Q, G) matrix.

    Args:
        query: (Q, D) floating-point features on any device, of any length but 0.
        gallery: (G, D) features.
        k: How many to return: 1 to G, or to G - 1 with ``own_indices``.
        own_indices: (Q,) int64, the gallery index of each query itself. It is no answer, while a duplicate of it is.
            ``None``: no query is in the gallery.

    Returns:
        (Q, k) float32 cosine similarities, the highest first, and (Q, k) int64 gallery indices, both on the CPU. Equal
        similarities stand in the order of the gallery; faiss chooses which of several equal ones are the last of the
        ``k``.

    Raises:
        ValueError: If features are malformed (see ``unit_rows``), differ in D, ``k`` is out of range, or there is not
            one of ``own_indices`` for each query.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [4.0, 3.0], [0.0, 1.0]])
        >>> similarities, indices = nearest(features, features, 1, own_indices=torch.arange(3))
        >>> indices.tolist(), [round(value, 4) for value in similarities.flatten().tolist()]
        ([[1], [0], [1]], [0.8, 0.8, 0.6])
    """
    query, gallery = unit_pair(query, gallery)
    if own_indices is not None and own_indices.shape != (len(query),):
        raise ValueError(
            f"own_indices must be ({len(query)},), the gallery index of each query; their shape is "
            f"{tuple(own_indices.shape)}"
        )
    num_own = 0 if own_indices is None else 1
    available = len(gallery) - num_own
    if not 1 <= k <= available:
        raise ValueError(f"k must be 1 to {available}, the gallery items there are to find; it is {k}")
    index = faiss.IndexFlatIP(gallery.shape[1])
    index.add(gallery.numpy())
    # (Q, k), or one more to drop the query
    similarities, indices = map(torch.from_numpy, index.search(query.numpy(), k + num_own))
    indices, by_index = indices.sort(1)
    similarities, order = similarities.gather(1, by_index).sort(dim=1, descending=True, stable=True)
    indices = indices.gather(1, order)
    if own_indices is not None:
        drop = indices == own_indices[:, None]
        drop[~drop.any(1), -1] = True  # more than k duplicates pushed the query itself out
        similarities, indices = similarities[~drop].view(-1, k), indices[~drop].view(-1, k)
    return similarities, indices


def unit_rows(features: Tensor, name: str = "features") -> Tensor:
    """Scales features to length 1, once it has checked that this is possible.

    Args:
        features: (N, D) floating-point, on any device, as long or short as their type can express.
        name: What a message shall call them.

    Returns:
        (N, D) float32 on the CPU, contiguous and detached.

    Raises:
        ValueError: If they are not 2-D, not floating-point, empty or not finite, or a row is zero.

    Example:
        >>> unit_rows(torch.tensor([[3e-30, 4e-30]])).tolist()
        [[0.6000000238418579, 0.800000011920929]]
    """
    features = check_features(features, name).detach().cpu()
    features = features if features.dtype == torch.float64 else features.float()
    largest = check_directions(features, name)
    found = torch.empty(features.shape)
    for rows, block, length in zip(
        torch.split(found, _BLOCK), torch.split(features, _BLOCK), torch.split(largest, _BLOCK), strict=True
    ):
        rows.copy_(torch.nn.functional.normalize(block / length))
    return found


def unit_pair(query: Tensor, gallery: Tensor) -> tuple[Tensor, Tensor]:
    """Applies ``unit_rows`` to both and raises a ValueError if they differ in D."""
    query, gallery = unit_rows(query, "query"), unit_rows(gallery, "gallery")
    check_one_width(query.shape[1], gallery.shape[1], "query", "gallery")
    return query, gallery
