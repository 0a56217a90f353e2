"""The hierarchical contrastive losses of *Use All The Labels* (Zhang et al., CVPR 2022; "paper A"), on plain tensors.

Notation. ``f_i`` are unit rows, ``s_ij = f_i . f_j / temperature``, and level ``l`` runs from 1 (coarsest) to L::

    nll_ij = logsumexp_{a != i} s_ia - s_ij                                              the pair loss: eq. 3, negated
    P_l(i) = { j != i : shared_depth(i, j) >= l }   positives='share'                    Algorithm 1
             { j != i : shared_depth(i, j) == l }   positives='diverge'                  section 3
    loss_l = mean over the anchors i with a positive of the mean over j in P_l(i) of nll_ij
    loss   = (1 / L) sum_l lambda_l loss_l                                               eq. 4: HiMulCon

HiConE and HiMulConE (eq. 5 to 7) clamp ``nll_ij`` of level l from below by a bound ``b_{l+1}`` set by the next finer
level. The paper prints ``l - 1`` there, which its authors have corrected to ``l + 1``.

:func:`level_losses` puts the equations together, each a function of its own in the order of the paper. What is summed
over pairs of rows is computed in :mod:`hierpretrain.functional.pairs`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Literal

import torch
from torch import Tensor

from hierpretrain.checks import as_tensor, check_above_0, check_one_of
from hierpretrain.functional.batch import Batch, Gather, join_processes, one_process, sum_over_processes
from hierpretrain.functional.pairs import PositivePairs, Positives, less_inner, log_sum_exp, nodes_of, sums_below
from hierpretrain.taxonomy import PAD, as_labels, check_labels

Constraint = Literal["pair", "anchor", "level"]

_LONG = 4.0  # mean square of the lengths, which is 1 of unit rows

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
    """Computes the supervised contrastive loss of one set of classes (Khosla et al., NeurIPS 2020, ``L_out``).

    Args:
        features: (M, D) unit rows, all views of all images.
        labels: (M,) integer classes; rows labelled ``PAD`` (-1) have no positive but remain negatives of the others.
            The number of its image as label makes this the loss of SimCLR.
        temperature: Divides the cosine similarities; above 0.
        chunk_size: Rows whose similarities are held at a time, as for :func:`level_losses`.
        gather: Stacks the rows of all processes, as for :func:`level_losses`.

    Returns:
        0-dim tensor: the mean over the anchors that have a positive; 0 if none has.

    Raises:
        ValueError: As :func:`level_losses`, and if labels are not (M,).

    Example:
        >>> features = torch.eye(4)[[0, 0, 1, 1]]  # two pairs of equal rows: e^1 against e^1 + 2 e^0 at temperature 1
        >>> round(supcon_loss(features, torch.tensor([7, 7, 9, 9]), temperature=1.0).item(), 4)
        0.5514
    """
    labels = as_labels(labels)
    if labels.ndim != 1:
        raise ValueError(f"labels of supcon_loss must be (M,), one class per row; their shape is {tuple(labels.shape)}")
    losses: Tensor = level_losses(
        features, labels[:, None], temperature=temperature, chunk_size=chunk_size, gather=gather
    )
    return losses[0]


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
) -> Tensor:
    """Computes HiMulCon, HiConE or HiMulConE: eq. 4 and 7, the mean over the levels of ``lambda_l loss_l``.

    ==========  ==================  =================
    loss        ``level_weights``   ``constraint``
    ==========  ==================  =================
    HiMulCon    ``'exp'``           ``None``
    HiConE      ``'uniform'``       any but ``None``
    HiMulConE   ``'exp'``           any but ``None``
    ==========  ==================  =================

    The authors' released code differs, see :func:`released_hmlc_loss`: here every row takes part at every level, the
    order of the rows does not matter, and the constraint is the paper's unless ``constraint='level'``.

    Args:
        features: (M, D) unit rows, all views of all images.
        labels: (M, L) label matrix or (M, P, L) labels of several paths, as for :func:`level_losses`.
        temperature: Divides the cosine similarities; above 0.
        level_weights: ``lambda``: ``'exp'`` e^(1/k) and ``'pow2'`` 2^(1/k), where k counts levels from 1 at the finest;
            ``'linear'`` l/L; ``'uniform'`` 1; or L numbers, the coarsest level's first.
        positives: ``'share'`` or ``'diverge'``, as for :func:`level_losses`.
        constraint: ``None``, ``'pair'``, ``'anchor'`` or ``'level'``, as for :func:`level_losses`.
        constraint_grad: Whether the gradient of a clamped loss goes through its bound.
        chunk_size: Rows whose similarities are held at a time, as for :func:`level_losses`.
        gather: Stacks the rows of all processes, as for :func:`level_losses`.
        instances: (M,) numbers of the images, which become a last level below the labels.

    Returns:
        0-dim tensor. A level or an anchor without positives contributes nothing; without any, the loss is 0.

    Raises:
        ValueError: As :func:`level_losses`, and if ``level_weights`` is unknown, negative or of another length than L.

    Example:
        >>> features = torch.nn.functional.normalize(torch.tensor([[1.0, 0], [1, 1], [0, 1], [-1, 1]]), dim=1)
        >>> labels = torch.tensor([[0, 0], [0, 0], [0, 1], [1, PAD]])
        >>> himulcon = hierarchical_contrastive_loss(features, labels, temperature=1.0)
        >>> himulcone = hierarchical_contrastive_loss(features, labels, temperature=1.0, constraint="pair")
        >>> round(himulcon.item(), 4), round(himulcone.item(), 4)
        (1.8437, 1.8934)
    """
    losses = level_losses(
        features,
        labels,
        temperature=temperature,
        positives=positives,
        constraint=constraint,
        constraint_grad=constraint_grad,
        chunk_size=chunk_size,
        gather=gather,
        instances=instances,
    )
    return weighted_mean(losses, level_weights)


def weighted_mean(losses: Tensor, level_weights: str | Sequence[float]) -> Tensor:
    """Computes eq. 4 and 7: ``(1 / L) sum_l lambda_l loss_l`` of (L,) losses, coarsest first; 0 without any level.

    Example:
        >>> weighted_mean(torch.tensor([4.0, 2.0]), "linear").item()
        2.0
    """
    weights = losses.new_tensor(_level_weights(level_weights, len(losses)))
    return (weights * losses).sum() / max(len(losses), 1)


def level_losses(
    features: Tensor,
    labels: Tensor,
    *,
    temperature: float = 0.1,
    positives: Positives = "share",
    constraint: Constraint | None = None,
    constraint_grad: bool = False,
    chunk_size: int | None = None,
    gather: Gather | None = None,
    instances: Tensor | None = None,
) -> Tensor:
    """Computes ``loss_l`` of every level, clamped as the constraint says: eq. 3 to 6.

    Args:
        features: (M, D) unit rows, all views of all images; half precision is computed in float32.
        labels: (M, L) label matrix, coarsest level first, ``PAD`` (-1) only on the right and never a positive. Or
            (M, P, L) for items with several paths: ``shared_depth`` is then the most that any two paths share, and a
            positive by two paths counts once.
        temperature: Divides the cosine similarities; above 0.
        positives: ``'share'``: all rows below the anchor's node of level l; ``'diverge'``: only those that part from
            the anchor right below it.
        constraint: What bounds level l from below, taken finest level first and carried over levels without a pair:
            ``'pair'``, the largest clamped pair loss of level l + 1 in the batch (eq. 5); ``'anchor'``, the same over
            the anchor's own pairs; ``'level'``, the mean loss of level l + 1 clamps the mean of level l (the form of
            the released code); ``None``, nothing.
        constraint_grad: Whether the gradient of a clamped pair (or level) goes through its bound; otherwise the bound
            is a constant. A pair at its bound keeps its own gradient.
        chunk_size: Rows whose similarities to all others are held at a time. ``None`` takes all rows where they are
            few and else as many as are fast: on a CPU, what fills a core's cache; on a GPU, what fills 256 MiB.
            Memory is O(M (chunk_size + D + L)), forward and backward, whatever the number of levels.
        gather: Stacks the rows of all processes, as :class:`hierpretrain.functional.batch.Gather` says. All
            processes then have the losses of all rows together.
        instances: (M,) numbers of the images, which :func:`append_instances` hangs below the labels as a last level.

    Returns:
        (L,), coarsest first, with gradient: L is one more with ``instances``. A level without positives has 0.

    Raises:
        ValueError: If shapes do not match, labels are malformed, features are not finite (or so long that their
            products are not) or an option is unknown. What is wrong with the rows of one process is an error on all.
        RuntimeError: In backward with ``create_graph=True``.

    Example:
        >>> features = torch.eye(4)[[0, 0, 1, 1]]
        >>> level_losses(features, torch.tensor([[0, 0], [0, 0], [0, 1], [0, 1]]), temperature=1.0)
        tensor([1.2181, 0.5514])
    """
    losses: Tensor = clamped_and_unclamped_losses(
        features,
        labels,
        temperature=temperature,
        positives=positives,
        constraint=constraint,
        constraint_grad=constraint_grad,
        chunk_size=chunk_size,
        gather=gather,
        instances=instances,
    )[0]
    return losses


@torch.compiler.disable  # type: ignore[untyped-decorator] # nothing is left to fuse: blocks that fit the cache
def clamped_and_unclamped_losses(
    features: Tensor,
    labels: Tensor,
    *,
    temperature: float = 0.1,
    positives: Positives = "share",
    constraint: Constraint | None = None,
    constraint_grad: bool = False,
    chunk_size: int | None = None,
    gather: Gather | None = None,
    instances: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Computes ``loss_l`` of every level, and what it would be without the constraint.

    A clamped loss is mostly its bound, which may rise while all pairs come closer; the other tells how they do. It
    takes no further pass over the pairs.

    Args:
        features: (M, D) unit rows; this and all else as for :func:`level_losses`.
        labels: (M, L) or (M, P, L) labels.
        temperature: Divides the cosine similarities; above 0.
        positives: ``'share'`` or ``'diverge'``.
        constraint: ``None``, ``'pair'``, ``'anchor'`` or ``'level'``.
        constraint_grad: Whether the gradient of what is clamped goes through its bound.
        chunk_size: Rows whose similarities are held at a time; ``None`` for a number that is fast.
        gather: Stacks the rows of all processes.
        instances: (M,) numbers of the images, which become a last level of the labels.

    Returns:
        The (L,) losses of :func:`level_losses`, with gradient, and the (L,) losses of ``constraint=None``, without.

    Example:
        >>> features = torch.nn.functional.normalize(torch.tensor([[1.0, 0], [1, 1], [0, 1]]), dim=1)
        >>> labels = torch.tensor([[0, 0], [0, 1], [0, 0]])
        >>> clamped_and_unclamped_losses(features, labels, temperature=1.0, constraint="pair")
        (tensor([1.1079, 1.1079]), tensor([0.7340, 1.1079]))
    """
    _check_options(temperature, positives, constraint, chunk_size)
    features = as_tensor(features)
    with torch.autocast(features.device.type, enabled=False):
        batch = join_processes(features, labels, gather, instances)
        if batch.labels.ndim == 1:
            check_labels(batch.labels)  # raises, now that no process waits for another: these are classes of no tree
        keys, labels = batch.keys, batch.labels
        mean_square = check_range(keys.detach(), temperature)
        if len(keys) < 2 or labels.shape[-1] == 0:
            nothing = keys.new_zeros(labels.shape[-1])
            return 0.0 * keys.sum() + nothing, nothing
        if labels.ndim == 3 and not bool((labels[:, 1:] != PAD).any()):
            labels = labels[:, 0]
        batch = batch._replace(labels=labels)
        # sums of similarities, less the own one, tell nothing of the others if a row is much longer than they are
        if labels.ndim == 2 and constraint in (None, "level") and mean_square < _LONG:
            means, counts = mean_pair_losses(batch, 1 / temperature, positives, chunk_size)
            unclamped = means.detach()
        else:
            clamp = constraint if constraint != "level" else None
            means, unclamped, counts = clamped_pair_losses(
                batch, 1 / temperature, positives, clamp, constraint_grad, chunk_size, gather
            )
        losses, unclamped, has_positives = mean_over_anchors(means, unclamped, counts, gather)
        if constraint == "level":
            losses = clamp_levels(losses, has_positives, constraint_grad)
        return losses, unclamped


