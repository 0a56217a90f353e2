"""Options with one number for each level of a tree."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def numbers_of_levels(values: Sequence[float], levels: int, name: str) -> list[float]:
    """Turns an option into one number for each level, coarsest first.

    Args:
        values: One number for each level, coarsest first; or two, of the coarsest and of the finest level, with the
            levels between them evenly spaced. Of a tree of one level, the one level is the finest.
        levels: How many levels there are.
        name: What the message shall call the option.

    Raises:
        ValueError: If there are neither two numbers nor one for each level.

    Example:
        >>> numbers_of_levels((0.5, 0.25), 3, "margins"), numbers_of_levels((0.5, 0.25), 1, "margins")
        ([0.5, 0.375, 0.25], [0.25])
        >>> numbers_of_levels((0.5, 0.4, 0.1), 3, "margins")
        [0.5, 0.4, 0.1]
    """
    numbers = [float(value) for value in values]
    if len(numbers) == levels:
        return numbers
    if len(numbers) != 2:
        raise ValueError(
            f"{name} must be one number for each of the {levels} levels, coarsest first, or two, of the coarsest and "
            f"of the finest level; they are {numbers}"
        )
    if levels < 2:
        return numbers[2 - levels :]
    spaced: list[float] = torch.linspace(numbers[0], numbers[1], levels, dtype=torch.float64).tolist()
    return spaced
