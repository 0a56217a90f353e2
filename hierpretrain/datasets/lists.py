"""Reading lists of images with their labels: CSV, JSON and JSON Lines."""

from __future__ import annotations

import math
import os
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hierpretrain.datasets.annotations import NO_SPLIT, UNTIDY, Annotations, unsafe_reason
from hierpretrain.datasets.messages import short
from hierpretrain.datasets.text_files import csv_rows, has_surrogate, parse_json, read_json_file, text_lines

_REMEDY = "correct the list"


def read_csv(
    path: str | os.PathLike[str],
    root: str | os.PathLike[str],
    levels: Sequence[str] = (),
    extra_labels: Sequence[str] = (),
) -> Annotations:
    r"""Reads a comma-separated list in UTF-8, with a header line and one image a line.

    Args:
        path: The list. The column ``image`` holds paths below ``root``, the column ``split``, if there is one, split
            tags. Space around a field is dropped. A label column that is left empty ends the label path.
        root: The folder that the images are relative to.
        levels: The label columns, the coarsest first; by default all columns but ``image``, ``split`` and
            ``extra_labels``, in the order of the file.
        extra_labels: The columns of labels outside the tree.

    Raises:
        ValueError: With file and line, if the file is missing or not UTF-8, a column is missing or there twice, a line
            has too few or too many fields, or a label has a gap; and as :class:`Annotations`.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "list.csv")
        ...     _ = file.write_text("image,split,kind,breed\na.jpg,x,cat,tabby\nb.jpg,x,tool,\n")
        ...     annotations = read_csv(file, folder)
        >>> annotations.level_names, annotations.labels
        (('kind', 'breed'), [('cat', 'tabby'), ('tool',)])
    """
    rows = csv_rows(path)
    _, header = next(rows, (1, []))
    columns = [name.strip() for name in header]
    if len(set(columns)) < len(columns) or "" in columns:
        raise ValueError(f"{path}:1: the columns must have different names; they are {columns}")
    records = ((f"{path}:{number}", dict(zip(columns, row, strict=True))) for number, row in rows)
    return _annotations(path, root, records, columns, levels, extra_labels)


def read_jsonl(
    path: str | os.PathLike[str],
    root: str | os.PathLike[str],
    levels: Sequence[str] = (),
    extra_labels: Sequence[str] = (),
) -> Annotations:
    """Reads a list in UTF-8 with one JSON object a line, each an image.

    Args:
        path: The list. The field ``image`` holds the path below ``root``, the field ``split``, if there is one, the
            split tag. A label that is missing, ``null`` or an empty string ends the label path; a number stands for its
            text.
        root: The folder that the images are relative to.
        levels: The label fields, the coarsest first; by default all fields but ``image``, ``split`` and
            ``extra_labels``, in the order in which the file first has them.
        extra_labels: The fields of labels outside the tree.

    Raises:
        ValueError: With file and line, if a line is no JSON object, a field is missing or has a wrong type, or a label
            has a gap; and as :class:`Annotations`.
    """
    records = []
    for number, line in text_lines(path):
        record = parse_json(line, path, _REMEDY, line=number)
        records.append((f"{path}:{number}", _object(record, f"{path}:{number}")))
    return _annotations(path, root, records, _fields(records), levels, extra_labels)


