"""What the readers of published data sets share: finding their folders, reading their lists, and checks of parents."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from mmengine.logging import print_log

from hierpretrain.datasets.annotations import some, text_lines


def find_home(root: str, folders: Sequence[str], marks: Sequence[str], what: str, remedy: str) -> str:
    """Returns the folder that holds a data set: ``root`` itself or the first of some folders in it.

    Args:
        root: What the user gave.
        folders: Paths below ``root``, as the data set's archives unpack.
        marks: Names of files or folders, of which the right folder holds all.
        what: The data set, for the message.
        remedy: What to get and where to put it, for the message.

    Raises:
        ValueError: If no folder holds the marks.

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
    """Returns the first of the folders that has the top folder of the first image; if none has, the first one.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     os.makedirs(f"{root}/images/lamp")
        ...     find_images([root, f"{root}/images"], ["lamp/0.jpg"]).removeprefix(root)
        '/images'
    """
    top = images[0].partition("/")[0] if images else ""
    return next((folder for folder in folders if os.path.isdir(os.path.join(folder, top))), folders[0])


def numbered_lines(path: str) -> Iterator[tuple[str, str]]:
    r"""Yields the lines of a text file that are not blank, each with its ``path:line`` and without space around it.

    Raises:
        ValueError: If the file cannot be read or is not UTF-8.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with open(f"{folder}/a.txt", "w") as file:
        ...         _ = file.write("one\n\n two\n")
        ...     [(where.rpartition("/")[2], line) for where, line in numbered_lines(f"{folder}/a.txt")]
        [('a.txt:1', 'one'), ('a.txt:3', 'two')]
    """
    for number, line in text_lines(path):
        yield f"{path}:{number}", line.strip()


def read_pairs(path: str) -> dict[str, tuple[str, str]]:
    r"""Reads a list of an id and a value a line; the value is the rest of the line, so it may hold spaces.

    Args:
        path: The list, in UTF-8.

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


def check_same_ids(path: str, pairs: Mapping[str, object], other_path: str, other: Mapping[str, object]) -> None:
    """Raises unless two lists are of the same ids.

    Raises:
        ValueError: That counts and names the ids which one of them lacks.

    Example:
        >>> check_same_ids("a.txt", {"1": "x"}, "b.txt", {"1": "y"})
    """
    for here, mine, there, theirs in ((path, pairs, other_path, other), (other_path, other, path, pairs)):
        if lacking := [key for key in theirs if key not in mine]:
            raise ValueError(
                f"{here} lacks {len(lacking)} of the ids of {there}: {some(lacking)}; both must be of the same ids: "
                "get the files anew"
            )


def check_parent(parents: dict[tuple[str, str], str], level: str, node: str, parent: str, where: str) -> None:
    """Notes the parent of a node in ``parents``, and raises if another one was noted before.

    Args:
        parents: (level, node) -> parent, of the nodes that were met so far.
        level: The name of the node's level.
        node: Its name.
        parent: The name of the node that it hangs below.
        where: Where that is said, for the message.

    Raises:
        ValueError: If the node hangs below two nodes.

    Example:
        >>> parents = {}
        >>> check_parent(parents, "variant", "A318", "A320", "a.txt:7")
        >>> parents
        {('variant', 'A318'): 'A320'}
    """
    if parents.setdefault((level, node), parent) != parent:
        raise ValueError(
            f"{where}: the {level} {node!r} hangs below {parent!r}, but before that below {parents[level, node]!r}; a "
            "node of a tree has one parent: correct the file"
        )


def report_second_parents(labels: Iterable[tuple[str, ...]], level_names: Sequence[str], source: str) -> None:
    """Logs how many nodes' names occur below more than one parent, where the data set should have each once.

    Such a node stays several nodes, one below each parent.

    Args:
        labels: Label paths.
        level_names: The names of the levels, the coarsest first.
        source: What the labels were read from.

    Example:
        >>> report_second_parents([("lamp", "1"), ("fan", "2")], ("kind", "product"), "the list")  # logs nothing
    """
    unique = set(labels)
    for level in range(1, len(level_names)):
        prefixes = {path[: level + 1] for path in unique if len(path) > level}
        if doubled := len(prefixes) - len({prefix[-1] for prefix in prefixes}):
            print_log(
                f"{source}: {doubled} nodes of level {level_names[level]!r} have the name of another one below a "
                f"different {level_names[level - 1]!r}; they stay different nodes",
                logger="current",
                level=logging.WARNING,
            )
