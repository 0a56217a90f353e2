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
from typing import Any, Literal, Protocol, TypeAlias

import torch
from torch import Tensor

from hierpretrain.functional.first_order import first_order
from hierpretrain.functional.log_sum_exp import log_sum_exp
from hierpretrain.functional.positives import Block, OnePath, Pairs, Positives, SeveralPaths
from hierpretrain.taxonomy import PAD, append_instances, check_labels

Constraint = Literal["pair", "anchor", "level"]
Gradient: TypeAlias = tuple[Tensor, Tensor | None] | None  # in rows and keys
Result: TypeAlias = tuple[Tensor, Gradient, Tensor]  # the value, its gradient, the losses of the levels (or nothing)


class Gather(Protocol):
    """Stacks the rows of all processes, with gradient, as :func:`hierpretrain.models.gather.gather_rows`.

    It takes (m, ...) rows and, where known, how many rows each process has, or one number if all have as many; it
    returns the (M, ...) rows of all and the place of the first own row among them.
    """

    def __call__(self, rows: Tensor, counts: int | Sequence[int] | None = None, /) -> tuple[Tensor, int]:
        """Returns the rows of all processes and the place of the first own one."""


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
    instances: Tensor | None = None,
    on_levels: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """HiMulCon, HiConE and HiMulConE: eq. 4 to 7 of paper A, as this module's head states them.

    The gradient is computed with the value, if the features require one, and is all that is held until backward: of
    the features, and of the gathered ones across processes. There is no gradient of the gradient.

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
        chunk_size: Rows whose similarities to all others are held at a time. ``None``, by default, takes all rows where
            they are few and else as many as are fast: on a CPU, 128 or what fills a core's cache; on a GPU, what fills
            256 MiB. Memory is O(M (chunk_size + D + L)), forward and backward, whatever the number of levels: that of
            up to 3.5 matrices of such similarities, and up to 5 of them for several paths, where all pairs are looked
            at (by default 512 rows at a time on a GPU).
        gather: Stacks the rows of all processes, as :class:`Gather` says. The value is then that of all rows together.
        instances: (M,) numbers of the images, which :func:`append_instances` hangs below the labels as a last level.
        on_levels: Called with the (L,) losses ``loss_l`` of the levels, coarsest first, clamped as ``constraint`` says
            and before ``lambda_l / L``, so that the loss is the mean of them times lambda. They are by-products of the
            one pass, without gradient, and those of all processes together. 0 stands for a level without positives.

    Returns:
        0-dim tensor. A level or an anchor without positives contributes nothing; without any, the loss is 0.

    Raises:
        ValueError: If shapes do not match, labels are malformed, features are not finite (or so long that their
            products are not) or an option is unknown. What is wrong with the rows of one process is an error on all.
        RuntimeError: In backward with ``create_graph=True``.

    Example:
        >>> features = torch.nn.functional.normalize(torch.tensor([[1.0, 0], [1, 1], [0, 1], [-1, 1]]), dim=1)
        >>> labels = torch.tensor([[0, 0], [0, 0], [0, 1], [1, PAD]])
        >>> himulcon = hierarchical_contrastive_loss(features, labels, temperature=1.0)
        >>> himulcone = hierarchical_contrastive_loss(features, labels, temperature=1.0, constraint="pair")
        >>> round(himulcon.item(), 4), round(himulcone.item(), 4)
        (1.8437, 1.8934)
        >>> levels = []
        >>> loss = hierarchical_contrastive_loss(features, labels, level_weights=[1, 3], on_levels=levels.append)
        >>> torch.allclose(loss, (levels[0] * torch.tensor([1.0, 3.0])).mean())
        True
    """
    _check_options(temperature, positives, constraint, chunk_size)
    gather = gather or _gather_nothing
    labels, counts = _agreed(features, labels, instances, gather)
    levels = labels.shape[-1]
    weights = _level_weights(level_weights, levels)
    with torch.autocast(features.device.type, enabled=False):
        if features.dtype in (torch.float16, torch.bfloat16):
            features = features.float()  # exp(1 / temperature) and sums over thousands of rows need the range
        keys, first = gather(features, counts)
        _check_range(keys.detach(), temperature)
        if len(keys) < 2 or levels == 0:
            if on_levels is not None:
                on_levels(keys.new_zeros(levels))
            return 0.0 * keys.sum()
        key_labels = gather(labels.to(features.device), counts)[0]
        with_gradient = torch.is_grad_enabled() and keys.requires_grad
        with torch.no_grad():
            pairs = _positives(features, keys, key_labels, first, positives, chunk_size)
            batch = _Batch(pairs, temperature, chunk_size, gather, with_gradient, on_levels is not None)
            lambdas = torch.tensor(weights, dtype=features.dtype, device=features.device) / levels
            if constraint is None:
                value, gradient, of_levels = _unconstrained(batch, lambdas)
            elif constraint == "level":
                value, gradient, of_levels = _clamped_by_level(batch, lambdas, constraint_grad)
            else:
                value, gradient, of_levels = _clamped_by_pair(batch, lambdas, constraint == "pair", constraint_grad)
        own: Tensor = value if gradient is None else _Known.apply(features, keys, value, *gradient)
        if on_levels is None:
            return gather(own[None], 1)[0].sum()
        total = gather(torch.cat([own[None], of_levels])[None], 1)[0].sum(0)  # (1 + L,): in one exchange
        on_levels(total[1:].detach())
        return total[0]


