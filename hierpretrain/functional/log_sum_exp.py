"""The log-sum-exp of every row's similarities to all keys but itself, in row chunks, with its gradient in one pass."""

from __future__ import annotations

import torch
from torch import Tensor

_CPU_LOGITS = 1 << 18  # per thread: 1 MiB of float32, which stays in the L2 cache from one operation to the next
_GPU_LOGITS = 1 << 26  # 256 MiB of float32: enough work for every kernel, little beside a model
_LEAST_ROWS = 128  # fewer make the matrix products slow


def rows_at_a_time(rows: int, keys: int, device: torch.device, chunk_size: int | None = None) -> int:
    """Returns how many rows' similarities to hold at a time.

    Args:
        rows: Their number; the answer is 1 to that, and 1 if there is none.
        keys: Similarities of a row.
        device: Where they are computed.
        chunk_size: The answer, if given.

    Example:
        >>> rows_at_a_time(1000, 1 << 20, torch.device("cpu")), rows_at_a_time(1000, 1000, torch.device("cpu"), 16)
        (128, 16)
    """
    if chunk_size is None:
        budget = _CPU_LOGITS * torch.get_num_threads() if device.type == "cpu" else _GPU_LOGITS
        chunk_size = max(budget // max(keys, 1), _LEAST_ROWS)
    return max(1, min(chunk_size, rows))


def log_sum_exp(
    rows: Tensor, keys: Tensor, place: Tensor, scale: float, chunk_size: int | None, weights: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Computes ``lse_i = logsumexp_{a != i} scale r_i . k_a`` and, on request, the gradient of ``sum_i w_i lse_i``.

    The weights are known before, so one pass over the chunks gives both: nothing of the size of a chunk outlives it,
    and no similarity is computed again in backward. Nothing goes through autograd: call it under ``torch.no_grad()``.

    Args:
        rows: (m, D) floating point.
        keys: (M, D), among them the rows.
        place: (m,) int64: which key is the row itself.
        scale: 1 / temperature.
        chunk_size: As for :func:`rows_at_a_time`.
        weights: (m,) ``w``; without them there is no gradient.

    Returns:
        ``lse`` (m,), and the gradients of the weighted sum in the rows (m, D) and in the keys (M, D); of no rows if
        there are no weights.

    Example:
        >>> rows = torch.eye(2)
        >>> lse, of_rows, of_keys = log_sum_exp(rows, rows, torch.arange(2), 1.0, None, torch.ones(2))
        >>> lse.tolist(), of_rows.tolist(), of_keys.tolist()
        ([0.0, 0.0], [[0.0, 1.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]])
    """
    most, sums = rows.new_empty(len(rows), 1), rows.new_empty(len(rows))
    wanted = weights is not None
    grad_rows = torch.empty_like(rows) if wanted else rows[:0]
    grad_keys = torch.zeros_like(keys) if wanted else keys[:0]
    scaled, columns = rows * scale, keys.T
    size = rows_at_a_time(len(rows), len(keys), rows.device, chunk_size)
    buffer = rows.new_empty(size, len(keys))  # fresh memory for every chunk would cost as much as a pass over it
    for start in range(0, len(rows), size):
        part = slice(start, start + size)
        exps = torch.mm(scaled[part], columns, out=buffer[: len(scaled[part])])  # (c, M) similarities
        exps.scatter_(1, place[part, None], -torch.inf)
        torch.amax(exps, 1, keepdim=True, out=most[part])
        torch.sum(exps.sub_(most[part]).exp_(), 1, out=sums[part])
        if weights is not None:
            # d lse_i / d s_ia is the softmax, exps / sums
            share = (weights[part] / sums[part])[:, None]  # (c, 1)
            torch.mm(exps, keys, out=grad_rows[part]).mul_(share)
            grad_keys.addmm_(exps.T, scaled[part] * share)
    return sums.log_().add_(most[:, 0]), grad_rows.mul_(scale), grad_keys
