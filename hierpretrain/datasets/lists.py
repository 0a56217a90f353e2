"""Reading lists of images with their labels: CSV, JSON, JSON Lines, Excel and Parquet."""

from __future__ import annotations

import itertools
import os
import posixpath
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from hierpretrain._collection import without_collection
from hierpretrain._names import LabelNames
from hierpretrain.checks import check_one_of
from hierpretrain.datasets.annotations import NO_SPLIT, Annotations
from hierpretrain.datasets.cells import check_spellings, check_split, distinct, free_text, texts_of
from hierpretrain.datasets.folders import numbered_levels
from hierpretrain.datasets.list_columns import ListColumns, check_texts, choose_columns
from hierpretrain.datasets.list_labels import label_paths
from hierpretrain.datasets.messages import log, some
from hierpretrain.datasets.safe_paths import UNTIDY, suspicious, unsafe_reason
from hierpretrain.datasets.tables import Table, read_table
from hierpretrain.taxonomy import MAX_LEVELS


@without_collection
def read_list(
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
    need_labels: bool = True,
    kind: str | None = None,
) -> Annotations:
    r"""Reads a list of images.

    Space around a field is dropped, and names are in Unicode's composed form. A label column that is left empty ends
    the label path. An image that is in several rows has the label paths of all of them, and an array of their metadata
    where these differ.

    Args:
        path: The list. Its extension gives its format: ``.csv``, ``.tsv`` or ``.txt`` with fields separated by comma,
            semicolon or tab below a header; ``.json``, a list of objects; ``.jsonl``, an object a line; ``.xlsx``, of
            which the first sheet is read, and ``.parquet``, for which ``pip install 'hierpretrain[tables]'`` has the
            readers.
        root: The folder that the images are relative to.
        image_column: The column of the images.
        levels: The columns of the labels, the coarsest first, and ``()`` for none; then all columns of no other use are
            metadata. By default they are levels, all of them, in the order of the file, and it is an error if one has
            no name, another value for every image as a key has, numbers with decimals, flags such as yes and no, or
            splits.
        key_column: The column by which people know an image or a product.
        split_column: The column of the split tags; the default need not be there.
        extra_labels: The columns of labels outside the tree.
        level_separator: What separates the names of a path, as in ``'food > fruit'``, where ``levels`` is one column of
            whole paths.
        path_separator: What separates several places in one cell, as in ``'fruit|vegetable'``; an array holds several
            by itself. See :func:`~hierpretrain.datasets.list_labels.label_paths`.
        on_gap: ``'error'``: a level that is empty above one that is not is an error; ``'cut'``: the path ends there.
        delimiter: What separates the fields of CSV; by default it is found out.
        encoding: The encoding of a text file; by default UTF-8 if it is that, and otherwise a guess that is told. See
            :func:`~hierpretrain.datasets.encodings.decode`.
        need_labels: Whether it is an error if no image has a label.
        kind: An extension that stands for the format in place of the file's own.

    Raises:
        ValueError: With file and row, if the file is missing or damaged, a column is missing or there twice, a row has
            too few or too many fields, a label has a gap, a field has a wrong type, or an image's rows contradict each
            other; and as :class:`Annotations`.
        ImportError: If the reader of the format is not installed.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "list.csv")
        ...     _ = file.write_text("photo;kind;breed;price\na.jpg;cat;tabby;3,50\nb.jpg;tool;;4,00\n")
        ...     annotations = read_list(file, folder, image_column="photo", levels=("kind", "breed"))
        >>> annotations.labels, annotations.metadata
        ([('cat', 'tabby'), ('tool',)], {'price': ['3,50', '4,00']})
    """
    path, root = os.fspath(path), os.fspath(root)
    check_texts(image_column=image_column)
    table = read_table(path, kind=kind, delimiter=delimiter, encoding=encoding, image=image_column)
    return annotations_of(
        table,
        root,
        source=f"the list {path!r}",
        image_column=image_column,
        levels=levels,
        key_column=key_column,
        split_column=split_column,
        extra_labels=extra_labels,
        level_separator=level_separator,
        path_separator=path_separator,
        on_gap=on_gap,
        need_labels=need_labels,
    )