# ------------------------------------------------------------------ the equations, in the order of the paper
def mean_pair_losses(batch: Batch, scale: float, positives: Positives, chunk_size: int | None) -> tuple[Tensor, Tensor]:
    """Averages eq. 3 over ``P_l(i)``, for rows of one path each; returns the means and ``|P_l(i)|``, (m, L) each."""
    features, keys, position = batch.features, batch.keys, batch.position
    lse = log_sum_exp(features, keys, position, scale, chunk_size)
    numbers, sizes = nodes_of(batch.labels)
    similarities = less_inner(sums_below(features, keys, numbers, position), positives) * scale  # sum_j s_ij
    counts = less_inner(sizes[position], positives)
    return lse[:, None] - similarities / counts.clamp(min=1), counts


def clamped_pair_losses(
    batch: Batch,
    scale: float,
    positives: Positives,
    constraint: Constraint | None,
    constraint_grad: bool,
    chunk_size: int | None,
    gather: Gather | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Averages eq. 6 over ``P_l(i)``: the mean over j of ``max(nll_ij, b_{l+1})``; without a constraint, eq. 3.

    Returns the means, the means of eq. 3 without gradient, and ``|P_l(i)|``, (m, L) each, of the anchors in some order.
    """
    pairs = PositivePairs(batch, positives, scale, chunk_size)
    lse = log_sum_exp(pairs.anchors, pairs.keys, pairs.position, scale, chunk_size)
    bounds = unclamped = None
    if constraint is not None:
        hardest, unclamped = pairs.hardest_and_sums(lse, with_grad=constraint_grad)
        if constraint == "pair":
            hardest = largest_of_batch(hardest, gather)
        bounds = bounds_of_finer(hardest)
    sums, counts = pairs.clamped_sums(lse, bounds)
    unclamped = sums.detach() if unclamped is None else unclamped
    return sums / counts.clamp(min=1), unclamped / counts.clamp(min=1), counts


def largest_of_batch(hardest: Tensor, gather: Gather | None) -> Tensor:
    """Finds eq. 5's maximum, (1, L), of the (m, L) largest pair losses of the own anchors and all other processes'."""
    own = torch.cat([hardest, hardest.new_zeros(1, hardest.shape[1])]).max(0, keepdim=True).values  # of no row, 0
    return (gather or one_process)(own, 1)[0].max(0, keepdim=True).values


def bounds_of_finer(hardest: Tensor) -> Tensor:
    """Takes from the (k, L) largest pair losses of the levels the bounds ``b_{l+1}``, (k, L); 0 clamps nothing.

    A clamped level is never below its own bound, so the bound is the largest pair loss of all finer levels.

    Example:
        >>> bounds_of_finer(torch.tensor([[9.0, 0.0, 2.0, 1.0]])).tolist()
        [[2.0, 2.0, 1.0, 0.0]]
    """
    finer = torch.cat([hardest[:, 1:], torch.zeros_like(hardest[:, :1])], 1)
    return finer.flip(1).cummax(1).values.flip(1)


def mean_over_anchors(
    means: Tensor, unclamped: Tensor, counts: Tensor, gather: Gather | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Averages (m, L) losses, and unclamped ones, over the anchors of all processes that have a positive: ``loss_l``.

    Returns (L,) of both, and which levels have any positive; a level without has 0.
    """
    has_positive = counts > 0
    own = [torch.where(has_positive, of_anchors, 0.0).sum(0) for of_anchors in (means, unclamped)]
    sums, unclamped, anchors = sum_over_processes(torch.stack([*own, has_positive.sum(0).to(own[0])]), gather).unbind(0)
    anchors = anchors.detach()
    return sums / anchors.clamp(min=1), unclamped.detach() / anchors.clamp(min=1), anchors > 0


def clamp_levels(losses: Tensor, has_positives: Tensor, constraint_grad: bool) -> Tensor:
    """Clamps each level's mean by the next finer level's, the released code's form of eq. 6; (L,), coarsest first.

    Example:
        >>> clamp_levels(torch.tensor([1.0, 3.0, 2.0]), torch.tensor([True, True, True]), False).tolist()
        [3.0, 3.0, 2.0]
    """
    clamped = [losses[-1]]
    for loss in losses.flip(0)[1:]:
        bound = clamped[-1] if constraint_grad else clamped[-1].detach()
        clamped.append(torch.where(loss >= bound, loss, bound))  # a level at its bound keeps its own gradient
    return torch.stack(clamped[::-1]) * has_positives


def check_range(keys: Tensor, temperature: float) -> float:
    """Raises unless sums of the similarities of the keys are finite; returns the mean square of the keys' lengths."""
    if not 1 / temperature <= torch.finfo(keys.dtype).max:
        raise ValueError(
            f"temperature must be above 0, and 1 / temperature finite in {keys.dtype}; it is {temperature}"
        )
    # the sum of squares bounds all similarities, and is never finite if one entry is not
    total = float(keys.square().sum())
    if total * (len(keys) / temperature) <= torch.finfo(keys.dtype).max:
        return total / max(len(keys), 1)
    longest = float(torch.linalg.vector_norm(keys.cpu().double(), dim=1).amax())
    raise ValueError(
        f"features must be unit rows, or their similarities overflow {keys.dtype}; the norm of the longest is "
        f"{longest:.3g}, and the temperature {temperature:.3g}. Normalise them"
    )


def _check_options(temperature: float, positives: str, constraint: str | None, chunk_size: int | None) -> None:
    if isinstance(temperature, Tensor) and temperature.requires_grad:
        raise ValueError("temperature must be a number: it gets no gradient, but is a tensor that requires one")
    check_above_0(temperature=temperature)
    check_one_of("positives", positives, ("share", "diverge"))
    check_one_of("constraint", constraint, (None, "pair", "anchor", "level"))
    if chunk_size is not None and (chunk_size is True or not isinstance(chunk_size, Integral) or chunk_size < 1):
        raise ValueError(
            f"chunk_size must be a whole number from 1, or None for a number that is fast; it is {chunk_size!r}"
        )


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
