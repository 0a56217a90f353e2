"""Checks that several losses make of their options and features, each with one message."""

from __future__ import annotations

import math
from collections.abc import Collection

from torch import Tensor


def check_one_of(name: str, value: object, choices: Collection[object]) -> None:
    """Checks that an option is one of its choices.

    Args:
        name: Name of the option, for the error.
        value: The option.
        choices: All values that it may have, at least two.

    Raises:
        ValueError: If it is none of them.

    Example:
        >>> check_one_of("mining", "semi", ("hard", "all"))
        Traceback (most recent call last):
        ValueError: mining must be 'hard' or 'all', not 'semi'
    """
    if value not in choices:
        *others, last = map(repr, choices)
        raise ValueError(f"{name} must be {', '.join(others)} or {last}, not {value!r}")


def check_above_0(**options: float) -> None:
    """Checks that options are above 0.

    Args:
        **options: The options by name.

    Raises:
        ValueError: If one of them is 0, below 0 or NaN.

    Example:
        >>> check_above_0(temperature=0.0)
        Traceback (most recent call last):
        ValueError: temperature must be above 0; it is 0.0
    """
    for name, value in options.items():
        if not value > 0:
            raise ValueError(f"{name} must be above 0; it is {value}")


def check_not_below_0(**options: float) -> None:
    """Checks that options are finite and at least 0.

    Args:
        **options: The options by name.

    Raises:
        ValueError: If one of them is below 0, infinite or NaN.

    Example:
        >>> check_not_below_0(margin=-0.5)
        Traceback (most recent call last):
        ValueError: margin must be finite and not below 0; it is -0.5
    """
    for name, value in options.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be finite and not below 0; it is {value}")


def check_fraction(**options: float) -> None:
    """Checks that options are from 0 to 1.

    Args:
        **options: The options by name.

    Raises:
        ValueError: If one of them is below 0, above 1 or NaN.

    Example:
        >>> check_fraction(label_smoothing=2)
        Traceback (most recent call last):
        ValueError: label_smoothing must be in 0 to 1; it is 2
    """
    for name, value in options.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be in 0 to 1; it is {value}")


def check_finite(name: str, features: Tensor) -> None:
    """Checks that features hold neither NaN nor infinity.

    Args:
        name: Name of the features, for the error.
        features: (M, D) tensor.

    Raises:
        ValueError: If an entry is not finite. The error names its row.

    Example:
        >>> import torch
        >>> check_finite("features", torch.tensor([[0.0], [torch.nan]]))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: features must be finite; row 1 is not. Lower the learning rate, ...
    """
    if not features.isfinite().all():
        raise ValueError(
            f"{name} must be finite; row {int((~features.isfinite()).any(1).nonzero()[0])} is not. "
            "Lower the learning rate, clip gradients, or look for a broken image"
        )
