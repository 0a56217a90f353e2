"""Which columns of names are the levels of one tree, and in which order: each value of one in one value of another."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

_NESTED = 0.8  # the agreement, from which on one column is below another
_RANKS = ("domain", "kingdom", "phylum", "class", "order", "family", "subfamily", "tribe", "genus", "species", "breed")


def agreement(above: Sequence[str], below: Sequence[str]) -> float:
    """Measures how surely a value of one column tells the value of another, beyond chance.

    It is the probability that another row with the same value ``below`` has the same value ``above``, with 0 for the
    probability that any two rows have it, and 1 for certainty. So it is Goodman and Kruskal's tau, but that a row is no
    evidence of itself: values of few rows would seem sure. Rows with an empty cell, and values of one row, do not
    count.

    Args:
        above: N values.
        below: N values.

    Returns:
        At most 1; 0 if no two rows have the same value ``below`` or all have the same value ``above``.

    Example:
        >>> kind, breed = ["cat", "cat", "cat", "dog", "dog"], ["tabby", "tabby", "lion", "pug", "pug"]
        >>> agreement(kind, breed), round(agreement(breed, kind), 2)
        (1.0, 0.5)
    """
    counts = Counter(b for a, b in zip(above, below, strict=True) if a and b)
    rows = [(a, b) for a, b in zip(above, below, strict=True) if a and counts[b] > 1]
    if not rows:
        return 0.0
    together, totals = Counter(rows), Counter(a for a in above if a)
    same = sum(n * (n - 1) / (counts[b] - 1) for (_, b), n in together.items()) / len(rows)
    chance = sum(n * (n - 1) for n in totals.values()) / (totals.total() * (totals.total() - 1))
    return (same - chance) / (1 - chance) if chance < 1 else 0.0


def level_chains(columns: Mapping[str, Sequence[str]]) -> list[tuple[str, ...]]:
    """Returns the longest chains of columns in which each is below the one before it; all of them, if several are.

    A column is below another if each of its values nearly always goes with one value of the other (:func:`agreement`),
    and more surely than the other way round, or if their names say so: ``level1`` and ``level2``, ``category`` and
    ``subcategory``, or the ranks of biology, such as ``family`` and ``species``. Of columns that say the same, such as
    a class and its number, the first counts.

    Args:
        columns: Name of the column -> N values, empty for none; columns of names alone.

    Returns:
        The chains, the coarsest column first; chains of columns that are first in the list come first.

    Example:
        >>> level_chains({"colour": ["red", "blue"] * 4, "kind": ["a"] * 4 + ["b"] * 4, "breed": list("ccddeeff")})
        [('kind', 'breed')]
    """
    # of two columns that tell each other equally well, that with more values, or else more empty cells, is below
    fineness = {name: (len(set(column) - {""}), sum(not cell for cell in column)) for name, column in columns.items()}
    names: list[str] = []
    for name in columns:
        if not any(_are_one(columns[name], columns[known]) for known in names if _told_by_name(known, name) is None):
            names.append(name)

    def is_below(a: str, b: str) -> bool:
        told = _told_by_name(a, b)
        if told is not None:
            return told
        down, up = agreement(columns[a], columns[b]), agreement(columns[b], columns[a])
        return down >= _NESTED and (down, fineness[b]) > (up, fineness[a])

    under = {a: [b for b in names if b != a and is_below(a, b)] for a in names}
    longest: dict[str, list[tuple[str, ...]]] = {}

    def chains_from(name: str, visited: frozenset[str]) -> list[tuple[str, ...]]:
        if name not in longest:
            tails = [tail for b in under[name] if b not in visited for tail in chains_from(b, visited | {b})]
            most = max(map(len, tails), default=0)
            longest[name] = [(name, *tail) for tail in tails if len(tail) == most] or [(name,)]
        return longest[name]

    chains = [chain for name in names for chain in chains_from(name, frozenset({name}))]
    most = max(map(len, chains), default=0)
    return [chain for chain in chains if len(chain) == most]


def _are_one(one: Sequence[str], other: Sequence[str]) -> bool:
    """Returns whether each value of one column goes with one value of the other, and the other way round."""
    pairs = set(zip(one, other, strict=True))
    return len(pairs) == len(set(one)) == len(set(other))


def _told_by_name(a: str, b: str) -> bool | None:
    """Returns whether the names of two columns say that the second is below the first; None if they say nothing."""
    if a.lower() in _RANKS and b.lower() in _RANKS:
        return _RANKS.index(a.lower()) < _RANKS.index(b.lower())
    one, other = _rank(a), _rank(b)
    return one[1] < other[1] if one[0] == other[0] and one != other else None


def _rank(name: str) -> tuple[str, int]:
    """Returns a name without its number, or without what makes it a sub-level, and that number."""
    lowered = re.sub(r"[\W_]+", "", name.lower())
    prefix = re.match(r"(sub)*", lowered)[0]  # type: ignore[index]
    stem, number = re.fullmatch(r"(.*?)(\d*)", lowered.removeprefix(prefix)).groups()  # type: ignore[union-attr]
    return stem, len(prefix) // 3 + (int(number) if number else 0)
