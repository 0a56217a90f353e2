"""Losses over the classes of a tree, whose config need not say how many there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hierpretrain.registry import MODELS


def loss_that_counts(config: Mapping[str, Any] | None) -> Any:
    """Returns the class of a loss that has classes and whose config does not say how many; ``None`` for all others.

    Its class method ``count_classes(taxonomy, **options)``, given the other options of the config, returns the number.

    Args:
        config: The config of a loss, or ``None``.

    Example:
        >>> loss_that_counts(dict(type="LevelCrossEntropyLoss")).__name__
        'LevelCrossEntropyLoss'
        >>> loss_that_counts(dict(type="LevelCrossEntropyLoss", num_classes=3)) is None
        True
    """
    if config is None or config.get("num_classes") is not None:
        return None
    kind = MODELS.get(config["type"]) if isinstance(config.get("type"), str) else config.get("type")
    return kind if hasattr(kind, "count_classes") else None
