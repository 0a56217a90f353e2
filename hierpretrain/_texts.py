"""Values and numbers in words, for messages."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

_LONGEST = 60  # characters


def count(number: int, one: str, more: str) -> str:
    """Returns a number with its noun in the singular or plural.

    Example:
        >>> count(1, "query", "queries"), count(2000, "query", "queries")
        ('1 query', '2,000 queries')
    """
    return f"{number:,} {one if number == 1 else more}"


def as_text(value: Any) -> str:
    """Returns a value as a text, as a list has it; an empty one for what is missing in a table, None and NaN.

    Example:
        >>> as_text(17), as_text(3.0), as_text(True), as_text(None), as_text(float("nan"))
        ('17', '3', 'true', '', '')
    """
    if value is None or value != value:
        return ""
    if isinstance(value, bool) or str(getattr(value, "dtype", "")) == "bool":  # numpy's, too
        return "true" if value else "false"
    return value if isinstance(value, str) else digits(value)


def digits(number: Any) -> str:
    """Returns a number as text: a whole one without a point, and a decimal as the float of its value, if one is.

    Example:
        >>> digits(3.0), digits(0.5), digits(Decimal("1.50")), digits(Decimal("0.12345678901234567890"))
        ('3', '0.5', '1.5', '0.1234567890123456789')
    """
    if isinstance(number, Decimal):
        text = digits(float(number))
        if Decimal(text) == number:
            return text
        text = f"{number:f}"  # more digits than a float has
        return text.rstrip("0").rstrip(".") if "." in text else text
    return str(int(number)) if hasattr(number, "is_integer") and number.is_integer() else str(number)


def are_texts(column: object, count: int | None = None) -> bool:
    """Returns whether a column is of texts alone, and of as many as ``count`` says: what is kept in files must be.

    Example:
        >>> are_texts(["3", "4"], 2), are_texts(["3"], 2), are_texts(["3", 4]), are_texts("34")
        (True, False, False, False)
    """
    known = isinstance(column, Collection) and not isinstance(column, str | Mapping) and count in (None, len(column))
    return known and all(isinstance(text, str) for text in column)


def check_texts_in(file: object, name: str, column: object, count: int, remedy: str) -> None:
    """Raises a ValueError unless a column of a file is of texts alone, one for each of ``count`` images."""
    if not are_texts(column, count):
        raise ValueError(f"{file} must hold {count} texts in {name!r}, one an image; it does not; {remedy}")


def read_where(pairs: Iterable[str], option: str = "where") -> dict[str, str]:
    """Returns the texts that metadata must have, from ``NAME=TEXT``.

    Args:
        pairs: The words of a command line or a form.
        option: What takes them, for the message.

    Raises:
        ValueError: If one is of another form, or a name has two texts.

    Example:
        >>> read_where(["colour=red", "note=a=b"])
        {'colour': 'red', 'note': 'a=b'}
    """
    found: dict[str, str] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not (name and sign):
            raise ValueError(f"{option} takes NAME=TEXT, such as colour=red; {pair!r} is not like that")
        if found.setdefault(name, text) != text:
            raise ValueError(f"{option} takes one text of each name, as an image has; of {name!r} there are two")
    return found


def read_branch(text: str, option: str = "within") -> str | tuple[str, ...]:
    """Returns a branch of a tree: its path or name as it stands, or the names of its path from a JSON list.

    A list tells apart what a path does not, where names hold slashes: ``["a/b", "c"]`` and ``["a", "b/c"]``.

    Args:
        text: A word of a command line or a field of a form.
        option: What takes it, for the message.

    Raises:
        ValueError: If it is a list of something else than texts.

    Example:
        >>> read_branch("animal/cat"), read_branch('["a/b", "c"]'), read_branch("[draft]")
        ('animal/cat', ('a/b', 'c'), '[draft]')
    """
    if not text.startswith("["):
        return text
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        return text  # a name may begin so, too
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{option} takes a path, a name, or a JSON list of names; it is {text[:200]!r}")
    return tuple(names)


def short(value: Any) -> str:
    """Returns the ``repr`` of a value, cut after 60 characters.

    Lists, tuples and dicts are only looked into as far as that: a pickle of a few hundred bytes may hold lists that
    share lists, of which the whole text would fill any memory.

    Args:
        value: Any value.

    Example:
        >>> short("cat"), len(short("cat" * 100)), short({"a": [1, (2,)]})
        ("'cat'", 60, "{'a': [1, (2,)]}")
        >>> nested = [0]
        >>> for _ in range(100):
        ...     nested = [nested] * 8
        >>> short(nested)[-7:]
        '[[[[...'
    """
    text = ""
    for part in _parts(value, 0):
        text += part
        if len(text) > _LONGEST:
            return text[: _LONGEST - 3] + "..."
    return text


def _parts(value: Any, depth: int) -> Iterator[str]:
    if depth > _LONGEST:  # as many brackets have been given already
        return
    if type(value) in (str, bytes):
        yield repr(value[: _LONGEST + 1])
    elif type(value) is int and value.bit_length() > 4 * _LONGEST:
        yield f"{hex(value >> (value.bit_length() - 4 * _LONGEST))}..."
    elif isinstance(value, Mapping):
        yield "{"
        for i, (key, item) in enumerate(value.items()):
            yield ", " if i else ""
            yield from _parts(key, depth + 1)
            yield ": "
            yield from _parts(item, depth + 1)
        yield "}"
    elif type(value) in (list, tuple):
        yield "[" if type(value) is list else "("
        for i, item in enumerate(value):
            yield ", " if i else ""
            yield from _parts(item, depth + 1)
        yield "]" if type(value) is list else ",)" if len(value) == 1 else ")"
    else:
        yield repr(value)
