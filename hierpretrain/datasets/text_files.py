"""Reading text, CSV and JSON files in UTF-8, with errors that name the file, the line and the remedy."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hierpretrain.datasets.encodings import decode


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Returns the content of a file; a ValueError if it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read the list {path}: {error.strerror}; correct its path") from error


def read_text(path: str | os.PathLike[str]) -> str:
    """Returns the text of a UTF-8 file, without a byte order mark.

    Raises:
        ValueError: If the file cannot be read, or with the line, if it is not UTF-8 or holds a zero byte.
    """
    return decode(read_bytes(path), path, "utf-8")


def text_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    r"""Yields the lines of a UTF-8 file that are not blank, each with its number and without its ending.

    Raises:
        ValueError: If the file cannot be read or is not UTF-8.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a.txt").write_bytes(b"one\r\n\n two\n")
        ...     list(text_lines(f"{folder}/a.txt"))
        [(1, 'one'), (3, ' two')]
    """
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield number, line.removesuffix("\r")


def numbered_lines(path: str | os.PathLike[str]) -> Iterator[tuple[str, str]]:
    r"""Yields the lines of :func:`text_lines`, each with its ``'path:line'`` and without space around it."""
    for number, line in text_lines(path):
        yield f"{path}:{number}", line.strip()


def csv_rows(path: str | os.PathLike[str]) -> Iterator[tuple[int, list[str]]]:
    r"""Yields the rows of a CSV file that are not blank, each with the number of its line.

    Args:
        path: The file, in UTF-8, its fields separated by commas.

    Raises:
        ValueError: If the file cannot be read or is not UTF-8; with the line, if a row has another number of fields
            than the first or is no well-formed CSV.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "list.csv").write_text("a,b\n\n1,2\n")
        ...     list(csv_rows(f"{folder}/list.csv"))
        [(1, ['a', 'b']), (3, ['1', '2'])]
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    width = 0
    try:
        for row in reader:
            if not row:
                continue
            width = width or len(row)
            if len(row) != width:
                raise ValueError(
                    f"{path}:{reader.line_num}: the line has {len(row)} fields and the header {width}; quote fields "
                    "that hold a comma"
                )
            yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(f"{path}:{reader.line_num}: no well-formed CSV: {error}") from error


def has_surrogate(text: str) -> bool:
    """Returns whether a text holds half a surrogate pair, which JSON can express and UTF-8 cannot."""
    return not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text)


def read_json_file(path: str | os.PathLike[str], remedy: str, *, unique_keys: bool = False) -> Any:
    """Returns what a JSON file in UTF-8 holds; see :func:`parse_json`.

    Raises:
        ValueError: If the file cannot be read or is not UTF-8; with the line, if it is no JSON.
    """
    return parse_json(read_text(path), path, remedy, unique_keys=unique_keys)


def parse_json(
    text: str, path: str | os.PathLike[str], remedy: str, *, line: int | None = None, unique_keys: bool = False
) -> Any:
    """Returns what a JSON text holds.

    Args:
        text: The text.
        path: The file that it is from, for messages.
        remedy: What to do if it is no JSON, for the message.
        line: The line that the text is, where a file has a text on each line.
        unique_keys: Whether a key that an object has twice is an error; otherwise the last one counts.

    Raises:
        ValueError: With file and line, if the text is no JSON. The message says so if it ends too early.

    Example:
        >>> parse_json('["cat", "do', "list.json", "get it anew")
        Traceback (most recent call last):
        ValueError: list.json:1: no JSON: Unterminated string starting at column 9; the file is truncated; get it anew
    """
    where = os.fspath(path) if line is None else f"{path}:{line}"
    try:
        return json.loads(text, object_pairs_hook=_unique(itertools.count(1)) if unique_keys else None)
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


def _unique(numbers: Iterator[int]) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    """Returns what makes an object of its pairs and counts the objects, for the message about a repeated key."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        number, data = next(numbers), dict(pairs)
        if len(data) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ValueError(f"the key {twice!r} is there twice in object {number}")
        return data

    return unique
