"""What a data set's annotations say, checked, and the readers of folder trees and of CSV, JSON and JSON Lines lists."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from hierpretrain.taxonomy import longest_paths

NO_SPLIT = "all"
"""The split tag of every image where the annotations name none."""

_UNSAFE = re.compile(r"/|[A-Za-z]:|.*\\|.*\0|(?:.*/)?\.\.(?:/|\Z)", re.DOTALL)
_UNTIDY = re.compile(r"(?:.*/)?\.?(?:/|\Z)", re.DOTALL)
_SHOWN = 5  # examples in a message


def unsafe_reason(path: str) -> str:
    r"""Tells what is wrong with a relative path from a list or an archive, by its text alone; empty if nothing is.

    Example:
        >>> unsafe_reason("cat/tabby.jpg"), unsafe_reason("../secret.jpg")
        ('', "must not be absolute, hold '..' or a backslash")
    """
    if _UNSAFE.match(path):
        return "must not be absolute, hold '..' or a backslash"
    return "must have no empty or '.' part" if _UNTIDY.match(path) else ""


@dataclass(frozen=True)
class Annotations:
    """The rows of a data set as columns: one image file, one path of names and one split tag a row.

    Args:
        images: N different paths below ``root``, with forward slashes.
        labels: N paths of names, the coarsest first, of any length up to the number of levels; ``()`` is no label.
        splits: N split tags.
        level_names: A name for every level, the coarsest first.
        root: The folder that ``images`` are relative to.
        flat: Further labels outside the tree: name -> N strings, empty where an image has none.
        more_labels: For images that hang in several places of the tree: row -> their paths besides that in ``labels``.
        source: What the rows were read from, for messages.

    Raises:
        ValueError: If there is no row or no label, the columns' lengths differ, an image is listed twice or leaves
            ``root``, a name or a split is no non-empty string, a label is deeper than ``level_names``, or
            ``more_labels`` are of a row that does not exist or has no label.

    Example:
        >>> rows = Annotations(["a.jpg", "b.jpg"], [("cat", "tabby"), ("tool",)], ["train", "test"], ("kind", "breed"),
        ...                    root="pets")
        >>> len(rows.images)
        2
    """

    images: list[str]
    labels: list[tuple[str, ...]]
    splits: list[str]
    level_names: tuple[str, ...]
    root: str
    flat: Mapping[str, list[str]] = field(default_factory=dict)
    source: str = "the annotations"
    more_labels: Mapping[int, tuple[tuple[str, ...], ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.images:
            raise ValueError(f"{self.source} lists no image; a data set needs at least one")
        for name, column in {"labels": self.labels, "splits": self.splits, **self.flat}.items():
            if len(column) != len(self.images):
                raise ValueError(f"{self.source} has {len(self.images)} images but {len(column)} entries of {name!r}")
        for image in self.images:
            if reason := unsafe_reason(image):
                raise ValueError(
                    f"{self.source} lists the image {image!r}, which {reason}; list paths below {self.root}"
                )
        if len(set(self.images)) < len(self.images):
            twice = [image for image, count in Counter(self.images).items() if count > 1]
            raise ValueError(
                f"{self.source} lists {len(twice)} images more than once: {some(twice)}; list every image once "
                "(an image of several places is one of a folder tree: FolderDataset with merge_copies=True)"
            )
        for row in self.more_labels:
            if not 0 <= row < len(self.images) or not self.labels[row]:
                raise ValueError(f"{self.source} has more_labels of row {row}, which does not exist or has no label")
        for path in set(self.all_paths()):
            if len(path) > len(self.level_names):
                raise ValueError(
                    f"{self.source} has the label {path!r} of {len(path)} levels, more than the "
                    f"{len(self.level_names)} level_names {self.level_names!r}; name every level"
                )
            if any(not isinstance(name, str) or not name for name in path):
                raise ValueError(f"{self.source} has the label {path!r}; names must be non-empty strings")
        if not any(self.labels):
            raise ValueError(f"{self.source} has {len(self.images)} images, none with a label; label at least one")
        for name, column in {"split": self.splits, **self.flat}.items():
            if wrong := [v for v in set(column) if not isinstance(v, str) or (not v and name == "split")]:
                raise ValueError(f"{self.source} has the {name} {wrong[0]!r}; it must be a non-empty string")

    def paths(self, row: int) -> list[tuple[str, ...]]:
        """Returns an image's different paths, without those that another one goes on from; ``[()]`` for none."""
        return longest_paths([self.labels[row], *self.more_labels.get(row, ())])

    def all_paths(self) -> list[tuple[str, ...]]:
        """Returns the paths of all images, ``labels`` and ``more_labels`` alike, with repetitions."""
        return [*self.labels, *(path for paths in self.more_labels.values() for path in paths)]

    def take(self, rows: Sequence[int]) -> Annotations:
        """Returns the annotations of some images, in the order of ``rows``."""
        return replace(
            self,
            images=[self.images[row] for row in rows],
            labels=[self.labels[row] for row in rows],
            splits=[self.splits[row] for row in rows],
            flat={name: [column[row] for row in rows] for name, column in self.flat.items()},
            more_labels={i: self.more_labels[row] for i, row in enumerate(rows) if row in self.more_labels},
        )


