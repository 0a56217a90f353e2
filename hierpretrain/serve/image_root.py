"""The folder below which a service shows images: names of files on one side, the disk on the other."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Iterable, Sequence

from hierpretrain.datasets.loading import open_rgb
from hierpretrain.datasets.safe_paths import check_inside

SIDE = 160
"""Of a thumbnail, in pixels."""


class ImageRoot:
    """A folder with the images of an index, whose own path goes neither out nor in.

    Args:
        folder: The folder, as the paths of the index begin, ``'.'`` where they are relative to the working directory;
            ``None`` if images have none, as with vectors alone.

    Example:
        >>> root = ImageRoot("/data/photos")
        >>> root.name_of("/data/photos/cat/1.jpg"), root.name_of("/data/other/1.jpg"), root.name_of("S7")
        ('cat/1.jpg', None, None)
        >>> root.path_of("cat/1.jpg"), root.path_of("../other/1.jpg"), root.path_of("/etc/passwd")
        ('/data/photos/cat/1.jpg', None, None)
    """

    def __init__(self, folder: str | os.PathLike[str] | None) -> None:
        self.folder = None if folder is None else os.fspath(folder).rstrip("/") or "/"
        self._prefix = None if self.folder is None else "" if self.folder == "." else f"{self.folder.rstrip('/')}/"
        self._real = "" if self.folder is None else os.path.realpath(self.folder)

    def name_of(self, path: str) -> str | None:
        """Returns what an image is called outside, relative to the folder; ``None`` for one that is not below it."""
        if self._prefix is None or not path.startswith(self._prefix):
            return None
        name = path[len(self._prefix) :]
        return name if _is_plain(name) else None

    def path_of(self, name: str) -> str | None:
        """Returns the path that :meth:`name_of` calls so; ``None`` for a name that it gives to none."""
        return self._prefix + name if self._prefix is not None and _is_plain(name) else None

    def thumbnail(self, path: str) -> bytes:
        """Returns a small WebP picture of an image.

        Args:
            path: The file.

        Raises:
            ValueError: If it is not below the folder, where links lead too, or cannot be read.
            OSError: If there is no such file.
        """
        real = check_inside(path, self._real)
        if not os.path.isfile(real):  # a pipe would be waited for
            raise FileNotFoundError(path)
        about = os.stat(real)
        return _thumbnail(real, about.st_mtime_ns, about.st_size)


def common_folder(paths: Iterable[str]) -> str | None:
    """Returns the deepest folder that has all of some files; ``None`` where that is none, or the root of the disk.

    That of files in the working directory is ``'.'``.

    Example:
        >>> common_folder(["/data/photos/cat/1.jpg", "/data/photos/cats/1.jpg"])
        '/data/photos'
        >>> common_folder(["/a/1.jpg", "/b/1.jpg"]), common_folder(["S7", "S8"]), common_folder([])
        (None, None, None)
    """
    files = [path for path in paths if not path.startswith("<")]  # images without a file are <image 3>
    if not files:
        return None
    first, last = min(files), max(files)  # what these two begin with, all begin with
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    if (end := first.rfind("/", 0, same)) > 0:
        return first[:end]
    return "." if os.path.isfile(first) and not os.path.isabs(first) else None


def _is_plain(name: str) -> bool:
    """Returns whether a name leads down, nowhere else on any system, and is a text that JSON can hold."""
    parts: Sequence[str] = name.split("/")
    odd = "\0" in name or "\\" in name or any("\ud800" <= letter <= "\udfff" for letter in name)
    return not odd and not any(part in ("", ".", "..") for part in parts)


@functools.lru_cache(maxsize=2048)  # of some 5 KB each
def _thumbnail(path: str, changed: int, size: int) -> bytes:
    picture = open_rgb(path, min_side=SIDE)
    picture.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=80)
    return file.getvalue()
