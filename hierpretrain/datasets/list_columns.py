"""What the columns of a list are: the image, the levels, the key, the split, labels outside the tree, or metadata."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hierpretrain.datasets.cells import distinct, no_names
from hierpretrain.datasets.messages import short
from hierpretrain.datasets.split_names import MOST_SPLITS, holds_splits
from hierpretrain.datasets.tables import NAMELESS, Table, column_name

FEWEST = 4
"""How many values must all differ before a column is taken for a key."""

DECIMALS = re.compile(r"[€$£¥]?\s*[+-]?\d*([.,]\d{3})*[.,]\d+(e[+-]?\d+)?\s*[€$£¥%]?", re.IGNORECASE)
"""A number with decimals, perhaps with a currency."""

_FLAGS = frozenset(("yes", "no", "true", "false", "y", "n", "ja", "nein"))  # 0 and 1 may be numbers of classes


@dataclass(frozen=True)
class ListColumns:
    """The columns of one list by their use.

    Attributes:
        image: The column of the images.
        levels: The columns of the labels, the coarsest first.
        split: The column of the splits; empty if there is none.
        key: The column of the keys; empty if there is none.
        extra_labels: The columns of labels outside the tree.
        metadata: All others.
    """

    image: str
    levels: tuple[str, ...]
    split: str
    key: str
    extra_labels: tuple[str, ...]
    metadata: tuple[str, ...]


def as_names(option: str, names: Sequence[str] | str | None) -> tuple[str, ...]:
    """Returns the names of columns as a tuple, whichever way they were given.

    Args:
        option: The option that they are of, for the message.
        names: One name, several, or ``None`` for none.

    Raises:
        ValueError: If they are something else.

    Example:
        >>> as_names("levels", "kind"), as_names("levels", ["kind", "breed"])
        (('kind',), ('kind', 'breed'))
    """
    if names is None or isinstance(names, str):
        return () if names is None else (names,)
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{option} must be the name of a column or a list of names; it is {names!r}")
    return tuple(names)


def check_texts(**options: Any) -> None:
    """Raises unless options, such as the name of one column, are texts.

    Example:
        >>> check_texts(image_column="image", key_column=["sku"])
        Traceback (most recent call last):
        ValueError: key_column must be a text; it is ['sku']
    """
    for option, value in options.items():
        if not isinstance(value, str):
            raise ValueError(f"{option} must be a text; it is {value!r}")


def choose_columns(
    table: Table,
    *,
    image: str = "image",
    levels: Sequence[str] | str | None = None,
    key: str = "",
    split: str = "split",
    extra_labels: Sequence[str] | str = (),
    need_labels: bool = True,
) -> ListColumns:
    """Says what each column of a list is; names may be given in any Unicode form.

    Args:
        table: The list.
        image: The column of the images.
        levels: The columns of the labels, the coarsest first; ``()`` for none. By default all columns of no other use
            are levels, and then none of them may look like something else: have no name, hold splits, another value
            for every image (from four images on), numbers with decimals, flags such as yes and no, or mostly objects or
            bytes.
        key: The column of the keys, by which people know an image or a product; empty for none.
        split: The column of the splits; the default need not be there.
        extra_labels: The columns of labels outside the tree.
        need_labels: Whether a list without levels is an error.

    Raises:
        ValueError: If a column that is named is not there, is named twice or by something else than a text, the
            column of the splits is a key, or levels are not named and a column does not look like one.

    Example:
        >>> table = Table("list.csv", {"image": ["a", "b"], "kind": ["cat", "dog"], "price": ["3.50", "4"]}, str)
        >>> choose_columns(table, levels="kind").metadata
        ('price',)
        >>> choose_columns(table)
        Traceback (most recent call last):
        ValueError: list.csv: columns are levels by themselves only if all look like it; 'price' has numbers with ...
    """
    check_texts(image_column=image, key_column=key, split_column=split)
    there, path = tuple(table.columns), table.path
    called = {column_name(name): name for name in there}

    def as_there(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(called.get(column_name(name), name) for name in names)

    levels = None if levels is None else as_there(as_names("levels", levels))
    extra = as_there(as_names("extra_labels", extra_labels))
    image, key, split = as_there((image, key, split))
    if image not in there:
        raise ValueError(
            f"{path}: there is no column {image!r}; the columns are {list(there)}: say which holds the images, "
            "image_column='...' (--image-column ...)"
        )
    named = [*(levels or ()), *extra, *([key] if key else ()), *([split] if split and split != "split" else ())]
    if wrong := [name for name in named if name not in there]:
        raise ValueError(f"{path}: there is no column {wrong[0]!r}; the columns are {list(there)}")
    splits_named = split in there or not split
    split = split if split in there and split not in (levels or ()) else ""
    if image in named or len(set(levels or ())) < len(levels or ()):
        raise ValueError(f"{path}: a column can be one level and not the image; levels are {list(levels or ())}")
    if split:
        _check_splits(table, image, split)
    used = {image, split, key, *extra}
    rest = tuple(name for name in there if name not in used)
    if levels is None:
        _check_levels(table, image, rest, splits_named)
        if not rest and need_labels:
            raise ValueError(
                f"{path}: there is no label column; the columns are {list(there)}: add one for each level of the tree, "
                "the broadest first"
            )
        return ListColumns(image, rest, split, key, extra, ())
    return ListColumns(image, levels, split, key, extra, tuple(name for name in rest if name not in levels))


def column_doubts(table: Table, image: str, names: Sequence[str], *, splits_named: bool = False) -> dict[str, str]:
    """Returns why columns seem to be no levels: name of the column -> what it looks like, without good ones.

    Args:
        table: The list.
        image: The column of the images.
        names: The columns.
        splits_named: Whether the splits are known, or known to be none.

    Example:
        >>> table = Table("list.csv", {"image": ["a", "b"], "kind": ["cat", "dog"], "price": ["3.50", "4"]}, str)
        >>> column_doubts(table, "image", ["kind", "price"])
        {'price': "has numbers with decimals, such as '3.50'"}
    """
    return {name: doubt for name in names if (doubt := _doubt(table, image, name, splits_named))}


def _check_levels(table: Table, image: str, names: Sequence[str], splits_named: bool) -> None:
    """Raises if a column that nobody has called a level does not look like one."""
    doubts = column_doubts(table, image, names, splits_named=splits_named)
    if not doubts:
        return
    good = [name for name in names if name not in doubts]
    which = f"levels={good} (--levels {' '.join(good)})" if good else "levels=() for none (--levels without a name)"
    raise ValueError(
        f"{table.path}: columns are levels by themselves only if all look like it; "
        + ", ".join(f"{name!r} {doubt}" for name, doubt in doubts.items())
        + f": name the levels, such as {which}; other columns are then metadata, and key_column='...' "
        "(--key-column ...) names the key"
    )


def _check_splits(table: Table, image: str, name: str) -> None:
    """Raises if the column of the splits has many and another for every image, so that no split has two images."""
    values = [value for value in distinct(table.columns[name]) if value]
    if len(values) > MOST_SPLITS and is_key(table.columns[image], table.columns[name], len(values)):
        raise ValueError(
            f"{table.path}: a column of splits has few values; {name!r} has another value for every image, such as "
            f"{values[0]!r}, as a key has: name the splits, split_column='...' (--split-column ...), or do without, "
            "split_column='' (--split-column ''), and name the levels"
        )


def _doubt(table: Table, image: str, name: str, splits_named: bool) -> str:
    """Returns why a column seems to be no level; an empty string if it may be one."""
    if NAMELESS.fullmatch(name):
        return "has no name"
    values = [value for value in distinct(table.columns[name]) if value]
    if holds_splits(name, values):
        # named first: as metadata, which other columns become, it would leave test images among those to train on
        return "holds splits" + ("" if splits_named else f" (name it, split_column={name!r}, --split-column {name})")
    if wrong := no_names(table.columns[name]):
        return f"holds values that are no names, such as {short(wrong[0])}"
    if len(values) > 1 and are_flags(values):
        return f"holds flags, such as {values[0]!r}"
    if decimal := next((value for value in values if DECIMALS.fullmatch(value)), None):
        return f"has numbers with decimals, such as {decimal!r}"
    if len(values) >= FEWEST and is_key(table.columns[image], table.columns[name], len(values)):
        return f"has another value for every image, such as {values[0]!r}, as a key has"
    return ""


def are_flags(values: Sequence[str]) -> bool:
    """Returns whether values are words for yes and no, as text or as true and false.

    Example:
        >>> are_flags(["True", "False"]), are_flags(["yes", "perhaps"])
        (True, False)
    """
    return all(value.lower() in _FLAGS for value in values)


def is_key(images: Sequence[Any], column: Sequence[Any], num_values: int) -> bool:
    """Returns whether most images have a value of a column, and each another one of its ``num_values``."""
    pairs = ((str(i), str(v)) for i, v in zip(images, column, strict=True) if v not in (None, ""))
    image_of: dict[str, str] = {}
    if any(image_of.setdefault(value, image) != image for image, value in pairs):  # usually in the first rows
        return False
    filled = len(column) - column.count("") - column.count(None)
    if filled * 2 < len(column) or num_values * 2 < len(set(map(str, images))):
        return False
    return len(image_of) == num_values == len(set(image_of.values()))  # an image may have several rows
