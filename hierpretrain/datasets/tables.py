"""Reading tables of any format into columns: CSV, JSON, JSON Lines, Excel and Parquet."""

from __future__ import annotations

import csv
import io
import itertools
import math
import os
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hierpretrain._extras import needed
from hierpretrain._json import parse_json
from hierpretrain.datasets.annotations import nfc
from hierpretrain.datasets.cells import Lost, Texts, short_floats
from hierpretrain.datasets.encodings import decode
from hierpretrain.datasets.image_files import ENDINGS
from hierpretrain.datasets.messages import short
from hierpretrain.datasets.text_files import csv_fault, read_bytes, wrong_width
from hierpretrain.files import stand_in

_DELIMITERS = (",", ";", "\t")
_REMEDY = "correct the list"
_HEADER = 1 << 18  # characters, in which a header ends
_AT_A_TIME = 1000  # rows, which then stay near the processor
_SEP = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)  # what Excel takes for the first line's meaning

NAMELESS = re.compile(r"Unnamed: \d+(_level_\d+)?|__index_level_\d+__", re.IGNORECASE)
"""What a column without a name is called, by pandas and by us."""


@dataclass(frozen=True)
class Table:
    """N rows of a list.

    Attributes:
        path: The file.
        columns: Name of the column -> N values. They are texts in CSV, and else whatever the format has, ``None`` for
            none.
        where: Says where a row stands, from its index: ``'list.csv:7'``; of CSV and Excel, the header is -1.
    """

    path: str
    columns: Mapping[str, Sequence[Any]]
    where: Callable[[int], str]


def read_table(
    path: str | os.PathLike[str],
    *,
    kind: str | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    image: str = "image",
) -> Table:
    r"""Reads a table.

    Args:
        path: The file.
        kind: A key of :data:`READERS`; by default the file's extension.
        delimiter: What separates the fields of CSV; by default comma, semicolon or tab, whichever makes the header have
            the column ``image``.
        encoding: The encoding of a text file; see :func:`~hierpretrain.datasets.encodings.decode`.
        image: The column of the images.

    Raises:
        ValueError: With file and line, if the file is missing, damaged, or no table of its kind.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "list.csv").write_text("image;kind\na.jpg;cat\n\nb.jpg;dog\n")
        ...     table = read_table(f"{folder}/list.csv")
        ...     dict(table.columns), table.where(1)[-10:]
        ({'image': ('a.jpg', 'b.jpg'), 'kind': ('cat', 'dog')}, 'list.csv:4')
    """
    path = os.fspath(path)
    kind = os.path.splitext(path)[1].lower() if kind is None else kind
    if kind not in READERS:
        hint = "; save the sheet as .xlsx" if kind in (".xls", ".ods") else ""
        raise ValueError(f"a list must end in {', '.join(READERS)}; it is {path!r}{hint}")
    if kind in _TEXTS:
        delimiter = "\t" if delimiter is None and kind == ".tsv" else delimiter
        text = decode(read_bytes(path), path, encoding, keep=delimiter or "")
        return _with_header(_from_csv(path, text, delimiter, image), image)
    if delimiter is not None:
        raise ValueError(f"a delimiter is of CSV alone; {path} has none: leave it out")
    if kind in (".json", ".jsonl"):
        return READERS[kind](path, decode(read_bytes(path), path, encoding))
    if encoding is not None:
        raise ValueError(f"an encoding is of text files alone; {path} has none: leave it out")
    return _with_header(READERS[kind](path), image) if kind == ".xlsx" else READERS[kind](path)


def _with_header(table: Table, image: str) -> Table:
    """Returns a table; an error if its header is the first of the images, which would be lost without a word."""
    images = [name for name in table.columns if name.lower().endswith(ENDINGS)]
    if images and (column_name(image) not in table.columns or column_name(image) in images):
        raise ValueError(
            f"{table.where(-1)}: the first line must name the columns, and has the image {short(images[0])}; put a "
            "line above it with a name for each column, 'image' for this one"
        )
    return table


# ---------------------------------------------------------------- CSV
def _unquoted(column: list[str], delimiter: str) -> Sequence[str]:
    """Marks the cells of CSV that several lines have become: two stray quotes make one field of all between them."""
    joined = "".join(column)
    if "\n" not in joined and "\r" not in joined:
        return Texts(column)
    why = "holds several lines; take out the stray quotes around them, or write it on one line: "
    return [
        Lost(cell, why + short(cell)) if delimiter in cell and len(cell.strip().splitlines()) > 1 else cell
        for cell in column
    ]


