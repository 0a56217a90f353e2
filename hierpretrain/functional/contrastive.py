"""Hierarchical contrastive losses of *Use All The Labels* (Zhang et al., CVPR 2022; "paper A"), on plain tensors.

Notation. ``f_i`` are unit rows, ``s_ij = f_i . f_j / temperature``, and level ``l`` runs from 1 (coarsest) to L::

    nll_ij = logsumexp_{a != i} s_ia - s_ij                                              the pair loss: eq. 3, negated
    P_l(i) = { j != i : shared_depth(i, j) >= l }   positives='share'                    Algorithm 1
             { j != i : shared_depth(i, j) == l }   positives='diverge'                  section 3
    loss_l = mean over the anchors i with a positive of the mean over j in P_l(i) of nll_ij
    loss   = (1 / L) sum_l lambda_l loss_l                                               eq. 4: HiMulCon

HiConE and HiMulConE (eq. 5 to 7) clamp ``nll_ij`` of level l from below by a bound ``b_{l+1}`` set by the next finer
level. The paper prints ``l - 1`` there, which its authors have corrected to ``l + 1``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from hierpretrain.taxonomy import PAD, check_labels, prefix_ids, shared_depth

Gather = Callable[[Tensor], tuple[Tensor, int]]
Positives = Literal["share", "diverge"]
Constraint = Literal["pair", "anchor", "level"]

LEVEL_WEIGHTS: dict[str, Callable[[int, int], float]] = {
    "exp": lambda level, levels: math.exp(1 / (levels - level + 1)),
    "pow2": lambda level, levels: 2 ** (1 / (levels - level + 1)),
    "linear": lambda level, levels: level / levels,
    "uniform": lambda level, levels: 1.0,
}
"""``lambda_l`` by name, from (level 1..L, L): the finer the level, the heavier."""


def supcon_loss(
    features: Tensor,
    labels: Tensor,
    *,
    temperature: float = 0.1,
    chunk_size: int | None = None,
    gather: Gather | None = None,
) -> Tensor:
    """Supervised contrastive loss over one set of classes (Khosla et al., NeurIPS 2020, the form ``L_out``).

    Args:
        features: (M, D) unit rows, all views of all images.
        labels: (M,) integer classes; rows labelled ``PAD`` (-1) have no positive but remain negatives of the others.
            The number of its image as label makes this the loss of SimCLR.
        temperature: Divides the cosine similarities; above 0.
        chunk_size: See :func:`hierarchical_contrastive_loss`.
        gather: See :func:`hierarchical_contrastive_loss`.

    Returns:
        0-dim tensor: the mean over the anchors that have a positive; 0 if none has.

    Example:
        >>> features = torch.eye(4)[[0, 0, 1, 1]]  # two pairs of equal rows: e^1 against e^1 + 2 e^0 at temperature 1
        >>> round(supcon_loss(features, torch.tensor([7, 7, 9, 9]), temperature=1.0).item(), 4)
        0.5514
    """
    if labels.ndim != 1:
        raise ValueError(f"labels of supcon_loss must be (M,), one class per row; their shape is {tuple(labels.shape)}")
    return hierarchical_contrastive_loss(
        features,
        labels[:, None],
        temperature=temperature,
        level_weights="uniform",
        chunk_size=chunk_size,
        gather=gather,
    )


def hierarchical_contrastive_loss(
    features: Tensor,
    labels: Tensor,
    *,
    temperature: float = 0.1,
    level_weights: str | Sequence[float] = "exp",
    positives: Positives = "share",
    constraint: Constraint | None = None,
    constraint_grad: bool = False,
    chunk_size: int | None = None,
    gather: Gather | None = None,
) -> Tensor:
    """HiMulCon, HiConE and HiMulConE: eq. 4 to 7 of paper A, as this module's head states them.

    ==========  ==================  =================
    loss        ``level_weights``   ``constraint``
    ==========  ==================  =================
    HiMulCon    ``'exp'``           ``None``
    HiConE      ``'uniform'``       any but ``None``
    HiMulConE   ``'exp'``           any but ``None``
    ==========  ==================  =================

    It differs from the authors' released code, for which see :func:`released_hmlc_loss`: every row takes part at every
    level, the order of the rows does not matter, and the constraint is the paper's unless ``constraint='level'``.

    Args:
        features: (M, D) unit rows, all views of all images; half precision is computed in float32.
        labels: (M, L) label matrix, coarsest level first, ``PAD`` (-1) only on the right and never a positive. Or
            (M, P, L) for items with several paths: ``shared_depth`` is then the most that any two paths share, and a
            positive by two paths counts once. Where no row has a second path, that is the first case again.
        temperature: Divides the cosine similarities; above 0.
        level_weights: ``lambda``: ``'exp'`` e^(1/k) and ``'pow2'`` 2^(1/k), where k counts levels from 1 at the finest;
            ``'linear'`` l/L; ``'uniform'`` 1; or L numbers, the coarsest level's first.
        positives: ``'share'``: all rows below the anchor's node of level l; ``'diverge'``: only those that part from
            the anchor right below it.
        constraint: What bounds level l from below, taken finest level first and carried over levels without a pair:
            ``'pair'``, the largest clamped pair loss of level l + 1 in the batch (eq. 5); ``'anchor'``, the same over
            the anchor's own pairs; ``'level'``, the mean loss of level l + 1 clamps the mean of level l (the form of
            the released code); ``None``, nothing.
        constraint_grad: Whether the gradient of a clamped pair (or level) goes through its bound; otherwise the bound
            is a constant. A pair at its bound keeps its own gradient.
        chunk_size: Rows of the M x M similarities held at a time; ``None`` holds them all, and keeps them for
            backward. In chunks, memory is O(M (chunk_size + D)) at the price of computing them once more.
        gather: Stacks the rows of all processes, with gradient: ``rows (m, ...) -> ((M, ...), place of the own first
            row)``, as :func:`hierpretrain.models.gather.gather_rows`. The value is then that of all rows together.

    Returns:
        0-dim tensor. A level or an anchor without positives contributes nothing; without any, the loss is 0.

    Raises:
        ValueError: If shapes do not match, labels are malformed, features are not finite or an option is unknown.

    Example:
        >>> features = torch.nn.functional.normalize(torch.tensor([[1.0, 0], [1, 1], [0, 1], [-1, 1]]), dim=1)
        >>> labels = torch.tensor([[0, 0], [0, 0], [0, 1], [1, PAD]])
        >>> himulcon = hierarchical_contrastive_loss(features, labels, temperature=1.0)
        >>> himulcone = hierarchical_contrastive_loss(features, labels, temperature=1.0, constraint="pair")
        >>> round(himulcon.item(), 4), round(himulcone.item(), 4)
        (1.8437, 1.8934)
    """
    _check_options(temperature, positives, constraint, chunk_size)
    if features.ndim != 2 or not features.is_floating_point():
        raise ValueError(
            f"features must be (M, D) floating point; they are {tuple(features.shape)} of {features.dtype}"
        )
    check_labels(labels, several_paths=True)
    if len(labels) != len(features):
        raise ValueError(
            f"labels must have one row per row of features ({len(features)}); they have {len(labels)}. "
            "With several views, repeat the labels for each view"
        )
    levels = labels.shape[-1]
    weights = _level_weights(level_weights, levels)
    gather = gather or _gather_nothing
    with torch.autocast(features.device.type, enabled=False):
        if features.dtype in (torch.float16, torch.bfloat16):
            features = features.float()  # exp(1 / temperature) and sums over thousands of rows need the range
        keys, first = gather(features)
        if not keys.isfinite().all():
            raise ValueError(
                f"features must be finite; row {int((~keys.isfinite()).any(1).nonzero()[0])} is not. "
                "Lower the learning rate, clip gradients, or look for a broken image"
            )
        if len(keys) < 2 or levels == 0:
            return 0.0 * keys.sum()
        key_labels = gather(labels)[0].to(features.device)
        batch = _Batch(features, keys, first, key_labels, temperature, positives, chunk_size, gather)
        lambdas = torch.tensor(weights, dtype=features.dtype, device=features.device)
        if constraint in ("pair", "anchor"):
            return _constrained_loss(batch, lambdas, constraint == "pair", constraint_grad, gather)
        return _unconstrained_loss(batch, lambdas, constraint == "level", constraint_grad, gather)


def _gather_nothing(rows: Tensor) -> tuple[Tensor, int]:
    return rows, 0


def _check_options(temperature: float, positives: str, constraint: str | None, chunk_size: int | None) -> None:
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0; it is {temperature}")
    if positives not in ("share", "diverge"):
        raise ValueError(f"positives must be 'share' or 'diverge', not {positives!r}")
    if constraint not in (None, "pair", "anchor", "level"):
        raise ValueError(f"constraint must be None, 'pair', 'anchor' or 'level', not {constraint!r}")
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, or None for all rows at once; it is {chunk_size}")


def _level_weights(level_weights: str | Sequence[float], levels: int) -> list[float]:
    if isinstance(level_weights, str):
        if level_weights not in LEVEL_WEIGHTS:
            raise ValueError(
                f"level_weights must be one of {', '.join(map(repr, LEVEL_WEIGHTS))} or a list, not {level_weights!r}"
            )
        return [LEVEL_WEIGHTS[level_weights](level, levels) for level in range(1, levels + 1)]
    weights = [float(weight) for weight in level_weights]
    if len(weights) != levels:
        raise ValueError(
            f"level_weights must be one number for each of the {levels} levels, coarsest first; they are {weights}"
        )
    if not all(0 <= weight < math.inf for weight in weights):
        raise ValueError(f"level_weights must be finite and not below 0; they are {weights}")
    return weights


class _Batch:
    """Rows as anchors, all processes' rows as keys, and which keys are positives of which rows at each level."""

    def __init__(
        self,
        rows: Tensor,
        keys: Tensor,
        first: int,
        key_labels: Tensor,
        temperature: float,
        positives: Positives,
        chunk_size: int | None,
        gather: Gather,
    ) -> None:
        self.rows, self.keys, self.first = rows, keys, first  # (m, D), (M, D)
        self.temperature, self.chunk_size, self.positives = temperature, chunk_size, positives
        if key_labels.ndim == 3 and not bool((key_labels[:, 1:] != PAD).any()):
            key_labels = key_labels[:, 0]
        self.nodes = prefix_ids(key_labels)  # (M, L), or (M, P, L) if a row of any process has several paths
        self.several_paths = self.nodes.ndim == 3
        self.own = slice(first, first + len(rows))
        self._shared: Tensor | None = None
        if self.several_paths:
            self.counts = self._counts_over_pairs()
            all_counts = gather(self.counts)[0]
        else:
            all_counts = self._counts_by_node()
            self.counts = all_counts[self.own]  # (m, L): |P_l(i)|
        self.num_anchors = (all_counts > 0).sum(0)  # (L,): over all processes

    def _counts_by_node(self) -> Tensor:
        """Returns ``|P_l(i)|`` of the rows of all processes, (M, L), from the numbers of rows below each node."""
        # rows that stand at or below the anchor's node of each level, the anchor with them; 1 where it has no node
        below = [
            torch.where(n == PAD, 1, torch.bincount(n[n != PAD], minlength=1)[n.clamp(min=0)]) for n in self.nodes.T
        ]
        ends = [torch.ones_like(below[0])]
        finer = below[1:] + ends if self.positives == "diverge" else ends * len(below)
        counts = [torch.where(n == PAD, 0, b - f) for n, b, f in zip(self.nodes.T, below, finer, strict=True)]
        return torch.stack(counts, 1)

    def _counts_over_pairs(self) -> Tensor:
        """Returns ``|P_l(i)|``, (m, L); a row below two nodes of the anchor's would be counted twice by node."""
        counts = [torch.stack([positive.sum(1) for positive in of_level], 1) for _, of_level in self.positive_pairs()]
        return torch.cat(counts) if counts else self.nodes.new_zeros(0, self.nodes.shape[-1])

    def log_sum_exp(self) -> Tensor:
        """Returns ``logsumexp_{a != i} s_ia``, (m,)."""
        lse: Tensor = _LogSumExp.apply(self.rows, self.keys, self.first, 1 / self.temperature, self.chunk_size)
        return lse

    def mean_positive_similarity(self) -> Tensor:
        """Returns the mean of ``s_ij`` over ``P_l(i)``, (m, L), 0 where it is empty, in O(M L D) for one path a row.

        The sum over a node's rows is a product with the sum of their features, so no pair is ever looked at. With
        several paths, a row may be below two nodes of the anchor's, and all pairs are looked at.
        """
        if self.several_paths:
            means: Tensor = _MeanPositiveSimilarity.apply(self.rows, self.keys, self)
            return means
        itself = (self.rows * self.rows).sum(1)  # (m,)
        sums = []
        for node in self.nodes.T:
            known = node != PAD
            total = self.keys.new_zeros(int(node.max()) + 1 if known.any() else 0, self.keys.shape[1])
            total = total.index_add(0, node[known], self.keys[known])  # (nodes, D)
            own_node, own_known = node[self.own], known[self.own]
            products = (self.rows[own_known] * total[own_node[own_known]]).sum(1)
            sums.append(itself.masked_scatter(own_known, products))
        finer = [*sums[1:], itself] if self.positives == "diverge" else [itself] * len(sums)
        similarity = torch.stack([s - f for s, f in zip(sums, finer, strict=True)], 1) / self.temperature
        return torch.where(self.counts > 0, similarity / self.counts.clamp(min=1), 0.0)

    def chunks(self) -> Iterator[tuple[slice, Tensor, list[Tensor]]]:
        """Yields (rows, their similarities (c, M), for each level whether a key is a positive (c, M))."""
        keys = self.keys.detach()
        for rows, positives in self.positive_pairs():
            yield rows, self.rows[rows].detach() @ keys.T / self.temperature, positives

    def positive_pairs(self) -> Iterator[tuple[slice, list[Tensor]]]:
        """Yields (rows, for each level whether a key is a positive (c, M))."""
        levels = range(1, self.nodes.shape[-1] + 1)
        for start, stop in _chunks(len(self.rows), self.chunk_size):
            shared = self._shared_depth(start, stop)
            yield (
                slice(start, stop),
                [shared >= level if self.positives == "share" else shared == level for level in levels],
            )

    def _shared_depth(self, start: int, stop: int) -> Tensor:
        """Returns how many levels some own rows and all keys share, (c, M), and 0 for a row and itself.

        With several paths, which take longer, what holds all rows at once is kept: the loss asks for it repeatedly.
        """
        if self._shared is not None:
            return self._shared
        shared = shared_depth(self.nodes[self.first + start : self.first + stop], self.nodes)
        shared.diagonal(self.first + start).fill_(0)  # a row is no positive of its own
        if self.several_paths and self.chunk_size is None:
            self._shared = shared.short()
        return shared


