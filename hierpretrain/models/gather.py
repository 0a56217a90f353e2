"""The exchange of the models with other processes.

A loss over pairs compares the m rows of a process with the M rows of all processes. So a process holds the M x D rows
once, and their gradient once while backward runs (twice for a moment where processes have different numbers of rows,
which travel padded to the largest number). 262,144 rows of 128 numbers take 128 MiB, which is little beside an
encoder's activations for m images. Passing the rows round in a ring would hold m of them at a time, but every loss
would wait for as many exchanges as there are processes, in forward and again in backward.

The two collectives in use, ``all_gather_into_tensor`` and ``reduce_scatter_tensor``, exist for NCCL and for gloo.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from mmengine.model import is_model_wrapper
from torch import Tensor, nn

from hierpretrain.functional.first_order import first_order


def gather_rows(rows: Tensor, counts: int | Sequence[int] | None = None) -> tuple[Tensor, int]:
    """Stacks the rows of all processes, rank 0's first, and lets the gradient flow back to where they came from.

    Backward adds up the gradients that all processes send to a row. So if every process computes the same loss of the
    stacked rows and ``DistributedDataParallel`` averages over the processes, the gradient equals the gradient of one
    process on all rows. (Without the sum, as is common, it would be 1 / world size of that.)

    Args:
        rows: (m, ...) tensor; m may differ between processes, the other dimensions must not.
        counts: The m of every process, rank 0's first, or one number where all are equal. ``None``: the processes tell
            each other first, which takes another collective and a wait for the device.

    Returns:
        The (M, ...) rows of all processes and the position of this process's first row among them. Without
        ``torch.distributed``, the rows themselves and 0.

    Example:
        >>> gather_rows(torch.ones(2, 3))[1]
        0
    """
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return rows, 0
    if counts is None:
        counts = gather_rows(torch.tensor([len(rows)], device=rows.device), 1)[0].tolist()
    counts = [counts] * dist.get_world_size() if isinstance(counts, int) else list(counts)
    return _Gather.apply(rows, counts), sum(counts[: dist.get_rank()])


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: list[int]) -> Tensor:
        ctx.counts, most = counts, max(counts)
        gathered = rows.new_empty(len(counts) * most, *rows.shape[1:])
        dist.all_gather_into_tensor(gathered, _padded(rows, most))
        if min(counts) == most:
            return gathered
        return torch.cat([shard[:count] for shard, count in zip(gathered.split(most), counts, strict=True)])

    @staticmethod
    @first_order
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        counts, most = ctx.counts, max(ctx.counts)
        if min(counts) < most:
            grad = torch.cat([_padded(shard, most) for shard in grad.split(counts)])
        own = grad.new_empty(most, *grad.shape[1:])
        dist.reduce_scatter_tensor(own, grad.contiguous())
        return own[: counts[dist.get_rank()]], None


def unwrapped(model: nn.Module) -> nn.Module:
    """Returns a model without what MMEngine may have wrapped it in for several processes."""
    return model.module if is_model_wrapper(model) else model


def _padded(rows: Tensor, count: int) -> Tensor:
    """Returns the rows, contiguous and padded with 0 to ``count``, since collectives want equal numbers."""
    if len(rows) == count:
        return rows.contiguous()
    padded = rows.new_zeros(count, *rows.shape[1:])
    padded[: len(rows)] = rows
    return padded
