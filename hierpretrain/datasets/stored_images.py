"""Images that are no files: stored in tables, archives or memory, and found by paths that look like files'."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from PIL import Image

Stored = bytes | Image.Image
"""What is stored: the bytes of an image file, or a picture of Pillow's."""


class ImageStore:
    """Gives the images below a root that is no folder, in this process and in its workers.

    Args:
        root: What stands before the slash of the images' paths, such as ``'data/pets.parquet'``. It is made unlike that
            of any other store of the process.
        get: Returns the image of a name below the root; a ``ValueError`` or an ``OSError`` says that it cannot be read.

    Attributes:
        root: The root, as paths have it.

    Example:
        >>> store = ImageStore("memory", {"a.png": b"bytes"}.__getitem__)
        >>> stored_image(f"{store.root}/a.png")
        b'bytes'
        >>> stored_image("folder/a.png") is None
        True
    """

    def __init__(self, root: str, get: Callable[[str], Stored]) -> None:
        self.root, self.get = root, get
        number = 1
        while self.root in _STORES:
            number += 1
            self.root = f"{root}#{number}"
        self._register()

    def _register(self) -> None:
        _STORES[self.root] = self

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state
        self._register()


_STORES: weakref.WeakValueDictionary[str, ImageStore] = weakref.WeakValueDictionary()


def stored_image(path: str) -> Stored | None:
    """Returns what a store of this process has at a path; None if the path is that of a file.

    Raises:
        ValueError: If the store cannot read it.
    """
    for root, store in _STORES.items() if _STORES else ():
        if path.startswith(root) and path[len(root) : len(root) + 1] == "/":
            return store.get(path[len(root) + 1 :])
    return None


def bytes_of(value: Any, where: str) -> Stored:
    """Returns the image in a cell of a table: bytes, an object with ``bytes`` or ``path``, or a picture of Pillow's.

    Raises:
        ValueError: If it holds none.
    """
    if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
        value = value["bytes"]
    elif isinstance(value, dict) and isinstance(value.get("path"), str):
        with open(value["path"], "rb") as file:
            return file.read()
    if isinstance(value, bytes | Image.Image):
        return value
    raise ValueError(f"{where}: there is no image but {type(value).__name__}; name the column that holds the images")


