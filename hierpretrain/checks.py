"""Checks of options, features and labels, each with one message."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hierpretrain.taxonomy import PAD, LabelsLike, as_labels


# ---------------------------------------------------------------- options
def check_one_of(name: str, value: object, choices: Collection[object]) -> None:
    """Raises a ValueError unless an option is one of its choices, of which there are at least two.

    Example:
        >>> check_one_of("mining", "semi", ("hard", "all"))
        Traceback (most recent call last):
        ValueError: mining must be 'hard' or 'all'; it is 'semi'
    """
    if value not in choices:
        *others, last = map(repr, choices)
        raise ValueError(f"{name} must be {', '.join(others)} or {last}; it is {value!r}")


def check_above_0(**options: float) -> None:
    """Raises a ValueError if an option is 0, below 0, infinite or NaN.

    Example:
        >>> check_above_0(temperature=0.0)
        Traceback (most recent call last):
        ValueError: temperature must be above 0; it is 0.0
    """
    for name, value in options.items():
        check_number(**{name: value})
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be above 0; it is {value}")


def check_not_below_0(**options: float) -> None:
    """Raises a ValueError if an option is below 0, infinite or NaN.

    Example:
        >>> check_not_below_0(margin=-0.5)
        Traceback (most recent call last):
        ValueError: margin must be finite and not below 0; it is -0.5
    """
    for name, value in options.items():
        check_number(**{name: value})
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be finite and not below 0; it is {value}")


def check_fraction(**options: float) -> None:
    """Raises a ValueError if an option is below 0, above 1 or NaN.

    Example:
        >>> check_fraction(label_smoothing=2)
        Traceback (most recent call last):
        ValueError: label_smoothing must be in 0 to 1; it is 2
    """
    for name, value in options.items():
        check_number(**{name: value})
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be in 0 to 1; it is {value}")


def check_at_least_1(**options: int) -> None:
    """Raises a ValueError if an option is below 1 or no whole number; 2.0 and True are none.

    Example:
        >>> check_at_least_1(batch_size=0)
        Traceback (most recent call last):
        ValueError: batch_size must be at least 1; it is 0
        >>> check_at_least_1(times=1.5)
        Traceback (most recent call last):
        ValueError: times must be a whole number; it is 1.5
    """
    for name, value in options.items():
        check_whole(**{name: value})
        if value < 1:
            raise ValueError(f"{name} must be at least 1; it is {value}")


def check_from_0(**options: int) -> None:
    """Raises a ValueError if an option, such as a seed, is no integer from 0; True and 1.0 are none.

    Example:
        >>> check_from_0(seed=True)
        Traceback (most recent call last):
        ValueError: seed must be an integer from 0; it is True
    """
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 0:
            raise ValueError(f"{name} must be an integer from 0; it is {value!r}")


def check_number(**options: object) -> None:
    """Raises a ValueError if an option is a text, None, or True or False.

    Example:
        >>> check_number(power=True)
        Traceback (most recent call last):
        ValueError: power must be a number; it is True
    """
    for name, value in options.items():
        if isinstance(value, bool | str | None):
            raise ValueError(f"{name} must be a number; it is {value!r}")


def check_whole(**options: object) -> None:
    """Raises a ValueError if an option is no whole number; 2.0 and True are none.

    Example:
        >>> check_whole(times=1.5)
        Traceback (most recent call last):
        ValueError: times must be a whole number; it is 1.5
    """
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise ValueError(f"{name} must be a whole number; it is {value!r}")


def check_flag(**options: object) -> None:
    """Raises a ValueError unless an option is True or False: the text ``'no'`` would count as True.

    Example:
        >>> check_flag(channels_last="no")
        Traceback (most recent call last):
        ValueError: channels_last must be True or False; it is 'no'
    """
    for name, value in options.items():
        check_one_of(name, value, (True, False))


def check_level(**options: object) -> None:
    """Raises a ValueError unless an option, a level, is a name or a whole number; True and 1.0 are none.

    Example:
        >>> check_level(level=True)
        Traceback (most recent call last):
        ValueError: level must be a name or a whole number; it is True
    """
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, str | Integral):
            raise ValueError(f"{name} must be a name or a whole number; it is {value!r}")


def check_ks(ks: Sequence[int]) -> None:
    """Raises a ValueError unless the k of a metric are whole numbers from 1.

    Example:
        >>> check_ks((1, 2.5))
        Traceback (most recent call last):
        ValueError: every k of ks must be a whole number of at least 1; 2.5 is not
    """
    if isinstance(ks, str) or not isinstance(ks, Iterable):
        raise ValueError(f"ks must be several numbers, such as (1, 5); they are {ks!r}")
    if wrong := [k for k in ks if isinstance(k, bool) or not isinstance(k, Integral) or k < 1]:
        raise ValueError(f"every k of ks must be a whole number of at least 1; {wrong[0]!r} is not")


# ---------------------------------------------------------------- features
def as_tensor(values: Tensor | NDArray[Any] | Sequence[Any]) -> Tensor:
    """Returns a tensor as it is, and an array or nested lists as a new one.

    Example:
        >>> as_tensor(np.ones((1, 2), ">f4"))
        tensor([[1., 1.]])
    """
    if isinstance(values, Tensor):
        return values
    array = np.asarray(values)
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))  # a copy, since arrays may be read-only


def check_floating(values: Tensor, name: str) -> None:
    """Raises a ValueError unless values are floating-point.

    Example:
        >>> check_floating(torch.tensor([[1, 2]]), "logits")
        Traceback (most recent call last):
        ValueError: logits must be floating-point; they are torch.int64; convert them with .float()
    """
    if not values.is_floating_point():
        raise ValueError(f"{name} must be floating-point; they are {values.dtype}; convert them with .float()")


def check_features(features: Tensor | NDArray[Any] | Sequence[Any], name: str = "features") -> Tensor:
    """Returns features as a tensor; a ValueError unless they are (N, D), floating-point and not empty."""
    features = as_tensor(features)
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(
            f"{name} must be (N, D), one row per item and not empty; their shape is {tuple(features.shape)}"
        )
    check_floating(features, name)
    return features


def check_finite(features: Tensor, name: str = "features", images: Sequence[str] = ()) -> None:
    """Raises a ValueError that names the first of the (N, D) rows with NaN or infinity, if there is one.

    Args:
        features: The rows.
        name: What a message shall call them.
        images: The N images that they are of, for the message.
    """
    if not (finite := features.isfinite().all(1)).all():
        row = int((~finite).nonzero()[0])
        raise ValueError(
            f"{name} must be finite; row {row} is not{f' ({images[row]})' if images else ''}. "
            "Lower the learning rate, clip gradients, or look for a broken image"
        )


def check_directions(features: Tensor, name: str, images: Sequence[str] = ()) -> Tensor:
    """Checks that rows are finite and not zero, so that each has a direction.

    Args:
        features: (N, D) floating-point.
        name: What a message shall call them.
        images: The N images that they are of, for the message.

    Returns:
        (N, 1), the size of the largest entry of each row.

    Raises:
        ValueError: If a row has none.

    Example:
        >>> check_directions(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), "embeddings", ["a.png", "b.png"])
        Traceback (most recent call last):
        ValueError: embeddings must have a direction; row 1 is all zero (b.png); leave it out
    """
    blocks = torch.split(features, 1024)  # which fit the processor's cache
    largest = torch.cat([block.abs().amax(1, keepdim=True) for block in blocks])
    check_finite(largest, name, images)  # NaN and infinity both show in it
    if not (nonzero := largest > 0).all():
        row = int((~nonzero).nonzero()[0, 0])
        of = f" ({images[row]})" if images else ""
        raise ValueError(f"{name} must have a direction; row {row} is all zero{of}; leave it out")
    return largest


def check_losses(losses: Tensor) -> None:
    """Raises a ValueError that names the first of the losses of items that is NaN or infinite, if there is one.

    Finite logits and features may overflow where they are subtracted or added up.

    Example:
        >>> check_losses(torch.tensor([0.5, torch.inf]))
        Traceback (most recent call last):
        ValueError: losses must be finite; row 1 is not. Lower the learning rate, clip gradients, ...
    """
    check_finite(losses.detach().reshape(-1, 1), "losses")


def check_one_width(first: int, second: int, first_name: str, second_name: str) -> None:
    """Raises a ValueError if two sets of features differ in D.

    Example:
        >>> check_one_width(128, 64, "query", "index")
        Traceback (most recent call last):
        ValueError: query and index must come from one model and have one D; they have 128 and 64
    """
    if first != second:
        raise ValueError(
            f"{first_name} and {second_name} must come from one model and have one D; they have {first} and {second}"
        )


# ---------------------------------------------------------------- labels
def check_flat(labels: LabelsLike, num_items: int, name: str = "labels") -> Tensor:
    """Checks one column of labels.

    Args:
        labels: (N,) integers, as for :func:`~hierpretrain.taxonomy.as_labels`: node ids from 0, or ``PAD`` where an
            item has none.
        num_items: N.
        name: What a message shall call them.

    Returns:
        (N,) int64 on the CPU.

    Raises:
        ValueError: If they are no integers, not one per item, or below ``PAD``.

    Example:
        >>> check_flat(torch.tensor([4, -1], dtype=torch.int16), 2)
        tensor([ 4, -1])
    """
    labels = as_labels(labels, name)
    if labels.shape != (num_items,):
        raise ValueError(
            f"{name} must be ({num_items},), one per row of features; their shape is {tuple(labels.shape)}; of a label "
            "matrix pass one column"
        )
    labels = labels.detach().cpu().contiguous()
    check_ids(labels, name)
    return labels


def check_ids(labels: Tensor, name: str = "labels") -> None:
    """Raises a ValueError that names the first of (N,) labels below ``PAD``, if there is one."""
    if (wrong := labels < PAD).any():
        row = int(wrong.nonzero()[0])
        raise ValueError(f"{name} must be ids from 0, or PAD (-1) for none; row {row} is {int(labels[row])}")


def check_classes(labels: Tensor, num_classes: int, least: int = 0) -> None:
    """Raises a ValueError if labels, of any shape, are not from ``least`` to ``num_classes - 1``.

    Example:
        >>> check_classes(torch.tensor([1, 3]), 3)
        Traceback (most recent call last):
        ValueError: labels must be classes from 0 to 2; they go from 1 to 3. Leave out items without a class
    """
    if labels.numel() and not least <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
            f"labels must be classes from 0 to {num_classes - 1}; they go from {int(labels.min())} to "
            f"{int(labels.max())}. Leave out items without a class"
        )


# ---------------------------------------------------------------- neighbours
def check_neighbours(similarities: Tensor, indices: LabelsLike, num_items: int) -> tuple[Tensor, Tensor]:
    """Checks the neighbours of queries.

    Args:
        similarities: (Q, K) numbers, K at least 1; of a neighbour, finite.
        indices: (Q, K) integers, the neighbours as indices into N items; ``PAD`` for none.
        num_items: N.

    Returns:
        The similarities, and the indices as int64.

    Raises:
        ValueError: If shapes disagree, similarities are not floating-point or not finite, or an index is of no item.

    Example:
        >>> check_neighbours(torch.tensor([[0.5]]), torch.tensor([[7]]), 3)
        Traceback (most recent call last):
        ValueError: indices must be below 3, the number of items, or PAD (-1) for none; row 0 is [7]
    """
    similarities, indices = as_tensor(similarities), as_labels(indices, "indices")
    if similarities.ndim != 2 or similarities.shape != indices.shape or similarities.shape[1] == 0:
        raise ValueError(
            "similarities and indices must both be (Q, K), K at least 1; their shapes are "
            f"{tuple(similarities.shape)} and {tuple(indices.shape)}"
        )
    check_floating(similarities, "similarities")
    if (wrong := (indices < PAD) | (indices >= num_items)).any():
        row = int(wrong.any(1).nonzero()[0])
        raise ValueError(
            f"indices must be below {num_items}, the number of items, or PAD (-1) for none; row {row} is "
            f"{indices[row].tolist()}"
        )
    check_finite(similarities.masked_fill(indices == PAD, 0.0), "similarities")
    return similarities, indices
