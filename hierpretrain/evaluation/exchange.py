"""The exchange between processes that evaluate together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from mmengine.dist import all_gather, all_gather_object, get_world_size
from numpy.typing import NDArray

Columns = dict[str, NDArray[Any]]
"""Arrays whose first dimension is the number of images, by the name of a sample's item."""

_Result = TypeVar("_Result")


def on_all(work: Callable[..., _Result], *args: Any) -> list[_Result]:
    """Calls a function without communication on every process; returns the results, in the order of the ranks.

    Raises:
        ValueError: If it fails on any process, so that none waits for another.
    """
    result, error = None, None
    try:
        result = work(*args)
    except Exception as raised:
        error = raised
    outcomes = all_gather_object((result, None if error is None else f"{type(error).__name__}: {error}"))
    if error is not None:
        raise error
    for rank, (_, message) in enumerate(outcomes):
        if message is not None:
            raise ValueError(f"process {rank} of {len(outcomes)} could not evaluate: {message}")
    return [outcome for outcome, _ in outcomes]


def gather(columns: Callable[[], Columns]) -> Columns:
    """Stacks the images of all processes, in the order of the ranks.

    Args:
        columns: Makes this process's own columns, of any number of images; none at all if it has no image.

    Raises:
        ValueError: If they cannot be made on some process, or do not fit together.
    """
    if get_world_size() == 1:
        return columns()
    own: Columns = {}

    def describe() -> dict[str, tuple[str, tuple[int, ...]]]:
        own.update(columns())
        return {name: (values.dtype.str, values.shape) for name, values in own.items()}

    kinds = on_all(describe)
    return {name: _gather(own.get(name), [kind.get(name) for kind in kinds]) for name in max(kinds, key=len)}


def _gather(own: NDArray[Any] | None, kinds: Sequence[tuple[str, tuple[int, ...]] | None]) -> NDArray[Any]:
    """Stacks one column of all processes, of which some have no image."""
    there = [kind for kind in kinds if kind is not None]
    if len({(dtype, shape[1:]) for dtype, shape in there if dtype[1] != "U"}) > 1:
        raise ValueError(f"processes must have embedded images of one shape; theirs are {there}")
    if there[0][0][1] == "U":  # texts are few bytes: no tensor is needed
        return np.concatenate([part for part in all_gather_object(own) if part is not None])
    dtype, (_, *rest) = there[0]
    lengths = [0 if kind is None else kind[1][0] for kind in kinds]
    padded = np.zeros((max(lengths), *rest), dtype)  # all_gather wants equal shapes
    if own is not None:
        padded[: len(own)] = own
    parts = all_gather(torch.from_numpy(padded))
    return np.concatenate([part.cpu().numpy()[:length] for part, length in zip(parts, lengths, strict=True)])
