"""The rows of a batch as losses over pairs want them: checked, in full precision, and beside those of all processes."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpretrain.functional.contrastive import Gather


def joined_rows(features: Tensor, labels: Tensor, gather: Gather | None) -> tuple[Tensor, Tensor, int, Tensor]:
    """Checks the rows of this process and stacks those of all.

    Args:
        features: (m, D) floating-point rows of this process; half precision becomes float32.
        labels: (m,) or (m, L) labels, one per row.
        gather: As :func:`hierpretrain.models.gather.gather_rows`; ``None`` on one process.

    Returns:
        The (m, D) rows, the (M, D) rows of all processes, the place of the first own row among them, and the labels of
        all.

    Raises:
        ValueError: If shapes do not match or a feature is not finite; the latter on all processes, so that none hangs.

    Example:
        >>> rows, keys, first, labels = joined_rows(torch.eye(2).half(), torch.tensor([4, 5]), None)
        >>> rows.dtype, first
        (torch.float32, 0)
    """
    if features.ndim != 2 or not features.is_floating_point():
        raise ValueError(
            f"features must be (M, D) floating point; they are {tuple(features.shape)} of {features.dtype}"
        )
    if len(labels) != len(features):
        raise ValueError(
            f"labels must have one entry per row of features ({len(features)}); they have {len(labels)}. "
            "With several views, repeat the labels for each view"
        )
    if features.dtype in (torch.float16, torch.bfloat16):
        features = features.float()
    labels = labels.to(features.device)
    keys, first, key_labels = features, 0, labels
    if gather is not None:
        (keys, first), (key_labels, _) = gather(features), gather(labels)
    if not keys.isfinite().all():
        raise ValueError(
            f"features must be finite; row {int((~keys.isfinite()).any(1).nonzero()[0])} is not. "
            "Lower the learning rate, clip gradients, or look for a broken image"
        )
    return features, keys, first, key_labels
