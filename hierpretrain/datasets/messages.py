"""Messages of data sets: parts of errors, and lines in the log."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence

from mmengine.logging import print_log

from hierpretrain._texts import short

__all__ = ["first", "log", "short", "some", "some_paths", "warn"]

_NUM_EXAMPLES = 5
_LONGEST = 200  # characters of a name: a damaged list may have thousands


def some(names: Sequence[str]) -> str:
    """Returns the first five names, quoted and separated by commas, with dots where there are more.

    Of a name longer than 200 characters, the beginning is given.

    Example:
        >>> print(some("abcdefgh"))
        'a', 'b', 'c', 'd', 'e', ...
    """
    texts = [repr(name) if len(name) <= _LONGEST else f"{name[:_LONGEST]!r}..." for name in names[:_NUM_EXAMPLES]]
    return ", ".join(texts) + (", ..." if len(names) > _NUM_EXAMPLES else "")


def some_paths(paths: Sequence[Sequence[str]]) -> str:
    """Returns the first five paths of a tree, joined by slashes; as JSON lists where two would be one text.

    Example:
        >>> print(some_paths([("a", "b"), ("c",)]))
        'a/b', 'c'
        >>> print(some_paths([("a/b", "c"), ("a", "b/c")]))
        ["a/b", "c"], ["a", "b/c"] (lists, because names hold '/')
    """
    texts = ["/".join(path) for path in paths]
    if len(set(texts)) == len(texts):
        return some(texts)
    lists = (json.dumps(list(path), ensure_ascii=False) for path in paths[:_NUM_EXAMPLES])
    dots = ", ..." if len(paths) > _NUM_EXAMPLES else ""
    return f"{', '.join(lists)}{dots} (lists, because names hold '/')"


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
