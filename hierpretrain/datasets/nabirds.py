"""NABirds: photographs of North American birds in the ragged tree of the official files."""

from __future__ import annotations

import os
from collections import Counter

from hierpretrain.datasets.annotations import Annotations
from hierpretrain.datasets.base import HierarchicalDataset
from hierpretrain.datasets.published import check_same_ids, find_home, read_pairs
from hierpretrain.registry import DATASETS

_ROOT = "0"  # the class 'Birds'
_LEVELS = ("order", "family", "species", "plumage")
_LISTS = ("classes.txt", "hierarchy.txt", "images.txt", "image_class_labels.txt", "train_test_split.txt")
_NUM_SHOWN = 10  # of the classes of a cycle
_SPLITS = {"1": "train", "0": "test"}
_REMEDY = "get nabirds.tar.gz from https://dl.allaboutbirds.org/nabirds, on whose terms one agrees first, and unpack it"


def read_nabirds(root: str) -> Annotations:
    """Reads NABirds from its official files.

    The images are in ``images.txt``, ``image_class_labels.txt`` and ``train_test_split.txt``, the tree in
    ``classes.txt`` and ``hierarchy.txt``. The root of the tree, class 0, is no level. Label paths are ragged: classes
    are three or four levels deep. Siblings of the same name get their ids added, as ``'Name [17]'``.

    Args:
        root: The folder ``nabirds``, or the folder that it is in.

    Returns:
        Splits ``'train'`` and ``'test'``; the test images are both query and gallery. Levels ``('order', 'family',
        'species', 'plumage')``; the files do not name them, but this is what their nodes are.

    Raises:
        ValueError: With file and line, if a class has a second parent, is part of a cycle or is unknown, or if an image
            is listed twice or lacks its class or split; and if a file is missing.
    """
    home = find_home(root, ["nabirds"], [*_LISTS, "images"], "NABirds", _REMEDY)
    classes, tree, image_paths, image_classes, image_splits = (read_pairs(os.path.join(home, name)) for name in _LISTS)
    paths = _paths({key: name for key, (name, _) in classes.items()}, tree)
    records = []
    for name, pairs in zip(_LISTS[3:], (image_classes, image_splits), strict=True):
        check_same_ids(os.path.join(home, name), pairs, os.path.join(home, "images.txt"), image_paths)
    for key, (image, _) in image_paths.items():
        (label, label_where), (tag, tag_where) = image_classes[key], image_splits[key]
        if label not in paths:
            raise ValueError(f"{label_where}: the class {label} is not in hierarchy.txt; download the files anew")
        if tag not in _SPLITS:
            raise ValueError(f"{tag_where}: the split must be 1 (train) or 0 (test); it is {tag!r}")
        records.append((f"images/{image}", paths[label], _SPLITS[tag]))
    return Annotations.from_records(records, _LEVELS, home, source=f"NABirds at {home!r}", lists=", ".join(_LISTS))


def _paths(names: dict[str, str], parents: dict[str, tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Returns every class's path of names from below the root."""
    if _ROOT in parents:
        raise ValueError(f"{parents[_ROOT][1]}: the root {_ROOT} must have no parent; download the file anew")
    for child, (parent, where) in parents.items():
        if unknown := [key for key in (child, parent) if key not in names]:
            raise ValueError(f"{where}: the class {unknown[0]} is not in classes.txt; download the files anew")
        if parent != _ROOT and parent not in parents:
            raise ValueError(
                f"{where}: the parent {parent} hangs nowhere: it has no line of its own and is not the root {_ROOT}; "
                "download the file anew"
            )
    siblings = Counter((parent, names[child]) for child, (parent, _) in parents.items())
    paths: dict[str, tuple[str, ...]] = {_ROOT: ()}
    for start in parents:
        chain: dict[str, None] = {}
        node = start
        while node not in paths:
            if node in chain:
                cycle = " > ".join([*list(chain)[-_NUM_SHOWN:], node])
                raise ValueError(
                    f"{parents[node][1]}: the class {node} hangs below itself: {cycle}; remove the cycle, or download "
                    "the file anew"
                )
            chain[node] = None
            node = parents[node][0]
        for child in reversed(chain):
            parent = parents[child][0]
            name = names[child]
            if len(paths[parent]) == len(_LEVELS):
                raise ValueError(
                    f"{parents[child][1]}: the class {child} hangs {len(_LEVELS) + 1} levels below the root, and "
                    f"NABirds has {len(_LEVELS)}: download the file anew"
                )
            paths[child] = (*paths[parent], name if siblings[parent, name] == 1 else f"{name} [{child}]")
    return paths


@DATASETS.register_module()
class NABirds(HierarchicalDataset):
    """NABirds: 48,562 photographs of 555 classes in a ragged tree, see :func:`read_nabirds`.

    Args:
        data_root: The folder ``nabirds``, or the folder that it is in.
        options: The options of :class:`HierarchicalDataset`; the splits are ``'train'`` and ``'test'``.
    """

    def read(self) -> Annotations:
        """Reads the official files."""
        return read_nabirds(self.data_root)
