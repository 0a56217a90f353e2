"""The batches of losses over pairs: checked, in full precision, with the rows of all processes beside the own ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

from hierpretrain.checks import as_tensor, check_finite, check_ids
from hierpretrain.taxonomy import append_instances, as_labels, check_labels


class Gather(Protocol):
    """Stacks the rows of all processes, with gradient, as :func:`hierpretrain.models.gather.gather_rows`.

    It takes (m, ...) rows and, where known, how many rows each process has, or one number if all have as many; it
    returns the (M, ...) rows of all and the position of the first own row among them.
    """

    def __call__(self, rows: Tensor, counts: int | Sequence[int] | None = None, /) -> tuple[Tensor, int]:
        """Returns the rows of all processes and the position of the first own one."""


class Batch(NamedTuple):
    """The rows of one process among the rows of all."""

    features: Tensor
    """(m, D) of this process, in float32 or float64: the anchors."""
    keys: Tensor
    """(M, D) of all processes; on one process, ``features`` itself."""
    first: int
    """The position of the first own row among the keys."""
    labels: Tensor
    """(M, ...) of all processes."""

    @property
    def position(self) -> Tensor:
        """Returns where the own rows stand among the keys, (m,) int64."""
        return torch.arange(self.first, self.first + len(self.features), device=self.keys.device)


def join_processes(features: Tensor, labels: Tensor, gather: Gather | None, instances: Tensor | None = None) -> Batch:
    """Checks the rows of this process and stacks the rows of all processes.

    All processes learn in one exchange what is wrong with the rows of any, so that none waits for one that has stopped.

    Args:
        features: (m, D) floating-point rows of this process; half precision becomes float32.
        labels: (m,) classes, (m, L) label matrix or (m, P, L) labels of several paths, one entry per row.
        gather: Stacks the rows of all processes; ``None`` on one process.
        instances: (m,) numbers of the images, which become a last level of the labels.

    Raises:
        ValueError: If shapes do not match, labels are malformed or a feature is not finite. An error on one process is
            an error on all.

    Example:
        >>> batch = join_processes(torch.eye(2).half(), torch.tensor([4, 5]), None)
        >>> batch.keys.dtype, batch.first, batch.labels.tolist()
        (torch.float32, 0, [4, 5])
    """
    if gather is None:
        labels = _checked(features, labels, instances).to(features.device)
        features = in_full_precision(features)
        _check_finite(features)
        return Batch(features, features, 0, labels)
    wrong, shape = None, [0]
    try:
        labels = _checked(features, labels, instances).to(features.device)
        shape = [features.shape[1], labels.shape[1] if labels.ndim == 3 else 0, *labels.shape[1:][-1:]]  # D, P, L
    except ValueError as error:
        wrong = error
    shape += [0] * (3 - len(shape))
    own = torch.tensor([[wrong is None, len(features), *shape]], dtype=torch.int64, device=features.device)
    of_processes = gather(own, 1)[0].tolist()
    if wrong is not None:
        raise wrong
    for process, (good, _, *others) in enumerate(of_processes):
        if not good:
            raise ValueError(f"process {process} has malformed features or labels; its own error says what is wrong")
        if others != shape:
            raise ValueError(
                "all processes must have features and labels of one width: here (D, P, L) is "
                f"{tuple(shape)}, on process {process} it is {tuple(others)} (P is 0 for labels of one path)"
            )
    counts = [count for _, count, *_ in of_processes]
    features = in_full_precision(features)
    keys, first = gather(features, counts)
    _check_finite(keys)
    return Batch(features, keys, first, gather(labels, counts)[0])


def in_full_precision(features: Tensor) -> Tensor:
    """Returns half precision as float32: exp(1 / temperature) and sums over thousands of rows need the range.

    Example:
        >>> [in_full_precision(torch.ones(1, dtype=dtype)).dtype for dtype in (torch.float16, torch.float64)]
        [torch.float32, torch.float64]
    """
    return features.float() if features.dtype in (torch.float16, torch.bfloat16) else features


def _check_finite(keys: Tensor) -> None:
    if not keys.detach().square().sum().isfinite():  # a first look that takes no time
        check_finite(keys)


def one_process(rows: Tensor, counts: int | Sequence[int] | None = None, /) -> tuple[Tensor, int]:
    """Stacks the rows of the only process there is.

    Example:
        >>> one_process(torch.zeros(2, 3))[1]
        0
    """
    return rows, 0


def sum_over_processes(own: Tensor, gather: Gather | None) -> Tensor:
    """Adds up a tensor over all processes, with gradient.

    Args:
        own: Of any shape, the same on all processes.
        gather: As for :func:`join_processes`.

    Example:
        >>> sum_over_processes(torch.tensor([1.0, 2.0]), None).tolist()
        [1.0, 2.0]
    """
    return (gather or one_process)(own[None], 1)[0].sum(0)


def check_rows(features: Tensor | NDArray[Any]) -> Tensor:
    """Returns features as a tensor; a ValueError unless they are (M, D) and floating-point.

    Example:
        >>> check_rows(torch.eye(2, dtype=torch.int64))
        Traceback (most recent call last):
        ValueError: features must be (M, D) floating point; they are (2, 2) of torch.int64
    """
    features = as_tensor(features)
    if features.ndim != 2 or not features.is_floating_point():
        raise ValueError(
            f"features must be (M, D) floating point; they are {tuple(features.shape)} of {features.dtype}"
        )
    return features


def check_one_row_each(features: Tensor, labels: Tensor) -> None:
    """Raises a ValueError unless there are as many labels as features.

    Example:
        >>> check_one_row_each(torch.eye(2), torch.tensor([[0, 1]]))
        Traceback (most recent call last):
        ValueError: labels must have one row per row of features (2); they have 1. With several views, repeat the ...
    """
    if len(labels) != len(features):
        raise ValueError(
            f"labels must have one {'entry' if labels.ndim == 1 else 'row'} per row of features ({len(features)}); "
            f"they have {len(labels)}. "
            "With several views, repeat the labels for each view"
        )


def _checked(features: Tensor, labels: Tensor, instances: Tensor | None) -> Tensor:
    """Returns the labels, with a level of instances if there are any, after checking that they fit the features."""
    check_rows(features)
    labels = as_labels(labels)
    if labels.ndim != 1:
        check_labels(labels, several_paths=True)
    else:
        check_ids(labels)
    check_one_row_each(features, labels)
    return labels if instances is None else append_instances(labels, instances)
