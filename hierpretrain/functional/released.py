"""The loss of paper A's released code, kept beside the paper's so that published checkpoints can be compared."""

from __future__ import annotations

from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor

from hierpretrain.checks import check_one_of
from hierpretrain.functional.batch import check_rows
from hierpretrain.functional.contrastive import supcon_loss, weighted_mean
from hierpretrain.taxonomy import PAD, check_labels, prefix_ids

LossType = Literal["hmc", "hce", "hmce"]


def released_hmlc_loss(
    features: Tensor,
    labels: Tensor,
    *,
    num_views: int = 2,
    temperature: float = 0.1,
    base_temperature: float = 0.07,
    loss_type: LossType = "hmce",
    level_weights: Literal["exp", "pow2"] = "exp",
) -> Tensor:
    """Computes the loss that the authors of *Use All The Labels* released (``HMLC``), unlike their paper's.

    It is the weighted sum of :func:`released_level_losses`, divided by the number of label columns, the image's own
    among them. The k-th level from the finest weighs e^(1/k) or 2^(1/k).

    Args:
        features: (M, D) unit features, view by view: view 0 of all images, then view 1, and so on.
        labels: (M, L) label matrix, coarsest level first, whose last column is the image's own number; repeated for
            each view. No ``PAD``: this form knows only trees of one depth.
        num_views: Views of each image, at least 2 (with one, the released code divides 0 by 0).
        temperature: Divides the cosine similarities; above 0.
        base_temperature: Scales the loss by ``temperature / base_temperature``; the released code has 0.07 whatever its
            temperature.
        loss_type: ``'hmc'`` (HiMulCon), ``'hce'`` (HiConE, whose levels weigh 1) or ``'hmce'`` (HiMulConE).
        level_weights: ``'exp'``, as the authors' training script, or ``'pow2'``, their class's default.

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
    check_one_of("level_weights", level_weights, ("exp", "pow2"))
    losses = released_level_losses(
        features,
        labels,
        num_views=num_views,
        temperature=temperature,
        base_temperature=base_temperature,
        loss_type=loss_type,
    )
    return released_mean(losses, loss_type, level_weights)


def released_level_losses(
    features: Tensor,
    labels: Tensor,
    *,
    num_views: int = 2,
    temperature: float = 0.1,
    base_temperature: float = 0.07,
    loss_type: LossType = "hmce",
) -> Tensor:
    """Computes the losses of the levels that :func:`released_hmlc_loss` adds up.

    Each level is a SupCon loss times ``temperature / base_temperature``. The finest level takes all images; after each
    level one image per node, the first in the batch's order, stands for the node at all coarser levels. So **the value
    depends on the order of the batch**. ``'hce'`` and ``'hmce'`` clamp the loss of a level by the largest loss of a
    finer level, gradient included. Two faults of the released code are left out: ids above 2^24 do not collide here,
    and two unknown labels are not a class.

    Args:
        features: (M, D) unit features, view by view: view 0 of all images, then view 1, and so on.
        labels: (M, L) label matrix, coarsest level first, whose last column is the image's own number; repeated for
            each view. No ``PAD``.
        num_views: Views of each image, at least 2.
        temperature: Divides the cosine similarities; above 0.
        base_temperature: Scales the losses by ``temperature / base_temperature``.
        loss_type: ``'hmc'``: no level is clamped; ``'hce'`` and ``'hmce'``: levels are clamped.

    Returns:
        (L - 1,) losses of all levels but the images' own, coarsest first.

    Raises:
        ValueError: If an option is unknown, shapes do not match, a label is unknown or there is no column of classes.

    Example:
        >>> features = torch.eye(4).repeat(2, 1)  # two equal views of four images
        >>> labels = torch.tensor([[0, 0, 0], [0, 1, 1], [1, 2, 2], [1, 3, 3]]).repeat(2, 1)
        >>> released_level_losses(features, labels, temperature=1.0, base_temperature=1.0, loss_type="hmc")
        tensor([1.8321, 1.1654])
    """
    check_one_of("loss_type", loss_type, ("hmc", "hce", "hmce"))
    features = check_rows(features)
    labels = check_labels(labels)
    _check_views(features, labels, num_views)
    columns = labels.shape[1]
    images, labels = features.reshape(num_views, -1, features.shape[1]), labels[: len(labels) // num_views]
    losses = []  # finest first
    for column in reversed(range(columns - 1)):
        nodes = prefix_ids(labels)[:, column]
        loss = supcon_loss(images.flatten(0, 1), nodes.repeat(num_views), temperature=temperature)
        losses.append(loss * temperature / base_temperature)
        first = _first_of_each(nodes)
        images, labels = images[:, first], labels[first]  # (V, nodes, D), (nodes, L)
    if loss_type != "hmc":
        losses = list(accumulate(losses, torch.maximum))
    return torch.stack(losses[::-1])


def released_mean(losses: Tensor, loss_type: LossType, level_weights: Literal["exp", "pow2"]) -> Tensor:
    """Adds up the weighted losses of the levels and divides by the number of label columns, the image's own too.

    Args:
        losses: (L - 1,) as :func:`released_level_losses` returns them.
        loss_type: ``'hce'`` weighs all levels 1.
        level_weights: ``'exp'`` or ``'pow2'``.

    Example:
        >>> released_mean(torch.tensor([4.0, 2.0]), "hce", "exp").item()
        2.0
    """
    mean = weighted_mean(losses, "uniform" if loss_type == "hce" else level_weights)
    return mean * len(losses) / (len(losses) + 1)


def _check_views(features: Tensor, labels: Tensor, num_views: int) -> None:
    number, columns = labels.shape
    if num_views < 2 or len(features) != number or number % num_views:
        raise ValueError(
            f"the released loss needs at least 2 views of each image, and as many labels as features; "
            f"num_views is {num_views}, with {len(features)} features and {number} labels"
        )
    if columns < 2:
        raise ValueError(f"labels need a column of classes before the image's own; they have {columns} column(s)")
    if bool((labels == PAD).any()):
        raise ValueError("the released loss knows no PAD; use hierarchical_contrastive_loss for ragged labels")
    of_views = labels.reshape(num_views, -1, columns)
    if bool((of_views != of_views[0]).any()):
        raise ValueError("features must stand view by view: every view must have the labels of the first")


def _first_of_each(nodes: Tensor) -> Tensor:
    """Returns the position of the first image of each node, nodes in ascending order."""
    order = torch.sort(nodes, stable=True)
    first = torch.ones_like(nodes, dtype=torch.bool)
    first[1:] = order.values[1:] != order.values[:-1]
    return order.indices[first]