def _gather_nothing(rows: Tensor, counts: int | Sequence[int] | None = None) -> tuple[Tensor, int]:
    return rows, 0


def _agreed(features: Tensor, labels: Tensor, instances: Tensor | None, gather: Gather) -> tuple[Tensor, list[int]]:
    """Returns the labels, with a level of instances if there are any, and the number of rows of every process.

    All processes learn in one exchange what is wrong with the rows of any, so that none waits for one that has stopped.
    """
    wrong, shape = None, [0, 0, 0]
    try:
        labels = _checked(features, labels, instances)
        shape = [features.shape[1], labels.shape[1] if labels.ndim == 3 else 0, labels.shape[-1]]  # D, P, L
    except ValueError as error:
        wrong = error
    own = torch.tensor([[wrong is None, len(features), *shape]], dtype=torch.int64, device=features.device)
    everyones = gather(own, 1)[0].tolist()
    if wrong is not None:
        raise wrong
    for process, (good, _, *others) in enumerate(everyones):
        if not good:
            raise ValueError(f"process {process} has malformed features or labels; its own error says what is wrong")
        if others != shape:
            raise ValueError(
                "all processes must have features and labels of one width: here (D, P, L) is "
                f"{tuple(shape)}, on process {process} it is {tuple(others)} (P is 0 for labels of one path)"
            )
    return labels, [count for _, count, *_ in everyones]


def _checked(features: Tensor, labels: Tensor, instances: Tensor | None) -> Tensor:
    """Returns the labels, with a level of instances if there are any, of which there is one row a row of features."""
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
    return labels if instances is None else append_instances(labels, instances)


def _check_range(keys: Tensor, temperature: float) -> None:
    """Raises unless the keys are finite, and so are sums of their similarities."""
    if not 1 / temperature <= torch.finfo(keys.dtype).max:
        raise ValueError(
            f"temperature must be above 0, and 1 / temperature finite in {keys.dtype}; it is {temperature}"
        )
    # the sum of squares bounds all similarities, and is never finite if one entry is not
    if (torch.linalg.vector_norm(keys).square() * (len(keys) / temperature)).isfinite():
        return
    if not keys.isfinite().all():
        raise ValueError(
            f"features must be finite; row {int((~keys.isfinite()).any(1).nonzero()[0])} is not. "
            "Lower the learning rate, clip gradients, or look for a broken image"
        )
    longest = float(torch.linalg.vector_norm(keys.cpu().double(), dim=1).amax())
    raise ValueError(
        f"features must be unit rows, or their similarities overflow {keys.dtype}; the norm of the longest is "
        f"{longest:.3g}, and the temperature {temperature:.3g}. Normalise them"
    )


