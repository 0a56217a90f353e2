"""Patterns of file names, such as ``'photos/**/*.jpg'``, which follow no link out of their root and no link twice."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from hierpretrain.datasets.image_files import is_clutter
from hierpretrain.datasets.safe_paths import check_inside


def find_files(pattern: str) -> list[str]:
    """Finds the files that a pattern stands for, by the rules that hold for folders of images.

    The root is the folder in front of the first part with a ``*``, ``?`` or ``[``; it may be a link. Below it, links to
    folders are passed over, since their files are found where they really are, and a link that leads out of the root is
    an error. Hidden files and folders, and what programs leave, such as ``@eaDir``, match only a part that begins with
    a dot or names them.

    Args:
        pattern: The pattern; ``*`` stands for any letters of one name, and ``**`` for any folders, also for none. As
            the last part, ``**`` stands for all files below.

    Returns:
        The paths, each once, sorted.

    Raises:
        ValueError: If a link leads out of the root, or a part behind the root is ``..``.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name in ("a.jpg", "cat/b.jpg", "cat/tabby/c.jpg", "cat/d.txt"):
        ...         path = pathlib.Path(root, name)
        ...         path.parent.mkdir(parents=True, exist_ok=True)
        ...         path.touch()
        ...     [path.removeprefix(root) for path in find_files(f"{root}/**/*.jpg")]
        ['/a.jpg', '/cat/b.jpg', '/cat/tabby/c.jpg']
    """
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    first = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    parts, root = parts[first:], ("/" if pattern.startswith("/") else "") + "/".join(parts[:first])
    if ".." in parts:
        raise ValueError(f"behind its first '*', a pattern must not hold '..', which leaves {root or '.'}: {pattern!r}")
    if parts and parts[-1] == "**":
        parts.append("*")
    return sorted(set(_matches(root, parts, os.path.realpath(root or "."))))


def _matches(folder: str, parts: Sequence[str], real_root: str) -> Iterator[str]:
    """Yields the files below a folder that the parts of a pattern stand for; some more than once."""
    head, *rest = parts
    while head == "**" and rest[:1] == ["**"]:  # which stand for no more than one
        del rest[0]
    if head == "**":
        yield from _matches(folder, rest, real_root)
    try:
        with os.scandir(folder or ".") as found:
            entries = list(found)
    except (NotADirectoryError, FileNotFoundError):
        return
    for entry in entries:
        path = os.path.join(folder, entry.name)
        if is_clutter(entry.name) and entry.name != head and not (head.startswith(".") and head != "**"):
            continue
        if head != "**" and not fnmatchcase(entry.name, head):
            continue
        if entry.is_symlink():
            check_inside(path, real_root)
        if head == "**" or rest:
            if entry.is_dir(follow_symlinks=False):
                yield from _matches(path, parts if head == "**" else rest, real_root)
        elif entry.is_file():
            yield path
