"""Losses over the classes of a tree, whose config need not say how many there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hierpretrain.registry import MODELS, class_of
from hierpretrain.taxonomy import Taxonomy


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
    kind = class_of(MODELS, config)
    return kind if hasattr(kind, "count_classes") else None


def with_num_classes(config: Mapping[str, Any], tree: Callable[[str], Taxonomy]) -> dict[str, Any]:
    """Returns the config of a loss with the ``num_classes`` that it, or the contrastive loss within it, does not say.

    Args:
        config: The config of any loss.
        tree: Returns the tree whose nodes are the classes, given the name of the loss that asks.

    Example:
        >>> tree = Taxonomy([("a", "x"), ("a", "y")], ("kind", "thing"))
        >>> with_num_classes(dict(type="HXELoss", level="thing", alpha=0.5), lambda loss: tree)
        {'type': 'HXELoss', 'level': 'thing', 'alpha': 0.5, 'num_classes': 2}
        >>> within = dict(type="HAPPIERLoss", level=1)
        >>> with_num_classes(dict(type="HierarchicalJointLoss", contrastive=within), lambda loss: tree)["contrastive"]
        {'type': 'HAPPIERLoss', 'level': 1, 'num_classes': 1}
    """
    config = dict(config)
    if kind := loss_that_counts(config):
        options = {name: value for name, value in config.items() if name not in ("type", "num_classes")}
        config["num_classes"] = kind.count_classes(tree(kind.__name__), **options)
    if isinstance(config.get("contrastive"), Mapping):
        config["contrastive"] = with_num_classes(config["contrastive"], tree)
    return config