def _from_csv(path: str, text: str, delimiter: str | None, image: str) -> Table:
    skipped = 0
    if said := _SEP.match(text):
        delimiter = said[1] if delimiter is None else delimiter
        skipped = said.end()
        text = text[skipped:]
    delimiter = _delimiter(text, image) if delimiter is None else delimiter
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise ValueError(f"a delimiter must be one character; it is {delimiter!r}")
    first = 2 if skipped else 1

    def reader() -> Any:
        return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)

    lines = reader()

    def rows(number: int) -> list[list[str]]:
        try:
            return list(itertools.islice(lines, number))
        except csv.Error as error:
            good, last = reader(), 0
            with suppress(csv.Error):  # a stray quote is where the row begins, not where the reader has come to
                for _ in good:
                    last = good.line_num
            raise ValueError(f"{path}:{last + first}: {csv_fault(error)}") from error

    def where(index: int) -> str:
        return f"{path}:{next(itertools.islice(_first_lines(reader()), index + 1, None)) + first - 1}"

    header: list[str] = []
    while not any(header):
        if not (top := rows(1)):
            return Table(path, {}, where)
        header = top[0]
    top_line = f"{path}:{lines.line_num + first - 1}"
    columns: list[list[str]] = [[] for _ in header]
    known: list[dict[str, str] | None] = [{} for _ in header]
    parts = iter(lambda: rows(_AT_A_TIME), [])
    if (plain := _plain_lines(text)) is not None:
        parts = _split_lines(plain, delimiter, first=lines.line_num)
    for part in parts:
        wrong = _add_rows(part, columns, known)
        if wrong is not None:
            why = wrong_width(part[wrong], len(header), text, delimiter)
            raise ValueError(f"{where(len(columns[0]) + wrong)}: {why}")
    found = list(map(Texts, columns)) if plain is not None else [_unquoted(column, delimiter) for column in columns]
    return Table(path, named_columns(header, found, top_line), where)


def _first_lines(lines: Any) -> Iterator[int]:
    """Yields the number of the line on which each row begins, without blank rows."""
    begins = 1
    for row in lines:
        if any(row):
            yield begins
        begins = lines.line_num + 1


def _plain_lines(text: str) -> list[str] | None:
    """Returns the lines of CSV, or ``None`` if a field is quoted or too long.

    Where none is, a line is split at its delimiters, which takes a fraction of the time of a parser.
    """
    if '"' in text:
        return None
    lines = text.split("\n")
    return lines if max(map(len, lines)) < csv.field_size_limit() else None


def _split_lines(lines: list[str], delimiter: str, first: int) -> Iterator[list[list[str]]]:
    """Yields the fields of lines, from the first on, some lines at a time; a blank line has one empty field."""
    for i in range(first, len(lines), _AT_A_TIME):
        yield [line.split(delimiter) for line in lines[i : i + _AT_A_TIME]]


def _add_rows(rows: list[list[str]], columns: list[list[str]], known: list[dict[str, str] | None]) -> int | None:
    """Adds rows to columns, without blank ones, which are taken off; returns the index of one of another width.

    Equal texts of a column become one object, unless most differ: a million rows then take little memory and, what
    counts more, little time.
    """
    width = len(columns)
    cells = list(itertools.chain.from_iterable(rows))
    if set(map(len, rows)) != {width} or "" in cells[::width]:
        rows[:] = filter(any, rows)
        if wrong := [i for i, row in enumerate(rows) if len(row) != width]:
            return wrong[0]
        cells = list(itertools.chain.from_iterable(rows))
    for i, column in enumerate(columns):
        texts, same = cells[i::width], known[i]
        if same is None:
            column += texts
            continue
        column += map(same.setdefault, texts, texts)
        if len(same) * 2 > len(column):
            known[i] = None
    return None


def _delimiter(text: str, image: str) -> str:
    """Returns what separates the fields: that by which the header has the column of the images, or the most fields."""
    headers = {}
    text = text[:_HEADER]
    for delimiter in _DELIMITERS:
        try:
            header = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
        except csv.Error:
            header = []
        headers[delimiter] = [column_name(name) for name in header]
    image = column_name(image)
    return max(_DELIMITERS, key=lambda delimiter: (image in headers[delimiter], len(headers[delimiter])))


