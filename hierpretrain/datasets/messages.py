"""Messages of data sets: parts of errors, and lines in the log."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from mmengine.logging import print_log

from hierpretrain._texts import short

__all__ = ["first", "log", "short", "some", "warn"]

_NUM_EXAMPLES = 5


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


def log(message: str) -> None:
    """Logs a message through MMEngine's current logger."""
    print_log(message, logger="current")


def warn(message: str) -> None:
    """Logs a warning through MMEngine's current logger."""
    print_log(message, logger="current", level=logging.WARNING)
