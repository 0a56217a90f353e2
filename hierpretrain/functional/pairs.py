"""The sums over pairs of rows behind the contrastive losses, a block of anchors at a time, never as an (M, M) matrix.

:mod:`hierpretrain.functional.contrastive` states what is computed, and the tests compare it with loops over all pairs.
Three things make it fast. Similarities of large batches are computed again in backward instead of held. Rows are sorted
by their paths, so that the rows below a node stand side by side and the positives of a block of anchors lie in a few
columns. And masks are floating point, 1 for a positive: a product with one takes a tenth of ``torch.where``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, Literal

import torch
from torch import Tensor

from hierpretrain.functional.batch import Batch
from hierpretrain.functional.first_order import first_order
from hierpretrain.taxonomy import PAD, prefix_ids

Positives = Literal["share", "diverge"]

_CPU_LOGITS = 1 << 18  # per thread: 1 MiB of float32, which stays in the L2 cache from one operation to the next
_GPU_LOGITS = 1 << 26  # 256 MiB of float32: enough work for every kernel, little beside a model
_LEAST_ROWS = 128  # fewer make the matrix products slow
_CPU_BLOCK, _GPU_BLOCK = 128, 2048  # anchors: fewer make more calls, more make wider blocks
_HELD_PAIRS = 1 << 20  # 4 MiB of float32: similarities that are kept for backward rather than computed again


def rows_at_a_time(rows: int, keys: int, device: torch.device, chunk_size: int | None = None) -> int:
    """Chooses for how many of some rows, 1 at least, to hold the similarities to all keys: ``chunk_size``, if given.

    Example:
        >>> rows_at_a_time(1000, 1 << 20, torch.device("cpu")), rows_at_a_time(1000, 1000, torch.device("cpu"), 16)
        (128, 16)
    """
    if chunk_size is None:
        budget = _CPU_LOGITS * torch.get_num_threads() if device.type == "cpu" else _GPU_LOGITS
        chunk_size = max(budget // max(keys, 1), _LEAST_ROWS)
    return max(1, min(chunk_size, rows))


def log_sum_exp(features: Tensor, keys: Tensor, position: Tensor, scale: float, chunk_size: int | None) -> Tensor:
    """Computes ``logsumexp_{a != i} scale f_i . k_a`` (m,), the denominator of eq. 3, differentiable once.

    Args:
        features: (m, D) floating point.
        keys: (M, D), among them the features; M is at least 2.
        position: (m,) int64: which key is the row itself.
        scale: 1 / temperature.
        chunk_size: Rows whose similarities are held at a time; ``None`` for a number that is fast.

    Example:
        >>> log_sum_exp(torch.eye(3), torch.eye(3), torch.arange(3), 1.0, None).exp()
        tensor([2., 2., 2.])
    """
    lse: Tensor = _LogSumExp.apply(features, keys, position, scale, chunk_size)
    return lse


class _LogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, keys: Tensor, position: Tensor, scale: float, chunk_size: int | None
    ) -> Tensor:
        rows, size = len(features), rows_at_a_time(len(features), len(keys), features.device, chunk_size)
        hold = chunk_size is None and any(ctx.needs_input_grad) and rows * len(keys) <= _HELD_PAIRS
        # fresh memory for every chunk would cost as much as a pass over it
        buffer = features.new_empty(rows if hold else size, len(keys))
        most, sums = features.new_empty(rows, 1), features.new_empty(rows)
        for start in range(0, rows, size):
            part = slice(start, start + size)
            exps = _similarities(features[part], keys, position[part], scale, buffer[part] if hold else buffer)
            torch.amax(exps, 1, keepdim=True, out=most[part])
            torch.sum(exps.sub_(most[part]).exp_(), 1, out=sums[part])
        ctx.save_for_backward(features, keys, position, most, sums, buffer if hold else None)
        ctx.scale, ctx.size = scale, size
        return sums.log().add_(most[:, 0])

    @staticmethod
    @first_order
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        features, keys, position, most, sums, held = ctx.saved_tensors
        grad_features, grad_columns = torch.empty_like(features), keys.new_zeros(keys.shape[1], len(keys))
        weights = (grad / sums * ctx.scale)[:, None]  # d lse_i / d s_ia is the softmax, exps / sums
        buffer = features.new_empty(ctx.size, len(keys)) if held is None else None
        with torch.autocast(features.device.type, enabled=False):
            for start in range(0, len(features), ctx.size):
                part = slice(start, start + ctx.size)
                if buffer is None:
                    exps = held[part]
                else:
                    exps = _similarities(features[part], keys, position[part], ctx.scale, buffer)
                    exps.sub_(most[part]).exp_()
                torch.mm(exps, keys, out=grad_features[part]).mul_(weights[part])
                grad_columns.addmm_((features[part] * weights[part]).T, exps)  # faster than the transposed product
        return grad_features, grad_columns.T, None, None, None


def _similarities(chunk: Tensor, keys: Tensor, position: Tensor, scale: float, buffer: Tensor) -> Tensor:
    """Computes the (c, M) similarities of a chunk in a buffer, -inf of a row to itself."""
    out = buffer[: len(chunk)]
    return torch.addmm(out, chunk, keys.T, beta=0, alpha=scale, out=out).scatter_(1, position[:, None], -torch.inf)


# ------------------------------------------------------------------ which pairs are positives
def nodes_of(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers the nodes on the path of each of M rows, and counts the rows at or below each, (M, L + 1) each.

    A level's numbers are below M. A row is alone below the end of its path, and in a last column.

    Example:
        >>> numbers, sizes = nodes_of(torch.tensor([[0, 0], [1, PAD], [0, 1], [0, 1]]))
        >>> numbers.tolist(), sizes.tolist()
        ([[0, 0, 0], [1, 2, 1], [0, 1, 2], [0, 1, 3]], [[3, 1, 1], [1, 1, 1], [3, 2, 1], [3, 2, 1]])
    """
    ids = prefix_ids(labels)  # without gaps
    absent = ids == PAD
    if bool(absent.any()):
        ids = torch.where(absent, ids.amax(0) + absent.cumsum(0), ids)
    number = torch.cat([ids, torch.arange(len(ids), device=ids.device)[:, None]], 1)
    one = torch.ones_like(number)
    return number, torch.zeros_like(one).scatter_add_(0, number, one).gather(0, number)