def column_name(name: str) -> str:
    """Returns the name of a column as tables have it: without space around it, in Unicode's composed form."""
    return nfc(name.strip())


def named_columns(names: Sequence[str], columns: Sequence[Sequence[Any]], where: str) -> dict[str, Sequence[Any]]:
    """Returns columns by their names; one without a name is called as pandas calls it, unless it is empty.

    Raises:
        ValueError: If two have one name, in whatever Unicode form.
    """
    named: dict[str, Sequence[Any]] = {}
    names = list(map(column_name, names))
    for i, (name, column) in enumerate(zip(names, columns, strict=True)):
        if not name and not any(value is not None and str(value).strip() for value in column):
            continue
        name = name or f"Unnamed: {i}"
        if name in named:
            raise ValueError(f"{where}: the columns must have different names; they are {list(names)}")
        named[name] = column
    return named


# ---------------------------------------------------------------- JSON
def _from_json(path: str, text: str) -> Table:
    first, *others = text.strip().split("\n")
    if others and first.startswith("{") and first.endswith("}"):
        raise ValueError(f"{path}: the file is JSON Lines, with an object on each line; call it .jsonl")
    data = parse_json(text, path, _REMEDY, any_number=True)
    if not isinstance(data, list):
        raise ValueError(f"{path}: the file must be a list of objects, one an image; it is a {type(data).__name__}")
    return table_of_records(path, data, lambda index: f"{path}: record {index + 1}")


def _from_json_lines(path: str, text: str) -> Table:
    if text.lstrip().startswith("["):
        raise ValueError(f"{path}: the file is one list in JSON, and not an object on each line; call it .json")
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    numbers = [number for number, _ in lines]
    records = [parse_json(line, path, _REMEDY, line=number, any_number=True) for number, line in lines]
    return table_of_records(path, records, lambda index: f"{path}:{numbers[index]}")


def table_of_records(path: str, records: Sequence[Any], where: Callable[[int], str]) -> Table:
    r"""Returns the table of records, whose keys are one column where they differ in their Unicode form alone.

    Args:
        path: What the records are read from, for messages.
        records: An object for each image.
        where: Says where a record stands, from its index.

    Raises:
        ValueError: If one is no object, or has a column under two keys.

    Example:
        >>> dict(table_of_records("list.json", [{"caf\u00e9": "a"}, {"cafe\u0301": "b"}], str).columns)
        {'caf\xe9': ['a', 'b']}
    """
    for i, record in enumerate(records):
        if not isinstance(record, dict):
            raise ValueError(f"{where(i)}: a record must be an object with the field 'image'; it is {short(record)}")
    keys: dict[str, list[str]] = {}  # name of the column -> the keys that are it
    for key in dict.fromkeys(key for record in records for key in record):
        keys.setdefault(column_name(key), []).append(key)
    columns = [[record.get(same[0]) for record in records] for same in keys.values()]
    for column, same in zip(columns, keys.values(), strict=True):
        for i, record in enumerate(records if len(same) > 1 else ()):
            there = [key for key in same if key in record]
            if len(there) > 1:
                raise ValueError(f"{where(i)}: the keys {there} are one column; keep one")
            column[i] = record[there[0]] if there else None
    return Table(path, named_columns(list(keys), columns, path), where)


# ---------------------------------------------------------------- Excel and Parquet
_OTHERWISE = "; or save the list as CSV"


def _from_excel(path: str) -> Table:
    openpyxl = needed("openpyxl", "an Excel file", _OTHERWISE)
    try:
        with open(path, "rb") as file:
            book = openpyxl.load_workbook(io.BytesIO(file.read()), read_only=True, data_only=True)
        sheet = book.worksheets[0]
        sheet.reset_dimensions()  # some programs write wrong ones
        rows = [(i, list(row)) for i, row in enumerate(sheet.iter_rows(values_only=True), start=1)]
        with sheet._get_source() as file:  # which nothing public tells of a sheet that is not all in memory
            rows = _with_lost(rows, file)
    except OSError as error:
        raise ValueError(f"cannot read the list {path}: {error.strerror or error}; correct its path") from error
    except Exception as error:
        why = stand_in(path) or error
        raise ValueError(f"{path} is damaged or no Excel file (.xlsx): {why}; save it anew") from error
    numbers = [i for i, _ in rows]

    def where(index: int) -> str:
        return f"{path}: row {numbers[index + 1]}"

    if not rows:
        return Table(path, {}, where)
    header, *cells = (row for _, row in rows)
    names = ["" if value is None else str(value) for value in header]
    return Table(path, named_columns(names, list(zip(*cells, strict=True)) or [()] * len(names), where(-1)), where)