def _chunks(rows: int, chunk_size: int | None) -> list[tuple[int, int]]:
    size = chunk_size or max(rows, 1)
    return [(start, min(start + size, rows)) for start in range(0, rows, size)]


class _LogSumExp(torch.autograd.Function):
    """``logsumexp`` of each row's similarities to all keys but itself; in chunks, recomputed in backward."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, keys: Tensor, first: int, scale: float, chunk_size: int | None) -> Tensor:
        ctx.first, ctx.scale, ctx.chunk_size = first, scale, chunk_size
        lse = rows.new_empty(len(rows))
        logits = None
        for start, stop in _chunks(len(rows), chunk_size):
            logits = _LogSumExp.logits(rows, keys, first, scale, start, stop)
            torch.logsumexp(logits, 1, out=lse[start:stop])
        ctx.save_for_backward(rows, keys, lse, logits if chunk_size is None else None)
        return lse

    @staticmethod
    def logits(rows: Tensor, keys: Tensor, first: int, scale: float, start: int, stop: int) -> Tensor:
        logits = (rows[start:stop] @ keys.T).mul_(scale)  # (chunk, M)
        logits.diagonal(first + start).fill_(-torch.inf)
        return logits

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        rows, keys, lse, logits = ctx.saved_tensors
        grad = grad * ctx.scale
        grad_rows, grad_keys = torch.empty_like(rows), torch.zeros_like(keys)
        for start, stop in _chunks(len(rows), ctx.chunk_size):
            if ctx.chunk_size is not None:
                logits = _LogSumExp.logits(rows, keys, ctx.first, ctx.scale, start, stop)
            # d lse_i / d s_ia is the softmax; weighted by the row's own gradient
            softmax = (logits - lse[start:stop, None]).exp_().mul_(grad[start:stop, None])
            grad_rows[start:stop] = softmax @ keys
            grad_keys.addmm_(softmax.T, rows[start:stop])
        return grad_rows, grad_keys, None, None, None


class _MeanPositiveSimilarity(torch.autograd.Function):
    """The mean of each row's similarities to its positives of each level; pair by pair, in chunks."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, keys: Tensor, batch: _Batch) -> Tensor:
        ctx.batch = batch
        ctx.save_for_backward(rows, keys)
        sums = torch.zeros_like(batch.counts, dtype=rows.dtype)
        for part, similarities, positives in batch.chunks():
            sums[part] = torch.stack([(similarities * positive).sum(1) for positive in positives], 1)
        return sums / batch.counts.clamp(min=1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        (rows, keys), batch = ctx.saved_tensors, ctx.batch
        of_pair = grad / batch.counts.clamp(min=1) / batch.temperature  # (m, L)
        grad_rows, grad_keys = torch.empty_like(rows), torch.zeros_like(keys)
        for part, positives in batch.positive_pairs():
            weights = sum(of_pair[part, level, None] * positive for level, positive in enumerate(positives))  # (c, M)
            grad_rows[part] = weights @ keys
            grad_keys.addmm_(weights.T, rows[part])
        return grad_rows, grad_keys, None


def _unconstrained_loss(
    batch: _Batch, lambdas: Tensor, clamp_levels: bool, constraint_grad: bool, gather: Gather
) -> Tensor:
    """Eq. 4, with the level losses clamped one by the next finer one on request."""
    nll = batch.log_sum_exp()[:, None] - batch.mean_positive_similarity()  # (m, L)
    sums = torch.where(batch.counts > 0, nll, 0.0).sum(0)
    losses = gather(sums[None])[0].sum(0) / batch.num_anchors.clamp(min=1)  # (L,): of all processes
    if clamp_levels:
        losses = _clamped_by_finer(losses, (batch.num_anchors > 0).tolist(), constraint_grad)
    return (lambdas * losses).sum() / len(lambdas)


def _clamped_by_finer(losses: Tensor, present: Sequence[bool], constraint_grad: bool) -> Tensor:
    clamped, bound = list(losses), None
    for level in reversed(range(len(clamped))):
        if present[level]:
            if bound is not None:
                floor = bound if constraint_grad else bound.detach()
                clamped[level] = torch.where(clamped[level] >= bound, clamped[level], floor)
            bound = clamped[level]
    return torch.stack(clamped)


def _constrained_loss(
    batch: _Batch, lambdas: Tensor, over_all_pairs: bool, constraint_grad: bool, gather: Gather
) -> Tensor:
    """Eq. 5 to 7: pairs clamped by the hardest finer pair, of the batch or of the anchor, in two passes over chunks."""
    lse = batch.log_sum_exp()
    hardest = _hardest_pairs(batch, lse, constraint_grad)  # (m, L), -inf without a pair
    values = hardest.detach()
    if over_all_pairs:
        hardest, values = (gather(h)[0].max(0).values.expand(len(lse), -1) for h in (hardest, values))
    bounds, bound_values = _running_maximum_of_finer(hardest), _running_maximum_of_finer(values)

    # With the clamped pairs known, what is left is bilinear in the features: sum_ij w_ij (lse_i - s_ij) + constants.
    share = lambdas / len(lambdas) / batch.num_anchors.clamp(min=1)
    coefficients = torch.where(batch.counts > 0, share / batch.counts.clamp(min=1), 0.0)  # (m, L)
    clamped_share = torch.zeros_like(coefficients)
    weight_of_lse = torch.zeros_like(lse, requires_grad=False)
    grad_rows, grad_keys = torch.zeros_like(batch.rows), torch.zeros_like(batch.keys)
    with torch.no_grad():
        for rows, similarities, positives in batch.chunks():
            nll = lse[rows, None] - similarities  # (c, M)
            weights = torch.zeros_like(nll)
            for level, positive in enumerate(positives):
                kept = positive & (nll >= bound_values[rows, level, None])
                weights += coefficients[rows, level, None] * kept
                clamped = batch.counts[rows, level] - kept.sum(1)
                clamped_share[rows, level] = coefficients[rows, level] * clamped
            weight_of_lse[rows] = weights.sum(1)
            grad_rows[rows] = weights @ batch.keys / batch.temperature
            grad_keys.addmm_(weights.T, batch.rows[rows], alpha=1 / batch.temperature)
    similarity = _bilinear(batch.rows, batch.keys, grad_rows, grad_keys)
    clamped_loss = torch.where(clamped_share > 0, clamped_share * bounds, 0.0).sum()
    own = (weight_of_lse * lse).sum() - similarity + clamped_loss
    return gather(own[None])[0].sum()


def _hardest_pairs(batch: _Batch, lse: Tensor, differentiable: bool) -> Tensor:
    """Returns the largest ``nll_ij`` over ``P_l(i)``, (m, L); -inf where the anchor has no pair at the level."""
    hardest = torch.full_like(batch.counts, -torch.inf, dtype=lse.dtype)
    key = torch.zeros_like(batch.counts)
    with torch.no_grad():
        for rows, similarities, positives in batch.chunks():
            for level, positive in enumerate(positives):
                least, key[rows, level] = similarities.masked_fill(~positive, torch.inf).min(1)
                hardest[rows, level] = lse[rows] - least
    if differentiable:
        # the same number once more with its gradient; the value stays that of the matrix product, to which ties refer
        again = [
            lse - (batch.rows * batch.keys[key[:, level]]).sum(1) / batch.temperature for level in range(key.shape[1])
        ]
        nll = torch.stack(again, 1)
        hardest = torch.where(batch.counts > 0, hardest.nan_to_num(neginf=0.0) + (nll - nll.detach()), hardest)
    return hardest


def _running_maximum_of_finer(hardest: Tensor) -> Tensor:
    """Returns ``b_{l+1}`` for every level l: the largest entry of the columns right of it; -inf for the last column."""
    bounds = [torch.full_like(hardest[:, 0], -torch.inf)]
    for finer in reversed(hardest[:, 1:].unbind(1)):
        bounds.append(torch.where(finer >= bounds[-1], finer, bounds[-1]))
    return torch.stack(bounds[::-1], 1)


def _bilinear(rows: Tensor, keys: Tensor, grad_rows: Tensor, grad_keys: Tensor) -> Tensor:
    """Returns ``sum_ij w_ij r_i . k_j`` from its two gradients; each product below has it, so one is taken off."""
    with_gradient_of_rows, with_gradient_of_keys = (rows * grad_rows).sum(), (keys * grad_keys).sum()
    return with_gradient_of_rows + with_gradient_of_keys - with_gradient_of_keys.detach()
