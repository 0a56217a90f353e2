"""What a folder or a list of images holds, and how a data set reads it: the first half of ``hierpretrain init``."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import gt
from typing import Any

from hierpretrain.datasets.annotations import Annotations, find_images
from hierpretrain.datasets.cells import free_text
from hierpretrain.datasets.column_kinds import ColumnKind, column_kinds
from hierpretrain.datasets.folders import read_folder
from hierpretrain.datasets.image_files import is_clutter, kind_of_file
from hierpretrain.datasets.level_order import level_chains
from hierpretrain.datasets.list_columns import as_names
from hierpretrain.datasets.lists import read_list
from hierpretrain.datasets.messages import some
from hierpretrain.datasets.split_names import MOST_SPLITS, are_splits
from hierpretrain.datasets.tables import READERS, Table, column_name, read_table
from hierpretrain.files import as_called

Choose = Callable[[str, Sequence[str], str], str]
"""Takes a question, its possible answers, the likeliest first, and the option that answers it; returns an answer."""

_NAMING = ("image_column", "levels", "key_column", "split_column", "extra_labels")  # the options that name columns
_LOOKED_AT = 100  # images whose files are looked for, to find the folder that they are in


def first_of(question: str, answers: Sequence[str], option: str) -> str:
    """Answers a question by its likeliest answer, as ``--yes`` does."""
    return answers[0]


@dataclass(frozen=True)
class FoundData:
    """Images, their labels, and the data set that reads them.

    Attributes:
        name: The folder or the list, as it was given.
        dataset: The data set for a config, without splits and pipeline; its paths are absolute.
        annotations: What it reads.
        columns: What the columns of the list hold; empty for a folder.
        notes: What was decided, a sentence each.
        new_list: Whether ``annotations`` are to be written as a list first, ``dataset['ann_file']``: folders of splits
            are no level of a tree.
    """

    name: str
    dataset: Mapping[str, Any]
    annotations: Annotations
    columns: tuple[ColumnKind, ...] = ()
    notes: tuple[str, ...] = ()
    new_list: bool = False


def look_at(
    data: str | os.PathLike[str], options: Mapping[str, Any] | None = None, choose: Choose = first_of
) -> FoundData:
    """Looks at a folder, a list, or a folder with a list in it, and finds out how it is read.

    In a folder, the folders down to an image are its labels; a single folder around all others is none, and neither are
    folders called ``train``, ``val`` and ``test``. If a list in the folder names its images, the list counts.

    Args:
        data: The folder or the list.
        options: Options of :class:`~hierpretrain.datasets.ListDataset` that are known already, such as
            ``image_column``, ``levels`` and ``data_root``, the folder of the list's images. ``levels`` name those of a
            folder, too.
        choose: Answers what the data leave open.

    Raises:
        ValueError: If there is no such folder or list, it holds no image, a file of the list is missing, a column that
            is named is not there, none holds images, or the list cannot be read; the message names the option that
            would help.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name in ("cat/1.png", "cat/2.png", "dog/3.png"):
        ...         Path(root, name).parent.mkdir(exist_ok=True)
        ...         Image.new("RGB", (8, 8)).save(Path(root, name))
        ...     found = look_at(root)
        >>> found.dataset["type"], found.annotations.labels
        ('FolderDataset', [('cat',), ('cat',), ('dog',)])
    """
    options = dict(options or {})
    for name in set(_NAMING).intersection(options):
        names = list(map(column_name, as_names(name, options[name])))
        options[name] = names if name in ("levels", "extra_labels") else names[0]
    path = as_called(os.path.abspath(os.path.expanduser(os.fspath(data))))
    if os.path.isdir(path):
        lists = _lists_of(path, options)
        if not lists:
            return _folder(os.fspath(data), path, options)
        chosen = lists[0]
        if len(lists) > 1:
            chosen = choose(f"{data} has several lists of images; which one counts?", lists, "DATA")
        path = os.path.join(path, chosen)
    elif not os.path.isfile(path):
        raise ValueError(f"there is no folder and no list {os.fspath(data)!r}; correct the path")
    found = _list(path, options, choose)
    return replace(found, name=os.fspath(data))


# ---------------------------------------------------------------- folders
def _folder(name: str, root: str, options: Mapping[str, Any]) -> FoundData:
    if wrong := [option for option in options if option != "levels"]:
        raise ValueError(
            f"{', '.join(wrong)} say how a list is read, and {name!r} is a folder without a list of images: leave them "
            "out, or give the list"
        )
    notes = []
    while (inner := _only_folder(root)) is not None:
        root = os.path.join(root, inner)
        notes.append(f"all images are in the folder {inner!r}, which is no level of the tree")
    top = [entry.name for entry in _visible(root) if entry.is_dir()]
    names = options.get("levels")
    dataset: dict[str, Any] = dict(type="FolderDataset", data_root=root)
    if are_splits(top):
        if taken := sorted({"image", "split"}.intersection(names or ())):
            raise ValueError(
                f"{name!r} has folders of splits, which are written as a list with a column {taken[0]!r} of its own; "
                f"give the level another name than --levels {taken[0]}"
            )
        read = read_folder(root, need_labels=False)
        keep = [i for i, label in enumerate(read.labels) if label]
        beside = len(read.images) - len(keep)
        read = read.take(keep)
        annotations = replace(
            read,
            labels=[label[1:] for label in read.labels],
            splits=[label[0] for label in read.labels],
            level_names=tuple(names) if names else read.level_names[:-1],
        )
        notes.append(f"the folders {', '.join(sorted(top))} are splits, and no level of the tree")
        if beside:
            notes.append(f"{beside:,} images beside these folders are in no split, and are left out")
        dataset = dict(type="ListDataset", data_root=root, ann_file="", levels=list(annotations.level_names))
    else:
        annotations = read_folder(root, names or None, need_labels=False)
        if names:
            dataset["level_names"] = list(names)
    if not any(annotations.labels):
        dataset["need_labels"] = False
    elif unlabelled := sum(not label for label in annotations.labels):
        notes.append(f"{unlabelled:,} images are in no sub-folder and have no label")
    return FoundData(name, dataset, annotations, notes=tuple(notes), new_list="ann_file" in dataset)


def _visible(folder: str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted((entry for entry in entries if not is_clutter(entry.name)), key=lambda entry: entry.name)


def _only_folder(root: str) -> str | None:
    """Returns the folder that has all others in it, if there is one."""
    entries = _visible(root)
    folders = [entry.name for entry in entries if entry.is_dir() and not entry.is_symlink()]
    if len(folders) != 1 or _has_image(root):
        return None
    inner = os.path.join(root, folders[0])
    return folders[0] if any(entry.is_dir() for entry in _visible(inner)) else None


def _has_image(folder: str) -> bool:
    return any(entry.is_file() and kind_of_file(entry.path) for entry in _visible(folder))


# ---------------------------------------------------------------- lists
def _lists_of(folder: str, options: Mapping[str, Any]) -> list[str]:
    """Returns the lists in a folder that name images of it, those with labels first."""
    found = []
    for entry in _visible(folder):
        if entry.is_file() and entry.name.lower().endswith(tuple(READERS)):
            try:
                table = _read_table(entry.path, options)
                kinds = column_kinds(table, options.get("image_column", ""))
                images = [column.name for column in kinds if column.kind == "images"]
                if images and _image_root(table, images[0], options):
                    found.append((-sum(column.kind == "names" for column in kinds), entry.name))
            except (ValueError, ImportError):  # a text of another kind
                continue
    return [name for _, name in sorted(found)]


def _read_table(path: str, options: Mapping[str, Any]) -> Table:
    how = {name: options[name] for name in ("delimiter", "encoding") if name in options}
    table = read_table(path, image=options.get("image_column", "image"), **how)
    if not table.columns or not len(next(iter(table.columns.values()))):
        raise ValueError(f"the list {path!r} lists no image; a data set needs at least one")
    return table


def _list(path: str, given: Mapping[str, Any], choose: Choose) -> FoundData:
    table = _read_table(path, given)
    if (named := given.get("image_column")) is not None and named not in table.columns:
        raise ValueError(f"{path}: there is no column {named!r}; the columns are {list(table.columns)}")
    columns = column_kinds(table, given.get("image_column", ""))
    image = _image_column(table, columns, given, choose)
    root = given.get("data_root") or _image_root(table, image, given)
    if not root:
        names = [name for name in map(free_text, table.columns[image]) if name]
        raise ValueError(
            f"{path}: the first images of the column {image!r}, such as {some(names[:2])}, are neither beside the list "
            "nor in a folder beside it; say which folder they are in: --image-root FOLDER"
        )
    notes: list[str] = []
    chosen = {name: value for name, value in given.items() if name != "data_root"}
    chosen |= {"image_column": image} if image != "image" else {}
    chosen |= _split_column(columns, given, notes)
    keys = [column.name for column in columns if column.kind == "key" and column.name != chosen.get("split_column")]
    if "key_column" not in given and keys:
        chosen["key_column"] = max(keys, key=lambda name: _column(columns, name).named_like_a_key)
    if "levels" not in given:
        names = [column for column in columns if column.kind == "names" and column.name not in chosen.values()]
        chosen |= _levels(table, names, choose, notes)
    levels = chosen["levels"] = list(chosen["levels"])
    if wrong := [name for name in levels if name not in table.columns]:
        raise ValueError(f"{path}: there is no column {wrong[0]!r}; the columns are {list(table.columns)}")
    if not levels:
        chosen["need_labels"] = False
    if "path_separator" not in given:
        chosen |= _path_separator(table, {name: _column(columns, name).path_separator for name in levels}, notes)
    gaps = _num_gaps([table.columns[name] for name in levels])
    if "on_gap" not in given and gaps:
        chosen["on_gap"] = "cut"
        notes.append(f"{gaps:,} rows have an empty level above one that is not empty: their labels end there")
    annotations = read_list(path, root, **chosen)
    annotations = replace(annotations, images=find_images(annotations.images, annotations.root))
    if several := len(annotations.more_labels):
        notes.append(f"{several:,} images are in several places of the tree")
    dataset = dict(type="ListDataset", data_root=os.path.abspath(root), ann_file=path, **chosen)
    return FoundData(path, dataset, annotations, tuple(columns), tuple(notes))


def _column(columns: Sequence[ColumnKind], name: str) -> ColumnKind:
    return next(column for column in columns if column.name == name)


def _image_column(table: Table, columns: Sequence[ColumnKind], given: Mapping[str, Any], choose: Choose) -> str:
    if "image_column" in given:
        return str(given["image_column"])
    found = [column.name for column in columns if column.kind == "images"]
    if not found:
        addresses = [column.name for column in columns if column.kind == "addresses"]
        hint = f"; {addresses[0]!r} has addresses: download the images first" if addresses else ""
        raise ValueError(
            f"{table.path}: no column has the names of image files; the columns are {list(table.columns)}: say which "
            f"one, --image-column NAME{hint}"
        )
    if "image" in found or len(found) == 1:
        return "image" if "image" in found else found[0]
    return choose("several columns have image files; which one is trained on?", found, "--image-column")


def _image_root(table: Table, image: str, given: Mapping[str, Any]) -> str:
    """Returns the folder that the images of a list are in, its own or one beside it; empty if it is none of these."""
    names = list(dict.fromkeys(name for name in map(free_text, table.columns[image]) if name))[:_LOOKED_AT]
    if "data_root" in given:
        return str(given["data_root"])
    own = os.path.dirname(table.path)
    candidates = [own, *(entry.path for entry in _visible(own) if entry.is_dir())]
    there = [_num_there(names, folder) for folder in candidates]
    return candidates[there.index(max(there))] if max(there) else ""


def _num_there(images: Sequence[str], folder: str) -> int:
    """Returns how many of some images are in a folder, in whatever Unicode form their names are."""
    others = [image for image in images if not os.path.isfile(os.path.join(folder, image))]
    spelled = [image for image in others if not image.isascii()]  # only these may be called otherwise
    missing: dict[int, str] = {}
    find_images(spelled, folder, missing)
    return len(images) - len(others) + len(spelled) - len(missing)


def _split_column(columns: Sequence[ColumnKind], given: Mapping[str, Any], notes: list[str]) -> dict[str, str]:
    """Returns the option for the column of the splits, if there is one or if one is to be left out."""
    if "split_column" in given:
        return {}
    found = [column for column in columns if column.kind == "split"]
    for column in found:
        if not column.num_empty and column.num_values <= MOST_SPLITS:
            return {"split_column": column.name} if column.name != "split" else {}
        notes.append(
            f"the column {column.name!r} is empty in {column.num_empty:,} rows, and does not count as the splits"
            if column.num_empty
            else f"the column {column.name!r} has {column.num_values:,} values, and does not count as the splits"
        )
    return {"split_column": ""} if any(column.name == "split" for column in found) else {}


def _levels(table: Table, names: Sequence[ColumnKind], choose: Choose, notes: list[str]) -> dict[str, Any]:
    """Returns the options for the levels: a column of whole paths, or the longest chain of columns."""
    paths = [column for column in names if column.level_separator]
    if paths:
        notes.append(f"{paths[0].name!r} has whole paths, whose names {paths[0].level_separator!r} separates")
        return {"levels": [paths[0].name], "level_separator": paths[0].level_separator}
    texts = {
        column.name: [
            "" if column.path_separator and column.path_separator in text else text
            for text in map(free_text, table.columns[column.name])
        ]
        for column in names
    }
    chains = level_chains(texts)
    if not chains:
        return {"levels": []}

    def named(chain: Sequence[str]) -> int:
        return sum(_column(names, name).named_like_a_level for name in chain)

    chains.sort(key=named, reverse=True)  # and in the order of the file
    if len(chains) > 1 and named(chains[0]) == named(chains[1]):
        answers = [" > ".join(chain) for chain in chains]
        answer = choose("which columns are the levels of the tree?", answers, "--levels")
        chains = [chains[answers.index(answer)]]
    if others := [column.name for column in names if column.name not in chains[0]]:
        notes.append(f"no levels of the tree: {', '.join(others)}; name all levels (--levels ...) if one shall be")
    return {"levels": list(chains[0])}


def _path_separator(table: Table, separators: Mapping[str, str], notes: list[str]) -> dict[str, str]:
    """Returns the option for what separates several places in a cell, if no other level has it within its names.

    Another level has it within its names if it has it in a row without several places; arrays are not taken apart.

    Args:
        table: The list.
        separators: What seems to separate places in the cells of each level; empty where a cell has one.
        notes: Where to say what was found.
    """
    for name, separator in separators.items():
        if not separator:
            continue
        inside = {
            level: [
                not isinstance(cell, list | tuple) and separator in free_text(cell) for cell in table.columns[level]
            ]
            for level, its_own in separators.items()
            if level == name or its_own != separator
        }
        clash = [level for level in inside if any(map(gt, inside[level], inside[name]))]
        if not clash:
            notes.append(f"{separator!r} separates several places in one cell")
            return {"path_separator": separator}
        notes.append(
            f"{separator!r} seems to separate several places in {name!r}, and is within names of {clash[0]!r}: no cell "
            f"is taken apart; if all shall be, give --path-separator {shlex.quote(separator)}"
        )
    return {}


def _num_gaps(columns: Sequence[Sequence[Any]]) -> int:
    """Counts the rows in which a cell is empty and one behind it is not."""
    if len(columns) < 2:
        return 0
    filled = (tuple(bool(free_text(cell)) for cell in row) for row in zip(*columns, strict=True))
    return sum(row != tuple(sorted(row, reverse=True)) for row in filled)