def _with_lost(rows: list[tuple[int, list[Any]]], sheet: Any) -> list[tuple[int, list[Any]]]:
    """Returns the rows of a sheet that are not blank, of one width, with marks where there is no value.

    A cell has none if it holds an error, a formula that nobody has computed, or if it is merged with one that has.

    Args:
        rows: The rows, each with its number.
        sheet: The XML that they were read from.
    """
    utils, xml = (needed(f"openpyxl.{name}", "an Excel file", _OTHERWISE) for name in ("utils", "xml.functions"))
    row_of, number, merged = dict(rows), 0, []
    for _, element in xml.iterparse(sheet):
        if _tag(element) == "row":
            number = int(float(element.get("r", number + 1)))
            for i, cell in enumerate(element, start=1):
                if (lost := _lost(cell)) is not None:
                    name = cell.get("r")  # which some programs leave out
                    row_of[number][(utils.cell.coordinate_to_tuple(name)[1] if name else i) - 1] = lost
            element.clear()
        elif _tag(element) == "mergeCell":
            merged.append(element.get("ref"))
    rows = [(i, row) for i, row in rows if any(value not in (None, "") or isinstance(value, Lost) for value in row)]
    width = max((len(row) for _, row in rows), default=0)
    rows = [(i, row + [None] * (width - len(row))) for i, row in rows]
    numbers, room = [i for i, _ in rows], len(rows) * width
    for cells in merged:
        left, top, right, bottom = utils.range_boundaries(cells)
        inside = [row for _, row in rows[bisect_left(numbers, top) : bisect_right(numbers, bottom)]]
        columns = range(left - 1, min(right, width))
        room -= len(inside) * len(columns)
        if room < 0:  # otherwise a small file could take any time
            raise ValueError("its merged cells overlap")
        value = inside[0][left - 1] if inside and columns else None
        if value not in (None, ""):  # of which all cells are meant, and the first one alone has it
            for row, column in itertools.product(inside, columns):
                row[column] = Lost("", f"is part of the merged cells {cells}; unmerge and fill them")
            inside[0][left - 1] = value
    return rows


def _tag(element: Any) -> str:
    return element.tag.rpartition("}")[2]


def _lost(cell: Any) -> Lost | None:
    """Returns what stands for the value of a cell in the XML of a sheet, if it holds none."""
    kind = cell.get("t")
    if kind != "e" and not any(child.tag.endswith("}f") for child in cell):
        return None
    value = next((child.text for child in cell if _tag(child) == "v"), None)
    if kind == "e":
        return Lost(value or "", f"is {value}, the error of a formula; correct it")
    if not value and kind != "str":  # which is an empty text
        return Lost("", "has a formula that nobody has computed; open the file in a spreadsheet program and save it")
    return None


def _from_parquet(path: str) -> Table:
    parquet = needed("pyarrow.parquet", "a Parquet file", _OTHERWISE)
    try:
        names = parquet.read_schema(path).names if os.path.isfile(path) else []
        columns = [[name] for name in names]
        if len(set(names)) == len(names):  # otherwise _named says so
            data = parquet.read_table(Path(path), page_checksum_verification=True)  # of pages that have one
            columns = [list(_without_nan(short_floats(column.to_pylist(), column.type))) for column in data.columns]
            names = data.column_names
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise ValueError(f"cannot read the list {path}: {error.strerror}; correct its path") from error
        why = stand_in(path) or error
        raise ValueError(f"{path} is damaged or no Parquet file: {why}; write it anew") from error

    def where(index: int) -> str:
        return f"{path}: row {index + 1}"

    return Table(path, named_columns(names, columns, f"{path}"), where)


def _without_nan(values: Sequence[Any]) -> Iterator[Any]:
    """Yields values with ``None`` for NaN, which is how pandas writes that there is none."""
    return (None if isinstance(value, float) and math.isnan(value) else value for value in values)


_TEXTS = (".csv", ".tsv", ".txt")
READERS: dict[str, Callable[..., Table]] = {
    **dict.fromkeys(_TEXTS, _from_csv),
    ".json": _from_json,
    ".jsonl": _from_json_lines,
    ".xlsx": _from_excel,
    ".parquet": _from_parquet,
}
"""The formats of lists, by the extension of the file."""