def sums_below(features: Tensor, keys: Tensor, numbers: Tensor, position: Tensor) -> Tensor:
    """Computes ``sum_j f_i . k_j`` over the keys below each node of a row's path, (m, L + 1), differentiable once.

    They add up to one product with the sum of the node's keys. The last column is the row itself, ``f_i . f_i``.

    Args:
        features: (m, D) floating point.
        keys: (M, D), among them the features.
        numbers: (M, L + 1) numbers of the keys' nodes, as :func:`nodes_of` gives them.
        position: (m,) int64: which key is the row itself.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
        >>> sums_below(rows, rows, torch.tensor([[0, 0], [0, 1], [2, 2]]), torch.arange(3)).tolist()
        [[1.0, 1.0], [1.0, 1.0], [0.5, 0.5]]
    """
    of_keys = numbers[:, :-1].T.contiguous()  # (L, M)
    sums: Tensor = _SumsBelow.apply(features, keys, of_keys, of_keys.index_select(1, position))
    return sums


class _SumsBelow(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, keys: Tensor, of_keys: Tensor, own: Tensor) -> Tensor:
        below = features.new_empty(len(own) + 1, len(features))
        node_sums, products = torch.empty_like(keys), torch.empty_like(features)
        for all_nodes, own_nodes, sums in zip(of_keys, own, below, strict=False):  # the last of below is the row itself
            node_sums.zero_().index_add_(0, all_nodes, keys)
            torch.index_select(node_sums, 0, own_nodes, out=products)
            torch.sum(products.mul_(features), 1, out=sums)
        torch.sum(torch.mul(features, features, out=products), 1, out=below[-1])
        ctx.save_for_backward(features, keys, of_keys, own)
        return below.T

    @staticmethod
    @first_order
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        features, keys, of_keys, own = ctx.saved_tensors
        grads = grad.T[:, :, None]  # (L + 1, m, 1)
        grad_features, grad_keys = features * (2 * grads[-1]), torch.zeros_like(keys)
        node_sums, of_key, products = torch.empty_like(keys), torch.empty_like(keys), torch.empty_like(features)
        for all_nodes, own_nodes, weight in zip(of_keys, own, grads, strict=False):
            node_sums.zero_().index_add_(0, all_nodes, keys)
            grad_features.addcmul_(torch.index_select(node_sums, 0, own_nodes, out=products), weight)
            node_sums.zero_().index_add_(0, own_nodes, torch.mul(features, weight, out=products))
            grad_keys.add_(torch.index_select(node_sums, 0, all_nodes, out=of_key))
        return grad_features, grad_keys, None, None


