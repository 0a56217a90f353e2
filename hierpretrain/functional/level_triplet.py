"""The triplet loss of one level of a tree, whose margin shrinks with depth (paper B, equations 1 and 2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import relu

from hierpretrain.checks import as_tensor, check_finite, check_not_below_0, check_one_of
from hierpretrain.functional.batch import in_full_precision
from hierpretrain.functional.distances import check_squares

Margin = Callable[[Tensor, Tensor, float], Tensor]
"""A function ``(level, max_level, min_margin) -> alpha``; the first two are (B,), with ``1 <= level <= max_level``."""


def quadratic(level: Tensor, max_level: Tensor, min_margin: float) -> Tensor:
    """Returns ``(h_max - h)^2 + alpha_min``: paper B, equation 2."""
    return (max_level - level) ** 2 + min_margin


def linear(level: Tensor, max_level: Tensor, min_margin: float) -> Tensor:
    """Returns ``(h_max - h) + alpha_min``."""
    return (max_level - level) + min_margin


def exponential(level: Tensor, max_level: Tensor, min_margin: float) -> Tensor:
    """Returns ``2^(h_max - h) - 1 + alpha_min``: doubled from level to coarser level."""
    return torch.exp2(max_level - level) - 1 + min_margin


def tree_distance(level: Tensor, max_level: Tensor, min_margin: float) -> Tensor:
    """Returns ``(h_max - h + 1) alpha_min``, which is proportional to a distance in the tree.

    Leaves of depth h_max whose paths part at level h are ``2 (h_max - h + 1)`` edges apart.
    """
    return (max_level - level + 1) * min_margin


def constant(level: Tensor, max_level: Tensor, min_margin: float) -> Tensor:
    """Returns ``alpha_min`` at every level, as a triplet loss without a hierarchy has it."""
    return torch.full_like(level, min_margin)


MARGINS: dict[str, Margin] = {
    function.__name__: function for function in (quadratic, linear, exponential, tree_distance, constant)
}
"""The margin functions by name. All are ``alpha_min`` at ``h = h_max``; all but ``constant`` grow towards the root."""


def level_triplet_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    level: int | Tensor,
    max_level: int | Tensor,
    min_margin: float,
    margin: str | Margin = "quadratic",
    reduction: Literal["mean", "none"] = "mean",
) -> Tensor:
    """Computes the triplet loss with squared Euclidean distances and a margin that depends on the triplet's level.

    A triplet costs ``max(0, |f_a - f_p|^2 - |f_a - f_n|^2 + alpha(h))``: paper B, equation 1, with the margin of
    equation 2 by default. Between unit vectors squared distances are at most 4, so that none of their triplets
    satisfies a margin above 4, and unrelated ones none above about 2: quadratic margins of deep trees are for features
    of free length.

    Args:
        anchor: (B, D) features of any length; half precision is computed in float32.
        positive: (B, D) features, each of an image in the anchor's node of the level.
        negative: (B, D) features, each of an image in a sibling of that node.
        level: h, 1 for the first level below the root: one number for all triplets, or (B,).
        max_level: h_max, at least h: one number for all triplets, or (B,), such as the depth of the branch under each
            anchor.
        min_margin: alpha_min, at least 0.
        margin: A key of ``MARGINS``, or a function of the same form.
        reduction: ``'mean'`` over the triplets, or ``'none'``: the cost of each triplet.

    Returns:
        0-dim mean, 0 for no triplets; or (B,) costs, at least 0.

    Raises:
        ValueError: If shapes differ, features or margins are not finite, a level is below 1 or above its ``max_level``,
            ``min_margin`` is out of range, or ``margin`` or ``reduction`` is unknown.

    Example:
        >>> triplets = torch.zeros(2, 1), torch.ones(2, 1), torch.full((2, 1), 2.0)
        >>> level_triplet_loss(*triplets, level=1, max_level=3, min_margin=0.5).item()  # 1 - 4 + 4.5
        1.5
        >>> levels = torch.tensor([1, 3])  # the second costs nothing: 1 - 4 + 0.5 is below 0
        >>> level_triplet_loss(*triplets, level=levels, max_level=3, min_margin=0.5, reduction="none")
        tensor([1.5000, 0.0000])
    """
    anchor, positive, negative = map(as_tensor, (anchor, positive, negative))
    if anchor.ndim != 2 or not anchor.is_floating_point() or not anchor.shape == positive.shape == negative.shape:
        raise ValueError(
            "anchor, positive and negative must be (B, D) floating-point of one shape; they are "
            f"{', '.join(f'{tuple(side.shape)} of {side.dtype}' for side in (anchor, positive, negative))}"
        )
    check_not_below_0(min_margin=min_margin)
    check_one_of("reduction", reduction, ("mean", "none"))
    margin_function = _margin_function(margin)
    with torch.autocast(anchor.device.type, enabled=False):
        anchor, positive, negative = map(in_full_precision, (anchor, positive, negative))
        check_finite(anchor, "anchor")
        check_finite(positive, "positive")
        check_finite(negative, "negative")
        check_squares(torch.cat([anchor, positive, negative]), "anchor, positive and negative")
        levels, max_levels = _per_triplet(level, "level", anchor), _per_triplet(max_level, "max_level", anchor)
        if (wrong := (levels < 1) | (levels > max_levels)).any():
            first = int(wrong.nonzero()[0])
            raise ValueError(
                f"a level must be from 1 to its max_level; triplet {first} has level {levels[first]:g} and max_level "
                f"{max_levels[first]:g}"
            )
        alpha = margin_function(levels, max_levels, min_margin)
        if not alpha.isfinite().all():
            raise ValueError(
                f"the margin must be finite; {margin!r} gives {alpha.tolist()} for the levels {levels.tolist()} of "
                f"{max_levels.tolist()}"
            )
        costs = relu((anchor - positive).square().sum(1) - (anchor - negative).square().sum(1) + alpha)
        return costs if reduction == "none" else costs.sum() / max(len(costs), 1)


def _margin_function(margin: str | Margin) -> Margin:
    if not isinstance(margin, str):
        return margin
    if margin not in MARGINS:
        raise ValueError(f"margin must be one of {', '.join(map(repr, MARGINS))} or a function, not {margin!r}")
    return MARGINS[margin]


def _per_triplet(value: int | Tensor, name: str, anchor: Tensor) -> Tensor:
    """Returns one number per triplet, in the dtype of the features."""
    values = torch.as_tensor(value, device=anchor.device)
    if values.ndim > 1 or (values.ndim == 1 and len(values) != len(anchor)):
        raise ValueError(f"{name} must be one number or ({len(anchor)},); its shape is {tuple(values.shape)}")
    return values.to(anchor.dtype).expand(len(anchor))
