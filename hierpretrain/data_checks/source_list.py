"""Listing the images of a list as ``ListDataset`` reads it, with all that is wrong with its rows at once."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hierpretrain._names import LabelNames
from hierpretrain.data_checks.listed_files import keep_found
from hierpretrain.data_checks.sources import Source
from hierpretrain.datasets.cells import check_spelling, check_split, distinct, text_of
from hierpretrain.datasets.folders import numbered_levels
from hierpretrain.datasets.list_columns import ListColumns, check_texts, choose_columns, column_doubts
from hierpretrain.datasets.list_labels import label_paths
from hierpretrain.datasets.safe_paths import UNTIDY, unsafe_reason
from hierpretrain.datasets.tables import Table, read_table

_NEARLY = 0.9  # values a row, from which on a column is nearly a key
_FEWEST_VALUES = 10


def list_source(
    path: str | os.PathLike[str],
    root: str | os.PathLike[str],
    *,
    image_column: str = "image",
    levels: Sequence[str] | str | None = None,
    key_column: str = "",
    split_column: str = "split",
    extra_labels: Sequence[str] | str = (),
    level_separator: str = "",
    path_separator: str = "",
    on_gap: str = "error",
    delimiter: str | None = None,
    encoding: str | None = None,
) -> Source:
    r"""Lists the images of a list with their label paths and splits; the options are ``ListDataset``'s.

    Without ``levels``, columns that look like something else are told and left out, and the others are the levels.

    Args:
        path: The list.
        root: The folder that its images are relative to.
        image_column: The column of the images.
        levels: The label columns, the coarsest first.
        key_column: The column of the keys.
        split_column: The column of the splits.
        extra_labels: The columns of labels outside the tree.
        level_separator: What separates the names of a path, for one column of whole paths.
        path_separator: What separates several places in one cell.
        on_gap: ``'error'``: a gap in a label is a problem; ``'cut'``: the path ends there.
        delimiter: What separates the fields.
        encoding: The encoding of the file.

    Raises:
        ValueError: If the file is no table, or a column that is named is not there: then nothing can be checked.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "list.csv")
        ...     _ = file.write_text("image,kind,breed\na.jpg,,tabby\n../b.jpg,dog,\n")
        ...     [problem.kind for problem in list_source(file, folder).problems]
        ['unsafe path', 'bad row', 'missing file']
    """
    path, root = os.fspath(path), os.fspath(root)
    check_texts(image_column=image_column)
    table = read_table(path, delimiter=delimiter, encoding=encoding, image=image_column)
    source = Source(name=path, root=root)
    columns = _columns(source, table, image_column, levels, key_column, split_column, extra_labels)
    images = _images(source, table, columns.image)
    labels, wrong = _labels(source, table, columns.levels, level_separator, path_separator, on_gap)
    splits = _texts(source, table, columns.split, needed=True) if columns.split else [""] * len(images)
    _put_together(source, table, columns, images, labels, splits)
    source.tell_unlabelled({images[row] for row in wrong})
    keep_found(source)
    depth = max((len(path) for paths in source.paths for path in paths), default=0)
    whole_paths = level_separator or (len(columns.levels) == 1 and depth > 1)
    source.level_names = numbered_levels(depth) if whole_paths else columns.levels[:depth]
    return source


def _columns(
    source: Source,
    table: Table,
    image: str,
    levels: Sequence[str] | str | None,
    key: str,
    split: str,
    extra_labels: Sequence[str] | str,
) -> ListColumns:
    given = dict(image=image, key=key, split=split, extra_labels=extra_labels, need_labels=False)
    if levels is not None:
        columns = choose_columns(table, levels=levels, **given)
        for name, doubt in column_doubts(table, image, columns.levels).items():
            source.add("odd level", name, why=doubt)
        return columns
    columns = choose_columns(table, levels=(), **given)
    doubts = _nearly_keys(table, columns.metadata) | column_doubts(table, image, columns.metadata)
    for name, doubt in doubts.items():
        source.add("doubtful level", name, why=doubt)
    return choose_columns(table, levels=[name for name in columns.metadata if name not in doubts], **given)


def _nearly_keys(table: Table, names: Sequence[str]) -> dict[str, str]:
    """Returns the columns in which nearly every value is there once, as in a key with a few mistakes."""
    found = {}
    for name in names:
        filled = [value for value in table.columns[name] if value not in (None, "")]
        number = len(distinct(filled))
        if number >= _FEWEST_VALUES and number >= _NEARLY * len(filled):
            found[name] = f"has {number:,} values in {len(filled):,} rows, nearly as a key has"
    return found


def _texts(source: Source, table: Table, name: str, *, needed: bool = False, as_written: bool = False) -> list[str]:
    """Returns a column as texts, an empty one where a cell cannot be read, which is told."""
    texts = []
    for i, value in enumerate(table.columns[name]):
        try:
            texts.append(
                text_of(value, name, table.where(i) if not isinstance(value, str) else "", as_written=as_written)
            )
        except ValueError as error:
            source.add("bad row", table.where(i), why=str(error).removeprefix(f"{table.where(i)}: ").lstrip(": "))
            texts.append("")
            continue
        if needed and not texts[-1]:
            source.add("bad row", table.where(i), why=f"the field {name!r} is missing or empty")
    return texts


def _images(source: Source, table: Table, column: str) -> list[str]:
    """Returns the path of each row's image, empty where there is none that may be opened."""
    images = _texts(source, table, column, needed=True, as_written=True)
    for i, image in enumerate(images):
        if image and (reason := unsafe_reason(image)):
            if reason == UNTIDY:
                images[i] = posixpath.normpath(image)
            else:
                source.add("unsafe path", image, why=f"in {table.where(i)}")
                images[i] = ""
    return images


