"""The numbers of the nodes on label paths: names become integers once, and the rest is arithmetic on arrays."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from hierpretrain._names import nfc

Numbers = NDArray[np.int64]


def number_nodes(parts: Iterable[Sequence[Sequence[str]]], num_levels: int) -> Iterator[tuple[list[str], Numbers]]:
    """Yields the nodes of each level that any path goes through, in the sorted order of their paths.

    Names that are one text in two Unicode forms are one name, in the composed form.

    Args:
        parts: Paths of at most ``num_levels`` names each, some at a time.
        num_levels: The number of levels.

    Yields:
        For each level, the coarsest first, the names of its nodes, and the (num_nodes,) numbers of their parents one
        level up, 0 for the root.

    Raises:
        ValueError: If a name is empty.

    Example:
        >>> for names, parents in number_nodes([[("tool",), ("cat", "tabby")], [("cat", "lion")]], 2):
        ...     names, parents.tolist()
        (['cat', 'tool'], [0, 0])
        (['lion', 'tabby'], [0, 0])
    """
    seen: defaultdict[str, int] = defaultdict(itertools.count().__next__)  # counts names as they come
    all_codes, all_lengths = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for part in parts:
        all_lengths.append(lengths_of(part))
        all_codes.append(np.fromiter(map(seen.__getitem__, itertools.chain.from_iterable(part)), np.int64))
        if "" in seen:
            path = next(path for path in part if "" in path)
            raise ValueError(f"every name on a path must be a non-empty string; path {tuple(path)!r} has ''")
    codes, lengths = np.concatenate(all_codes), np.concatenate(all_lengths)
    names = list(seen)
    del all_codes, seen
    if not "".join(names).isascii():
        forms: defaultdict[str, int] = defaultdict(itertools.count().__next__)
        codes = np.fromiter(map(forms.__getitem__, map(nfc, names)), np.int64)[codes]
        names = list(forms)
    by_name = np.array(sorted(range(len(names)), key=names.__getitem__), np.int64)
    ranks = np.empty_like(by_name)
    ranks[by_name] = np.arange(len(names))
    nodes, num_nodes = np.zeros(len(lengths), np.int64), 1  # of each path at the level above
    for chosen, of_level in _levels(codes, lengths, num_levels):
        different, of_level = _unique(ranks[of_level], len(names))
        # A node is a pair (parent, name), written as one integer that sorts as the pair does.
        pairs, nodes[chosen] = _unique(nodes[chosen] * len(different) + of_level, num_nodes * len(different))
        parents, of_node = np.divmod(pairs, max(len(different), 1))
        num_nodes = len(pairs)
        yield list(map(names.__getitem__, by_name[different[of_node]].tolist())), parents


class NodeLookup:
    """Finds the nodes on label paths, in a tree whose nodes of a level may be in any order.

    Args:
        names: For each level, the coarsest first, the names of its nodes, in Unicode's composed form.
        parents: For each level the numbers of the nodes' parents; whatever they are, level 1 has one parent.

    Example:
        >>> lookup = NodeLookup([["tool", "cat"], ["lion"]], [np.array([-1, -1]), np.array([1])])
        >>> lookup.find([("cat", "lion"), ("tool", "saw")])
        (array([[ 1,  0],
               [ 0, -1]]), array([2, 1]))
    """

    def __init__(self, names: Sequence[Sequence[str]], parents: Sequence[Numbers]) -> None:
        self._codes: defaultdict[str, int] = defaultdict(itertools.count().__next__)
        codes = [np.fromiter(map(self._codes.__getitem__, of_level), np.int64, len(of_level)) for of_level in names]
        pairs = [above * len(self._codes) + of_level for above, of_level in zip(parents, codes, strict=True)]
        pairs[:1] = codes[:1]  # below the root
        self._order = [of_level.argsort() for of_level in pairs]
        self._pairs = [of_level[order] for of_level, order in zip(pairs, self._order, strict=True)]

    def find(self, paths: Sequence[Sequence[str]]) -> tuple[Numbers, Numbers]:
        """Returns the (N, L) numbers of the nodes on N paths, -1 below the end of each, and how many were found, (N,).

        A name may be in any Unicode form.
        Of a path that leads out of the tree, the nodes up to there are found.
        """
        unknown, lengths = len(self._codes), lengths_of(paths)
        names = itertools.chain.from_iterable(paths)
        codes = np.fromiter(map(self._codes.get, names, itertools.repeat(unknown)), np.int64)
        if (codes == unknown).any():
            names = map(nfc, itertools.chain.from_iterable(paths))
            codes = np.fromiter(map(self._codes.get, names, itertools.repeat(unknown)), np.int64)
        found = np.full((len(paths), len(self._pairs)), -1)
        depths = np.zeros(len(paths), np.int64)
        nodes = np.zeros(len(paths), np.int64)
        for level, (chosen, of_level) in enumerate(_levels(codes, lengths, len(self._pairs))):
            there = (depths[chosen] == level) & (of_level < unknown)
            chosen, of_level = chosen[there], of_level[there]
            pairs, of_nodes = nodes[chosen] * unknown + of_level, self._pairs[level]
            positions = np.searchsorted(of_nodes, pairs)
            there = of_nodes.take(positions, mode="clip") == pairs
            chosen = chosen[there]
            nodes[chosen] = found[chosen, level] = self._order[level][positions[there]]
            depths[chosen] = level + 1
        return found, depths


def has_twice(names: Sequence[str], parents: Sequence[int]) -> bool:
    """Returns whether two nodes of a level have the same name and the same parent.

    Example:
        >>> has_twice(["cat", "dog", "cat"], [0, 1, 1]), has_twice(["cat", "dog", "cat"], [1, 1, 1])
        (False, True)
    """
    if len(set(names)) == len(names):
        return False
    seen: defaultdict[str, int] = defaultdict(itertools.count().__next__)
    codes = np.fromiter(map(seen.__getitem__, names), np.int64, len(names))
    return len(np.unique(np.array(parents, np.int64) * len(names) + codes)) < len(names)


def lengths_of(paths: Sequence[Sequence[str]]) -> Numbers:
    """Returns how many names each path has."""
    return np.fromiter(map(len, paths), np.int64, len(paths))


def _unique(numbers: Numbers, bound: int) -> tuple[Numbers, Numbers]:
    """Returns the different numbers, ascending, and the index of each number among them; all are from 0 below bound."""
    if bound > 4 * len(numbers):
        different, indices = np.unique(numbers, return_inverse=True)
        return different, indices
    there = np.zeros(bound, bool)  # no need to sort
    there[numbers] = True
    return np.flatnonzero(there), (there.cumsum() - 1)[numbers]


def _levels(codes: Numbers, lengths: Numbers, num_levels: int) -> Iterator[tuple[Numbers, Numbers]]:
    """Yields, for each level, the indices of the paths that reach it and the codes of their names there."""
    starts = lengths.cumsum() - lengths
    for level in range(num_levels):
        chosen = np.flatnonzero(lengths > level)
        yield chosen, codes[starts[chosen] + level]