def _positives(
    rows: Tensor, keys: Tensor, labels: Tensor, first: int, kind: Positives, chunk_size: int | None
) -> Pairs:
    if labels.ndim == 3 and not bool((labels[:, 1:] != PAD).any()):
        labels = labels[:, 0]
    form = OnePath if labels.ndim == 2 else SeveralPaths
    return form(rows, keys, labels, first, kind, chunk_size)


def _check_options(temperature: float, positives: str, constraint: str | None, chunk_size: int | None) -> None:
    if isinstance(temperature, Tensor) and temperature.requires_grad:
        raise ValueError("temperature must be a number: it gets no gradient, but is a tensor that requires one")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0; it is {temperature}")
    if positives not in ("share", "diverge"):
        raise ValueError(f"positives must be 'share' or 'diverge', not {positives!r}")
    if constraint not in (None, "pair", "anchor", "level"):
        raise ValueError(f"constraint must be None, 'pair', 'anchor' or 'level', not {constraint!r}")
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, or None for a number that is fast; it is {chunk_size}")


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


class _Known(torch.autograd.Function):
    """A value whose gradient in rows and keys was computed with it."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, keys: Tensor, value: Tensor, of_rows: Tensor, of_keys: Tensor | None) -> Tensor:
        ctx.save_for_backward(of_rows, of_keys)
        return value.clone()

    @staticmethod
    @first_order
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        of_rows, of_keys = ctx.saved_tensors
        return grad * of_rows, None if of_keys is None else grad * of_keys, None, None, None


class _Batch:
    """What the forms of the loss share. All are ``sum_i w_i lse_i - sum_ij v_ij s_ij`` and a constant.

    The weights are numbers, so the gradient is known as soon as they are, and is computed with the value.
    """

    def __init__(
        self,
        positives: Pairs,
        temperature: float,
        chunk_size: int | None,
        gather: Gather,
        with_gradient: bool,
        with_levels: bool,
    ) -> None:
        self.positives, self.gather = positives, gather
        self.with_gradient, self.with_levels = with_gradient, with_levels
        self.scale, self.chunk_size = 1 / temperature, chunk_size
        self.counts = positives.counts  # (m, L)
        self.anchors = positives.anchors(self.total)  # (L,)

    def total(self, of_process: Tensor) -> Tensor:
        """Returns the sum over all processes."""
        return self.gather(of_process[None], 1)[0].sum(0)

    def of_anchor(self, lambdas: Tensor) -> Tensor:
        """Returns the weight of each anchor at each level, (m, L), from those of the levels, (L,)."""
        return torch.where(self.counts > 0, lambdas / self.anchors.clamp(min=1), 0.0)

    def of_pair(self, lambdas: Tensor) -> Tensor:
        """Returns the weight of each pair of an anchor at each level, (m, L), from those of the levels, (L,)."""
        return self.of_anchor(lambdas) / self.counts.clamp(min=1)

    def log_sum_exp(self) -> Tensor:
        """Returns ``lse_i``, (m,)."""
        p = self.positives
        return log_sum_exp(p.rows, p.keys, p.place, self.scale, self.chunk_size)[0]

    def level_losses(self, lse: Tensor) -> Tensor:
        """Returns what the own rows add to the loss of each level, (L,)."""
        nll = lse[:, None] - self.positives.sums() * self.scale / self.counts.clamp(min=1)
        return (self.of_anchor(lse.new_ones(())) * nll).sum(0)

    def loss(
        self, w: Tensor, v_keys: Tensor, v_rows: Tensor, constant: Tensor | float = 0.0
    ) -> tuple[Tensor, Gradient, Tensor]:
        """Returns the loss, its gradient in rows and keys, and ``lse_i``, (m,).

        Args:
            w: (m,) weights of ``lse_i``.
            v_keys: (m, D) products of the weights of ``s_ij`` with the keys.
            v_rows: (M, D) products of their transpose with the rows.
            constant: What else there is.
        """
        p = self.positives
        weights = w if self.with_gradient else None
        lse, of_rows, of_keys = log_sum_exp(p.rows, p.keys, p.place, self.scale, self.chunk_size, weights)
        value = (w * lse).sum() - (p.rows * v_keys).sum() * self.scale + constant
        if not self.with_gradient:
            return value, None, lse
        gradient = p.restore(of_rows.sub_(v_keys, alpha=self.scale), of_keys.sub_(v_rows, alpha=self.scale))
        return value, gradient, lse


def _weighted(batch: _Batch, lambdas: Tensor) -> tuple[Tensor, Gradient, Tensor]:
    """Returns the sum of the levels' losses with these weights, its gradient, and ``lse_i``."""
    return batch.loss(batch.of_anchor(lambdas).sum(1), *batch.positives.products(batch.of_pair(lambdas)))