def less_inner(values: Tensor, positives: Positives) -> Tensor:
    """Takes from (M, L + 1) sums below each node the sums below the inner node that ``P_l(i)`` leaves out, (M, L).

    ``'share'`` leaves out the row itself, the last column; ``'diverge'`` the node of the next finer level.

    Example:
        >>> less_inner(torch.tensor([[9, 4, 1]]), "share"), less_inner(torch.tensor([[9, 4, 1]]), "diverge")
        (tensor([[8, 3]]), tensor([[5, 3]]))
    """
    return values[:, :-1] - (values[:, -1:] if positives == "share" else values[:, 1:])


class PositivePairs:
    """The positives of a batch at each level, with sums and maxima over them.

    A positive is a key that has a node in common with the anchor. Of rows with one path each, sorted by their paths,
    the rows of a node are a range of keys. Rows with several paths are compared path by path; those with the most come
    first.

    Args:
        batch: M rows with (M, L) or (M, P, L) labels, of which m are anchors.
        positives: ``'share'`` or ``'diverge'``.
        scale: 1 / temperature.
        chunk_size: Anchors of a block at most, or ``None``.

    Attributes:
        anchors: (m, D) own rows, in the order of this object; ``keys``: (M, D) rows of all processes.
        position: (m,) where the anchors stand among the keys, ascending.
    """

    def __init__(self, batch: Batch, positives: Positives, scale: float, chunk_size: int | None) -> None:
        paths = batch.labels[:, None] if batch.labels.ndim == 2 else _present_first(batch.labels)  # (M, P, L)
        order = _path_order(paths)
        self.position, own = order.argsort()[batch.position].sort()
        self.keys = batch.keys.index_select(0, order)
        self.anchors = self.keys if batch.features is batch.keys else batch.features.index_select(0, own)
        self.scale, self._diverge = scale, positives == "diverge"
        nodes = prefix_ids(paths[order])
        present = nodes[..., 0] != PAD  # (M, P)
        self._with_path = present[self.position].sum(0).tolist(), present.sum(0).tolist()  # how many own rows, how many
        # floating-point numbers are compared without a conversion of the result, and exact up to 2^24
        numbers = nodes.permute(2, 1, 0).to(self.keys.dtype if nodes.numel() < 1 << 24 else torch.float64)  # (L, P, M)
        self._nodes = numbers.contiguous()
        self._own_nodes = torch.where(numbers == PAD, PAD - 1, numbers)[:, :, self.position]  # PAD equals nothing

        size = rows_at_a_time(len(own), len(order), order.device, chunk_size)
        size = min(size, chunk_size or (_CPU_BLOCK if order.device.type == "cpu" else _GPU_BLOCK))
        first = torch.arange(0, len(own), size, device=order.device)
        last = (first + size).clamp(max=len(own))
        rows = [slice(*ends) for ends in zip(first.tolist(), last.tolist(), strict=True)]
        if nodes.shape[1] == 1:
            number, size_of = nodes_of(paths[order, 0])
            everyone = torch.arange(len(order), device=order.device)[:, None].expand_as(number)
            start = torch.empty_like(number).scatter_reduce_(0, number, everyone, "amin", include_self=False)
            start = start.gather(0, number)  # where the range of a row's node begins
            ends = torch.stack([start[self.position[first]], (start + size_of)[self.position[last - 1]]], -1)
            columns = [[slice(*level) for level in block] for block in ends[:, :-1].tolist()]
        else:
            columns = [[slice(0, len(order))] * len(numbers)] * len(rows)
        self._blocks = list(zip(rows, columns, strict=True))
        areas = ((part.stop - part.start) * (levels[0].stop - levels[0].start) for part, levels in self._blocks)
        self._held: dict[int, Tensor] | None = {} if chunk_size is None and sum(areas) <= _HELD_PAIRS else None

    def hardest_and_sums(self, lse: Tensor, *, with_grad: bool = False) -> tuple[Tensor, Tensor]:
        """Finds the largest pair loss over ``P_l(i)`` and the sum of all, (m, L) each; 0 where there is no positive.

        ``lse`` is (m,), as :func:`log_sum_exp` gives it. No pair loss is below 0. ``with_grad`` makes the largest
        differentiable; the sums, which nothing clamps, have no gradient.
        """
        with torch.no_grad():
            hardest, key = torch.zeros_like(lse)[:, None].repeat(1, len(self._nodes)), None
            sums = torch.zeros_like(hardest)
            if with_grad:
                key = torch.zeros_like(hardest, dtype=torch.int64)
            for part, _, levels in self.losses(lse):
                for level, columns, nll, mask in levels:
                    nll = nll * mask
                    hardest[part, level], sums[part, level] = nll.amax(1), nll.sum(1)
                    if key is not None:
                        key[part, level] = nll.argmax(1) + columns.start
                    del nll, mask  # so that the next ones take their memory
        if key is None:
            return hardest, sums
        similarities = [(self.anchors * self.keys.index_select(0, own)).sum(1) for own in key.unbind(1)]
        nll = lse[:, None] - torch.stack(similarities, 1) * self.scale
        return torch.where(hardest > 0, nll, 0.0), sums  # the same numbers, the largest with their gradient

    def clamped_sums(self, lse: Tensor, bounds: Tensor | None) -> tuple[Tensor, Tensor]:
        """Computes ``sum_{j in P_l(i)} max(nll_ij, bounds_il)`` (m, L), and counts the positives.

        ``lse`` is (m,), ``bounds`` (m, L) or (1, L), or ``None``, which clamps nothing. The (m, L) sums are
        differentiable once, also in both of these. A pair on its bound keeps its own gradient.
        """
        if bounds is None:
            bounds = lse.new_full((1, len(self._nodes)), -torch.inf)
        sums, counts = _ClampedSums.apply(self.anchors, self.keys, lse, bounds.expand(len(lse), -1), self)
        return sums, counts

    def losses(self, lse: Tensor) -> Iterator[tuple[slice, Tensor, Iterator[tuple[int, slice, Tensor, Tensor]]]]:
        """Yields blocks of pair losses ``nll_ij = lse_i - s_ij``, the same to the last bit each time.

        A block is a slice of anchors, their losses with all keys of some columns, and for each level (0 is the
        coarsest) its number, its columns, a view of its losses, and which of them are of positives, 1.0 or 0.0.
        """
        for part, columns in self._blocks:
            block = columns[0]  # the columns of all other levels lie within
            nll = self._held.get(part.start) if self._held is not None else None
            if nll is None:
                nll = self.anchors[part] @ self.keys[block].T
                torch.sub(lse[part, None], nll, alpha=self.scale, out=nll)
                if self._held is not None:
                    self._held[part.start] = nll
            yield part, nll, self._levels(part, columns, nll)
            del nll

    def _levels(self, part: slice, columns: list[slice], nll: Tensor) -> Iterator[tuple[int, slice, Tensor, Tensor]]:
        for level, own in enumerate(columns):
            of_level = nll[:, own.start - columns[0].start : own.stop - columns[0].start]
            yield level, own, of_level, self._mask(part, columns, level)

    def _mask(self, part: slice, columns: list[slice], level: int) -> Tensor:
        mask = self._in_one_node(part, columns[level], level)
        if self._diverge and level + 1 < len(columns):
            mask -= self._in_one_node(part, columns[level], level + 1)
        return mask.scatter_(1, self.position[part, None] - columns[level].start, 0.0)  # never its own positive

    def _in_one_node(self, part: slice, columns: slice, level: int) -> Tensor:
        own, keys = self._own_nodes[level], self._nodes[level]
        same = own.new_empty(part.stop - part.start, columns.stop - columns.start)
        torch.eq(own[0, part, None], keys[0, columns], out=same)
        buffer = torch.empty_like(same) if len(keys) > 1 else same
        for p, q in list(product(range(len(keys)), repeat=2))[1:]:  # the rows with more than p paths stand first
            rows, others = max(0, min(self._with_path[0][p], part.stop) - part.start), self._with_path[1][q]
            found = torch.eq(own[p, part, None][:rows], keys[q, :others], out=buffer[:rows, :others])
            torch.maximum(same[:rows, :others], found, out=same[:rows, :others])
        return same


