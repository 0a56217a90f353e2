"""The loss of paper A's released code, kept beside the paper's so that published checkpoints can be compared."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from hierpretrain.functional.contrastive import supcon_loss
from hierpretrain.taxonomy import PAD, check_labels, prefix_ids

PENALTIES: dict[str, Callable[[float], float]] = {"exp": math.exp, "pow2": lambda x: 2.0**x}


def released_hmlc_loss(
    features: Tensor,
    labels: Tensor,
    *,
    num_views: int = 2,
    temperature: float = 0.1,
    base_temperature: float = 0.07,
    loss_type: Literal["hmc", "hce", "hmce"] = "hmce",
    level_weights: Literal["exp", "pow2"] = "exp",
    on_levels: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """The loss that the authors of *Use All The Labels* released (``HMLC``), with what sets it apart from their paper.

    Finest level first, each level is a SupCon loss times ``temperature / base_temperature``; then one image per node,
    the first in the batch's order, stands for the node at all coarser levels. So **the value depends on the order of
    the batch**. ``hce`` and ``hmce`` clamp a level's mean loss by the largest so far, gradient included; the sum is
    divided by the number of label columns, the image's own among them; the k-th level from the finest weighs e^(1/k)
    or 2^(1/k). Two faults are left out: ids above 2^24 do not collide here, and two unknown labels are not a class.

    Args:
        features: (M, D) unit rows, view by view: view 0 of all images, then view 1, and so on.
        labels: (M, L) label matrix, coarsest level first, whose last column is the image's own number, which the loss
            masks before its first level; repeated for each view. No ``PAD``: this form knows only trees of one depth.
        num_views: Views of each image, at least 2 (with one, the released code divides 0 by 0).
        temperature: Divides the cosine similarities; above 0.
        base_temperature: Scales the loss; the released code has 0.07 whatever its temperature.
        loss_type: ``'hmc'`` (HiMulCon), ``'hce'`` (HiConE, unweighted) or ``'hmce'`` (HiMulConE).
        level_weights: ``'exp'``, as the authors' training script, or ``'pow2'``, their class's default.
        on_levels: Called with the (L - 1,) losses of the levels but the images' own, coarsest first, before they are
            weighted.

    Returns:
        0-dim tensor.

    Raises:
        ValueError: If an option is unknown, shapes do not match, a label is unknown or there is no column of classes.

    Example:
        >>> features = torch.eye(4).repeat(2, 1)  # two equal views of four images
        >>> labels = torch.tensor([[0, 0], [0, 1], [1, 2], [1, 3]]).repeat(2, 1)
        >>> round(released_hmlc_loss(features, labels, temperature=1.0, base_temperature=1.0).item(), 4)
        2.4901
    """
    if loss_type not in ("hmc", "hce", "hmce"):
        raise ValueError(f"loss_type must be 'hmc', 'hce' or 'hmce', not {loss_type!r}")
    if level_weights not in PENALTIES:
        raise ValueError(f"level_weights must be 'exp' or 'pow2', not {level_weights!r}")
    check_labels(labels)
    rows, columns = labels.shape
    if num_views < 2 or len(features) != rows or rows % num_views:
        raise ValueError(
            f"the released loss needs at least 2 views of each image, and as many rows of labels as of features; "
            f"num_views is {num_views}, with {len(features)} rows of features and {rows} of labels"
        )
    if columns < 2:
        raise ValueError(f"labels need a column of classes before the image's own; they have {columns} column(s)")
    if bool((labels == PAD).any()):
        raise ValueError("the released loss knows no PAD; use hierarchical_contrastive_loss for ragged labels")
    by_view = labels.reshape(num_views, -1, columns)
    if bool((by_view != by_view[0]).any()):
        raise ValueError("rows must stand view by view: the labels of every view must equal those of the first")

    images, labels = features.reshape(num_views, -1, features.shape[1]), by_view[0]  # (V, B, D), (B, L)
    total, largest = features.new_zeros(()), features.new_full((), -torch.inf)
    losses: list[Tensor] = []
    for k in range(1, columns):
        nodes = prefix_ids(labels)[:, columns - k - 1]  # (B,)
        loss = supcon_loss(images.flatten(0, 1), nodes.repeat(num_views), temperature=temperature)
        loss = loss * temperature / base_temperature
        if loss_type != "hmc":
            loss = largest = torch.maximum(largest, loss)
        losses.insert(0, loss.detach())
        total = total + (1.0 if loss_type == "hce" else PENALTIES[level_weights](1 / k)) * loss
        kept = _first_of_each(nodes)
        images, labels = images[:, kept], labels[kept]
    if on_levels is not None:
        on_levels(torch.stack(losses))
    return total / columns


def _first_of_each(nodes: Tensor) -> Tensor:
    """Returns the place of the first row of each node, nodes in ascending order."""
    order = torch.sort(nodes, stable=True)
    first = torch.ones_like(nodes, dtype=torch.bool)
    first[1:] = order.values[1:] != order.values[:-1]
    return order.indices[first]
