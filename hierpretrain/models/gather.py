"""All that the models need to know of other processes."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """Stacks the rows of all processes, rank 0's first, and lets the gradient flow back to where they came from.

    Backward adds up the gradients that all processes send to a row. So if every process computes the same loss of the
    stacked rows and ``DistributedDataParallel`` averages over them, the gradient is that of one process on all rows.
    (Returning only the own process's part, as is common, gives 1 / world size of it.)

    Args:
        rows: (m, ...) tensor; m may differ between processes, the other dimensions not.

    Returns:
        The (M, ...) rows of all processes and the place of this process's first row among them. Without
        ``torch.distributed``, the rows themselves and 0.

    Example:
        >>> gather_rows(torch.ones(2, 3))[1]
        0
    """
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return rows, 0
    size = torch.tensor([len(rows)], device=rows.device)
    sizes = [torch.zeros_like(size) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, size)
    counts = [int(s) for s in sizes]
    return _Gather.apply(rows, counts), sum(counts[: dist.get_rank()])


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        padded = rows.new_zeros(max(counts), *rows.shape[1:])  # all_gather wants equal shapes
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        grad = grad.clone(memory_format=torch.contiguous_format)  # it may be another tensor's gradient as well
        dist.all_reduce(grad)
        first = sum(ctx.counts[: dist.get_rank()])
        return grad[first : first + ctx.counts[dist.get_rank()]], None
