"""The values of a list's cells as text in one Unicode form."""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any

from hierpretrain.datasets.annotations import nfc
from hierpretrain.datasets.messages import short
from hierpretrain.datasets.text_files import no_character

_INEXACT = 2.0**53  # from which on floats do not tell neighbouring integers apart


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

    ``None`` is an empty text, and 1.0 is 1, since spreadsheets and pandas write whole numbers so.

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
    wrong = isinstance(value, bool) or not isinstance(value, int | float)
    if wrong or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"{where}: the field {name!r} must be a string or a number; it is {short(value)}")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


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
_DIGITS = re.compile("[0-9]+")  # of other scripts, several may be one number


def check_spelling(name: str, known: dict[Any, str], where: Callable[[], str]) -> None:
    """Raises if a name is a number that was there in another spelling, as 1 and 1.0 are: they would be two classes.

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
        ValueError: list.csv:4: 'kind' has one number in two spellings, '1' and '1.0', which would be two nodes; ...
    """
    if not _NUMBER.fullmatch(name):
        return
    code = name.isdecimal() and len(name) > 1 and int(name[0]) == 0
    other = known.setdefault(name if code else Decimal(name), name)  # which are equal if they are exactly
    if other != name:
        raise ValueError(
            f"{where()} has one number in two spellings, {other!r} and {name!r}, which would be two nodes; write it in "
            "one"
        )


def check_spellings(names: Sequence[str], column: str, where: Callable[[int], str]) -> None:
    """Raises as :func:`check_spelling` if two of the names of a column are one number."""
    numbers = [name for name in dict.fromkeys(names) if _NUMBER.fullmatch(name)]
    if all(map(_DIGITS.fullmatch, numbers)):  # no two of which are one number, as codes are none
        return
    known: dict[Any, str] = {}
    for name in numbers:
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
    """Returns a cell that may hold anything as text, of several lines too, arrays and objects as JSON."""
    try:
        return nfc(_as_text(value, "", ""))
    except ValueError:
        return json.dumps(value, ensure_ascii=True, default=str)


def distinct(column: Iterable[Any]) -> list[str]:
    """Returns the different texts of a column, arrays taken apart, in their order."""
    values: dict[str, None] = {}
    with suppress(TypeError):  # of arrays
        column = list(dict.fromkeys(column))
        if set(map(type, column)) == {str} and (texts := _cleaned(column)) is not None:
            return list(dict.fromkeys(texts))
    for value in column:
        parts = value if isinstance(value, list | tuple) else [value]
        values.update((free_text(part), None) for part in parts)
    return list(values)
