"""The triplet loss of one level of a tree, whose margin shrinks with depth (paper B, equations 1 and 2)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import relu

Margin = Callable[[Tensor, Tensor, float], Tensor]
"""``(level, max_level, min_margin) -> alpha``; the first two are (B,) tensors with ``1 <= level <= max_level``."""


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
"""The margin functions by name. All give ``alpha_min`` at ``h = h_max`` and, but for ``constant``, more above it."""


def level_triplet_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    level: int | Tensor,
    max_level: int | Tensor,
    min_margin: float,
    margin: str | Margin = "quadratic",
) -> Tensor:
    """Triplet loss with squared Euclidean distances and a margin that depends on the triplet's level.

    The mean over the triplets of ``max(0, |f_a - f_p|^2 - |f_a - f_n|^2 + alpha(h))``: paper B, equation 1, with the
    margin of equation 2 by default. Between unit rows squared distances are at most 4, so a margin above 4 is never
    met, and none above about 2 by unrelated rows: quadratic margins of deep trees are for rows of free length.

    Args:
        anchor: (B, D) rows of any length; half precision is computed in float32.
        positive: (B, D) rows, of an image in the anchor's node of the level.
        negative: (B, D) rows, of an image in a sibling of that node.
        level: h, 1 for the first level below the root: one for all, or (B,).
        max_level: h_max, from h on: one for all, or (B,), such as the depth of the branch under each anchor.
        min_margin: alpha_min, at least 0.
        margin: A key of ``MARGINS``, or such a function.

    Returns:
        0-dim tensor; 0 for no triplets.

    Raises:
        ValueError: As :func:`level_triplet_costs`.

    Example:
        >>> rows = torch.zeros(2, 1), torch.ones(2, 1), torch.full((2, 1), 2.0)
        >>> level_triplet_loss(*rows, level=1, max_level=3, min_margin=0.5).item()  # 1 - 4 + 4.5
        1.5
        >>> levels = torch.tensor([1, 3])  # the second: 1 - 4 + 0.5 is below 0
        >>> level_triplet_loss(*rows, level=levels, max_level=3, min_margin=0.5).item()
        0.75
    """
    costs = level_triplet_costs(
        anchor, positive, negative, level=level, max_level=max_level, min_margin=min_margin, margin=margin
    )
    return costs.sum() / max(len(costs), 1)


def level_triplet_costs(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    level: int | Tensor,
    max_level: int | Tensor,
    min_margin: float,
    margin: str | Margin = "quadratic",
) -> Tensor:
    """Returns what each triplet adds to :func:`level_triplet_loss`, which takes their mean.

    Args:
        anchor: (B, D) rows, as for :func:`level_triplet_loss`; so are the others.
        positive: (B, D) rows.
        negative: (B, D) rows.
        level: One for all, or (B,).
        max_level: One for all, or (B,).
        min_margin: alpha_min, at least 0.
        margin: A key of ``MARGINS``, or such a function.

    Returns:
        (B,), not below 0.

    Raises:
        ValueError: If shapes differ, rows or margins are not finite, a level is below 1 or above its ``max_level``,
            ``min_margin`` is out of range or ``margin`` unknown.

    Example:
        >>> rows = torch.zeros(2, 1), torch.ones(2, 1), torch.full((2, 1), 2.0)
        >>> level_triplet_costs(*rows, level=torch.tensor([1, 3]), max_level=3, min_margin=0.5)
        tensor([1.5000, 0.0000])
    """
    if anchor.ndim != 2 or not anchor.is_floating_point() or not anchor.shape == positive.shape == negative.shape:
        raise ValueError(
            "anchor, positive and negative must be (B, D) floating-point rows of one shape; they are "
            f"{', '.join(f'{tuple(rows.shape)} of {rows.dtype}' for rows in (anchor, positive, negative))}"
        )
    if not 0 <= min_margin < float("inf"):
        raise ValueError(f"min_margin must be finite and not below 0; it is {min_margin}")
    function = _margin_function(margin)
    with torch.autocast(anchor.device.type, enabled=False):
        if anchor.dtype in (torch.float16, torch.bfloat16):
            anchor, positive, negative = anchor.float(), positive.float(), negative.float()
        for name, rows in (("anchor", anchor), ("positive", positive), ("negative", negative)):
            if not rows.isfinite().all():
                raise ValueError(
                    f"the rows of {name} must be finite; row {int((~rows.isfinite()).any(1).nonzero()[0])} is not. "
                    "Lower the learning rate, clip gradients, or look for a broken image"
                )
        levels, max_levels = (
            _per_triplet(value, name, anchor) for value, name in ((level, "level"), (max_level, "max_level"))
        )
        if (wrong := (levels < 1) | (levels > max_levels)).any():
            first = int(wrong.nonzero()[0])
            raise ValueError(
                f"a level must be from 1 to its max_level; triplet {first} has level {levels[first]:g} and max_level "
                f"{max_levels[first]:g}"
            )
        margins = function(levels, max_levels, min_margin)
        if not margins.isfinite().all():
            raise ValueError(
                f"the margin must be finite; {margin!r} gives {margins.tolist()} for the levels {levels.tolist()} of "
                f"{max_levels.tolist()}"
            )
        costs = (anchor - positive).square().sum(1) - (anchor - negative).square().sum(1)
        return relu(costs + margins)


def _margin_function(margin: str | Margin) -> Margin:
    if not isinstance(margin, str):
        return margin
    if margin not in MARGINS:
        raise ValueError(f"margin must be one of {', '.join(map(repr, MARGINS))} or a function, not {margin!r}")
    return MARGINS[margin]


def _per_triplet(value: int | Tensor, name: str, rows: Tensor) -> Tensor:
    """Returns one number per row, in the rows' dtype."""
    values = torch.as_tensor(value, device=rows.device)
    if values.ndim > 1 or (values.ndim == 1 and len(values) != len(rows)):
        raise ValueError(f"{name} must be one number or ({len(rows)},); its shape is {tuple(values.shape)}")
    return values.to(rows.dtype).expand(len(rows))
