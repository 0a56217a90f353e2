"""Configs of data sets: those that a config joins, and options of all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from hierpretrain.datasets.base import HierarchicalDataset
from hierpretrain.registry import DATASETS, class_of


def own_datasets(options: MutableMapping[str, Any]) -> Iterator[MutableMapping[str, Any]]:
    """Yields the configs of data sets with images of their own that a config joins or wraps, which may be itself.

    Args:
        options: The config of a data set. What is yielded are parts of it, and may be changed in place.

    Example:
        >>> cats, dogs = (dict(type="FolderDataset", data_root=name) for name in ("cats", "dogs"))
        >>> joined = dict(type="ConcatDataset", datasets=[cats, dict(type="RepeatDataset", dataset=dogs, times=2)])
        >>> [own["data_root"] for own in own_datasets(joined)], list(own_datasets(cats)) == [cats]
        (['cats', 'dogs'], True)
    """
    parts = [part for several in _inner(options).values() for part in several]
    for part in parts:
        yield from own_datasets(part)
    if not parts:
        yield options


def without_pipelines(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a data set's config, and those of what it joins or wraps, as new dicts that have no pipeline.

    Example:
        >>> without_pipelines(dict(type="RepeatDataset", dataset=dict(type="FolderDataset", pipeline=[]), times=2))
        {'type': 'RepeatDataset', 'dataset': {'type': 'FolderDataset'}, 'times': 2}
    """
    kept = {key: value for key, value in options.items() if key != "pipeline"}
    for key, parts in _inner(options).items():
        new = list(map(without_pipelines, parts))
        kept[key] = new[0] if key == "dataset" else new
    return kept


def _inner(options: Mapping[str, Any]) -> dict[str, list[MutableMapping[str, Any]]]:
    """Returns the configs that a data set's config joins or wraps, by the option that has them."""
    kind = class_of(DATASETS, options)
    if isinstance(kind, type) and issubclass(kind, HierarchicalDataset):
        return {}  # whatever it reads, as TorchvisionDataset, by an option `dataset`
    found = {"datasets": list(options.get("datasets") or ()), "dataset": [options.get("dataset")]}
    return {key: parts for key, parts in found.items() if parts and all(isinstance(p, MutableMapping) for p in parts)}


def set_option(options: MutableMapping[str, Any], name: str, value: Any) -> None:
    """Sets an option of all data sets with images of their own that a config joins or wraps, in place."""
    for own in own_datasets(options):
        own[name] = value


def set_data_root(options: MutableMapping[str, Any], root: str) -> None:
    """Sets the folder of the data set, or of data sets that a config joins and that are in one folder, in place.

    Raises:
        ValueError: If the data sets are in different folders.

    Example:
        >>> options = dict(type="RepeatDataset", times=2, dataset=dict(type="FolderDataset", data_root="photos"))
        >>> set_data_root(options, "elsewhere")
        >>> options["dataset"]
        {'type': 'FolderDataset', 'data_root': 'elsewhere'}
    """
    roots = list(dict.fromkeys(str(own.get("data_root")) for own in own_datasets(options)))
    if len(roots) > 1:
        raise ValueError(
            f"one data root is given for data sets of the folders {', '.join(roots)}; give each its own by "
            "--cfg-options, as in train_dataloader.dataset.datasets.0.data_root=..."
        )
    set_option(options, "data_root", root)


def evaluation_pipelines(config: Mapping[str, Any]) -> list[list[Any]]:
    """Returns the pipelines of the data that a config tests on, or validates on if it has no test."""
    loader = config.get("test_dataloader") or config.get("val_dataloader") or {}
    dataset = loader.get("dataset") or {}
    of = [dataset] if dataset.get("pipeline") else own_datasets(dataset)  # a wrapper may have one of its own
    return [list(own.get("pipeline") or ()) for own in of]


def evaluation_pipeline(config: Mapping[str, Any]) -> list[Any]:
    """Returns the one pipeline of the data that a config tests on, or validates on if it has no test.

    Raises:
        ValueError: If it joins data sets of different pipelines.
    """
    first, *others = evaluation_pipelines(config)
    if any(pipeline != first for pipeline in others):
        raise ValueError(
            "the data sets that the config tests on have different pipelines, and images that are given can have one: "
            "give all the same"
        )
    return first
