"""The values of a list's cells as text in one Unicode form."""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np

from hierpretrain._texts import digits
from hierpretrain.datasets.annotations import nfc
from hierpretrain.datasets.messages import short
from hierpretrain.datasets.text_files import no_character

_INEXACT = 2.0**53  # from which on floats do not tell neighbouring integers apart
_LARGEST_EXPONENT = 300  # of decimals; floats end at 308
_SHORT = {"float": np.float32, "halffloat": np.float16}  # by the names of Arrow's types
_NAMES = str | int | float | Decimal | datetime.date | datetime.time | datetime.timedelta | UUID


class Texts(tuple[str, ...]):
    """A column of which every cell is known to be a text."""


class Lost(str):
    """What a file has in place of a cell's value: metadata take it as the text that it is, and names not at all.

    Attributes:
        why: What the cell is, and what to do about it, for messages.
    """

    why: str

    def __new__(cls, text: str, why: str) -> Lost:
        """Makes a mark of the text that stands in the file."""
        lost = super().__new__(cls, text)
        lost.why = why
        return lost


def kinds_of(column: Sequence[Any]) -> set[type]:
    """Returns the types of a column's cells."""
    return {str} if isinstance(column, Texts) else set(map(type, column))


def text_of(value: Any, name: str, where: str, *, as_written: bool = False) -> str:
    """Returns a cell as text: without space around it, in one Unicode form; a number's digits, a day's date.

    ``None`` is an empty text, and 1.0 is 1, since spreadsheets and pandas write whole numbers so. A decimal is written
    as the float of the same value: 1.50 is 1.5. A duration is hours, minutes and seconds, and bytes are text in UTF-8,
    as some databases write it.

    Args:
        value: The cell.
        name: Its column, for messages.
        where: Its row, for messages.
        as_written: Whether a text stays in the Unicode form that it has, as the name of a file must.

    Raises:
        ValueError: If the cell holds something else, a number that is not finite or too long for a float, a control
            character, half a surrogate pair, the error of a formula, or what lost letters or digits leave.

    Example:
        >>> text_of(" cat ", "kind", "list.json: record 1"), text_of(3.0, "kind", ""), text_of(0.5, "kind", "")
        ('cat', '3', '0.5')
        >>> text_of(Decimal("1.50"), "price", ""), text_of(datetime.timedelta(hours=30), "length", "")
        ('1.5', '30:00:00')
    """
    if isinstance(value, Lost):
        raise ValueError(f"{where}: the field {name!r} {value.why}")
    text = _as_text(value, name, where)
    if not as_written and (why := _damage(text)):
        raise ValueError(f"{where}: the field {name!r} is {short(text)}, {why}")
    if isinstance(value, float) and abs(value) >= _INEXACT:
        raise ValueError(
            f"{where}: the field {name!r} is the float {value!r}; numbers from 2**53 on are not exact as floats, so "
            "that several would be one name: save the column as text"
        )
    return text if as_written else nfc(text)


_ERRORS = frozenset({"#N/A", "#REF!", "#VALUE!", "#NAME?", "#DIV/0!", "#NULL!", "#NUM!", "#SPILL!", "#CALC!"})
_LONG = re.compile(r"\d([.,]\d+)?E\+(1[1-9]|[2-9]\d)")  # numbers of 12 digits and more


def _damage(text: str) -> str:
    """Returns what a program has made of a name, and what to do about it; an empty text for a sound one."""
    if text in _ERRORS:
        return "the error of a formula; correct it"
    if "\ufffd" in text:
        return "with U+FFFD in place of a letter that a program has lost; get the list anew"
    if _LONG.fullmatch(text):
        return "as spreadsheets write long numbers, of which the last digits are lost; save the column as text"
    return ""


def _as_text(value: Any, name: str, where: str) -> str:
    """Returns a cell as the text that it is; an error if it is none."""
    if isinstance(value, str):
        if wrong := no_character(value):
            raise ValueError(
                f"{where}: the field {name!r} holds {wrong!r}, which is no character of a name: {short(value)}; "
                "correct it"
            )
        return value.strip()
    if value is None:
        return ""
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()  # spreadsheets know no day without a time
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return _clock(value)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, bytes):
        if (text := _decoded(value)) is None:
            raise ValueError(
                f"{where}: the field {name!r} holds bytes that are no text in UTF-8: {short(value)}; save the column "
                "as text"
            )
        return _as_text(text, name, where)
    if not _is_number(value):
        raise ValueError(f"{where}: the field {name!r} must be a string or a number; it is {short(value)}")
    return digits(value)