def _labels(
    source: Source, table: Table, levels: Sequence[str], level_separator: str, path_separator: str, on_gap: str
) -> tuple[list[tuple[LabelNames, ...]], list[int]]:
    """Returns the label paths of each row, and the rows where they cannot be read, which is told."""
    wrong: list[int] = []
    options = dict(level_separator=level_separator, path_separator=path_separator, on_gap=on_gap)
    try:
        found = label_paths(table, levels, **options)
    except ValueError:  # at the first wrong row: take them one by one
        found = []
        for i in range(len(table.columns[next(iter(table.columns))])):
            row = Table(table.path, {name: [table.columns[name][i]] for name in levels}, lambda _, i=i: f"row {i}")
            try:
                found += label_paths(row, levels, **options)
            except ValueError as error:
                source.add("bad row", table.where(i), why=str(error).partition(": ")[2])
                found.append(())
                wrong.append(i)
        for depth in range(max((len(path) for one in found for path in _several(one)), default=0)):
            name = repr(levels[depth]) if depth < len(levels) else f"level {depth + 1}"
            names = ((i, path[depth]) for i, one in enumerate(found) for path in _several(one) if len(path) > depth)
            _tell_spellings(source, table, name, names, check_spelling)
    return [tuple(filter(None, _several(one))) for one in found], wrong


def _several(one: LabelNames | list[LabelNames]) -> list[LabelNames]:
    return one if isinstance(one, list) else [one]


def _tell_spellings(
    source: Source,
    table: Table,
    column: str,
    names: Iterable[tuple[int, str]],
    check: Callable[[str, dict[Any, str], Callable[[], str]], None],
) -> None:
    """Tells of names, each with its row, that are there in two spellings: once of each, in its first row."""
    known: dict[Any, str] = {}
    first_row: dict[str, int] = {}
    for row, name in names:
        first_row.setdefault(name, row)
    for name, row in first_row.items():
        try:
            check(name, known, lambda: column)
        except ValueError as error:
            source.add("bad row", table.where(row), why=str(error))


def _put_together(
    source: Source,
    table: Table,
    columns: ListColumns,
    images: Sequence[str],
    labels: Sequence[tuple[LabelNames, ...]],
    splits: Sequence[str],
) -> None:
    """Makes one image of all its rows, and tells of those that differ in more than their labels."""
    same = {"split": splits}
    same |= {name: _texts(source, table, name) for name in (columns.key, *columns.extra_labels) if name}
    for name in columns.extra_labels:
        _tell_spellings(source, table, repr(name), enumerate(same[name]), check_spelling)
    if columns.split:
        _tell_spellings(source, table, repr(columns.split), enumerate(splits), check_split)
    first_row: dict[str, int] = {}
    paths: dict[int, dict[LabelNames, None]] = {}
    for row, image in enumerate(images):
        if not image:
            continue
        first = first_row.setdefault(image, row)
        paths.setdefault(first, {}).update(dict.fromkeys(labels[row]))
        for name, column in same.items():
            if column[row] != column[first]:
                why = f"{column[first]!r} in {table.where(first)}, {column[row]!r} in {table.where(row)}"
                source.add("contradicting rows", image, why=f"{name}: {why}")
    for first, of_image in paths.items():
        source.images.append(images[first])
        source.paths.append(tuple(of_image))
        source.splits.append(splits[first])
