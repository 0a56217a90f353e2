"""Images that are no files: stored in tables, archives or memory, and found by paths that look like files'."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any

from PIL import Image

from hierpretrain.datasets.safe_paths import UNTIDY, check_inside, unsafe_reason

Stored = bytes | Image.Image
"""What is stored: the bytes of an image file, or a picture of Pillow's."""


class ImageStore:
    """Gives the images below a root that is no folder, in this process and in its workers.

    Args:
        root: What stands before a slash in the images' paths and is no folder, such as ``'data/pets.tar'``. Stores of
            one root must have the same images.
        get: Returns the image of a name below the root; an error says that it cannot be read.

    Example:
        >>> store = ImageStore("memory", {"a.png": b"bytes"}.__getitem__)
        >>> stored_image("memory/a.png")
        b'bytes'
        >>> stored_image("folder/a.png") is None
        True
    """

    def __init__(self, root: str, get: Callable[[str], Stored]) -> None:
        self.root, self.get = root, get
        _STORES.setdefault(root, weakref.WeakSet()).add(self)

    def __reduce__(self) -> tuple[type[ImageStore], tuple[Any, ...]]:
        return ImageStore, (self.root, self.get)  # a worker that is spawned makes the store anew


_STORES: dict[str, weakref.WeakSet[ImageStore]] = {}


def stored_image(path: str) -> Stored | None:
    """Returns what a store of this process has at a path; None if the path is a file's.

    Raises:
        ValueError: If the store cannot read it.
    """
    slash = path.rfind("/") if _STORES else -1
    while slash > 0:
        for store in _STORES.get(path[:slash], ()):
            return store.get(path[slash + 1 :])
        slash = path.rfind("/", 0, slash)
    return None


def bytes_of(value: Any, where: str, root: str | None = None) -> Stored:
    """Returns the image in a cell of a table: bytes, an object with ``bytes`` or ``path``, or a picture of Pillow's.

    Args:
        value: The cell.
        where: Its row, for messages.
        root: The folder that paths are below, where the table is a file, which may be anybody's; ``None`` for a table
            that the caller made, whose paths are any of his.

    Raises:
        ValueError: If it holds none, or a path that leaves the root.
    """
    if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
        value = value["bytes"]
    elif isinstance(value, dict) and isinstance(value.get("path"), str):
        with open(value["path"] if root is None else _below(root, value["path"], where), "rb") as file:
            return file.read()
    if isinstance(value, bytes | Image.Image):
        return value
    raise ValueError(f"{where}: there is no image but {type(value).__name__}; name the column that holds the images")


def _below(root: str, path: str, where: str) -> str:
    """Returns the file of a path that a table gives; a ValueError if nobody who trusts the root alone may open it."""
    if (reason := unsafe_reason(path)) and reason != UNTIDY:
        raise ValueError(f"{where} has the image {path!r}, which {reason}; give paths below {root}")
    return check_inside(os.path.join(root, path), os.path.realpath(root))
