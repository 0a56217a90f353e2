"""CUB-200-2011: bird species below the last word of their name, or below a hierarchy of the user's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from hierpretrain.checks import check_one_of
from hierpretrain.datasets.annotations import Annotations
from hierpretrain.datasets.base import HierarchicalDataset
from hierpretrain.datasets.cells import check_spelling
from hierpretrain.datasets.messages import short, some
from hierpretrain.datasets.published import check_parent, check_same_ids, find_home, read_pairs
from hierpretrain.datasets.text_files import csv_rows, read_json_file
from hierpretrain.registry import DATASETS

_LISTS = ("classes.txt", "images.txt", "image_class_labels.txt", "train_test_split.txt")
_LAST_TRAINING_CLASS = 100  # of the retrieval protocol
_REMEDY = (
    "download CUB_200_2011.tgz from https://www.vision.caltech.edu/datasets/cub_200_2011/ and unpack it to "
    "CUB_200_2011/images, CUB_200_2011/images.txt and the lists beside it"
)


def read_cub(root: str, protocol: str = "retrieval", hierarchy: str | None = "name") -> Annotations:
    """Reads CUB-200-2011 from its official lists.

    The lists are ``images.txt``, ``image_class_labels.txt``, ``classes.txt`` and ``train_test_split.txt``. A species is
    named as in ``classes.txt``, without its number. The data set has no hierarchy of its own.

    Args:
        root: The folder ``CUB_200_2011``, or the folder that it is in.
        protocol: ``'retrieval'``: classes 1 to 100 are the split ``'train'``, classes 101 to 200 the split ``'test'``,
            where each image is a query to all others. ``'classification'``: the official split, with every class in
            both.
        hierarchy: The levels above the species. ``'name'``: the last word of the species' name (Albatross, Warbler) as
            the level ``'kind'``. ``None``: no level. Otherwise a CSV or JSON file, see :func:`read_levels_above`.

    Returns:
        Splits ``'train'`` and ``'test'``; ``'species'`` is the finest level.

    Raises:
        ValueError: With file and line, if a list is not as published or the lists disagree; and as
            :func:`read_levels_above`.
    """
    check_one_of("protocol", protocol, ("retrieval", "classification"))
    home = find_home(root, ("CUB_200_2011",), ("images", "images.txt"), "CUB-200-2011", _REMEDY)
    classes = _read_classes(os.path.join(home, "classes.txt"))
    if hierarchy is None:
        levels, above = (), {species: () for species in classes.values()}
    elif hierarchy == "name":
        levels, above = ("kind",), {species: (species.rpartition("_")[2],) for species in classes.values()}
    else:
        levels, above = read_levels_above(hierarchy, classes)
    images_file, labels_file, split_file = (os.path.join(home, name) for name in _LISTS[1:])
    names, class_ids, official = read_pairs(images_file), read_pairs(labels_file), read_pairs(split_file)
    check_same_ids(labels_file, class_ids, images_file, names)
    check_same_ids(split_file, official, images_file, names)
    records = []
    for image_id, (name, where) in names.items():
        class_id, class_where = class_ids[image_id]
        if class_id not in classes:
            raise ValueError(f"{class_where}: there is no class {class_id!r} in classes.txt; get the files anew")
        species = classes[class_id]
        if _species(name.partition("/")[0]) != species:
            raise ValueError(
                f"{where}: the image {short(name)} is in the folder of another class than {class_where} says, "
                f"{short(species)} of classes.txt; class ids count from 1: get the files anew"
            )
        in_training, split_where = official[image_id]
        if in_training not in ("0", "1"):
            raise ValueError(f"{split_where}: an image is 1, for training, or 0, for test; it is {in_training!r}")
        if protocol == "retrieval":
            in_training = str(int(int(class_id) <= _LAST_TRAINING_CLASS))
        records.append((f"images/{name}", (*above[species], species), "train" if in_training == "1" else "test"))
    return Annotations.from_records(
        records, (*levels, "species"), home, source=f"CUB-200-2011 at {home!r}", lists=", ".join(_LISTS)
    )


def _read_classes(path: str) -> dict[str, str]:
    """Returns id -> species."""
    classes: dict[str, str] = {}
    known: set[str] = set()
    for class_id, (name, where) in read_pairs(path).items():
        if not class_id.isdecimal() or not (species := _species(name)):
            raise ValueError(f"{where}: a class is '<number> <number>.<name>'; this one is {f'{class_id} {name}'!r}")
        if species in known:
            raise ValueError(f"{where}: the class {species!r} is there twice; get the file anew")
        known.add(species)
        classes[class_id] = species
    return classes


def _species(name: str) -> str:
    """Returns ``Black_footed_Albatross`` of ``001.Black_footed_Albatross``; an empty string if there is no number."""
    number, _, species = name.partition(".")
    return species if number.isdecimal() else ""


# ---------------------------------------------------------------- a hierarchy of the user's own
def read_levels_above(path: str, classes: dict[str, str]) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    r"""Reads a file that gives the nodes above every class.

    Args:
        path: A CSV file with the column ``class`` and one column for each level, the coarsest first. Or a file ending
            in ``.json``, an object of class -> object of level -> name, the coarsest level first. Classes that the data
            set does not have are an error, because they are most likely misspelt.
        classes: The data set's classes, id -> name. The file may write the id, the name, or both
            (``001.Black_footed_Albatross``).

    Returns:
        The names of the levels above the class; and class name -> the names of its nodes at these levels.

    Raises:
        ValueError: With the line or the class, if the file is malformed, if a class is unknown, missing or there twice,
            if a name is empty, or if a node has two parents.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "birds.csv")
        ...     _ = file.write_text("class,order,family\n1,Anseriformes,Anatidae\nRock_Wren,Passeriformes,Wrens\n")
        ...     levels, paths = read_levels_above(str(file), {"1": "Gadwall", "2": "Rock_Wren"})
        >>> levels, paths["Gadwall"]
        (('order', 'family'), ('Anseriformes', 'Anatidae'))
    """
    records = _json_records(path) if path.lower().endswith(".json") else _csv_records(path)
    levels: tuple[str, ...] = ()
    paths: dict[str, tuple[str, ...]] = {}
    parents: dict[tuple[str, str], str] = {}
    spelt: dict[str, dict[Any, str]] = {}
    known = set(classes.values())
    for where, name, nodes in records:
        levels = levels or tuple(nodes)
        if set(nodes) != set(levels):
            raise ValueError(f"{where}: the class {name!r} has the levels {list(nodes)}, others {list(levels)}")
        species = classes.get(name, _species(name) or name)
        if species not in known:
            raise ValueError(f"{where}: the data set has no class {name!r}; give a name or number of its classes.txt")
        if species in paths:
            raise ValueError(f"{where}: the class {species!r} is there twice; give every class once")
        above = tuple(nodes[level] for level in levels)
        if not all(isinstance(node, str) and node for node in above):
            raise ValueError(f"{where}: the class {name!r} has {list(above)!r} above it; name its node at every level")
        for level, node in zip(levels, above, strict=True):
            check_spelling(node, spelt.setdefault(level, {}), lambda where=where, level=level: f"{where}: {level!r}")
        for i, level in enumerate(levels[1:], start=1):
            check_parent(parents, level, above[i], above[i - 1], where)
        paths[species] = above
    if missing := [species for species in classes.values() if species not in paths]:
        raise ValueError(
            f"{path} lacks {len(missing)} of the data set's {len(classes)} classes: {some(missing)}; give every class"
        )
    if not levels or "species" in levels:
        raise ValueError(
            f"{path} must name a level or more above 'species', which is added; it names {list(levels)}; correct it"
        )
    return levels, paths


def _csv_records(path: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yields where a line stands, its class, and level -> name."""
    rows = csv_rows(path)
    _, header = next(rows, (1, []))
    columns = [column.strip() for column in header]
    if "class" not in columns or len(set(columns)) < len(columns) or "" in columns:
        raise ValueError(
            f"{path}:1: the columns must be 'class' and one for every level, by different names; they are {columns}"
        )
    for number, row in rows:
        nodes = dict(zip(columns, (field.strip() for field in row), strict=True))
        yield f"{path}:{number}", nodes.pop("class"), nodes


