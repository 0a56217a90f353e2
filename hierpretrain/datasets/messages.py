"""Messages of data sets: parts of errors, and lines in the log."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from mmengine.logging import print_log

_NUM_EXAMPLES = 5
_LONGEST = 60  # characters


def some(names: Sequence[str]) -> str:
    """Returns the first five names, quoted and separated by commas, with dots where there are more.

    Example:
        >>> print(some("abcdefgh"))
        'a', 'b', 'c', 'd', 'e', ...
    """
    return ", ".join(map(repr, names[:_NUM_EXAMPLES])) + (", ..." if len(names) > _NUM_EXAMPLES else "")


def first(texts: Iterable[str]) -> list[str]:
    """Returns the first five texts, and dots where there are more.

    Example:
        >>> first("abcdefgh")
        ['a', 'b', 'c', 'd', 'e', '...']
    """
    texts = list(texts)
    return texts[:_NUM_EXAMPLES] + ["..."] * (len(texts) > _NUM_EXAMPLES)


def short(value: Any) -> str:
    """Returns the ``repr`` of a value, cut after 60 characters.

    Example:
        >>> short("cat"), len(short("cat" * 100))
        ("'cat'", 60)
    """
    text = repr(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def log(message: str) -> None:
    """Logs a message through MMEngine's current logger."""
    print_log(message, logger="current")


def warn(message: str) -> None:
    """Logs a warning through MMEngine's current logger."""
    print_log(message, logger="current", level=logging.WARNING)