def annotations_of(
    table: Table,
    root: str,
    *,
    source: str,
    image_column: str = "image",
    levels: Sequence[str] | str | None = None,
    key_column: str = "",
    split_column: str = "split",
    extra_labels: Sequence[str] | str = (),
    level_separator: str = "",
    path_separator: str = "",
    on_gap: str = "error",
    need_labels: bool = True,
    found: bool = False,
) -> Annotations:
    """Returns the annotations that a table holds, of whatever it was read.

    Its options are those of :func:`read_list`, ``source`` is what the table was read from, for messages, and ``found``
    is as for :class:`Annotations`.

    Raises:
        ValueError: As :func:`read_list`.
    """
    check_one_of("on_gap", on_gap, ("error", "cut"))
    check_texts(level_separator=level_separator, path_separator=path_separator)
    if not table.columns or not len(next(iter(table.columns.values()))):
        raise ValueError(f"{source} lists no image; a data set needs at least one")
    columns = choose_columns(
        table,
        image=image_column,
        levels=levels,
        key=key_column,
        split=split_column,
        extra_labels=extra_labels,
        need_labels=need_labels,
    )
    if len(columns.levels) > MAX_LEVELS:  # each level costs a look at all levels above it
        raise ValueError(
            f"{source} has {len(columns.levels)} levels; a tree has at most {MAX_LEVELS}: name the columns that are "
            "levels, levels=[...] (--levels ...)"
        )
    images = _tidy(_needed(table, columns.image, as_written=True))
    labels = label_paths(
        table, columns.levels, level_separator=level_separator, path_separator=path_separator, on_gap=on_gap
    )
    rows = _Rows(table, columns, images, labels)
    names, depth = columns.levels, max(map(len, {*rows.labels, *itertools.chain(*rows.more_labels.values())}))
    if level_separator or (len(names) == 1 and depth > 1):  # one column of whole paths, or of arrays of names
        names = numbered_levels(depth)
    elif not need_labels:  # a list may have columns for labels that nobody has given yet
        names = names[:depth]
    return Annotations(
        rows.images,
        rows.labels,
        rows.splits,
        names,
        root,
        extra_labels=rows.extra_labels,
        source=source,
        more_labels=rows.more_labels,
        keys=rows.keys,
        metadata=rows.metadata,
        need_labels=need_labels,
        found=found,
    )


def read_csv(
    path: str | os.PathLike[str],
    root: str | os.PathLike[str],
    levels: Sequence[str] | str | None = None,
    extra_labels: Sequence[str] | str = (),
    **options: Any,
) -> Annotations:
    r"""Reads a list of fields separated by comma, semicolon or tab, whatever it is called; see :func:`read_list`.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "list.csv")
        ...     _ = file.write_text("image,split,kind,breed\na.jpg,x,cat,tabby\nb.jpg,x,tool,\n")
        ...     annotations = read_csv(file, folder)
        >>> annotations.level_names, annotations.labels
        (('kind', 'breed'), [('cat', 'tabby'), ('tool',)])
    """
    return read_list(path, root, levels=levels, extra_labels=extra_labels, kind=".csv", **options)


def read_jsonl(
    path: str | os.PathLike[str],
    root: str | os.PathLike[str],
    levels: Sequence[str] | str | None = None,
    extra_labels: Sequence[str] | str = (),
    **options: Any,
) -> Annotations:
    """Reads a list with one JSON object a line, each an image, whatever the file is called; see :func:`read_list`.

    A label that is missing, ``null`` or an empty string ends the label path; a number stands for its text.
    """
    return read_list(path, root, levels=levels, extra_labels=extra_labels, kind=".jsonl", **options)


def read_json(
    path: str | os.PathLike[str],
    root: str | os.PathLike[str],
    levels: Sequence[str] | str | None = None,
    extra_labels: Sequence[str] | str = (),
    **options: Any,
) -> Annotations:
    """Reads a JSON file that is a list of objects, each an image, whatever it is called; see :func:`read_list`.

    A label that is missing, ``null`` or an empty string ends the label path; a number stands for its text.
    """
    return read_list(path, root, levels=levels, extra_labels=extra_labels, kind=".json", **options)


