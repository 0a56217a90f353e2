"""Checks of options, features and labels, each with one message."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from hierpretrain.taxonomy import PAD


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
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be in 0 to 1; it is {value}")


def check_at_least_1(**options: int) -> None:
    """Raises a ValueError if an option is below 1.

    Example:
        >>> check_at_least_1(batch_size=0)
        Traceback (most recent call last):
        ValueError: batch_size must be at least 1; it is 0
    """
    for name, value in options.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1; it is {value}")


def check_ks(ks: Sequence[int]) -> None:
    """Raises a ValueError if one of the k of a metric is below 1."""
    if wrong := [k for k in ks if k < 1]:
        raise ValueError(f"every k of ks must be at least 1; {wrong[0]} is not")


# ---------------------------------------------------------------- features
def check_features(features: Tensor, name: str = "features") -> None:
    """Raises a ValueError unless features are (N, D), floating-point and not empty."""
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(
            f"{name} must be (N, D), one row per item and not empty; their shape is {tuple(features.shape)}"
        )
    if not features.is_floating_point():
        raise ValueError(f"{name} must be floating-point; they are {features.dtype}; convert them with .float()")


def check_finite(features: Tensor, name: str = "features") -> None:
    """Raises a ValueError that names the first of the (N, D) rows with NaN or infinity, if there is one."""
    if not (finite := features.isfinite().all(1)).all():
        raise ValueError(
            f"{name} must be finite; row {int((~finite).nonzero()[0])} is not. "
            "Lower the learning rate, clip gradients, or look for a broken image"
        )


def check_one_width(first: Tensor, second: Tensor, first_name: str, second_name: str) -> None:
    """Raises a ValueError if two sets of features differ in D."""
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"{first_name} and {second_name} must come from one model and have one D; they have {first.shape[1]} and "
            f"{second.shape[1]}"
        )


# ---------------------------------------------------------------- labels
def check_flat(labels: Tensor, num_items: int, name: str = "labels") -> Tensor:
    """Checks one column of labels.

    Args:
        labels: (N,) integers: node ids from 0, or ``PAD`` where an item has none.
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
    if labels.shape != (num_items,):
        raise ValueError(
            f"{name} must be ({num_items},), one per row of features; their shape is {tuple(labels.shape)}; of a label "
            "matrix pass one column"
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"{name} must be integers, since ids above 2^24 collide as float32; they are {labels.dtype}")
    labels = labels.detach().cpu().long().contiguous()
    if (wrong := labels < PAD).any():
        row = int(wrong.nonzero()[0])
        raise ValueError(f"{name} must be ids from 0, or PAD (-1) for none; row {row} is {int(labels[row])}")
    return labels