class _ClampedSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, anchors: Tensor, keys: Tensor, lse: Tensor, bounds: Tensor, pairs: PositivePairs
    ) -> tuple[Tensor, Tensor]:
        sums, counts = torch.zeros_like(bounds), torch.zeros_like(bounds)
        for part, _, levels in pairs.losses(lse):
            for level, _, nll, mask in levels:
                counts[part, level] = mask.sum(1)
                sums[part, level] = torch.maximum(nll, bounds[part, level, None]).mul_(mask).sum(1)
                del nll, mask  # so that the next ones take their memory
        ctx.save_for_backward(lse, bounds, counts)
        ctx.pairs = pairs
        ctx.mark_non_differentiable(counts)
        return sums, counts

    @staticmethod
    @first_order
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
        (lse, bounds, counts), pairs = ctx.saved_tensors, ctx.pairs
        grad_anchors, grad_keys = torch.empty_like(pairs.anchors), torch.zeros_like(pairs.keys)
        grad_lse, on_bound = torch.empty_like(lse), torch.zeros_like(grad)
        with torch.autocast(grad.device.type, enabled=False):
            for part, nll, levels in pairs.losses(lse):
                weights = torch.zeros_like(nll)  # d loss / d nll_ij, of all levels
                start = None
                for level, columns, of_level, mask in levels:
                    start = columns.start if start is None else start
                    kept = torch.ge(of_level, bounds[part, level, None], out=torch.empty_like(mask)).mul_(mask)
                    on_bound[part, level] = counts[part, level] - kept.sum(1)
                    weights[:, columns.start - start : columns.stop - start].addcmul_(kept, grad[part, level, None])
                    del of_level, mask, kept  # so that the next ones take their memory
                grad_lse[part] = weights.sum(1)
                weights *= -pairs.scale
                torch.mm(weights, pairs.keys[start : start + nll.shape[1]], out=grad_anchors[part])
                grad_keys[start : start + nll.shape[1]].addmm_(weights.T, pairs.anchors[part])
                del nll, weights
        return grad_anchors, grad_keys, grad_lse, grad * on_bound, None


def _present_first(labels: Tensor) -> Tensor:
    """Moves the absent paths of (M, P, L) labels behind the others."""
    order = (labels[..., :1] == PAD).long().argsort(dim=1, stable=True)
    return labels.gather(1, order.expand_as(labels))


def _path_order(paths: Tensor) -> Tensor:
    """Sorts (M, P, L) rows by their path, or those with several by their number of paths, the most first."""
    if paths.shape[1] > 1:
        return (paths[..., 0] != PAD).sum(1).neg().argsort(stable=True)
    order = torch.arange(len(paths), device=paths.device)
    for column in reversed(prefix_ids(paths[:, 0]).unbind(1)):
        order = order[column[order].argsort(stable=True)]
    return order