def _json_records(path: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yields where a class stands, the class, and level -> name."""
    data = read_json_file(path, "correct the file")
    if not isinstance(data, dict) or not all(isinstance(nodes, dict) for nodes in data.values()):
        raise ValueError(f"{path} must be an object of class -> object of level -> name, the coarsest level first")
    for name, nodes in data.items():
        yield f"{path}: {name!r}", name, nodes


@DATASETS.register_module()
class CUB200(HierarchicalDataset):
    """CUB-200-2011: 11,788 images of 200 bird species, see :func:`read_cub`.

    Retrieval: 5,864 images of 100 species to train, 5,924 of the others to test. Classification: 5,994 and 5,794. The
    images are for non-commercial research and education only.

    Args:
        data_root: The folder ``CUB_200_2011``, or the folder that it is in.
        protocol: ``'retrieval'``: training and test have different species. ``'classification'``: the official split.
        hierarchy: The levels above the species. ``'name'``: the last word of the species' name as the level ``'kind'``.
            ``None``: no level. Otherwise a CSV or JSON file, see :func:`read_levels_above`.
        options: The options of :class:`HierarchicalDataset`; the splits are ``'train'`` and ``'test'``.
    """

    def __init__(
        self, *, data_root: str, protocol: str = "retrieval", hierarchy: str | None = "name", **options: Any
    ) -> None:
        self.protocol = protocol
        self.hierarchy = hierarchy
        super().__init__(data_root=data_root, **options)

    def read(self) -> Annotations:
        """Reads the lists."""
        return read_cub(self.data_root, self.protocol, self.hierarchy)
