"""What readers of long lists share: lines with their numbers, the folder of the images, and second parents."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence

from mmengine.logging import print_log

from hierpretrain.datasets.annotations import read_text


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
    r"""Yields the lines of a text file that are not empty, each with its ``path:line`` and without space around it.

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
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if text := line.strip():
            yield f"{path}:{number}", text


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
