"""The values of a list's cells as text in one Unicode form."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from hierpretrain.datasets.annotations import nfc
from hierpretrain.datasets.messages import short
from hierpretrain.datasets.text_files import has_surrogate


class Texts(tuple[str, ...]):
    """A column of which every cell is known to be a text."""


def kinds_of(column: Sequence[Any]) -> set[type]:
    """Returns the types of a column's cells."""
    return {str} if isinstance(column, Texts) else set(map(type, column))


def text_of(value: Any, name: str, where: str, *, as_written: bool = False) -> str:
    """Returns a cell as text: without space around it, in one Unicode form; a number's digits, a day's date.

    ``None`` is an empty text, and 1.0 is 1, since spreadsheets and pandas write whole numbers so.

    Args:
        value: The cell.
        name: Its column, for messages.
        where: Its row, for messages.
        as_written: Whether a text stays in the Unicode form that it has, as the name of a file must.

    Raises:
        ValueError: If the cell holds something else, a number that is not finite, or half a surrogate pair.

    Example:
        >>> text_of(" cat ", "kind", "list.json: record 1"), text_of(3.0, "kind", ""), text_of(0.5, "kind", "")
        ('cat', '3', '0.5')
    """
    if isinstance(value, str):
        if has_surrogate(value):
            raise ValueError(
                f"{where}: the field {name!r} holds half a surrogate pair: {short(value)}; write it as UTF-8"
            )
        return value.strip() if as_written else nfc(value.strip())
    if value is None:
        return ""
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()  # spreadsheets know no day without a time
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    wrong = isinstance(value, bool) or not isinstance(value, int | float)
    if wrong or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"{where}: the field {name!r} must be a string or a number; it is {short(value)}")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def texts_of(column: Sequence[Any], name: str, where: Callable[[int], str], *, as_written: bool = False) -> list[str]:
    """Returns a column as texts; see :func:`text_of`."""
    kinds = kinds_of(column)
    if kinds == {str} and as_written:
        texts = list(map(str.strip, column))
        if not has_surrogate("".join(texts)):
            return texts
    elif kinds <= {str, type(None)}:  # there are far fewer texts than rows
        with suppress(ValueError):  # whose row is told below
            known = {value: text_of(value, name, "") for value in set(column)}
            as_is = all(value == text for value, text in known.items())
            return list(column if as_is else map(known.__getitem__, column))
    texts = []
    for i, value in enumerate(column):
        try:
            texts.append(text_of(value, name, "", as_written=as_written))
        except ValueError:
            text_of(value, name, where(i))
    return texts


def free_text(value: Any) -> str:
    """Returns a cell that may hold anything as text, arrays and objects as JSON."""
    try:
        return text_of(value, "", "")
    except ValueError:
        return json.dumps(value, ensure_ascii=True, default=str)


def distinct(column: Iterable[Any]) -> list[str]:
    """Returns the different texts of a column, arrays taken apart, in their order."""
    values: dict[str, None] = {}
    with suppress(TypeError):  # of arrays
        column = dict.fromkeys(column)
    for value in column:
        parts = value if isinstance(value, list | tuple) else [value]
        values.update((free_text(part), None) for part in parts)
    return list(values)