def read_json(
    path: str | os.PathLike[str],
    root: str | os.PathLike[str],
    levels: Sequence[str] = (),
    extra_labels: Sequence[str] = (),
) -> Annotations:
    """Reads a JSON file in UTF-8 that is a list of objects, each an image.

    Args:
        path: The file. Its objects have the field ``image``, the path below ``root``, and may have ``split``, the split
            tag. A label that is missing, ``null`` or an empty string ends the label path; a number stands for its text.
        root: The folder that the images are relative to.
        levels: The label fields, the coarsest first; by default all fields but ``image``, ``split`` and
            ``extra_labels``, in the order in which the file first has them.
        extra_labels: The fields of labels outside the tree.

    Raises:
        ValueError: With file and the number of the record from 1, if the file is no JSON list of objects, a field is
            missing or has a wrong type, or a label has a gap; and as :class:`Annotations`.
    """
    data = read_json_file(path, _REMEDY)
    if not isinstance(data, list):
        raise ValueError(f"{path}: the file must be a list of objects, one an image; it is a {type(data).__name__}")
    numbered = ((f"{path}: record {i}", record) for i, record in enumerate(data, start=1))
    records = [(where, _object(record, where)) for where, record in numbered]
    return _annotations(path, root, records, _fields(records), levels, extra_labels)


def _object(record: Any, where: str) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise ValueError(f"{where}: a record must be an object with the field 'image'; it is {short(record)}")
    return record


def _fields(records: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    return list(dict.fromkeys(name for _, record in records for name in record))


def _annotations(
    path: str | os.PathLike[str],
    root: str | os.PathLike[str],
    records: Iterable[tuple[str, Mapping[str, Any]]],
    columns: Sequence[str],
    levels: Sequence[str] | str,
    extra_labels: Sequence[str] | str,
) -> Annotations:
    """Makes the annotations of a list from its records, each with the file and line where it stands."""
    path, root = os.fspath(path), os.fspath(root)
    levels, extra_labels = _as_names(levels), _as_names(extra_labels)
    if columns:
        if wrong := [name for name in ("image", *levels, *extra_labels) if name not in columns]:
            raise ValueError(f"{path}: there is no column {wrong[0]!r}; the columns are {list(columns)}")
        levels = levels or tuple(name for name in columns if name not in ("image", "split", *extra_labels))
        if not levels:
            raise ValueError(
                f"{path}: there is no label column; the columns are {list(columns)}: add one for each level of "
                "the tree, the broadest first"
            )
    has_split = "split" in columns
    extra: dict[str, list[str]] = {name: [] for name in extra_labels}

    def checked() -> Iterable[tuple[str, tuple[str, ...], str]]:
        for where, record in records:
            image = _tidy(_needed(record, "image", where))
            split = _needed(record, "split", where) if has_split else NO_SPLIT
            names = [_text(record.get(name), name, where) for name in levels]
            depth = next((i for i, name in enumerate(names) if not name), len(names))
            if any(names[depth:]):
                filled = next(name for name, value in zip(levels[depth:], names[depth:], strict=True) if value)
                raise ValueError(
                    f"{where}: the label has a gap: {levels[depth]!r} is empty but {filled!r} below it is not; name "
                    "every level down to the last"
                )
            for name, column in extra.items():
                column.append(_needed(record, name, where))
            yield image, tuple(names[:depth]), split

    return Annotations.from_records(checked(), levels, root, extra_labels=extra, source=f"the list {path!r}")


def _as_names(names: Sequence[str] | str) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _needed(record: Mapping[str, Any], name: str, where: str) -> str:
    if not (text := _text(record.get(name), name, where)):
        raise ValueError(f"{where}: the field {name!r} is missing or empty; give it for every image")
    return text


def _text(value: Any, name: str, where: str) -> str:
    """Returns a field as text: a string without space around it, or a number's digits; ``None`` is an empty string."""
    if isinstance(value, str):
        if has_surrogate(value):
            raise ValueError(
                f"{where}: the field {name!r} holds half a surrogate pair: {short(value)}; write it as UTF-8"
            )
        return value.strip()
    if value is None:
        return ""
    wrong = isinstance(value, bool) or not isinstance(value, int | float)
    if wrong or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"{where}: the field {name!r} must be a string or a number; it is {short(value)}")
    return str(value)


def _tidy(image: str) -> str:
    """Drops empty and '.' parts, so that a file has one name; a path that leaves the root is left for the check."""
    return image if unsafe_reason(image) != UNTIDY else posixpath.normpath(image)
