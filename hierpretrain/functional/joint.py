"""Classification at every level of a tree at once: what the joint loss adds to a contrastive one.

Notation. ``z_l`` are an item's logits over the nodes of level l, ``K_l`` the nodes that training knows, ``t`` the
target, which an item of several paths spreads evenly over its different nodes of the level::

    CE_l(i) = - sum_{c in K_l} t_ic log softmax_{K_l}(z_l)_c
    CE_l    = mean of CE_l(i) over the items that have a node in K_l
    loss    = contrastive + weight * sum_l w_l CE_l / sum_l w_l
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hierpretrain.checks import as_tensor, check_finite, check_floating, check_fraction, check_losses, check_not_below_0
from hierpretrain.functional.batch import Gather, in_full_precision, one_process
from hierpretrain.taxonomy import PAD, as_labels, as_paths, check_labels


def level_cross_entropies(
    logits: Sequence[Tensor],
    labels: Tensor,
    *,
    counts: Sequence[Tensor] | None = None,
    balance: float = 0.0,
    label_smoothing: float = 0.0,
    gather: Gather | None = None,
) -> Tensor:
    """Computes ``CE_l`` of every level: the cross entropy of a classifier over the nodes of the level.

    Args:
        logits: One (M, C_l) tensor for each of the L levels, coarsest first. Columns are the ids of the nodes.
        labels: (M, L) label matrix or (M, P, L) labels of several paths, ``PAD`` where a path ends.
        counts: One (C_l,) tensor for each level: how many items of the training each node has, as
            :func:`node_counts` gives them. The softmax leaves out nodes that have none, as if they did not exist, and
            an item that has no other node at the level is left out of it. ``None``: all nodes count.
        balance: Strength of the logit adjustment (Menon et al., ICLR 2021, eq. 10), at least 0: so many times the log
            of a node's fraction of the training is added to its logit, so that rare nodes are not neglected. 0 adds
            nothing, 1 is the balanced softmax.
        label_smoothing: Fraction of the target that is spread evenly over ``K_l``, 0 to 1.
        gather: Stacks the rows of all processes, as :class:`hierpretrain.functional.batch.Gather` says. All processes
            then have the losses of all items together.

    Returns:
        (L,), coarsest first, with gradient. A level at which no item has a node has 0.

    Raises:
        ValueError: If shapes do not match, a label is no column of its level, a loss is not finite, or an option is out
            of range; ``balance`` needs ``counts``. On several processes a wrong label or loss is an error on all.

    Example:
        >>> logits = torch.zeros(3, 2), torch.zeros(3, 4)
        >>> level_cross_entropies(logits, torch.tensor([[0, 0], [0, 3], [1, PAD]]))  # log 2 and log 4
        tensor([0.6931, 1.3863])
        >>> known = torch.tensor([2, 1]), torch.tensor([1, 0, 0, 1])
        >>> level_cross_entropies(logits, torch.tensor([[0, 0], [0, 3], [1, PAD]]), counts=known)  # log 2 twice
        tensor([0.6931, 0.6931])
    """
    check_fraction(label_smoothing=label_smoothing)
    check_not_below_0(balance=balance)
    if balance and counts is None:
        raise ValueError("balance needs counts, the items that each node has in training; give them, or balance=0")
    gather = gather or one_process
    logits = [as_tensor(level) for level in logits]
    counts = None if counts is None else [as_tensor(level) for level in counts]
    sizes = [level.shape[1] for level in logits]
    labels = as_labels(labels)
    check_nodes(labels, sizes, len(logits[0]) if logits else 0, gather)
    paths = as_paths(labels)  # (M, P, L)
    losses, taking_part = [], []
    for level, scores in enumerate(logits):
        check_floating(scores, "logits")
        nodes, scores = paths[..., level].to(scores.device), in_full_precision(scores)
        known = None if counts is None else counts[level].to(scores.device) > 0
        weights = node_weights(nodes, known, scores.dtype)
        if counts is not None and balance:
            scores = scores + balance * (counts[level].to(scores) / counts[level].sum().to(scores)).log()
        losses.append(_item_losses(scores, nodes, weights, known, label_smoothing))
        taking_part.append(weights.sum(1) > 0)
    if not logits:
        return torch.zeros(0)
    taken = torch.stack(taking_part, 1)  # (M, L)
    items, _ = gather(torch.cat([torch.stack(losses, 1), taken.to(losses[0])], 1))
    means, numbers = items.chunk(2, 1)
    check_finite(means, "the cross entropy of every item")  # of all processes, so that none waits for another
    losses_of_levels: Tensor = means.sum(0) / numbers.sum(0).detach().clamp(min=1)
    check_losses(losses_of_levels)
    return losses_of_levels


def node_weights(nodes: Tensor, known: Tensor | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """Spreads the target of items with several paths evenly over their different nodes of one level.

    Args:
        nodes: (M, P) ids of the nodes of one level, ``PAD`` for none.
        known: (C,) bool: which nodes count; ``None``: all.
        dtype: The floating-point type of the weights.

    Returns:
        (M, P), of which each row adds up to 1, or to 0 if the item has no node that counts. A node that stands
        several times has its weight where it stands first.

    Example:
        >>> node_weights(torch.tensor([[4, 4, 2], [3, PAD, PAD], [PAD, PAD, PAD]])).tolist()
        [[0.5, 0.0, 0.5], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    same = nodes[:, :, None] == nodes[:, None]  # [i, p, q]
    counted = ~same.tril(-1).any(2) & (nodes != PAD)
    if known is not None:
        counted &= known[nodes.clamp(min=0)]
    return counted.to(dtype) / counted.sum(1, keepdim=True).clamp(min=1)


def node_counts(labels: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Counts the items of every node of every level.

    Args:
        labels: (N, L) label matrix or (N, P, L) labels of several paths.
        sizes: The number of nodes C_l of each of the L levels.

    Returns:
        One (C_l,) float64 tensor for each level. An item of several nodes counts as a fraction for each, as in the
        targets of :func:`level_cross_entropies`.

    Raises:
        ValueError: If labels are malformed, or are no nodes of such a tree.

    Example:
        >>> node_counts(torch.tensor([[0, 1], [0, 1], [1, PAD]]), [2, 3])
        [tensor([2., 1.], dtype=torch.float64), tensor([0., 2., 0.], dtype=torch.float64)]
    """
    labels = as_labels(labels)
    check_nodes(labels, sizes, len(labels), one_process)
    paths = as_paths(labels)
    counts = []
    for level, size in enumerate(sizes):
        nodes = paths[..., level]
        weights = node_weights(nodes, dtype=torch.float64)
        counts.append(weights.new_zeros(size).index_add(0, nodes.clamp(min=0).flatten(), weights.flatten()))
    return counts


def check_nodes(labels: Tensor, sizes: Sequence[int], num_items: int, gather: Gather = one_process) -> None:
    """Raises unless labels are ids of nodes of a tree with so many nodes at its levels; on all processes alike.

    Args:
        labels: (M, L) or (M, P, L) labels.
        sizes: The number of nodes of each of the L levels.
        num_items: M.
        gather: Stacks the rows of all processes.

    Raises:
        ValueError: If shapes do not match, a label is malformed, or it is no node.

    Example:
        >>> check_nodes(torch.tensor([[0, 3]]), [1, 3], 1)
        Traceback (most recent call last):
        ...
        ValueError: level 2 has 3 nodes, but a label is node 3; the tree of these labels is not the tree of the classes
    """
    check_labels(labels[:0], several_paths=True)  # the shape alone, which is one for all processes
    if labels.shape[-1] != len(sizes) or len(labels) != num_items:
        raise ValueError(
            f"labels must have one row for each of the {num_items} items and one column for each of the {len(sizes)} "
            f"levels; their shape is {tuple(labels.shape)}"
        )
    everyone, _ = gather(labels)
    check_labels(everyone, several_paths=True)
    for level, size in enumerate(sizes):
        if everyone.numel() and (largest := int(everyone[..., level].max())) >= size:
            raise ValueError(
                f"level {level + 1} has {size} nodes, but a label is node {largest}; the tree of these labels is not "
                "the tree of the classes"
            )


def _item_losses(
    scores: Tensor, nodes: Tensor, weights: Tensor, known: Tensor | None, label_smoothing: float
) -> Tensor:
    """Returns the (M,) cross entropies of one level; 0 for items that take no part."""
    if known is not None:
        scores = scores.masked_fill(~known, -torch.inf)
    rows = (weights > 0).any(1)  # the others have no target, and with no node known not even a softmax
    losses = scores.new_zeros(len(scores))
    log_probabilities = scores[rows].log_softmax(1)
    at = nodes[rows].clamp(min=0)
    picked = torch.where(weights[rows] > 0, log_probabilities.gather(1, at), 0.0)  # of an unknown node, -inf
    own = -(weights[rows] * picked).sum(1)
    if label_smoothing:
        of_known = log_probabilities if known is None else log_probabilities[:, known]
        own = (1 - label_smoothing) * own - label_smoothing * of_known.mean(1)
    return losses.masked_scatter(rows, own)
