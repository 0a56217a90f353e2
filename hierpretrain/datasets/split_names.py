"""What people call the parts of their data: train, val, test, query, gallery, and their like."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

TRAIN, VAL, TEST = ("train", "training"), ("val", "valid", "validation", "dev"), ("test", "testing", "eval")
QUERY, GALLERY = ("query", "probe"), ("gallery", "index")
SPLIT_NAMES = frozenset((*TRAIN, *VAL, *TEST, *QUERY, *GALLERY))
"""What splits are called, in lower case."""

MOST_SPLITS = 10
"""How many splits people have at most; a column of more values seems to be something else."""


def are_splits(names: Iterable[str]) -> bool:
    """Tells whether two names or more, of folders for instance, are all names of splits, one of them of training.

    Example:
        >>> are_splits(["Train", "val"]), are_splits(["train", "bus"]), are_splits(["test", "index"])
        (True, False, False)
    """
    lowered = {name.lower() for name in names}
    return len(lowered) > 1 and lowered <= SPLIT_NAMES and not lowered.isdisjoint(TRAIN)


def holds_splits(column: str, values: Sequence[str]) -> bool:
    """Tells whether a column of a list holds splits: it is called so, or two values or more are all names of splits.

    Args:
        column: The name of the column, in any case.
        values: Its different values, without the empty one.

    Example:
        >>> holds_splits("SPLIT", ["a", "b"]), holds_splits("part", ["train", "Val"]), holds_splits("part", ["test"])
        (True, True, False)
    """
    return column.casefold() == "split" or (len(values) > 1 and all(value.lower() in SPLIT_NAMES for value in values))