def _clock(duration: datetime.timedelta) -> str:
    """Returns a duration as a time of day is written, with as many hours as it has: ``30:00:00``."""
    microseconds = abs(duration) // datetime.timedelta(microseconds=1)
    seconds, microseconds = divmod(microseconds, 10**6)
    hours, seconds = divmod(seconds, 3600)
    sign = "-" if duration < datetime.timedelta() else ""
    rest = f".{microseconds:06}" if microseconds else ""
    return f"{sign}{hours:02}:{seconds // 60:02}:{seconds % 60:02}{rest}"


def _decoded(value: bytes) -> str | None:
    """Returns the text that bytes are in UTF-8; ``None`` if they are none."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _is_number(value: Any) -> bool:
    """Returns whether a cell is a finite number, of a size that floats have."""
    if isinstance(value, Decimal):
        return value.is_finite() and abs(value.adjusted()) <= _LARGEST_EXPONENT
    return not isinstance(value, bool) and (
        isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    )


def short_floats(column: Sequence[Any], kind: Any) -> list[Any]:
    """Returns floats of single and half precision as those of double precision that have their digits: 9.99 stays 9.99.

    Args:
        column: The cells; those that are arrays and objects may hold such floats, too.
        kind: The Arrow type of the column.

    Example:
        >>> short_floats([9.989999771118164, 16777218.0, None], "float"), short_floats([9.9921875], "halffloat")
        ([9.99, 16777218.0, None], [9.99])
    """
    if not any(name in str(kind) for name in _SHORT):
        return list(column)
    return [_short_floats(value, kind) for value in column]


def _short_floats(value: Any, kind: Any) -> Any:
    kind = getattr(kind, "storage_type", kind)  # of an extension
    if isinstance(value, dict):
        return {name: _short_floats(cell, kind.field(name).type) for name, cell in value.items()}
    if isinstance(value, list):
        if hasattr(kind, "item_type"):  # a map
            return [(key, _short_floats(cell, kind.item_type)) for key, cell in value]
        return [_short_floats(cell, kind.value_type) for cell in value]
    while hasattr(kind, "value_type"):  # of a dictionary
        kind = kind.value_type
    dtype = _SHORT.get(str(kind))
    if dtype is None or value is None or value.is_integer():  # whole ones are exact
        return value
    return float(str(dtype(value)))


def texts_of(column: Sequence[Any], name: str, where: Callable[[int], str], *, as_written: bool = False) -> list[str]:
    """Returns a column as texts; see :func:`text_of`."""
    kinds = kinds_of(column)
    if kinds == {str} and as_written:
        if (texts := _cleaned(column, as_written=True)) is not None:
            return texts
    elif kinds <= {str, type(None)}:  # there are far fewer texts than rows; the row of a wrong one is told below
        different = set(column) - {None}
        if not any(map(_damage, map(str.strip, different))) and (texts := _cleaned(list(different))) is not None:
            known = dict(zip(different, texts, strict=True)) | {None: ""}
            as_is = kinds == {str} and texts == list(different)
            return list(column if as_is else map(known.__getitem__, column))
    texts = []
    for i, value in enumerate(column):
        try:
            texts.append(text_of(value, name, "", as_written=as_written))
        except ValueError:
            text_of(value, name, where(i))
    return texts


def _cleaned(texts: Sequence[str], *, as_written: bool = False) -> list[str] | None:
    """Returns many texts as :func:`text_of` does, at once; ``None`` if one of them is an error there."""
    joined = "".join(texts)
    if no_character(joined):
        return None
    stripped = list(map(str.strip, texts))
    return stripped if as_written or joined.isascii() else list(map(nfc, stripped))


_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,4})?", re.IGNORECASE)
# a line that is a number, but not digits alone, no two of which are one number; those of other scripts may be
_SPELT = re.compile(rf"\n(?![0-9]+\n){_NUMBER.pattern}\n", re.IGNORECASE)


def check_spelling(name: str, known: dict[Any, str], where: Callable[[], str]) -> None:
    """Raises if a name is a number that was there in another spelling, as 1 and 1.0 are: they would be two names.

    Digits alone that begin with 0 are a code, not a number: 01 is not 1.

    Args:
        name: The name, which may be no number.
        known: Number, or code -> its first spelling; that of ``name`` is added.
        where: Says where the text stands and of what column, for the message.

    Raises:
        ValueError: With the place and both spellings.

    Example:
        >>> known = {}
        >>> for name in ("1", "01", "1.0"):
        ...     check_spelling(name, known, lambda: "list.csv:4: 'kind'")
        Traceback (most recent call last):
        ValueError: list.csv:4: 'kind' has one number in two spellings, '1' and '1.0', which would be two names; ...
    """
    if not _NUMBER.fullmatch(name):
        return
    code = name.isdecimal() and len(name) > 1 and int(name[0]) == 0
    other = known.setdefault(name if code else Decimal(name), name)  # which are equal if they are exactly
    if other != name:
        raise ValueError(
            f"{where()} has one number in two spellings, {other!r} and {name!r}, which would be two names; write it in "
            "one"
        )


def check_spellings(names: Sequence[str], column: str, where: Callable[[int], str]) -> None:
    """Raises as :func:`check_spelling` if two of the names of a column are one number."""
    different = dict.fromkeys(names)
    if not _SPELT.search("\n".join(("", *different, ""))):
        return
    known: dict[Any, str] = {}
    for name in different:
        check_spelling(name, known, lambda name=name: f"{where(names.index(name))}: {column!r}")


def check_split(name: str, known: dict[Any, str], where: Callable[[], str]) -> None:
    """Raises if a split was there in another spelling, as a number or in another case: who takes one loses the other.

    Args:
        name: The split.
        known: Split in whatever spelling -> its first one; that of ``name`` is added.
        where: As for :func:`check_spelling`.

    Raises:
        ValueError: With the place and both spellings.
    """
    check_spelling(name, known, where)
    other = known.setdefault(name.casefold(), name)
    if other != name:
        raise ValueError(f"{where()} has one split in two spellings, {other!r} and {name!r}; write it in one")


def free_text(value: Any) -> str:
    r"""Returns a cell that may hold anything as text, of several lines too.

    Arrays, objects, true and false are JSON, and bytes that are no text are hexadecimal.

    Example:
        >>> free_text(Decimal("1.50")), free_text(["grün", True]), free_text([chr(155)]), free_text(bytes([255, 1]))
        ('1.5', '["grün", true]', '["\\u009b"]', 'ff01')
    """
    try:
        return nfc(_as_text(value, "", ""))
    except ValueError:
        if isinstance(value, bytes):
            return value.hex()
        if isinstance(value, str | float | bool | list | tuple | dict):
            text = json.dumps(value, ensure_ascii=False, default=free_text)
            return nfc(text) if text.isprintable() else json.dumps(value, ensure_ascii=True, default=free_text)
        return nfc(str(value))


def no_names(column: Sequence[Any]) -> list[Any]:
    """Returns the cells of a column that can be no names, such as true and false, if most of its cells are such.

    Where they are few, these rows are wrong; where they are most, the column is of another use.

    Example:
        >>> no_names([True, None, False]), no_names(["cat", 3, True])
        ([True, False], [])
    """
    if kinds_of(column) <= {str, int, float, type(None)}:
        return []
    cells = [cell for cell in _parts(_parts(column)) if cell is not None]
    wrong = [cell for cell in cells if not _can_be_name(cell)]
    return wrong if len(wrong) * 2 > len(cells) else []


def _parts(cells: Iterable[Any]) -> Iterator[Any]:
    """Yields cells, and the entries of those that are arrays."""
    for cell in cells:
        yield from cell if isinstance(cell, list | tuple) else [cell]


def _can_be_name(cell: Any) -> bool:
    if isinstance(cell, bytes):
        return _decoded(cell) is not None
    return isinstance(cell, _NAMES) and not isinstance(cell, bool)


def distinct(column: Iterable[Any]) -> list[str]:
    """Returns the different texts of a column, arrays taken apart, in their order."""
    values: dict[str, None] = {}
    with suppress(TypeError):  # of arrays
        column = list(dict.fromkeys(column))
        if set(map(type, column)) == {str} and (texts := _cleaned(column)) is not None:
            return list(dict.fromkeys(texts))
    values.update((free_text(part), None) for part in _parts(column))
    return list(values)
