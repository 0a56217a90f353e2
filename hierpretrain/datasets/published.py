"""Helpers of the readers of published data sets: finding folders, reading lists of ids, checking parents."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Sized

from hierpretrain.datasets.annotations import Annotations
from hierpretrain.datasets.messages import short, some, warn
from hierpretrain.datasets.text_files import numbered_lines


def find_home(root: str, folders: Sequence[str], marks: Sequence[str], what: str, remedy: str) -> str:
    """Returns the folder that holds a data set: ``root`` itself or the first fitting one of some folders in it.

    Args:
        root: The folder that the user gave.
        folders: The paths below ``root`` that the data set's archives unpack to.
        marks: Names of files and folders. The right folder has all of them.
        what: The name of the data set, for the message.
        remedy: What to download and where to put it, for the message.

    Raises:
        ValueError: If no folder has all marks.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     os.makedirs(f"{root}/pets/images")
        ...     find_home(root, ["pets"], ["images"], "pets", "draw some").removeprefix(root)
        '/pets'
    """
    homes = [root, *(os.path.join(root, folder) for folder in folders)]
    for home in homes:
        if all(os.path.exists(os.path.join(home, mark)) for mark in marks):
            return home
    raise ValueError(f"no {what} ({' and '.join(marks)}) is at {', '.join(homes)}; {remedy}; or correct data_root")


def find_images(folders: Sequence[str], images: Sequence[str]) -> str:
    """Returns the first of some folders that the images are in, as told by the first image; else the first folder.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     os.makedirs(f"{root}/images/lamp")
        ...     find_images([root, f"{root}/images"], ["lamp/0.jpg"]).removeprefix(root)
        '/images'
    """
    top = images[0].partition("/")[0] if images else ""
    return next((folder for folder in folders if os.path.isdir(os.path.join(folder, top))), folders[0])


def read_pairs(path: str) -> dict[str, tuple[str, str]]:
    r"""Reads a list with an id and a value on each line.

    Args:
        path: The list, in UTF-8. A value is the rest of the line after the id, so it may hold spaces.

    Returns:
        id -> (value, ``'path:line'``), in the order of the file.

    Raises:
        ValueError: With file and line, if the file cannot be read, a line has no value or an id comes twice.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with open(f"{folder}/list.txt", "w") as file:
        ...         _ = file.write("0034309 F/A-18 Hornet\n")
        ...     read_pairs(f"{folder}/list.txt")["0034309"][0]
        'F/A-18 Hornet'
    """
    pairs: dict[str, tuple[str, str]] = {}
    for where, line in numbered_lines(path):
        key, _, value = line.partition(" ")
        if not value.strip():
            raise ValueError(f"{where}: a line is an id, a space and a value; it is {line!r}")
        if key in pairs:
            raise ValueError(f"{where}: the id {key!r} was already at {pairs[key][1]}; list every id once")
        pairs[key] = (value.strip(), where)
    return pairs


def check_any(records: Sized, path: str) -> None:
    """Raises a ValueError if a list has no record: a split would vanish without a word.

    Example:
        >>> check_any([], "test.txt")
        Traceback (most recent call last):
        ValueError: test.txt lists nothing below its header; get the file anew
    """
    if not len(records):
        raise ValueError(f"{path} lists nothing below its header; get the file anew")


def check_same_ids(path: str, pairs: Mapping[str, object], other_path: str, other: Mapping[str, object]) -> None:
    """Raises a ValueError unless two lists, each given by its path and its ids as keys, have the same ids."""
    for here, mine, there, theirs in ((path, pairs, other_path, other), (other_path, other, path, pairs)):
        if lacking := [key for key in theirs if key not in mine]:
            raise ValueError(
                f"{here} lacks {len(lacking)} of the ids of {there}: {some(lacking)}; both must be of the same ids: "
                "get the files anew"
            )


def check_parent(
    parents: dict[tuple[str, str], str], level: str, node: str, parent: str, where: str, other: str = ""
) -> None:
    """Records the parent of a level's node in ``parents``, and raises a ValueError if it has another parent there.

    Args:
        parents: (level, node) -> parent.
        level: The name of the node's level.
        node: The name of the node.
        parent: The name of its parent.
        where: The file and line that give the node, for the message.
        other: Those that give the parent, where they are others.
    """
    if parents.setdefault((level, node), parent) != parent:
        raise ValueError(
            f"{where}: the {level} {short(node)} hangs below {short(parent)}, but before that below "
            f"{short(parents[level, node])}{f', by {other}' if other else ''}; a node of a tree has one "
            "parent: correct the file"
        )


def report_second_parents(annotations: Annotations) -> None:
    """Logs a warning if nodes of a level have the same name below different parents.

    They stay different nodes. The warning is for data sets whose files give every node one parent.
    """
    unique, level_names = set(annotations.labels), annotations.level_names
    for level in range(1, len(level_names)):
        prefixes = {path[: level + 1] for path in unique if len(path) > level}
        if doubled := len(prefixes) - len({prefix[-1] for prefix in prefixes}):
            warn(
                f"{annotations.source}: {doubled} nodes of level {level_names[level]!r} have the name of another one "
                f"below a different {level_names[level - 1]!r}; they stay different nodes"
            )
