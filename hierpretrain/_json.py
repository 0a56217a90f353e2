"""Strict JSON: what is no JSON, has a key twice or hides characters behind escapes is an error with file and line."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any


def parse_json(
    text: str,
    path: str | os.PathLike[str],
    remedy: str,
    *,
    line: int | None = None,
    any_text: bool = False,
    any_number: bool = False,
) -> Any:
    r"""Returns what a JSON text holds.

    Args:
        text: The text.
        path: The file that it is from, for messages.
        remedy: What to do if it is no JSON, for the message.
        line: The line that the text is, where a file has a text on each line.
        any_text: Whether texts may have control characters and halves of surrogate pairs, as names of files may.
        any_number: Whether numbers may be NaN or infinite, which is no JSON but what Python writes.

    Raises:
        ValueError: With file and line, if the text is no JSON (the message says so if it ends too early), an object has
            a key twice, or a text has a control character or half a surrogate pair by an escape.

    Example:
        >>> parse_json('["cat", "do', "list.json", "get it anew")
        Traceback (most recent call last):
        ValueError: list.json:1: no JSON: Unterminated string starting at column 9; the file is truncated; get it anew
        >>> parse_json(r'["cat", "d\u0000"]', "list.json", "get it anew")
        Traceback (most recent call last):
        ValueError: list.json:1: no JSON: a text holds '\\u0000', which is no character of a name; get it anew
    """
    where = os.fspath(path) if line is None else f"{path}:{line}"
    if not any_text and (escape := _bad_escape(text)):
        number = line or text.count("\n", 0, escape.start()) + 1
        what = "half a surrogate pair" if escape[1][2] in "dD" else "no character of a name"
        raise ValueError(f"{path}:{number}: no JSON: a text holds {escape[1]!r}, which is {what}; {remedy}")
    try:
        numbers: dict[str, Any] = {} if any_number else {"parse_constant": _no_number, "parse_float": _finite}
        return json.loads(text, object_pairs_hook=_unique(itertools.count(1)), **numbers)
    except json.JSONDecodeError as error:
        truncated = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
        raise ValueError(
            f"{path}:{line or error.lineno}: no JSON: {error.msg.removesuffix(' at')} at column {error.colno}; "
            f"{'the file is truncated; ' if truncated else ''}{remedy}"
        ) from error
    except RecursionError as error:
        raise ValueError(f"{where}: no JSON: it is nested too deeply; {remedy}") from error
    except ValueError as error:
        raise ValueError(f"{where}: no JSON: {error}; {remedy}") from error


def is_number(value: object) -> bool:
    """Returns whether a value of JSON is a number, be it none that is finite.

    Example:
        >>> [is_number(value) for value in (1, 0.5, float("nan"), True, "1", None)]
        [True, True, True, False, False, False]
    """
    return isinstance(value, int | float) and not isinstance(value, bool)


# a whole pair, which is a character; else half of one, or a control character other than tabs and line ends
_ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(\\u(?:[dD][89a-fA-F][0-9a-fA-F]{2}|00(?:0[0-8efEF]|1[0-9a-fA-F]|7[fF])))"
)


def _bad_escape(text: str) -> re.Match[str] | None:
    """Returns the first escape of a JSON text that stands for no character of a name."""
    if "\\u" not in text:
        return None
    for found in _ESCAPE.finditer(text):
        start = found.start()
        before = text[max(0, start - 64) : start]
        escaped = (len(before) - len(before.rstrip("\\"))) % 2  # a backslash, and then the letter u
        if found[1] and not escaped:
            return found
    return None


def _unique(numbers: Iterator[int]) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    """Returns what makes an object of its pairs and counts the objects, for the message about a repeated key."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        number, data = next(numbers), dict(pairs)
        if len(data) < len(pairs):
            twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
            raise ValueError(f"the key {twice!r} is there twice in object {number}")
        return data

    return unique


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _finite(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        raise ValueError(f"the number {digits[:40]} is too large")
    return number


def parse_json_bytes(data: bytes, path: str | os.PathLike[str], remedy: str, **options: Any) -> Any:
    r"""Returns what JSON in UTF-8 holds, as :func:`parse_json`; for files that a program wrote, not people.

    Args:
        data: The content of the file.
        path: The file, for messages.
        remedy: What to do if it is damaged, for the message.
        options: ``any_text`` and ``any_number``.

    Raises:
        ValueError: With the file, if the bytes are no UTF-8 or hold a control character, and as :func:`parse_json`.

    Example:
        >>> parse_json_bytes(b'{"epoch": 1}\0\0', "metrics.json", "test again")
        Traceback (most recent call last):
        ValueError: metrics.json is damaged: it holds the control character '\x00' at byte 12; test again
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{os.fspath(path)} is damaged: byte {error.start}, {data[error.start]:#04x}, is not UTF-8; {remedy}"
        ) from error
    if bad := _CONTROLS.search(text):
        raise ValueError(
            f"{os.fspath(path)} is damaged: it holds the control character {bad[0]!r} at byte {bad.start()}; {remedy}"
        )
    try:
        return parse_json(text, "", remedy, **options)
    except ValueError as error:
        told = re.sub(r"^:(\d+)", r"line \1", str(error)).removeprefix(": ")
        raise ValueError(f"{os.fspath(path)} is damaged: {told}") from error


def parse_object(data: bytes, path: str | os.PathLike[str], remedy: str, **options: Any) -> dict[str, Any]:
    """Returns the object that JSON in UTF-8 holds, as :func:`parse_json_bytes`; anything else is a ValueError, too.

    Example:
        >>> parse_object(b"[1]", "images.json", "embed the images anew")
        Traceback (most recent call last):
        ValueError: images.json is damaged: it must hold an object, and holds a list; embed the images anew
    """
    found = parse_json_bytes(data, path, remedy, **options)
    if not isinstance(found, dict):
        what = type(found).__name__
        raise ValueError(f"{os.fspath(path)} is damaged: it must hold an object, and holds a {what}; {remedy}")
    return found


_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f\ufeff]")
