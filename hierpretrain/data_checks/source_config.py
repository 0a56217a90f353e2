"""Listing the images of a config's data sets, each as a training would read it."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config

from hierpretrain._names import did_you_mean
from hierpretrain.apis import nearest_names
from hierpretrain.apis.config import DATALOADERS
from hierpretrain.apis.dataset_configs import own_datasets
from hierpretrain.apis.pure_python import type_name
from hierpretrain.data_checks.listed_files import keep_found
from hierpretrain.data_checks.source_folder import folder_source
from hierpretrain.data_checks.source_list import list_source
from hierpretrain.data_checks.sources import Source
from hierpretrain.datasets.annotations import Annotations, nfc
from hierpretrain.datasets.split_files import Split
from hierpretrain.datasets.stored_images import ImageStore
from hierpretrain.files import as_called
from hierpretrain.registry import DATASETS

_NOT_OF_THE_FILES = ("pipeline", "split", "on_error", "seed", "check_files", "keep_annotations", "taxonomy", "paths")
_NOT_OF_THE_LIST = ("type", "data_root", "ann_file", "level_names", "split_file", "flat_labels", "need_labels")
_NEEDED = {"FolderDataset": ("type", "data_root"), "ListDataset": ("type", "data_root", "ann_file")}


def config_sources(config: Config) -> list[Source]:
    """Lists the images of all data sets that a config trains, validates and tests on, each data set once.

    A data set is checked with all its splits. Where there are several, the splits of each are told apart by the
    dataloader that it is of.

    Raises:
        ValueError: If there is none, or one cannot be read at all.
    """
    found: list[tuple[str, dict[str, Any], Source]] = []
    for loader in DATALOADERS:
        dataset = (config.get(loader) or {}).get("dataset")
        for options in own_datasets(dataset) if dataset else ():
            options = {key: value for key, value in options.items() if key not in _NOT_OF_THE_FILES}
            if all(options != known for _, known, _ in found):
                found.append((loader.removesuffix("_dataloader"), options, _source(options)))
    if not found:
        raise ValueError(f"{config.filename} has no data set to check; give a folder or a list")
    sources = [source for _, _, source in found]
    if len(sources) > 1:
        for loader, _, source in found:
            source.splits = [f"{loader} {split}".rstrip() for split in source.splits]
        listed = {file for source in sources for file in source.files}
        for source in sources:  # what one list leaves out, another may have
            source.problems = [one for one in source.problems if one.kind != "not listed" or one.subject not in listed]
    return sources


def _source(options: Mapping[str, Any]) -> Source:
    kind = type_name(options.get("type", ""))
    if wrong := [name for name in _NEEDED.get(kind, ("type",)) if name not in options]:
        raise ValueError(f"a data set of the config has no {wrong[0]!r}; it has {', '.join(options)}: add it")
    names = options.get("level_names")
    if kind == "FolderDataset":
        source = folder_source(as_called(os.path.expanduser(options["data_root"])))
        source.copies_are_merged = bool(options.get("merge_copies"))
    elif kind == "ListDataset":
        root = as_called(os.path.expanduser(options["data_root"]))
        path = as_called(os.path.join(root, os.path.expanduser(options["ann_file"])))
        source = list_source(path, root, **_list_options(options))
    else:
        with nearest_names():
            dataset = DATASETS.build(
                {"_scope_": "hierpretrain", **options, "check_files": False, "keep_annotations": True}
            )
        if not isinstance(annotations := getattr(dataset, "annotations", None), Annotations):
            raise ValueError(f"a check is of image files, and {kind} has no list of such: give a folder or a list")
        return _of_annotations(annotations, kind, dataset.taxonomy.level_names, dataset.image_stores)
    if split_file := options.get("split_file"):
        _tag(source, split_file)
    if names:
        source.level_names = tuple(names)[: len(source.level_names)]
    return source


def _tag(source: Source, split_file: str) -> None:
    """Gives images the tags of a split file, and tells of images that it or the data set alone has."""
    tags = {nfc(image): tag for image, tag in Split.load(split_file).tags.items()}
    known = {nfc(image): file for image, file in zip(source.images, source.files, strict=True)}
    told = {nfc(problem.subject) for problem in source.problems}
    for image, file in known.items():
        if image not in tags:
            source.add("not in the split file", file, why=f"of {split_file}")
    for image in sorted(tags.keys() - known.keys()):
        if nfc(file := os.path.join(source.root, image)) not in told:  # as missing or broken
            source.add("only in the split file", file, why=f"of {split_file}")
    source.splits = [tags.get(nfc(image), "") for image in source.images]


def _list_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of a ``ListDataset`` that say how the list is read."""
    own = {key: value for key, value in options.items() if key not in _NOT_OF_THE_LIST}
    own["extra_labels"] = options.get("extra_labels") or options.get("flat_labels") or ()
    known = inspect.signature(list_source).parameters
    if unknown := [name for name in own if name not in known]:
        raise ValueError(f"ListDataset has no option {unknown[0]!r}; {did_you_mean(unknown[0], known)}")
    return own


def _of_annotations(
    annotations: Annotations, name: str, level_names: tuple[str, ...], stores: Sequence[ImageStore]
) -> Source:
    """Returns what a data set's own reader has listed, as far as the files are there; what is stored is there."""
    source = Source(
        name=name,
        root=annotations.root,
        images=list(annotations.images),
        paths=[tuple(path for path in annotations.paths(i) if path) for i in range(len(annotations.images))],
        splits=list(annotations.splits),
        level_names=level_names,
        stores=stores,
    )
    if not stores:
        keep_found(source, tell_unlisted=False)
    source.tell_unlabelled()
    return source
