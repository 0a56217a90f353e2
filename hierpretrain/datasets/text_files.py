"""Reading text, CSV and JSON files in UTF-8, with errors that name the file, the line and the remedy."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hierpretrain._json import parse_json
from hierpretrain.datasets.encodings import decode, may_have_controls
from hierpretrain.files import stand_in

_NO_CHARACTER = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Returns the content of a file; a ValueError if it cannot be read, or is a pointer of Git LFS."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read the list {path}: {error.strerror}; correct its path") from error
    if data and (why := stand_in(path)):
        raise ValueError(f"the list {path} cannot be read: {why}")
    return data


def read_text(path: str | os.PathLike[str]) -> str:
    """Returns the text of a UTF-8 file, without a byte order mark.

    Raises:
        ValueError: If the file cannot be read, or with the line, if it is not UTF-8 or holds a control character.
    """
    return decode(read_bytes(path), path, "utf-8")


def text_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    r"""Yields the lines of a UTF-8 file that are not blank, each with its number and without its ending.

    Args:
        path: The file. Lines end as on Linux, Windows or old Macs.

    Raises:
        ValueError: If the file cannot be read, is not UTF-8 or is empty.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a.txt").write_bytes(b"one\r\n\n two\n")
        ...     list(text_lines(f"{folder}/a.txt"))
        [(1, 'one'), (3, ' two')]
    """
    empty = True
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            empty = False
            yield number, line
    if empty:
        raise ValueError(f"the list {path} is empty; get it anew")


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
    text = read_text(path)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    width = 0
    try:
        for row in reader:
            if not row:
                continue
            width = width or len(row)
            if len(row) != width:
                raise ValueError(f"{path}:{reader.line_num}: {wrong_width(row, width, text)}")
            yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(f"{path}:{reader.line_num}: {csv_fault(error)}") from error
    if not width:
        raise ValueError(f"the list {path} is empty; get it anew")


def csv_fault(error: csv.Error) -> str:
    """Says what a reader of CSV could not read, and what to do.

    Example:
        >>> csv_fault(csv.Error("unexpected end of data"))
        'no well-formed CSV: unexpected end of data; take out stray quotes, or get the file anew'
    """
    if "field limit" in str(error):  # well-formed as it may be; a stray quote makes one field of thousands of lines
        return (
            f"a field has more than {csv.field_size_limit():,} characters, the most that CSV may have here; take out "
            "a stray quote before it, or if it is so long, save the list as JSON Lines (.jsonl)"
        )
    return f"no well-formed CSV: {error}; take out stray quotes, or get the file anew"


def wrong_width(row: Sequence[str], width: int, text: str, delimiter: str = ",") -> str:
    r"""Says what is wrong with a row of CSV that has more or fewer fields than the header, and what to do.

    Args:
        row: Its fields.
        width: How many the header has.
        text: The whole file.
        delimiter: What separates them.

    Example:
        >>> wrong_width(["b.j"], 2, "image,kind\na.jpg,cat\nb.j")
        'the line has 1 fields and the header 2; the file is truncated: get it anew'
    """
    name = {",": "a comma", ";": "a semicolon", "\t": "a tab"}.get(delimiter, repr(delimiter))
    if len(row) > width:
        remedy = f"quote fields that hold {name}"
    elif text.endswith(delimiter.join(row)) and not text.endswith("\n"):
        remedy = "the file is truncated: get it anew"
    else:
        remedy = f"correct the line, or quote names in the header that hold {name}"
    return f"the line has {len(row)} fields and the header {width}; {remedy}"


def no_character(text: str) -> str:
    r"""Returns what a text holds that no name does: a control character or half a surrogate pair; else nothing.

    Lists in UTF-8 cannot hold them, and spreadsheets and Parquet can.

    Example:
        >>> no_character("caf\u00e9\tcr\u00e8me"), no_character("d\x02")
        ('', '\x02')
    """
    found = _NO_CHARACTER.search(text) if may_have_controls(text) else None  # which are the same in ASCII
    return found[0] if found else ""


def read_json_file(path: str | os.PathLike[str], remedy: str, *, any_text: bool = False) -> Any:
    """Returns what a JSON file in UTF-8 holds; see :func:`parse_json`.

    Raises:
        ValueError: If the file cannot be read or is not UTF-8; with the line, if it is no JSON.
    """
    return parse_json(read_text(path), path, remedy, any_text=any_text)
