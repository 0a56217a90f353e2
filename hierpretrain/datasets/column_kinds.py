"""What each column of a list seems to hold, from its name and its values: images, a key, a price, names of classes."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hierpretrain.datasets.cells import distinct, free_text, no_names
from hierpretrain.datasets.image_files import ENDINGS
from hierpretrain.datasets.list_columns import DECIMALS, FEWEST, are_flags, is_key
from hierpretrain.datasets.split_names import holds_splits
from hierpretrain.datasets.tables import NAMELESS, Table

_MOST = 0.9  # of the cells must look alike
_LONG = 8  # words, from which on a cell is a sentence
_INTEGER = re.compile(r"[+-]?\d{1,3}([., ]\d{3})*|[+-]?\d+")
_DATE = re.compile(
    r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](\d{2}|\d{4}))([ T,]+\d{1,2}:\d{2}.*)?\Z"
    r"|-?\d{2,}:\d{2}:\d{2}(\.\d+)?\Z"
)
_ADDRESS = re.compile(r"(https?|s3|gs|ftp)://", re.IGNORECASE)
_KEY_NAME = re.compile(
    r"(.*[\W_])?(id|ids|sku|key|ean|gtin|asin|upc|isbn|uuid|mpn|code|article|artikel(nummer)?|item|no|nr|number)"
    r"([\W_].*)?|.*(Id|ID|Key|Sku)",
)
_LEVEL_NAME = re.compile(
    r"(.*[\W_])?(class|label|categor(y|ies)|kategorie|type|typ|kind|level|species|genus|family|order|group|department|"
    r"section|breed|taxon|collection|subject)s?([\W_\d].*)?|(sub[\W_]*)+\w+|.*[\W_]?(level|ebene|cat|class)[\W_]?\d+",
    re.IGNORECASE,
)
_LEVEL_SEPARATORS = (">", "»", "::", " / ", "/", "\\", "|")  # with spaces where names may hold it: TV/Audio
_PATH_SEPARATORS = ("|", ";", " / ", "/", " + ", "+", " & ", ",")


@dataclass(frozen=True)
class ColumnKind:
    """What a column of a list seems to hold.

    Attributes:
        name: The column.
        kind: ``'images'``, ``'split'``, ``'key'``, ``'names'`` (of classes, of which there are fewer than images), or
            why it is none of these: ``'row number'``, ``'numbers'``, ``'dates'`` (times and durations too),
            ``'addresses'``, ``'text'`` (objects and bytes too), ``'flags'``, ``'constant'`` or ``'empty'``.
        num_values: How many different values it has, without the empty one.
        num_empty: How many cells are empty.
        example: The first value.
        level_separator: What separates the names of a whole path in a cell; empty if cells are single names.
        path_separator: What separates several names in a cell; empty if a cell has one.
    """

    name: str
    kind: str
    num_values: int
    num_empty: int
    example: str
    level_separator: str = ""
    path_separator: str = ""

    @property
    def named_like_a_level(self) -> bool:
        """Whether the name of the column is one that people give to classes."""
        return _LEVEL_NAME.fullmatch(self.name) is not None

    @property
    def named_like_a_key(self) -> bool:
        """Whether the name of the column is one that people give to keys."""
        return _KEY_NAME.fullmatch(self.name) is not None or _KEY_NAME.fullmatch(self.name.lower()) is not None


def column_kinds(table: Table, image_column: str = "") -> list[ColumnKind]:
    """Says what each column of a list seems to hold.

    Args:
        table: The list.
        image_column: The column of the images, if it is known; by default it is found by the endings of files.

    Returns:
        A :class:`ColumnKind` for each column, in their order.

    Example:
        >>> columns = {"no": ["1", "2"], "photo": ["a.jpg", "b.jpg"], "price": ["3,50", "4,00"], "kind": ["cat", "dog"]}
        >>> [(column.name, column.kind) for column in column_kinds(Table("list.csv", columns, str))]
        [('no', 'row number'), ('photo', 'images'), ('price', 'numbers'), ('kind', 'names')]
    """
    texts = {name: list(map(free_text, column)) for name, column in table.columns.items()}
    if not image_column:
        image_column = next((name for name in texts if _holds_images(texts[name])), "")
    images = texts.get(image_column, [])
    return [_column_kind(name, table.columns[name], texts[name], images, image_column) for name in texts]


def _column_kind(
    name: str, column: Sequence[Any], texts: Sequence[str], images: Sequence[str], image_column: str
) -> ColumnKind:
    filled = [text for text in texts if text]
    values = [value for value in distinct(column) if value]
    about = (len(values), len(texts) - len(filled), values[0] if values else "")
    if not filled:
        return ColumnKind(name, "empty", *about)
    if name == image_column or _holds_images(texts):
        return ColumnKind(name, "images", *about)
    nameless = bool(no_names(column))
    if nameless and not are_flags(values):
        return ColumnKind(name, "text", *about)
    if any(isinstance(value, list | tuple) for value in column):
        return ColumnKind(name, "names" if len(values) * 2 < len(filled) and not nameless else "text", *about)
    level_separator, path_separator = _level_separator(values), _path_separator(filled)
    kind = _kind(name, filled, values, level_separator or path_separator)
    unique = len(values) >= FEWEST and bool(images) and is_key(images, texts, len(values))
    if kind in ("names", "integers") and unique:
        kind = "key"
    elif kind == "integers":  # ages, years and stocks are integers, and so are the numbers of classes
        kind = "names" if _LEVEL_NAME.fullmatch(name) else "numbers"
    if kind != "names":
        return ColumnKind(name, kind, *about)
    if path_separator and not level_separator:
        parts = {part.strip() for value in values for part in value.split(path_separator)}
        about = (len(parts), *about[1:])
    return ColumnKind(name, kind, *about, level_separator, path_separator)


def _kind(name: str, filled: Sequence[str], values: Sequence[str], separator: str) -> str:
    """Returns the kind of a column that is neither empty nor of images; ``'integers'`` and ``'names'`` are to settle.

    Args:
        name: The column.
        filled: Its cells that are not empty.
        values: Its different values.
        separator: What separates names in its cells, if anything does.
    """
    if holds_splits(name, values):
        return "split"
    if _share_of(filled, _ADDRESS) >= _MOST:
        return "addresses"
    if len(values) == 1:
        return "constant"
    if NAMELESS.fullmatch(name) or (_counts(filled) and not re.search("id|sku|key", name, re.IGNORECASE)):
        return "row number"
    if are_flags(values):
        return "flags"
    if _share_of(filled, _DATE) >= _MOST:
        return "dates"
    num_integers = sum(_INTEGER.fullmatch(text) is not None for text in filled)
    if num_integers == len(filled):
        return "integers"
    if num_integers + sum(DECIMALS.fullmatch(text) is not None for text in filled) >= _MOST * len(filled):
        return "numbers"
    words = sum(text.count(" ") + 1 for text in filled) / len(filled)
    if not separator and (words > _LONG or (words >= 2 and len(values) * 2 > len(filled))):
        return "text"
    return "names"


def _holds_images(texts: Sequence[str]) -> bool:
    """Returns whether a column has the names of image files, and not their addresses."""
    filled = [text for text in texts if text]
    named = sum(text.lower().endswith(ENDINGS) and not _ADDRESS.match(text) for text in filled)
    return bool(filled) and named >= _MOST * len(filled)


def _share_of(texts: Sequence[str], pattern: re.Pattern[str]) -> float:
    return sum(pattern.match(text) is not None for text in texts) / len(texts)


def _counts(texts: Sequence[str]) -> bool:
    """Returns whether a column counts its rows: each is the one before it plus 1."""
    if len(texts) < 2 or not all(text.isdecimal() and len(text) < 10 for text in texts):
        return False
    return all(int(b) - int(a) == 1 for a, b in itertools.pairwise(texts))


def _level_separator(values: Sequence[str]) -> str:
    """Returns what separates the names of whole paths: most values have it, and they share their first names."""
    for separator in _LEVEL_SEPARATORS:
        paths = [value.split(separator) for value in values if separator in value]
        if len(paths) * 2 > len(values) > 1 and len({path[0].strip() for path in paths}) < len(paths):
            return separator
    return ""


def _path_separator(filled: Sequence[str]) -> str:
    """Returns what separates several names: in most cells that have it, each name is also in other cells alone."""
    cells = Counter(filled)
    for separator in _PATH_SEPARATORS:
        several = [cell for cell in cells if separator in cell]
        alone = set(cells).difference(several)
        found = sum(all(part.strip() in alone for part in cell.split(separator)) for cell in several)
        if several and found * 2 > len(several) and len(several) * 2 < len(cells) + 1:
            return separator
    return ""