def _unconstrained(batch: _Batch, lambdas: Tensor) -> Result:
    """Eq. 4."""
    value, gradient, lse = _weighted(batch, lambdas)
    return value, gradient, batch.level_losses(lse) if batch.with_levels else lse[:0]


def _clamped_by_level(batch: _Batch, lambdas: Tensor, constraint_grad: bool) -> Result:
    """Eq. 4, with the loss of each level clamped by that of the next finer one."""
    own = batch.level_losses(batch.log_sum_exp())  # (L,)
    lambdas = torch.where(batch.anchors > 0, lambdas, 0.0)
    losses = torch.where(batch.anchors > 0, batch.total(own), -torch.inf)[None]
    bounds, source = _bounds_of_finer(losses)
    kept = torch.where((losses >= bounds)[0], lambdas, 0.0)
    on_bound = torch.zeros_like(lambdas).scatter_add(0, source[0], lambdas - kept)
    of_levels = torch.where((losses >= bounds)[0], own, own[source[0]]) * (batch.anchors > 0)
    if constraint_grad:
        value, gradient, _ = _weighted(batch, kept + on_bound)
        return value, gradient, of_levels
    value, gradient, _ = _weighted(batch, kept)
    return value + (on_bound * own).sum(), gradient, of_levels


def _clamped_by_pair(batch: _Batch, lambdas: Tensor, of_batch: bool, constraint_grad: bool) -> Result:
    """Eq. 5 to 7: each pair loss clamped by that of the hardest finer pair, of the batch or of the anchor."""
    p, levels = batch.positives, len(lambdas)
    lse = batch.log_sum_exp()
    hardest, key = _hardest_pairs(batch, lse)  # (m, L)
    if of_batch:
        nothing = hardest.new_full((1, levels), -torch.inf)  # a process may have no row
        most, row = torch.cat([hardest, nothing]).max(0)  # (L,)
        of_processes, process = batch.gather(most[None], 1)
        most, owner = of_processes.max(0)
        own = (owner == process) & (most > -torch.inf)
        bounds, source = _bounds_of_finer(most[None])  # (1, L)
    else:
        bounds, source = _bounds_of_finer(hardest)  # (m, L)

    w, of_pair = torch.zeros_like(lse), batch.of_pair(lambdas)
    clamped = torch.zeros_like(batch.counts)  # (m, L): how many pairs stand on the bound
    kept_losses = torch.zeros_like(of_pair)  # (m, L): the sum over the others
    v_keys, v_rows = torch.zeros_like(p.rows), torch.zeros_like(p.keys)
    for block, nll in _blocks(batch, lse):
        v = torch.zeros_like(nll)
        for level, bound in enumerate(bounds.expand(len(lse), -1)[block.rows].unbind(1)):
            columns, weight = block.of_level(level), of_pair[block.rows, level]
            kept = p.mask(block, level) & (nll[:, columns] >= bound[:, None])
            v[:, columns] += weight[:, None] * kept
            clamped[block.rows, level] = batch.counts[block.rows, level] - kept.sum(1)
            if batch.with_levels:
                kept_losses[block.rows, level] = torch.where(kept, nll[:, columns], 0.0).sum(1)
        w[block.rows] = v.sum(1)
        v_keys[block.rows] = v @ p.keys[block.columns]
        v_rows[block.columns].addmm_(v.T, p.rows[block.rows])
    on_bound = of_pair * clamped  # how much of the pairs' weights
    clamped_losses = torch.where(clamped > 0, clamped * bounds, 0.0)
    of_levels = (batch.of_pair(torch.ones_like(lambdas)) * (kept_losses + clamped_losses)).sum(0)
    if not constraint_grad:
        constant = torch.where(on_bound > 0, on_bound * bounds, 0.0).sum()
        value, gradient, _ = batch.loss(w, v_keys, v_rows, constant)
        return value, gradient, of_levels

    # the weight on a bound goes to the pair that set it: for some rows i, that of a level to the hardest pair (i, j)
    if of_batch:
        on_bound = torch.zeros_like(lambdas).scatter_add(0, source[0], batch.total(on_bound.sum(0)))
        on_hardest = [(level, row[level, None], on_bound[level, None]) for level in own.nonzero()[:, 0].tolist()]
    else:
        on_bound = torch.zeros_like(on_bound).scatter_add(1, source, on_bound)
        rows = torch.arange(len(lse), device=lse.device)
        on_hardest = [(level, rows, on_bound[:, level]) for level in range(levels)]
    for level, i, weight in on_hardest:
        j = key[i, level]
        w.index_add_(0, i, weight)
        v_keys.index_add_(0, i, weight[:, None] * p.keys[j])
        v_rows.index_add_(0, j, weight[:, None] * p.rows[i])
    value, gradient, _ = batch.loss(w, v_keys, v_rows)
    return value, gradient, of_levels