def check_images(images: Sequence[str], root: str) -> None:
    """Raises unless every image is a file below ``root``, with one directory listing a folder instead of a look a file.

    Args:
        images: Paths below ``root``.
        root: The folder; it may itself be a link.

    Raises:
        ValueError: If files are missing (all are counted, the first are named), or if a link leads out of ``root``.
    """
    folders: dict[str, list[str]] = {}
    for image in images:
        folder, _, name = image.rpartition("/")
        folders.setdefault(folder, []).append(name)
    real_root = os.path.realpath(root)
    missing: list[str] = []
    for folder, names in folders.items():
        _check_inside(os.path.join(root, folder), real_root)
        try:
            with os.scandir(os.path.join(root, folder)) as entries:
                found = {entry.name: entry.is_symlink() for entry in entries if entry.is_file()}
        except OSError:
            found = {}
        for name in names:
            if name not in found:
                missing.append(posixpath.join(folder, name))
            elif found[name]:
                _check_inside(os.path.join(root, folder, name), real_root)
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(images)} images are missing below {root}: {some(missing)}; put the files there, "
            "take them off the list, or correct data_root"
        )


def _check_inside(path: str, real_root: str) -> str:
    """Returns where a path really leads; raises if that is outside of the root."""
    real = os.path.realpath(path)
    if real != real_root and not real.startswith(real_root.rstrip("/") + "/"):
        raise ValueError(
            f"{path} is a link that leads out of the image folder, to {real}; nothing outside {real_root} is read: "
            "move the files there, or link the whole folder"
        )
    return real


