"""RINCE: contrastive learning with positives of several ranks, on plain tensors.

Hoffmann et al., *Ranking Info Noise Contrastive Estimation: Boosting Contrastive Learning via Ranked Positives*, AAAI
2022. In a tree, the rank of a pair is the number of levels that its two items share. With ``f_i`` unit rows,
``s_ij = f_i . f_j / t_l``, and level ``l`` from 1 (coarsest) to L::

    P_l(i) = { j != i : shared_depth(i, j) == l }     the positives of the rank
    N_l(i) = { j != i : shared_depth(i, j) <  l }     its negatives: all that is further away in the tree
    n_l(i) = logsumexp over N_l(i) of s_ia

    out_l(i) = mean over j in P_l(i) of softplus(n_l(i) - s_ij)     - log exp s_ij / (exp s_ij + exp n_l(i))
    in_l(i)  = softplus(n_l(i) - logsumexp over P_l(i) of s_ij)     - log of the sum over P_l(i) of the same
    loss     = sum over l of the mean over the anchors that have a positive of rank l

Items nearer than the rank are no part of its loss. ``in`` is content if one positive of the rank is ahead of all
negatives, ``out`` wants each of them to be. The temperatures ``t_l`` grow with the distance in the tree, so that near
ranks are told apart more sharply than far ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from hierpretrain.checks import as_tensor, check_above_0, check_one_of
from hierpretrain.functional.batch import Gather, join_processes, sum_over_processes
from hierpretrain.functional.contrastive import check_range
from hierpretrain.functional.levels import numbers_of_levels
from hierpretrain.functional.log_sums import masked_logsumexp
from hierpretrain.taxonomy import shared_depth

Variant = Literal["out", "in", "out-in"]


def rince_loss(
    features: Tensor,
    labels: Tensor,
    *,
    temperatures: Sequence[float] = (0.225, 0.1),
    variant: Variant = "out-in",
    gather: Gather | None = None,
    instances: Tensor | None = None,
) -> Tensor:
    """Computes RINCE, the sum of the losses of all ranks.

    Args:
        features: (M, D) unit rows, all views of all images; half precision is computed in float32.
        labels: (M, L) label matrix, coarsest level first, ``PAD`` (-1) only on the right, or (M, P, L) for items with
            several paths.
        temperatures: As for :func:`rince_level_losses`.
        variant: As for :func:`rince_level_losses`.
        gather: As for :func:`rince_level_losses`.
        instances: As for :func:`rince_level_losses`.

    Returns:
        0-dim tensor; 0 if no two items share a level.

    Raises:
        ValueError: As :func:`rince_level_losses`.

    Example:
        >>> features = torch.eye(2)[[0, 0, 1]]  # of two anchors: one positive at similarity 1, one negative at 0
        >>> loss = rince_loss(features, torch.tensor([[7], [7], [9]]), temperatures=[1.0])
        >>> round(loss.item(), 4)  # log(1 + 1 / e)
        0.3133
    """
    losses = rince_level_losses(
        features, labels, temperatures=temperatures, variant=variant, gather=gather, instances=instances
    )
    return losses.sum()


def rince_level_losses(
    features: Tensor,
    labels: Tensor,
    *,
    temperatures: Sequence[float] = (0.225, 0.1),
    variant: Variant = "out-in",
    gather: Gather | None = None,
    instances: Tensor | None = None,
) -> Tensor:
    """Computes the losses of the ranks: of the pairs that share exactly l levels.

    The released code averages the pairs of a batch. Here a rank is the mean over its anchors, each of which is a mean
    over its positives, so that large classes count no more than small ones. The released code also leaves out pairs
    whose probability rounds to 0, the worst ones. Here all sums stay logarithms, and none is left out.

    Args:
        features: (M, D) unit rows, all views of all images; half precision is computed in float32.
        labels: (M, L) label matrix, coarsest level first, ``PAD`` (-1) only on the right, or (M, P, L) for items with
            several paths.
        temperatures: One for each level, coarsest first, each above 0; or two, of the coarsest and of the finest level,
            with the levels between them evenly spaced. In the paper they fall from the coarsest to the finest rank.
        variant: ``'out'``, ``'in'``, or ``'out-in'``, which is ``'out'`` at the finest level and ``'in'`` at all
            others.
        gather: Stacks the rows of all processes, with gradient, as :func:`hierpretrain.models.gather.gather_rows`. The
            items of this process are then anchors among the items of all processes, and the losses are the ones of all
            items together. ``None``: there is one process.
        instances: (M,) numbers of the images, which become a last level below the labels, and so the nearest rank.

    Returns:
        (L,), coarsest first, one more with ``instances``; 0 for a rank without a pair. Memory is O(M^2 L).

    Raises:
        ValueError: If shapes do not match, labels are malformed, features are not finite or so long that their products
            are not, or an option is unknown.

    Example:
        >>> features = torch.eye(3)[[0, 0, 1, 2]]
        >>> labels = torch.tensor([[0, 0], [0, 0], [0, 1], [1, 2]])
        >>> rince_level_losses(features, labels, temperatures=[1.0, 1.0])  # (2 log 2 + log 3/2) / 3, log(1 + 2 / e)
        tensor([0.5973, 0.5514])
    """
    check_one_of("variant", variant, ("out", "in", "out-in"))
    for temperature in temperatures:
        check_above_0(temperatures=temperature)
    features = as_tensor(features)
    with torch.autocast(features.device.type, enabled=False):
        rows, keys, first, labels = join_processes(features, labels, gather, instances)
        shared = shared_depth(labels[first : first + len(rows)], labels)  # (m, M)
        levels = labels.shape[-1]
        of_levels = numbers_of_levels(temperatures, levels, "temperatures")
        check_range(keys.detach(), min(temperatures))
        shared.diagonal(first).fill_(levels + 1)  # a row is neither its own positive nor its own negative
        similarities = rows @ keys.T
        means, counts = [], []
        for level, temperature in enumerate(of_levels, start=1):
            outside = variant == "out" or (variant == "out-in" and level == levels)
            positive, negative = shared == level, shared < level
            rank = _out_losses if outside else _in_losses
            means.append(rank(similarities / temperature, positive, negative))
            counts.append(positive.sum(1))
        if not means:
            return 0.0 * similarities.sum() + similarities.new_zeros(0)
        has_positive = torch.stack(counts, 1) > 0  # (m, L)
        sums = torch.where(has_positive, torch.stack(means, 1), 0.0).sum(0)
        sums, anchors = sum_over_processes(torch.stack([sums, has_positive.sum(0).to(sums)]), gather).unbind(0)
        return sums / anchors.detach().clamp(min=1)


def _out_losses(logits: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Computes ``out_l`` of (m, M) logits, (m,); 0 for an anchor without a positive."""
    pairs = softplus(masked_logsumexp(logits, negative, 1)[:, None] - logits)
    return torch.where(positive, pairs, 0.0).sum(1) / positive.sum(1).clamp(min=1)


def _in_losses(logits: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Computes ``in_l`` of (m, M) logits, (m,); anything finite for an anchor without a positive."""
    of_positives = masked_logsumexp(logits, positive, 1).masked_fill(~positive.any(1), 0.0)
    return softplus(masked_logsumexp(logits, negative, 1) - of_positives)
