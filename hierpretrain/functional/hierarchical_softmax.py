"""The two losses of *Making Better Mistakes* (Bertinetto et al., CVPR 2020): hierarchical cross entropy, soft labels.

Both are for a classifier over the C nodes of level l of a tree. The probability of a node above level l is the sum of
the probabilities of the classes below the node.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from hierpretrain.checks import as_tensor, check_classes, check_floating, check_losses, check_not_below_0
from hierpretrain.taxonomy import as_labels, prefix_ids


def hierarchical_cross_entropy(logits: Tensor, class_labels: Tensor, labels: Tensor, *, alpha: float) -> Tensor:
    """Computes the hierarchical cross entropy (HXE, section 3.1), a weighted sum over the steps down to the class.

    The loss of an item is::

        - sum over k = 1..l of  lambda_k log p(node at level k | node at level k - 1)
        lambda_k = l exp(-alpha k) / sum over m = 1..l of exp(-alpha m)

    The larger ``alpha``, the more the coarse steps count; ``alpha = 0`` is cross entropy over the classes.

    It differs from the released code in two things. The weights are 1 on average, so that one learning rate does for
    every ``alpha``; the released code divides them by their sum over all nodes of the tree. And no step is passed over
    where its probability rounds to 0, since sums of probabilities stay logarithms.

    Args:
        logits: (N, C) logits of the classes.
        class_labels: (C, l) label matrix of the classes, as ``Taxonomy.node_labels(level)`` returns it.
        labels: (N,) classes of the items, 0 to C - 1.
        alpha: How much less each finer level counts; finite, usually 0 to 1.

    Returns:
        (N,) losses.

    Raises:
        ValueError: If shapes do not match, a class does not exist, two classes are one node, or alpha or a loss is not
            finite.

    Example:
        >>> tree = torch.tensor([[0, 0], [0, 1], [1, 2]])  # p = 1/3 each: 2/3 for the first two's parent, 1/2 below it
        >>> loss = hierarchical_cross_entropy(torch.zeros(1, 3), tree, torch.tensor([0]), alpha=0.0)
        >>> round(loss.item(), 4)  # log 3/2 + log 2 = log 3
        1.0986
    """
    if not -float("inf") < alpha < float("inf"):
        raise ValueError(f"alpha must be finite; it is {alpha}")
    logits = as_tensor(logits)
    labels = as_labels(labels).to(logits.device)
    _check_shapes(logits, labels, len(class_labels))
    nodes = prefix_ids(class_labels)  # (C, l): the class's node at each level
    levels = nodes.shape[1]
    if levels == 0 or len(torch.unique(nodes[:, -1])) < len(nodes):
        raise ValueError("class_labels must be a different label row for every class; take Taxonomy.node_labels(level)")
    steps = _conditional_losses(logits, nodes, labels)
    lambdas = levels * torch.softmax(-alpha * torch.arange(1, levels + 1, dtype=steps.dtype, device=steps.device), 0)
    losses = steps @ lambdas
    check_losses(losses)
    return losses


def soft_labels(distances: Tensor, *, beta: float, max_distance: float | None = None) -> Tensor:
    """Turns the distances of classes from the right one into a target distribution (section 3.2 of the paper).

    Args:
        distances: (N, C) distances, at least 0, of all classes from the right class of each item; (C, C) for the
            targets of all classes. The paper takes the height of the lowest common ancestor.
        beta: How sharp the targets ``exp(-beta d / max_distance)`` are, at least 0: the larger, the nearer to one-hot;
            0 is uniform (which the released code takes for one-hot).
        max_distance: What the distances are divided by. ``None``: the largest of them.

    Returns:
        (N, C) targets, each row of which adds up to 1.

    Raises:
        ValueError: If beta or a distance is below 0, or not finite.

    Example:
        >>> soft_labels(torch.tensor([[0.0, 1.0, 2.0]]), beta=2 * torch.tensor(2.0).log().item())  # 1 : 1/2 : 1/4
        tensor([[0.5714, 0.2857, 0.1429]])
    """
    check_not_below_0(beta=beta)
    distances = as_tensor(distances)
    if not ((distances >= 0) & (distances < torch.inf)).all():
        raise ValueError("distances must be finite and not below 0")
    if not distances.is_floating_point():
        distances = distances.float()
    largest = max_distance if max_distance is not None else distances.max().item() if distances.numel() else 0.0
    return torch.softmax(-beta * distances / (largest or 1.0), 1)


def soft_label_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Computes cross entropy against soft labels: the Kullback-Leibler divergence, but for a constant.

    Args:
        logits: (N, C) logits of the classes.
        targets: (N, C) distributions, as :func:`soft_labels` returns them for the items' classes.

    Returns:
        (N,) losses, each a sum over the classes. (The released code divides by C as well.)

    Raises:
        ValueError: If shapes differ, one of the two is not floating-point, or a loss is not finite.

    Example:
        >>> round(soft_label_loss(torch.zeros(1, 4), torch.tensor([[0.7, 0.1, 0.1, 0.1]])).item(), 4)  # log 4
        1.3863
    """
    logits, targets = as_tensor(logits), as_tensor(targets)
    if logits.ndim != 2 or logits.shape != targets.shape:
        raise ValueError(
            f"logits and targets must both be (N, C); they are {tuple(logits.shape)} and {tuple(targets.shape)}"
        )
    check_floating(logits, "logits")
    check_floating(targets, "targets")
    losses = cross_entropy(logits, targets, reduction="none")
    check_losses(losses)
    return losses


def _check_shapes(logits: Tensor, labels: Tensor, num_classes: int) -> None:
    check_floating(logits, "logits")
    if logits.ndim != 2 or logits.shape[1] != num_classes or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"logits must be (N, C), class_labels (C, l) and labels (N,); logits are {tuple(logits.shape)}, there are "
            f"{num_classes} classes, and labels are {tuple(labels.shape)}"
        )
    check_classes(labels, num_classes)


def _conditional_losses(logits: Tensor, nodes: Tensor, labels: Tensor) -> Tensor:
    """Returns (N, l) ``-log p(node at level k | node at level k - 1)`` for the item's node at every level.

    ``nodes`` are (C, l), the node of each class at each level, counted from 0 within the level.
    """
    masses = logits  # (N, nodes of the level): log of the unnormalised probability, from the classes up to the root
    node_of_class = torch.arange(len(nodes), device=nodes.device)
    path = [masses.gather(1, labels[:, None])]
    for column in reversed(nodes[:, :-1].unbind(1)):
        parent = torch.zeros(masses.shape[1], dtype=torch.int64, device=nodes.device)
        parent = parent.scatter(0, node_of_class, column)
        masses, node_of_class = _segment_logsumexp(masses, parent), column
        path.append(masses.gather(1, column[labels][:, None]))
    path.append(masses.logsumexp(1, keepdim=True))
    return -torch.cat(path[::-1], 1).diff(dim=1)


def _segment_logsumexp(values: Tensor, segments: Tensor) -> Tensor:
    """Returns the (N, S) log-sum-exp of each segment's columns, from (N, C) values and (C,) segments 0..S-1."""
    count, number = len(values), int(segments.max()) + 1
    with torch.no_grad():  # any shift gives the same sum; the largest value keeps it in range
        largest = values.new_full((count, number), -torch.inf)
        largest = largest.scatter_reduce(1, segments.expand(count, -1), values, "amax")
    sums = values.new_zeros(count, number).index_add(1, segments, (values - largest[:, segments]).exp())
    return sums.log() + largest