class _Rows:
    """The rows of a list, put together where several are of one image."""

    def __init__(
        self, table: Table, columns: ListColumns, images: list[str], labels: Sequence[LabelNames | list[LabelNames]]
    ) -> None:
        self.images = images
        self.labels, self.more_labels = list(labels), {}
        for row, paths in enumerate(labels) if list in set(map(type, labels)) else ():
            if isinstance(paths, list):
                self.labels[row], *more = paths
                self.more_labels[row] = tuple(more)
        self.splits = _splits(table, columns.split) if columns.split else [NO_SPLIT] * len(images)
        self.extra_labels = {name: _needed(table, name) for name in columns.extra_labels}
        for name, column in self.extra_labels.items():
            check_spellings(column, name, table.where)
        self.keys = texts_of(table.columns[columns.key], columns.key, table.where) if columns.key else []
        self.metadata = {name: list(map(free_text, table.columns[name])) for name in columns.metadata}
        if len(set(images)) < len(images):
            self._put_together(table, columns)

    def _put_together(self, table: Table, columns: ListColumns) -> None:
        first_row: dict[str, int] = {}
        named = {columns.split: self.splits, columns.key: self.keys, **self.extra_labels}
        one_each = {name: column for name, column in named.items() if name}
        kept, several = [], defaultdict[int, list[int]](list)  # the first row of an image -> its others
        for row, image in enumerate(self.images):
            first = first_row.setdefault(image, row)  # by its exact name: two Unicode forms may be two files
            if first == row:
                kept.append(row)
                continue
            several[first].append(row)
            for name, column in one_each.items():
                if column[row] != column[first]:
                    raise ValueError(
                        f"{table.where(row)}: the image {image!r} has {column[row]!r} in {name!r}, but "
                        f"{column[first]!r} in {table.where(first)}; rows of one image may differ in their labels alone"
                    )
            paths = dict.fromkeys([self.labels[first], *self.more_labels.get(first, ())])
            paths |= dict.fromkeys([self.labels[row], *self.more_labels.pop(row, ())])
            self.labels[first], *more = [path for path in paths if path] or [()]
            if more:
                self.more_labels[first] = tuple(more)
        log(
            f"{table.path}: {len(several)} images are in several rows, and have the label paths of all of them: "
            f"{some(sorted(self.images[first] for first in several))}"
        )
        for (name, column), (first, others) in itertools.product(self.metadata.items(), several.items()):
            if set(map(column.__getitem__, others)) - {column[first]}:
                values = [*filter(None, distinct([table.columns[name][row] for row in (first, *others)]))]
                column[first] = values[0] if len(values) == 1 else free_text(values)
        self.more_labels = {i: self.more_labels[row] for i, row in enumerate(kept) if row in self.more_labels}
        for name in ("images", "labels", "splits", "keys"):
            column = getattr(self, name)
            setattr(self, name, [column[row] for row in kept] if column else [])
        self.extra_labels = {name: [column[row] for row in kept] for name, column in self.extra_labels.items()}
        self.metadata = {name: [column[row] for row in kept] for name, column in self.metadata.items()}


def _needed(table: Table, name: str, *, as_written: bool = False, otherwise: str = "") -> list[str]:
    """Returns a column in which every row must have a text."""
    texts = texts_of(table.columns[name], name, table.where, as_written=as_written)
    if "" in texts:
        raise ValueError(
            f"{table.where(texts.index(''))}: the field {name!r} is missing or empty; give it for every "
            f"image{otherwise}"
        )
    return texts


def _splits(table: Table, name: str) -> list[str]:
    """Returns the split of every row."""
    splits = _needed(table, name, otherwise=", or do without splits: split_column='' (--split-column '')")
    known: dict[Any, str] = {}
    for split in dict.fromkeys(splits):
        check_split(split, known, lambda split=split: f"{table.where(splits.index(split))}: {name!r}")
    return splits


def _tidy(images: list[str]) -> list[str]:
    """Drops empty and '.' parts, so that a file has one name; a path that leaves the root is left for the check."""
    if not suspicious(images):
        return images
    return [image if unsafe_reason(image) != UNTIDY else posixpath.normpath(image) for image in images]
