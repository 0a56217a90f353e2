"""Exact cosine search, and the checks that every metric on embeddings shares."""

from __future__ import annotations

import faiss
import torch
from torch import Tensor

from hierpretrain.taxonomy import PAD


def nearest(query: Tensor, gallery: Tensor, k: int, *, own_indices: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Finds the ``k`` gallery rows of highest cosine similarity to each query, exactly and without a (Q, G) matrix.

    Args:
        query: (Q, D) floating-point features on any device, of any length but 0.
        gallery: (G, D) features.
        k: How many to return: 1 to G, or to G - 1 with ``own_indices``.
        own_indices: (Q,) int64, which gallery row each query is itself. It is no answer, and is removed by its index,
            so a duplicate of it stays an answer. ``None``: no query is in the gallery.

    Returns:
        (Q, k) float32 cosine similarities, the highest first, and (Q, k) int64 gallery rows, both on the CPU. Equal
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
            f"own_indices must be ({len(query)},), the gallery row that each query is; their shape is "
            f"{_shape(own_indices)}"
        )
    num_own = 0 if own_indices is None else 1
    available = len(gallery) - num_own
    if not 1 <= k <= available:
        raise ValueError(f"k must be 1 to {available}, the gallery rows there are to find; it is {k}")
    index = faiss.IndexFlatIP(gallery.shape[1])
    index.add(gallery.numpy())
    found = index.search(query.numpy(), k + num_own)
    similarities, indices = (
        torch.from_numpy(found[0]),
        torch.from_numpy(found[1]),
    )  # (Q, k), or one more to drop the query
    indices, by_index = indices.sort(1)
    similarities, order = similarities.gather(1, by_index).sort(dim=1, descending=True, stable=True)
    indices = indices.gather(1, order)
    if own_indices is not None:
        drop = indices == own_indices[:, None]
        drop[~drop.any(1), -1] = True  # more than k duplicates pushed the query itself out
        similarities, indices = similarities[~drop].view(-1, k), indices[~drop].view(-1, k)
    return similarities, indices


def unit_rows(features: Tensor, name: str = "features") -> Tensor:
    """Scales every row to length 1, once it has checked that this is possible.

    Args:
        features: (N, D) floating-point, on any device; rows may be as long or short as their type can express.
        name: What a message shall call them.

    Returns:
        (N, D) float32 on the CPU, contiguous and detached.

    Raises:
        ValueError: If they are not 2-D, not floating-point or empty, or a row has NaN or infinity or is zero.

    Example:
        >>> unit_rows(torch.tensor([[3e-30, 4e-30]])).tolist()
        [[0.6000000238418579, 0.800000011920929]]
    """
    check_features(features, name)
    features = features.detach().cpu()
    features = features if features.dtype == torch.float64 else features.float()
    largest = features.abs().amax(1, keepdim=True)  # NaN and infinity both show in it
    check_finite(largest, name)
    if not (nonzero := largest > 0).all():
        row = int((~nonzero).nonzero()[0, 0])
        raise ValueError(f"{name} must have a direction; row {row} is all zero; leave it out")
    return torch.nn.functional.normalize(features / largest).float().contiguous()


def unit_pair(query: Tensor, gallery: Tensor) -> tuple[Tensor, Tensor]:
    """Applies ``unit_rows`` to both and raises a ValueError if they differ in D."""
    query, gallery = unit_rows(query, "query"), unit_rows(gallery, "gallery")
    check_one_width(query, gallery, "query", "gallery")
    return query, gallery


def check_features(features: Tensor, name: str = "features") -> None:
    """Raises a ValueError unless ``features`` are (N, D), floating-point and not empty."""
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(f"{name} must be (N, D), one row per item and not empty; their shape is {_shape(features)}")
    if not features.is_floating_point():
        raise ValueError(f"{name} must be floating-point; they are {features.dtype}; convert them with .float()")


def check_finite(features: Tensor, name: str = "features") -> None:
    """Raises a ValueError that names the first of the (N, D) rows with NaN or infinity, if there is one."""
    if not (finite := features.isfinite().all(1)).all():
        row = int((~finite).nonzero()[0])
        raise ValueError(f"{name} must be finite; row {row} has NaN or infinity; find out where the model diverged")


def check_one_width(first: Tensor, second: Tensor, first_name: str, second_name: str) -> None:
    """Raises a ValueError if the rows of two sets of features differ in D."""
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"{first_name} and {second_name} must come from one model and have one D; they have {first.shape[1]} and "
            f"{second.shape[1]}"
        )


def check_flat(labels: Tensor, num_rows: int, name: str = "labels") -> Tensor:
    """Checks one column of labels.

    Args:
        labels: (N,) integers: node ids from 0, or ``PAD`` where an item has none.
        num_rows: N, the number of feature rows.
        name: What a message shall call them.

    Returns:
        (N,) int64 on the CPU.

    Raises:
        ValueError: If they are no integers, not one per row, or below ``PAD``.

    Example:
        >>> check_flat(torch.tensor([4, -1], dtype=torch.int16), 2)
        tensor([ 4, -1])
    """
    if labels.shape != (num_rows,):
        raise ValueError(
            f"{name} must be ({num_rows},), one per row of features; their shape is {_shape(labels)}; of a label "
            "matrix pass one column"
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"{name} must be integers, since ids above 2^24 collide as float32; they are {labels.dtype}")
    labels = labels.detach().cpu().long().contiguous()
    if (wrong := labels < PAD).any():
        row = int(wrong.nonzero()[0])
        raise ValueError(f"{name} must be ids from 0, or PAD (-1) for none; row {row} is {int(labels[row])}")
    return labels


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)