def some(names: Sequence[str]) -> str:
    """Returns the first few names for a message.

    Example:
        >>> print(some("abcdefgh"))
        'a', 'b', 'c', 'd', 'e', ...
    """
    return ", ".join(repr(name) for name in names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


# ---------------------------------------------------------------- folder trees
def image_kind(head: bytes) -> str:
    r"""Tells an image file's kind from its first 12 bytes: Pillow's name of it, or an empty string.

    Example:
        >>> image_kind(b"\x89PNG\r\n\x1a\n...."), image_kind(b"<svg>")
        ('PNG', '')
    """
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    kinds = {
        b"\xff\xd8\xff": "JPEG",
        b"\x89PNG\r\n\x1a\n": "PNG",
        b"GIF87a": "GIF",
        b"GIF89a": "GIF",
        b"II*\0": "TIFF",
        b"MM\0*": "TIFF",
        b"BM": "BMP",
    }
    return next((kind for magic, kind in kinds.items() if head.startswith(magic)), "")


def read_folder(
    root: str | os.PathLike[str], level_names: Sequence[str] | None = None, *, expected: Sequence[str] = ()
) -> Annotations:
    """Reads a tree of folders: the folders from below ``root`` to an image are the image's label path.

    Images may hang on inner folders, and branches may differ in depth. What is an image is told from the files'
    content. Hidden files and folders are left out silently; other files that are no image are counted and logged, and
    so are links to folders inside ``root``, whose images are found at their real place. The order is that of the names.

    Args:
        root: The folder.
        level_names: A name for every level; ``level1`` (coarsest) to ``levelL`` by default.
        expected: Paths of files that are known to be no images, and so not worth a word in the log.

    Raises:
        ValueError: If ``root`` is no folder or holds no image in a sub-folder, if a link is broken or leads out of
            ``root``, if a file cannot be opened, or if a folder's name is not UTF-8.
    """
    root = os.fspath(root)
    images, labels, left_out = walk_folder(root)
    if left_out := [name for name in left_out if name not in expected]:
        print_log(
            f"{root}: left out {len(left_out)} files that are no image and links to folders: {some(left_out)}",
            logger="current",
            level=logging.WARNING,
        )
    if not images:
        raise ValueError(f"the folder {root!r} holds no image ({len(left_out)} other files); correct data_root")
    names = tuple(level_names) if level_names is not None else numbered_levels(max(map(len, labels)))
    return Annotations(images, labels, [NO_SPLIT] * len(images), names, root, source=f"the folder {root!r}")


def numbered_levels(depth: int) -> tuple[str, ...]:
    """Returns ``level1`` (coarsest) to ``levelL``, the names of levels that nobody has named."""
    return tuple(f"level{i}" for i in range(1, depth + 1))


def walk_folder(root: str, by_name: Sequence[str] = ()) -> tuple[list[str], list[tuple[str, ...]], list[str]]:
    """Finds the images of a tree of folders, as :func:`read_folder` describes it.

    Args:
        root: The folder.
        by_name: Endings, such as ``'.jpg'``, of names that make a file, or a broken link, an image whatever its
            content is. With these, other broken links are left out; without any they are errors.

    Returns:
        The images' paths below ``root``, with forward slashes, in the order of the names; the folders to each of them;
        and the paths of other files and of links to folders.

    Raises:
        ValueError: As :func:`read_folder`, but for no image.
    """
    if not os.path.isdir(root):
        raise ValueError(f"there is no folder {root!r} to read images from; correct data_root")
    real_root = os.path.realpath(root)
    images: list[str] = []
    labels: list[tuple[str, ...]] = []
    left_out: list[str] = []
    stack: list[tuple[str, ...]] = [()]
    while stack:
        path = stack.pop()
        with os.scandir(os.path.join(root, *path)) as entries:
            children = sorted(entries, key=lambda entry: entry.name)
        folders = []
        for entry in children:
            if entry.name.startswith("."):
                continue
            named = entry.name.lower().endswith(tuple(by_name))
            broken = entry.is_symlink() and not os.path.exists(_check_inside(entry.path, real_root))
            if broken and not by_name:
                raise ValueError(f"{entry.path} is a broken link; remove it, or put its file in place")
            if entry.is_dir() and not entry.is_symlink():
                folders.append((*path, _utf8(entry)))
            elif (named and (broken or entry.is_file())) or (entry.is_file() and image_kind(head_of(entry.path))):
                images.append("/".join((*path, entry.name)))
                labels.append(path)
            else:
                left_out.append("/".join((*path, entry.name)))
        stack.extend(reversed(folders))
    return images, labels, left_out


def _utf8(entry: os.DirEntry[str]) -> str:
    try:
        entry.name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the folder {entry.path!r} has a name that is not UTF-8; rename it") from error
    return entry.name


def head_of(path: str) -> bytes:
    """Returns the first 12 bytes of a file, which :func:`image_kind` looks at.

    Raises:
        ValueError: If the file cannot be opened.
    """
    try:
        with open(path, "rb") as file:
            return file.read(12)
    except OSError as error:
        raise ValueError(f"cannot open {path}: {error.strerror}; make it readable or remove it") from error


# ---------------------------------------------------------------- lists
def read_csv(
    path: str | os.PathLike[str],
    root: str | os.PathLike[str],
    levels: Sequence[str] = (),
    flat_labels: Sequence[str] = (),
) -> Annotations:
    r"""Reads a comma-separated list with a header line and one image a line, in UTF-8.

    Args:
        path: The list. Column ``image`` holds the path below ``root``; column ``split``, if there is one, the split
            tag. Space around a field is dropped; a label column left empty ends the label path.
        root: The folder that the images are relative to.
        levels: The label columns, the coarsest first; by default all columns but ``image``, ``split`` and
            ``flat_labels``, in the file's order.
        flat_labels: Columns of labels outside the tree.

    Raises:
        ValueError: With file and line, if the file is missing or not UTF-8, a column is missing or there twice, a line
            has too few or too many fields, or a label has a gap; and as :class:`Annotations`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "list.csv").write_text("image,split,kind,breed\na.jpg,x,cat,tabby\nb.jpg,x,tool,\n")
        ...     rows = read_csv(f"{folder}/list.csv", folder)
        >>> rows.level_names, rows.labels
        (('kind', 'breed'), [('cat', 'tabby'), ('tool',)])
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    rows = numbered_rows(reader, os.fspath(path))
    _, header = next(rows, (1, []))
    columns = [name.strip() for name in header]
    if len(set(columns)) < len(columns) or "" in columns:
        raise ValueError(f"{path}:1: the columns must have different names; they are {columns}")
    records = ((number, dict(zip(columns, row, strict=True))) for number, row in rows)
    return _from_records(path, root, records, columns, levels, flat_labels, "{path}:{number}")


def numbered_rows(reader: Any, path: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the rows of a CSV reader that are not blank, with their line.

    Args:
        reader: A ``csv.reader``.
        path: The file, for messages.

    Raises:
        ValueError: With file and line, if a row has not as many fields as the first, or is no well-formed CSV.

    Example:
        >>> list(numbered_rows(csv.reader(["a,b", "", "1,2"]), "list.csv"))
        [(1, ['a', 'b']), (3, ['1', '2'])]
    """
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


def read_jsonl(
    path: str | os.PathLike[str],
    root: str | os.PathLike[str],
    levels: Sequence[str] = (),
    flat_labels: Sequence[str] = (),
) -> Annotations:
    """Reads a list of one JSON object a line, in UTF-8; the fields are those of :func:`read_csv`.

    A label that is missing, ``null`` or an empty string ends the label path; a number stands for its text. Without
    ``levels``, the label fields are in the order in which the file first has them.

    Raises:
        ValueError: With file and line, if a line is no JSON object, a field is missing or has a wrong type, or a label
            has a gap; and as :class:`Annotations`.
    """
    records = []
    for number, line in text_lines(path):
        records.append((number, _object(_parse(line, f"{path}:{number}"), f"{path}:{number}")))
    return _from_records(path, root, records, _fields(records), levels, flat_labels, "{path}:{number}")


def read_json(
    path: str | os.PathLike[str],
    root: str | os.PathLike[str],
    levels: Sequence[str] = (),
    flat_labels: Sequence[str] = (),
) -> Annotations:
    """Reads a JSON file that is a list of objects, one an image, in UTF-8; otherwise as :func:`read_jsonl`.

    Raises:
        ValueError: With file and the record's number, counted from 1; as :func:`read_jsonl`.
    """
    data = _parse(read_text(path), os.fspath(path))
    if not isinstance(data, list):
        raise ValueError(f"{path}: the file must be a list of objects, one an image; it is a {type(data).__name__}")
    records = [(i, _object(record, f"{path}: record {i}")) for i, record in enumerate(data, start=1)]
    return _from_records(path, root, records, _fields(records), levels, flat_labels, "{path}: record {number}")


def read_text(path: str | os.PathLike[str]) -> str:
    """Returns the text of a UTF-8 file, without a byte order mark.

    Raises:
        ValueError: If the file cannot be read or is not UTF-8, with the line.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read the list {path}: {error.strerror}; correct its path") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}:{line}: byte {data[error.start]:#04x} is not UTF-8; save the list as UTF-8"
        ) from error


def text_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    r"""Yields the lines of a UTF-8 file that are not blank, each with its number and without its ending.

    Raises:
        ValueError: As :func:`read_text`.

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


def _parse(text: str, where: str) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON value")

    try:
        return json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        place = f"{where}:{error.lineno}" if "\n" in text else where
        raise ValueError(f"{place}: no JSON: {error.msg} at column {error.colno}; is the file truncated?") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: no JSON: {error}") from error


def _object(record: Any, where: str) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise ValueError(f"{where}: a record must be an object with the field 'image'; it is {short(record)}")
    return record


def _fields(records: Sequence[tuple[int, Mapping[str, Any]]]) -> list[str]:
    return list(dict.fromkeys(name for _, record in records for name in record))


def _from_records(
    path: str | os.PathLike[str],
    root: str | os.PathLike[str],
    records: Iterable[tuple[int, Mapping[str, Any]]],
    columns: Sequence[str],
    levels: Sequence[str],
    flat_labels: Sequence[str],
    place: str,
) -> Annotations:
    """Makes the annotations from numbered records; ``place`` formats where a record stands."""
    path, root = os.fspath(path), os.fspath(root)
    levels, flat_labels = _names(levels), _names(flat_labels)
    if columns:
        if wrong := [name for name in ("image", *levels, *flat_labels) if name not in columns]:
            raise ValueError(f"{path}: there is no column {wrong[0]!r}; the columns are {list(columns)}")
        levels = levels or tuple(name for name in columns if name not in ("image", "split", *flat_labels))
        if not levels:
            raise ValueError(
                f"{path}: there is no label column; the columns are {list(columns)}: add one for each level of "
                "the tree, the broadest first"
            )
    has_split = "split" in columns
    images, labels, splits = [], [], []
    known: dict[tuple[str, ...], tuple[str, ...]] = {}  # one object a label, not one a row
    flat: dict[str, list[str]] = {name: [] for name in flat_labels}
    for number, record in records:
        where = place.format(path=path, number=number)
        images.append(_tidy(_needed(record, "image", where)))
        splits.append(_needed(record, "split", where) if has_split else NO_SPLIT)
        names = [_text(record.get(name), name, where) for name in levels]
        length = next((i for i, name in enumerate(names) if not name), len(names))
        if any(names[length:]):
            filled = next(name for name, value in zip(levels[length:], names[length:], strict=True) if value)
            raise ValueError(
                f"{where}: the label has a gap: {levels[length]!r} is empty but {filled!r} below it is not; name every "
                "level down to the last"
            )
        label = tuple(names[:length])
        labels.append(known.setdefault(label, label))
        for name, column in flat.items():
            column.append(_needed(record, name, where))
    return Annotations(images, labels, splits, tuple(levels), root, flat=flat, source=f"the list {path!r}")


def _names(names: Iterable[str] | str) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _needed(record: Mapping[str, Any], name: str, where: str) -> str:
    if not (text := _text(record.get(name), name, where)):
        raise ValueError(f"{where}: the field {name!r} is missing or empty; give it for every image")
    return text


def _text(value: Any, name: str, where: str) -> str:
    """Returns a field as text: a string, or a number's digits; nothing is an empty string."""
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
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


def short(value: Any) -> str:
    """Returns the beginning of a value's text for a message.

    Example:
        >>> short("cat"), len(short("cat" * 100))
        ("'cat'", 60)
    """
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _tidy(image: str) -> str:
    """Drops empty and '.' parts, so that one file has one name; what leaves the root is left for the check."""
    return image if unsafe_reason(image) != "must have no empty or '.' part" else posixpath.normpath(image)
