"""Losses between items and learnt proxies of the nodes of a tree, on plain tensors.

:func:`cross_scale_loss` has proxies of the finest classes only, which it tells apart with a margin of each level.
:func:`proxy_anchor_losses` has proxies of the nodes of every level.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import softplus

from hierpretrain.checks import (
    as_tensor,
    check_above_0,
    check_classes,
    check_finite,
    check_floating,
    check_losses,
    check_not_below_0,
)
from hierpretrain.functional.batch import Gather, join_processes
from hierpretrain.functional.contrastive import check_range
from hierpretrain.functional.joint import node_weights
from hierpretrain.functional.levels import numbers_of_levels
from hierpretrain.functional.log_sums import masked_logsumexp
from hierpretrain.functional.unit_length import unit_length
from hierpretrain.taxonomy import PAD, as_labels, as_paths, check_labels, shared_depth


def cross_scale_loss(
    cosines: Tensor,
    class_labels: Tensor,
    labels: Tensor,
    *,
    margins: Sequence[float] = (0.45, 0.25),
    scale: float = 32.0,
    known: Tensor | None = None,
) -> Tensor:
    """Computes Cross-Scale Learning (CSL): an item is nearer to its class than to all else by a margin of each level.

    Sun et al., *Dynamic Metric Learning: Towards a Scalable Metric Space to Accommodate Multiple Semantic Scales*, CVPR
    2021. With ``c_k`` the cosine of an item with the proxy of class k, y its class, and ``N_l`` the classes whose path
    parts from y's at level l or above, its loss is::

        sum over l = 1..L of  log(1 + sum over k in N_l of exp(scale (c_k - c_y + m_l)))

    The positive is the finest class at every level, which keeps the levels from pulling against each other. As further
    levels ask for more, margins grow from the finest level to the coarsest. In the paper all classes are at level L.
    Classes may end above it here: those above or below y never part from it, and are in no ``N_l``. An item of several
    classes has the mean of the losses of each, and ``N_l`` holds what parts from all of them.

    Args:
        cosines: (N, C) cosines of the items with the proxies of all classes.
        class_labels: (C, L) label matrix of the classes, as ``Taxonomy.node_labels(level)`` returns it; ``PAD`` on the
            right for classes that end above level L.
        labels: (N,) classes of the items, 0 to C - 1; or (N, P) for several classes, with ``PAD`` where an item has
            fewer.
        margins: ``m_l``, one for each level, coarsest first, each at least 0; or two, of the coarsest and of the finest
            level, with the levels between them evenly spaced. The default gives 0.45, 0.35 and 0.25 for three
            levels, as the baseline in HAPPIER's released code.
        scale: How sharp the loss is, above 0.
        known: (C,) bool: the classes that may be in an ``N_l``; ``None``: all.

    Returns:
        (N,) losses. A level of one node alone adds 0. :func:`cross_scale_losses` has the terms of the sum.

    Raises:
        ValueError: If shapes do not match, a class does not exist, a loss is not finite or an option is out of range.

    Example:
        >>> cosines, tree = torch.tensor([[1.0, 0.5, 0.0]]), torch.tensor([[0, 0], [0, 1], [1, 2]])
        >>> loss = cross_scale_loss(cosines, tree, torch.tensor([0]), margins=(0.5, 0.0), scale=1.0)
        >>> round(loss.item(), 4)  # log(1 + e^-0.5) + log(1 + e^-0.5 + e^-1)
        1.1543
    """
    return cross_scale_losses(cosines, class_labels, labels, margins=margins, scale=scale, known=known).sum(1)


def cross_scale_losses(
    cosines: Tensor,
    class_labels: Tensor,
    labels: Tensor,
    *,
    margins: Sequence[float] = (0.45, 0.25),
    scale: float = 32.0,
    known: Tensor | None = None,
) -> Tensor:
    """Computes the (N, L) terms of :func:`cross_scale_loss`, one for each level, of the same arguments.

    Example:
        >>> cosines, tree = torch.tensor([[1.0, 0.5, 0.0]]), torch.tensor([[0, 0], [0, 1], [1, 2]])
        >>> losses = cross_scale_losses(cosines, tree, torch.tensor([0]), margins=(0.5, 0.0), scale=1.0)
        >>> [round(loss, 4) for loss in losses[0].tolist()]  # log(1 + e^-0.5), log(1 + e^-0.5 + e^-1)
        [0.4741, 0.6803]
    """
    check_above_0(scale=scale)
    for margin in margins:
        check_not_below_0(margins=margin)
    cosines = as_tensor(cosines)
    check_floating(cosines, "cosines")
    if cosines.ndim == 2:
        check_finite(cosines.detach(), "cosines")
    labels, class_labels = as_labels(labels).to(cosines.device), as_labels(class_labels).to(cosines.device)
    if cosines.shape != (len(labels), len(class_labels)) or class_labels.ndim != 2 or labels.ndim > 2:
        raise ValueError(
            f"cosines must be (N, C), class_labels (C, L) and labels (N,) or (N, P); they are {tuple(cosines.shape)}, "
            f"{tuple(class_labels.shape)} and {tuple(labels.shape)}"
        )
    paths = labels if labels.ndim == 2 else labels[:, None]  # (N, P)
    check_classes(labels, len(class_labels), least=PAD)
    if labels.numel():
        check_classes(paths.amax(1), len(class_labels))  # of every item, one at least
    parting = _levels_of_parting(paths, class_labels)  # (N, C)
    if known is not None:
        parting = parting.masked_fill(~as_tensor(known).to(parting.device), class_labels.shape[1] + 1)
    weights, own = node_weights(paths, dtype=cosines.dtype), cosines.gather(1, paths.clamp(min=0))  # (N, P)
    of_levels = []
    for level, margin in enumerate(numbers_of_levels(margins, class_labels.shape[1], "margins"), start=1):
        others = masked_logsumexp(scale * cosines, parting <= level, 1)
        of_levels.append((weights * softplus(others[:, None] - scale * (own - margin))).sum(1))
    losses = torch.stack(of_levels, 1) if of_levels else cosines.new_zeros(len(cosines), 0)
    check_losses(losses.sum(1))
    return losses


def _levels_of_parting(paths: Tensor, class_labels: Tensor) -> Tensor:
    """Finds the level at which a class parts from all the classes of an item.

    Args:
        paths: (N, P) classes of the items, ``PAD`` for none.
        class_labels: (C, L) labels of the classes, ``PAD`` below their end.

    Returns:
        (N, C) levels, 1 to L; L + 1 if the class is one of the item's, or above or below one.

    Example:
        >>> tree = torch.tensor([[0, 0], [0, 1], [1, 2], [1, PAD]])
        >>> _levels_of_parting(torch.tensor([[0, PAD], [0, 2]]), tree).tolist()
        [[3, 2, 1, 1], [3, 2, 3, 3]]
    """
    depths, levels = (class_labels != PAD).sum(1), class_labels.shape[1]
    parting = paths.new_zeros(len(paths), len(class_labels))
    for classes in paths.T:
        rows = (classes != PAD).nonzero()[:, 0]
        own = classes[rows]
        shared = shared_depth(class_labels[own], class_labels)
        at = torch.where(shared < torch.minimum(depths[own, None], depths), shared + 1, levels + 1)
        parting[rows] = torch.maximum(parting[rows], at)
    return parting


def proxy_anchor_losses(
    features: Tensor,
    labels: Tensor,
    proxies: Sequence[Tensor],
    nodes: Sequence[Tensor],
    *,
    margin: float = 0.1,
    scale: float = 32.0,
    gather: Gather | None = None,
) -> Tensor:
    """Computes the Proxy Anchor loss of each level.

    Source: Kim et al., *Proxy Anchor Loss for Deep Metric Learning*, CVPR 2020. With ``c_xp`` the cosine of item
    x and proxy p, ``X+_p`` the items at or below the proxy's node and ``X-_p`` the items elsewhere, the loss of a level
    with the proxies P, of which P+ have an item in the batch, is::

        1 / |P+| sum over p in P+ of log(1 + sum over x in X+_p of exp(-scale (c_xp - margin)))
        + 1 / |P| sum over p in P of log(1 + sum over x in X-_p of exp( scale (c_xp + margin)))

    The paper has one level. In a tree a path may end above the level: such an item may belong to any node below the end
    of its path, and it is in neither set of their proxies. An item without a label is in no set at all.

    Args:
        features: (M, D) unit rows, all views of all images; half precision is computed in float32.
        labels: (M, L) label matrix of the tree, coarsest level first, ``PAD`` (-1) only on the right, or (M, P, L) for
            items with several paths, which belong to the nodes of all of them.
        proxies: Of each level l, coarsest first, (N_l, D) proxies of any length, one for each node.
        nodes: Of each level l, the (N_l, l) labels of its nodes, as ``Taxonomy.node_labels(l)`` returns them.
        margin: At least 0.
        scale: How sharp the loss is, above 0.
        gather: Stacks the rows of all processes, with gradient, as :func:`hierpretrain.models.gather.gather_rows`. The
            losses are then the ones of all items together. ``None``: there is one process.

    Returns:
        (L,), coarsest first. Memory is O(M N_l) for each level.

    Raises:
        ValueError: If shapes do not match, labels are malformed or name a node that has no proxy, features are not
            finite or an option is out of range.

    Example:
        >>> features, labels = torch.eye(2), torch.tensor([[0], [1]])
        >>> losses = proxy_anchor_losses(features, labels, [torch.eye(2)], [labels], margin=0.0, scale=1.0)
        >>> round(losses.item(), 4)  # log(1 + 1 / e) + log(1 + 1)
        1.0064
    """
    check_not_below_0(margin=margin)
    check_above_0(scale=scale)
    features = as_tensor(features)
    proxies, nodes = [as_tensor(of_level) for of_level in proxies], [as_labels(tree, "nodes") for tree in nodes]
    with torch.autocast(features.device.type, enabled=False):
        _, keys, _, labels = join_processes(features, labels, gather)
        check_range(keys.detach(), 1 / scale)
        _check_nodes(labels, proxies, nodes)
        paths = as_paths(labels)  # (M, P, L)
        losses = [
            _proxy_anchor_loss(keys @ unit_length(of_level.to(keys)).T, *_relations(paths, tree), margin, scale)
            for of_level, tree in zip(proxies, nodes, strict=True)
        ]
        return torch.stack(losses) if losses else 0.0 * keys.sum() + keys.new_zeros(0)


def _relations(paths: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor]:
    """Returns of which of (N, l) nodes (M, P, L) items are positives, and of which negatives, (M, N) each."""
    paths = paths[..., : nodes.shape[1]]
    depths = (paths != PAD).sum(-1)  # (M, P)
    shared = shared_depth(paths.flatten(0, 1), nodes).view(*depths.shape, len(nodes))
    # a node that is at the end of a path, or below it
    possible = ((shared == depths[..., None]) & (depths > 0)[..., None]).any(1)
    positive = (shared == nodes.shape[1]).any(1)
    return positive, ~possible & (depths > 0).any(1, keepdim=True)


def _proxy_anchor_loss(cosines: Tensor, positive: Tensor, negative: Tensor, margin: float, scale: float) -> Tensor:
    """Computes the loss of (M, N) cosines of items and the proxies of one level."""
    pulls = softplus(masked_logsumexp(-scale * (cosines - margin), positive, 0))  # 0 of a proxy without an item
    pushes = softplus(masked_logsumexp(scale * (cosines + margin), negative, 0))
    return pulls.sum() / positive.any(0).sum().clamp(min=1) + pushes.sum() / max(len(pushes), 1)


def _check_nodes(labels: Tensor, proxies: Sequence[Tensor], nodes: Sequence[Tensor]) -> None:
    labels = check_labels(labels, several_paths=True)
    found, expected = [tuple(tree.shape) for tree in nodes], [(len(p), i) for i, p in enumerate(proxies, start=1)]
    if found != expected or labels.shape[-1] != len(proxies):
        raise ValueError(
            f"labels must have {len(proxies)} levels, one for each level of proxies, and nodes must be {expected}; "
            f"labels have {labels.shape[-1]} levels, and nodes are {found}"
        )
    for level, of_level in enumerate(proxies, start=1):
        check_floating(of_level, "proxies")
        check_finite(of_level.detach(), "proxies")
        column = labels[..., level - 1]
        if column.numel() and (largest := int(column.max())) >= len(of_level):
            raise ValueError(
                f"level {level} has proxies of nodes 0 to {len(of_level) - 1}, but the batch has node {largest}; the "
                "proxies must be of the training data's tree"
            )
