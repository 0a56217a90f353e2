"""The one policy for files and links that cannot be read: an error, or left out and listed with the reason."""

from __future__ import annotations

import json
import os
import tempfile
import weakref
from collections.abc import Mapping
from typing import Any

from hierpretrain.files import write_json

ON_ERROR = ("error", "skip")
"""What a file or a link that cannot be read does: it is an error, or it is left out and listed."""

SKIPPED = "skipped.json"
"""The list of what was left out, in a work directory, an index or a folder of embeddings: path -> reason."""


class UnreadableImage(ValueError):
    """An image file that cannot be read; the message names it."""


def check_on_error(on_error: str) -> None:
    """Raises a ValueError, which names the permitted values, if there is no such policy.

    Example:
        >>> check_on_error("ignore")
        Traceback (most recent call last):
        ValueError: on_error must be 'error' or 'skip'; it is 'ignore'
    """
    from hierpretrain.checks import check_one_of  # with torch, which opening an image does without

    check_one_of("on_error", on_error, ON_ERROR)


def write_skipped(path: str | os.PathLike[str], skipped: Mapping[str, str]) -> None:
    """Writes the list of what was left out, whole or not at all.

    Args:
        path: The file, usually called :data:`SKIPPED`.
        skipped: Path of the file or link -> reason.
    """
    write_json(path, dict(sorted(skipped.items())))


class Skipped:
    """What a data set leaves out, path -> reason, told by all processes that read it.

    The workers of a ``DataLoader`` add to a temporary file, which goes with the object that made it.

    Args:
        known: What is left out already.

    Example:
        >>> skipped = Skipped({"a.jpg": "it is a broken link"})
        >>> skipped.add("b.jpg", "it is truncated")
        >>> skipped.to_dict()
        {'a.jpg': 'it is a broken link', 'b.jpg': 'it is truncated'}
    """

    def __init__(self, known: Mapping[str, str]) -> None:
        self._known = dict(known)
        handle, self._file = tempfile.mkstemp(prefix="skipped.")
        os.close(handle)
        weakref.finalize(self, _remove, self._file, os.getpid())

    def add(self, path: str, reason: str) -> None:
        """Adds a file or link, in whichever process; of several reasons the first one counts."""
        line = json.dumps([path, reason]) + "\n"
        handle = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, line.encode())  # at once, so that the lines of two processes do not mix
        finally:
            os.close(handle)

    def to_dict(self) -> dict[str, str]:
        """Returns all that was left out so far."""
        try:
            with open(self._file, encoding="utf-8") as file:
                added = [json.loads(line) for line in file if line.endswith("\n")]
        except FileNotFoundError:  # of a copy that another process was given, once nobody has added anything
            added = []
        skipped = dict(self._known)
        for path, reason in added:
            skipped.setdefault(path, reason)
        return skipped

    def __deepcopy__(self, memo: dict[int, Any]) -> Skipped:
        return Skipped(self.to_dict())


def _remove(file: str, owner: int) -> None:
    if os.getpid() == owner and os.path.exists(file):  # a worker must not
        os.unlink(file)
