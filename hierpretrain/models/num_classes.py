"""Losses over the classes of a tree, whose config need not say how many there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hierpretrain.registry import MODELS, class_of
from hierpretrain.taxonomy import Taxonomy


def loss_that_counts(config: Any) -> Any:
    """Returns the class of a loss that has classes and whose config does not say how many; ``None`` if there is none.

    Its class method ``count_classes(taxonomy, **options)``, given the other options of the config, returns the number.

    Args:
        config: The config of a loss, which may have the configs of others within it, or ``None``.

    Example:
        >>> loss_that_counts(dict(type="LevelCrossEntropyLoss")).__name__
        'LevelCrossEntropyLoss'
        >>> loss_that_counts(dict(type="LevelCrossEntropyLoss", num_classes=3)) is None
        True
    """
    if isinstance(config, Mapping):
        return _counting(config) or loss_that_counts(list(config.values()))
    return next(filter(None, map(loss_that_counts, config)), None) if isinstance(config, list | tuple) else None


def with_num_classes(config: Any, tree: Callable[[str], Taxonomy]) -> Any:
    """Returns the config of a loss with each ``num_classes`` that it, or the config of a loss within it, does not say.

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
    if isinstance(config, list | tuple):
        return type(config)(with_num_classes(part, tree) for part in config)
    if not isinstance(config, Mapping):
        return config
    config = {name: with_num_classes(value, tree) for name, value in config.items()}
    if kind := _counting(config):
        options = {name: value for name, value in config.items() if name not in ("type", "num_classes")}
        config["num_classes"] = kind.count_classes(tree(kind.__name__), **options)
    return config


def _counting(config: Mapping[str, Any]) -> Any:
    """Returns the class that a config names, if it counts classes and the config itself does not say how many."""
    kind = class_of(MODELS, config) if config.get("num_classes") is None else None
    return kind if hasattr(kind, "count_classes") else None