def _blocks(batch: _Batch, lse: Tensor) -> Iterator[tuple[Block, Tensor]]:
    """Yields blocks of pairs with their losses ``nll_ij``, the same to the last bit each time."""
    p = batch.positives
    for block in p.blocks():
        similarities = p.rows[block.rows] @ p.keys[block.columns].T
        yield block, torch.sub(lse[block.rows, None], similarities, alpha=batch.scale, out=similarities)


def _hardest_pairs(batch: _Batch, lse: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the largest ``nll_ij`` over ``P_l(i)``, (m, L), -inf where it is empty, and which key that is, (m, L)."""
    hardest = torch.full_like(batch.counts, -torch.inf, dtype=lse.dtype)
    key = torch.zeros_like(batch.counts)
    for block, nll in _blocks(batch, lse):
        for level, columns in enumerate(block.levels):
            of_level = nll[:, block.of_level(level)].masked_fill(~batch.positives.mask(block, level), -torch.inf)
            hardest[block.rows, level], of_columns = of_level.max(1)
            key[block.rows, level] = of_columns + columns.start
    return hardest, key


def _bounds_of_finer(values: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the largest entry of the columns right of each entry of a (k, L) tensor, and its column.

    Of the last column, -inf and no matter which. At a tie the leftmost column, as each bounds the one left of it.
    """
    bounds, sources = [torch.full_like(values[:, 0], -torch.inf)], [torch.zeros_like(values[:, 0], dtype=torch.int64)]
    for column in range(values.shape[1] - 1, 0, -1):
        above = values[:, column] >= bounds[-1]
        bounds.append(torch.where(above, values[:, column], bounds[-1]))
        sources.append(torch.where(above, column, sources[-1]))
    return torch.stack(bounds[::-1], 1), torch.stack(sources[::-1], 1)
