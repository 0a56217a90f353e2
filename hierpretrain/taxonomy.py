"""The label tree: the only module that knows what a level is and that compares label columns.

The running example of every docstring and test is this ragged tree of six leaves::

                      level 1     level 2     level 3          label row
    (root) ──┬─────── animal ──┬─ cat ─────┬─ siamese          [0, 0,  0]
             │                 │           └─ tabby            [0, 0,  1]
             │                 └─ dog                          [0, 1, -1]
             ├─────── food ────── fruit ───┬─ apple            [1, 2,  2]
             │                             └─ cherry           [1, 2,  3]
             └─────── tool                                     [2, -1, -1]

A label row holds one node id for each level, the coarsest level first. ``PAD`` stands for the levels below the end of
an item's path, and for levels that are not known. It occurs on the right only, and it never equals another ``PAD``.

An item may have several paths: a tomato is a fruit and a vegetable. The labels of N items are then (N, P, L), with a
label row for each path, and rows of ``PAD`` for an item that has fewer than P. Two items share as many levels as the
two of their paths that share the most.
"""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from hierpretrain._collection import without_collection
from hierpretrain._json import parse_json_bytes
from hierpretrain._names import did_you_mean, nfc
from hierpretrain._node_numbers import NodeLookup, has_twice, lengths_of, number_nodes
from hierpretrain._texts import short
from hierpretrain.files import write_whole

PAD = -1
"""The entry of a label row below the end of the item's path. It equals nothing, not even another ``PAD``."""

MAX_LEVELS = 1000
"""How many levels a tree may have. Real ones have up to thirty; what costs levels times levels stays small."""

LabelsLike = Tensor | NDArray[Any] | Sequence[Any]
"""Labels as people have them, of which :func:`as_labels` makes a tensor: integers of any size, signed or not."""

LabelPath = Sequence[str]
"""Names from below the root down to an item's node."""

_FORMAT = "hierpretrain.taxonomy.v1"


class Taxonomy:
    """A tree of named nodes. Items belong to nodes of any depth.

    Node ids count from 0 within a level, in the sorted order of the paths, so that the same set of paths gives the same
    ids in any order. Nodes of the same name under different parents are different nodes. Names of nodes and levels are
    put into Unicode's composed form (NFC), and may be given in any, so that one word is one name however it is spelt.

    Args:
        paths: The path of every item: the names from below the root down to the item's node, as many as there are. An
            empty path is an item without a label. For an item with several paths, a sequence of them. Paths may repeat.
        level_names: A name for every level, the coarsest first.

    Raises:
        ValueError: If a path is a bare string or deeper than ``level_names``, if a name is empty or no string, if
            level names repeat, or if a level has no node.

    Example:
        >>> tree = Taxonomy([("animal", "cat", "tabby"), ("animal", "cat", "siamese"), ("animal", "dog"), ("tool",)],
        ...                 level_names=("kingdom", "kind", "breed"))
        >>> tree.encode([("animal", "cat", "tabby"), ("animal", "dog")]).tolist()
        [[0, 0, 1], [0, 1, -1]]
        >>> tree.decode([0, 1, -1])
        ('animal', 'dog')
        >>> tree.num_nodes("kind"), tree.name(2, 1), tree.parent(3, 1), tree.children(2, 0)
        (2, 'dog', 0, (0, 1))
    """

    @without_collection
    def __init__(self, paths: Iterable[LabelPath | Sequence[LabelPath]], level_names: Sequence[str]) -> None:
        self.level_names = _checked_level_names(level_names)
        nodes = list(number_nodes(map(self._not_too_deep, (part for part, _ in _parts(paths))), self.num_levels))
        self._set_nodes([names for names, _ in nodes], [parents for _, parents in nodes])

    def _not_too_deep(self, paths: list[LabelPath]) -> list[LabelPath]:
        if max(map(len, paths), default=0) > self.num_levels:
            path = next(tuple(path) for path in paths if len(path) > self.num_levels)
            raise ValueError(
                f"path {path!r} has {len(path)} levels, more than the {self.num_levels} level_names "
                f"{self.level_names!r}; name every level"
            )
        return paths

    def _set_nodes(self, names: Sequence[list[str]], parents: Sequence[Sequence[int] | NDArray[np.int64]]) -> None:
        """Stores the names and the parents' ids of the nodes of each level; the parents of level 1 become ``PAD``."""
        for level_name, of_level in zip(self.level_names, names, strict=True):
            if not of_level:
                raise ValueError(
                    f"level {level_name!r} has no node: no path reaches it; drop it from level_names "
                    f"{self.level_names!r}"
                )
        self._names = list(names)
        self._parents = [np.array(of_level, np.int64) for of_level in parents]
        for of_top in self._parents[:1]:
            of_top[:] = PAD

    @cached_property
    def _lookup(self) -> NodeLookup:
        return NodeLookup(self._names, self._parents)

    @cached_property
    def _children(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """For each level but the last, the nodes below it by parent, and where each parent's begin."""
        return [
            (below.argsort(kind="stable"), np.bincount(below + 1, minlength=len(names) + 1).cumsum())
            for names, below in zip(self._names, self._parents[1:], strict=False)
        ]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_lookup", "_children")}

    # ---------------------------------------------------------------- what the tree is
    @property
    def num_levels(self) -> int:
        """The number of levels ``L``: the depth of the deepest path."""
        return len(self.level_names)

    def level(self, level: int | str) -> int:
        """Returns the number of a level, from 1 (coarsest) to L.

        Args:
            level: The name of the level, or its number; -1 is the finest level, -2 the one above it. A number that no
                level has may be a name: of the year 2024, for example.

        Raises:
            ValueError: If there is no such level; ``True`` is none.
        """
        if isinstance(level, Integral) and not isinstance(level, bool) and 1 <= abs(level) <= self.num_levels:
            return int(level) if level > 0 else self.num_levels + 1 + level
        if isinstance(level, str | Integral) and (name := nfc(str(level))) in self.level_names:
            return self.level_names.index(name) + 1
        guess = did_you_mean(level, self.level_names) if isinstance(level, str) else ""
        raise ValueError(
            f"no level {level!r}{f' ({guess})' if guess else ''}: levels are 1 (coarsest) to {self.num_levels}, or by "
            f"name one of {self.level_names!r}"
        )

    def num_nodes(self, level: int | str) -> int:
        """Returns the number of nodes at a level (a number from 1, the coarsest, or a name)."""
        return len(self._names[self.level(level) - 1])

    @property
    def level_sizes(self) -> list[int]:
        """The number of nodes of each level, the coarsest first."""
        return [len(names) for names in self._names]

    def name(self, level: int | str, node: int) -> str:
        """Returns the name of a node, without its ancestors' names."""
        return self._node(level, node)[0]

    def names(self, level: int | str) -> list[str]:
        """Returns the names of all nodes of a level, without their ancestors' names, in the order of the ids.

        Example:
            >>> Taxonomy([("animal", "cat"), ("animal", "dog"), ("tool", "cat")], ("kingdom", "kind")).names("kind")
            ['cat', 'dog', 'cat']
        """
        return list(self._names[self.level(level) - 1])

    def parent(self, level: int | str, node: int) -> int:
        """Returns the id of a node's parent, one level up; ``PAD`` for a node of level 1, whose parent is the root."""
        return self._node(level, node)[1]

    def children(self, level: int | str, node: int) -> tuple[int, ...]:
        """Returns the ids of a node's children, one level down, in order; empty for a leaf."""
        number = self.level(level)
        self._node(number, node)
        if number == self.num_levels:
            return ()
        nodes, starts = self._children[number - 1]
        return tuple(nodes[starts[node] : starts[node + 1]].tolist())

    def node_paths(self, level: int | str | None = None) -> list[tuple[str, ...]]:
        """Returns the paths of names of the nodes of a level, in the order of their ids.

        Args:
            level: A number from 1, the coarsest, or a name. ``None``: the nodes of all levels, the coarsest level
                first.

        Example:
            >>> tree = Taxonomy([("animal", "cat"), ("animal", "dog"), ("tool",)], ("kingdom", "kind"))
            >>> tree.node_paths("kind"), tree.node_paths()[:3]
            ([('animal', 'cat'), ('animal', 'dog')], [('animal',), ('tool',), ('animal', 'cat')])
        """
        number = self.num_levels if level is None else self.level(level)
        found: list[tuple[str, ...]] = []
        paths: list[tuple[str, ...]] = [()]
        for names, parents in itertools.islice(zip(self._names, self._parents, strict=True), number):
            # PAD, the parent at level 1, is the index of the last path, which is there the root's and the only one
            paths = [(*paths[parent], name) for parent, name in zip(parents.tolist(), names, strict=True)]
            found += paths
        return found if level is None else paths

    def node_path(self, level: int | str, node: int) -> tuple[str, ...]:
        """Returns the names from the coarsest level down to a node.

        Example:
            >>> Taxonomy([("animal", "cat"), ("tool",)], ("kingdom", "kind")).node_path("kind", 0)
            ('animal', 'cat')
        """
        names = []
        for number in range(self.level(level), 0, -1):
            names.append(self.name(number, node))
            node = self.parent(number, node)
        return tuple(names[::-1])

    def node_labels(self, level: int | str | None = None) -> Tensor:
        """Returns the labels of all nodes of a level, in the order of their ids, or of all levels.

        Args:
            level: A number from 1, the coarsest, or a name; ``None``: all levels, the coarsest first.

        Returns:
            (num_nodes, l) int64 for level number l. Column ``k - 1`` holds the node's ancestor at level k, and the last
            column the node itself. Of all levels, (C, L) with ``PAD`` behind each node.

        Example:
            >>> tree = Taxonomy([("animal", "cat"), ("animal", "dog"), ("tool", "saw")], ("kingdom", "kind"))
            >>> tree.node_labels(2).tolist()
            [[0, 0], [0, 1], [1, 2]]
            >>> tree.node_labels().tolist()
            [[0, -1], [1, -1], [0, 0], [0, 1], [1, 2]]
        """
        if level is None:
            levels = range(1, self.num_levels + 1)
            padded = [pad(self.node_labels(each), (0, self.num_levels - each), value=PAD) for each in levels]
            return torch.cat([torch.empty(0, self.num_levels, dtype=torch.int64), *padded])
        number = self.level(level)
        columns = [torch.arange(len(self._names[number - 1]))]
        for parents in reversed(self._parents[:number]):
            columns.insert(0, torch.from_numpy(parents)[columns[0]])
        return torch.stack(columns[1:], 1)  # without the root

    def heights(self, level: int | str) -> Tensor:
        """Returns the height of every node of a level: the length of the longest path from it down to a leaf.

        Args:
            level: A number from 1, the coarsest, or a name.

        Returns:
            (num_nodes,) int64, in the order of the ids; 0 for a leaf.

        Example:
            >>> Taxonomy([("animal", "cat"), ("animal", "dog"), ("tool",)], ("kingdom", "kind")).heights(1).tolist()
            [1, 0]
        """
        heights = torch.zeros(self.num_nodes(-1), dtype=torch.int64)
        for above in range(self.num_levels, self.level(level), -1):
            found = torch.zeros(self.num_nodes(above - 1), dtype=torch.int64)
            heights = found.scatter_reduce(0, torch.from_numpy(self._parents[above - 1]), heights + 1, "amax")
        return heights

    def lca_heights(self, a: Tensor, b: Tensor) -> Tensor:
        """Returns the height of the lowest common ancestor of every pair of items, a distance in the tree.

        The height of a node is the length of the longest path from it down to a leaf: 0 for a leaf, L for the root
        (Bertinetto et al., *Making Better Mistakes*, CVPR 2020). In a ragged tree, the distance between a shallow leaf
        and its siblings therefore grows with the deepest node below the siblings.

        Args:
            a: (N, L) labels of this tree.
            b: (M, L) labels of this tree.

        Returns:
            (N, M) int64 in 0..L on the CPU. It is 0 for two items of the same leaf, the height of the node for two
            items of the same inner node, and L if the two share no level or one has no label.

        Raises:
            ValueError: If a label matrix is malformed or has a row that is no path of this tree.

        Example:
            >>> paths = [("animal", "cat", "tabby"), ("animal", "dog"), ("tool",)]
            >>> tree = Taxonomy(paths, ("kingdom", "kind", "breed"))
            >>> labels = tree.encode(paths)
            >>> tree.lca_heights(labels, labels).tolist()
            [[0, 2, 3], [2, 0, 3], [3, 3, 0]]
        """
        a, b = self.check_own(a), self.check_own(b)
        return self.path_heights(a).gather(1, shared_depth(a, b))

    def path_heights(self, labels: Tensor) -> Tensor:
        """Returns what :func:`path_heights` does for (N, L) labels of this tree, some of whose nodes they may lack."""
        return path_heights(torch.cat([labels, self.node_labels()]))[: len(labels)]

    def check_own(self, labels: Tensor, *, several_paths: bool = False) -> Tensor:
        """Returns labels on the CPU, after checking that every row is a path of this tree.

        Args:
            labels: (N, L) labels, or (N, P, L) labels if ``several_paths``.
            several_paths: Whether items may have several paths each.

        Raises:
            ValueError: If labels are malformed or a row is no path of this tree.
        """
        labels = check_labels(labels, several_paths=several_paths)
        if labels.shape[-1] != self.num_levels:
            raise ValueError(
                f"label rows of this taxonomy have {self.num_levels} entries; these have {labels.shape[-1]}"
            )
        labels = labels.detach().cpu()
        rows = labels.flatten(0, -2)
        wrong = torch.zeros(len(rows), dtype=torch.bool)
        above = torch.full((len(rows),), PAD)
        for column, ids in zip(rows.unbind(1), self._parents, strict=True):
            parents = torch.from_numpy(ids)
            known = (column != PAD) & (column < len(parents))
            wrong |= (column != PAD) & ~known
            wrong[known] |= parents[column[known]] != above[known]
            above = column
        if wrong.any():
            self.decode(rows[int(wrong.nonzero()[0])])  # raises, with what is wrong
        return labels

    def _node(self, level: int | str, node: int) -> tuple[str, int]:
        number = self.level(level) - 1
        names = self._names[number]
        if not 0 <= node < len(names):
            raise ValueError(f"level {level!r} has nodes 0 to {len(names) - 1}, not {node}")
        return names[node], int(self._parents[number][node])

    # ---------------------------------------------------------------- paths <-> label rows
    def encode(self, paths: Iterable[LabelPath | Sequence[LabelPath]]) -> Tensor:
        """Turns paths of names into label rows.

        Args:
            paths: The path of each of N items: the names from below the root down to a node of the tree. An empty path
                gives a row of ``PAD``. For an item with several paths, a sequence of them; a path that is the beginning
                of another one is left out.

        Returns:
            (N, L) int64; column 0 is the coarsest level. If an item keeps several paths, (N, P, L) for the largest
            number P of paths.

        Raises:
            ValueError: If a path leads to no node of the tree.

        Example:
            >>> tree = Taxonomy([("fruit", "apple"), ("fruit", "tomato"), ("vegetable",)], ("kind", "crop"))
            >>> tree.encode([[("fruit", "tomato"), ("vegetable",), ("fruit",)], ("fruit",)]).tolist()
            [[[0, 1], [1, -1]], [[0, -1], [-1, -1]]]
        """
        rows, counts = [torch.empty(0, self.num_levels, dtype=torch.int64)], []
        for part, of_part in _parts(paths):
            found, depths = self._lookup.find(part)
            wrong = np.flatnonzero(depths < lengths_of(part))
            if len(wrong):
                path, known = tuple(part[wrong[0]]), int(depths[wrong[0]])
                raise ValueError(
                    f"path {path!r} is not in the taxonomy: no {path[known]!r} below {path[:known]!r}; build the "
                    "taxonomy from all the paths it shall encode"
                )
            rows.append(torch.from_numpy(found))
            counts += of_part
        most = max(counts, default=1)
        if most == 1:
            return torch.cat(rows)
        labels = torch.full((len(counts), most, self.num_levels), PAD)
        labels[torch.arange(most) < torch.tensor(counts)[:, None]] = torch.cat(rows)
        return labels

    def known_depths(self, paths: Sequence[LabelPath]) -> Tensor:
        """Returns how far down the tree has each of N paths, (N,) int64: the names of it that lead to a node.

        Example:
            >>> tree = Taxonomy([("animal", "cat"), ("tool",)], ("kingdom", "kind"))
            >>> tree.known_depths([("animal", "cat"), ("animal", "dog", "pug"), ("dog",)]).tolist()
            [2, 1, 0]
        """
        return torch.from_numpy(self._lookup.find(paths)[1])

    def encode_known(self, items: Iterable[Sequence[LabelPath]]) -> Tensor:
        """Encodes the paths of items, each only as far down as this tree has its nodes.

        Args:
            items: For each item its paths, of any tree; none: no label.

        Returns:
            As of :meth:`encode`.

        Example:
            >>> tree = Taxonomy([("animal", "cat"), ("tool",)], ("kingdom", "kind"))
            >>> tree.encode_known([[("animal", "cow")], [("animal", "cat"), ("tool",)], []]).tolist()
            [[[0, -1], [-1, -1]], [[0, 0], [1, -1]], [[-1, -1], [-1, -1]]]
        """
        items = [list(item) for item in items]
        paths = list({path for item in items for path in item})
        known = {path: path[:n] for path, n in zip(paths, self.known_depths(paths).tolist(), strict=True)}
        return self.encode([[known[path] for path in item] or [()] for item in items])

    def decode(self, row: Sequence[int] | Tensor) -> tuple[str, ...]:
        """Turns a label row into the path of names that it stands for.

        Args:
            row: L node ids.

        Raises:
            ValueError: If the row is no (L,) label row of this tree.
        """
        ids = list(map(int, row.tolist() if isinstance(row, Tensor) else row))
        if len(ids) != self.num_levels:
            raise ValueError(f"a label row of this taxonomy has {self.num_levels} entries; this one is {ids}")
        length = ids.index(PAD) if PAD in ids else len(ids)
        if min(ids, default=PAD) < PAD or any(i != PAD for i in ids[length:]):
            check_labels([ids])  # raises, with what is wrong
        path, above = [], PAD
        for level, node in enumerate(ids[:length], start=1):
            name, parent = self._node(level, node)
            if parent != above:
                raise ValueError(
                    f"label row {ids} is no path: node {node} of level {level} hangs below {parent}, not {above}"
                )
            path.append(name)
            above = node
        return tuple(path)

    # ---------------------------------------------------------------- to and from JSON
    def to_dict(self) -> dict[str, Any]:
        """Returns the tree as strings, integers and lists, for JSON, a checkpoint or ``dataset.metainfo``."""
        return {
            "format": _FORMAT,
            "level_names": list(self.level_names),
            "names": list(map(list, self._names)),
            "parents": [parents.tolist() for parents in self._parents],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Taxonomy:
        """Makes a tree from the dict that ``to_dict`` returned; it has the same ids.

        Args:
            data: The dict.

        Raises:
            ValueError: If it is no dict of a taxonomy, a parent does not exist or a node is given twice.
        """
        if not isinstance(data, dict) or data.get("format") != _FORMAT:
            raise ValueError(f"no taxonomy: expected a dict with 'format': {_FORMAT!r}, as Taxonomy.to_dict writes")
        if missing := {"level_names", "names", "parents"} - data.keys():
            raise ValueError(f"the taxonomy lacks {sorted(missing)}; write it anew with Taxonomy.save")
        lists = [data["names"], data["parents"]]
        if any(not isinstance(of_all, list) or not all(isinstance(one, list) for one in of_all) for of_all in lists):
            raise ValueError("the taxonomy's names and parents must be a list for each level; write it anew")
        if not isinstance(data["level_names"], list):
            raise ValueError("the taxonomy's level_names must be a list; write it anew with Taxonomy.save")
        tree = cls.__new__(cls)
        tree.level_names = _checked_level_names(data["level_names"])
        if not len(data["names"]) == len(data["parents"]) == tree.num_levels:
            raise ValueError(
                f"the taxonomy names {tree.num_levels} levels but lists names of {len(data['names'])} and parents of "
                f"{len(data['parents'])}"
            )
        composed, num_above = [], 0
        for level, (names, parents) in enumerate(zip(data["names"], data["parents"], strict=True), start=1):
            if len(names) != len(parents):
                raise ValueError(f"level {level} of the taxonomy has {len(names)} names and {len(parents)} parents")
            composed.append(_checked_names(level, names, parents, range(num_above) if level > 1 else range(PAD, 0)))
            num_above = len(names)
        tree._set_nodes(composed, data["parents"])
        return tree

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the tree to a JSON file, whole or not at all."""
        write_whole(path, json.dumps(self.to_dict(), ensure_ascii=False).encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Taxonomy:
        """Reads a tree from a file that ``save`` wrote.

        Raises:
            ValueError: If the file is missing, no JSON or no taxonomy.
        """
        try:
            data = parse_json_bytes(Path(path).read_bytes(), path, "write it anew with Taxonomy.save")
        except OSError as error:
            why = error.strerror or error
            raise ValueError(
                f"cannot read the taxonomy {os.fspath(path)}: {why}; give a file that Taxonomy.save wrote"
            ) from error
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)} is no JSON file of a taxonomy: {error}") from error
        try:
            return cls.from_dict(data)
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from error

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Taxonomy)
            and self.level_names == other.level_names
            and self._names == other._names
            and all(map(np.array_equal, self._parents, other._parents))
        )

    def __hash__(self) -> int:
        return hash((self.level_names, tuple(map(len, self._names))))

    def __repr__(self) -> str:
        levels = ", ".join(f"{name}: {len(names)}" for name, names in zip(self.level_names, self._names, strict=True))
        return f"Taxonomy({levels})"


def _checked_level_names(level_names: Sequence[str]) -> tuple[str, ...]:
    names = (level_names,) if isinstance(level_names, str) else tuple(level_names)
    names = tuple(nfc(name) if isinstance(name, str) else name for name in names)
    if any(not isinstance(name, str) or not name for name in names) or len(set(names)) < len(names):
        raise ValueError(
            f"level_names must be different non-empty strings, the coarsest level first; they are {short(names)}"
        )
    if len(names) > MAX_LEVELS:
        raise ValueError(f"a tree has at most {MAX_LEVELS} levels; here are {len(names)}: name those that are levels")
    return names


def _checked_names(level: int, names: list[Any], parents: list[Any], above: range) -> list[str]:
    """Returns the composed names of the nodes of one level of a file; their parents may have the ids ``above``."""
    if not (set(map(type, names)) <= {str} and "" not in names and set(map(type, parents)) <= {int}) or (
        parents and not (min(parents) in above and max(parents) in above)
    ):
        for i, (name, parent) in enumerate(zip(names, parents, strict=True)):
            if not isinstance(name, str) or not name:
                raise ValueError(f"node {i} of level {level} has the name {short(name)}; names are non-empty strings")
            if type(parent) is not int or parent not in above:
                raise ValueError(
                    f"node {i} ({name!r}) of level {level} has the parent {short(parent)}, which does not exist"
                )
    names = list(names) if "".join(names).isascii() else list(map(nfc, names))
    if has_twice(names, parents):
        counts = Counter(zip(names, parents, strict=True))
        name, parent = next(node for node, count in counts.items() if count > 1)
        raise ValueError(f"level {level} of the taxonomy has the node {name!r} twice below parent {parent}")
    return names


def longest_paths(paths: Sequence[LabelPath]) -> list[tuple[str, ...]]:
    """Returns the different paths of an item, in their order, without paths that are the beginning of another one.

    Example:
        >>> longest_paths([("fruit",), ("fruit", "tomato"), ("vegetable",), ("vegetable",)])
        [('fruit', 'tomato'), ('vegetable',)]
    """
    unique = list(dict.fromkeys(map(tuple, paths)))
    if len(unique) == 1:
        return unique
    return [path for path in unique if not any(other[: len(path)] == path != other for other in unique)]


_AT_A_TIME = 4096  # items, whose paths then stay near the processor


def _parts(items: Iterable[LabelPath | Sequence[LabelPath]]) -> Iterator[tuple[list[LabelPath], list[int]]]:
    """Yields the paths of some items at a time, and the number of each item's paths; all names are known to be texts.

    Of an item with several paths, those that are the beginning of another are left out.
    """
    items = iter(items)
    while part := list(itertools.islice(items, _AT_A_TIME)):
        if set(map(type, part)) <= {tuple, list} and set(map(type, itertools.chain.from_iterable(part))) <= {str}:
            yield cast(list[LabelPath], part), [1] * len(part)
            continue
        kept = []
        for paths in map(_paths_of, part):
            for path in paths:
                if wrong := [name for name in path if not isinstance(name, str)]:
                    raise ValueError(f"every name on a path must be a non-empty string; path {path!r} has {wrong[0]!r}")
            kept.append(longest_paths([tuple(map(nfc, path)) for path in paths]))
        yield list(itertools.chain.from_iterable(kept)), list(map(len, kept))


def _paths_of(item: LabelPath | Sequence[LabelPath]) -> list[tuple[str, ...]]:
    """Returns the paths of an item that is given by its one path or by a sequence of paths."""
    if isinstance(item, str):
        raise ValueError(f"a path must be a sequence of names, not the string {item!r}; pass ({item!r},)")
    several = len(item) > 0 and all(isinstance(path, Sequence) and not isinstance(path, str) for path in item)
    return [tuple(path) for path in (item if several else (cast(LabelPath, item),))]


def as_labels(labels: LabelsLike, name: str = "labels") -> Tensor:
    """Returns labels as int64, which every function of labels computes with.

    Of unsigned integers none is ``PAD``: 255 of ``uint8`` is node 255.

    Args:
        labels: A tensor, an array or nested lists of integers, of any shape.
        name: What a message shall call them.

    Raises:
        ValueError: If they are no integers, do not fit int64 or are rows of different lengths.

    Example:
        >>> as_labels(np.array([[0, 255]], np.uint8))
        tensor([[  0, 255]])
    """
    rule = f"{name} must be integers, since ids above 2^24 collide as float32; they are "
    if isinstance(labels, Tensor):
        if labels.dtype == torch.int64:
            return labels
        if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
            raise ValueError(f"{rule}{labels.dtype}")
        found, unsigned = labels.long(), labels.dtype == torch.uint64
    else:
        try:
            array = np.asarray(labels)
        except ValueError as error:
            raise ValueError(f"{name} must be rows of one length, with PAD (-1) at their ends: {error}") from error
        if array.dtype.kind not in "iu" and array.size:
            raise ValueError(f"{rule}{array.dtype}")
        found, unsigned = torch.from_numpy(array.astype(np.int64)), array.dtype == np.uint64
    if unsigned and bool((found < 0).any()):
        raise ValueError(f"{name} must be below 2^63; the largest of these is above")
    return found


def check_labels(labels: LabelsLike, *, several_paths: bool = False) -> Tensor:
    """Returns ``labels`` as int64, once they are known to be a label matrix: ids from 0, ``PAD`` on the right only.

    Args:
        labels: (N, L) labels, or (N, P, L) labels if ``several_paths``; as for :func:`as_labels`.
        several_paths: Whether items may have several paths each.

    Raises:
        ValueError: With the rule and the first row that breaks it.

    Example:
        >>> check_labels([[0, 1], [3, PAD]])
        tensor([[ 0,  1],
                [ 3, -1]])
        >>> check_labels(torch.tensor([[PAD, 1]]))
        Traceback (most recent call last):
        ValueError: labels must be (N, L) with PAD (-1) only on the right; row 0 is [-1, 1]
    """
    labels = as_labels(labels)
    if labels.ndim == 3 and not several_paths:
        raise ValueError(
            f"labels must be (N, L), one path an item, here; these have up to {labels.shape[1]} paths. Give the data "
            "set paths='first', 'longest' or 'drop', or use what takes several (HiMulCon, HierarchicalRetrievalMetric)"
        )
    if labels.ndim not in (2, 3) or (labels.ndim == 3 and labels.shape[1] == 0):
        raise ValueError(f"labels must be (N, L), one row of node ids per item; their shape is {tuple(labels.shape)}")
    if labels.numel() == 0 or bool(labels.amin() >= 0):  # no PAD: nothing that could stand in a wrong place
        return labels
    known = labels != PAD
    wrong = (labels < PAD).any(-1) | (known[..., 1:] & ~known[..., :-1]).any(-1)
    if wrong.any():
        row = tuple(wrong.nonzero()[0].tolist())
        rule = "ids from 0" if bool((labels[row] < PAD).any()) else "PAD (-1) only on the right"
        shape = "(N, L)" if labels.ndim == 2 else "(N, P, L)"
        where = str(row[0]) if len(row) == 1 else f"{row[1]} of item {row[0]}"
        raise ValueError(f"labels must be {shape} with {rule}; row {where} is {labels[row].tolist()}")
    return labels


def as_paths(labels: Tensor) -> Tensor:
    """Returns the labels of items as (N, P, L), where (N, L) are one path each.

    Example:
        >>> as_paths(torch.tensor([[0, 1], [2, -1]])).shape
        torch.Size([2, 1, 2])
    """
    return labels[:, None] if labels.ndim == 2 else labels


def depth(labels: Tensor) -> Tensor:
    """Returns the depth of each item: the number of entries of its label row that are not ``PAD``.

    Args:
        labels: (N, L) or (N, P, L) labels.

    Returns:
        (N,) int64 in 0..L; for an item with several paths, the depth of its deepest one.

    Example:
        >>> depth(torch.tensor([[0, 0, 1], [0, 1, PAD], [PAD, PAD, PAD]])).tolist()
        [3, 2, 0]
    """
    labels = check_labels(labels, several_paths=True)
    depths = (labels != PAD).sum(-1)
    return depths if labels.ndim == 2 else depths.amax(1)


def shared_depth(a: Tensor, b: Tensor) -> Tensor:
    """Returns the depth of the lowest common ancestor of every pair: the number of leading levels that the two share.

    Levels count only while all coarser ones are equal as well. Ids may therefore be unique within their parent only,
    such as variation 1 of every product.

    Args:
        a: (N, L) or (N, P, L) labels.
        b: (M, L) or (M, Q, L) labels.

    Returns:
        (N, M) int64 in 0..L. ``PAD`` equals nothing, so two items of the same inner node of depth d share d levels.
        Items with several paths share as many levels as the two paths that share the most. Further paths cost time and
        memory only for the pairs of items that have them.

    Raises:
        ValueError: If labels are malformed or the two have different numbers of levels.

    Example:
        >>> tabby, dog, apple = [0, 0, 1], [0, 1, PAD], [1, 2, 2]
        >>> shared_depth(torch.tensor([tabby, dog]), torch.tensor([tabby, dog, apple])).tolist()
        [[3, 1, 0], [1, 2, 0]]
        >>> both, none = [tabby, apple], [PAD, PAD, PAD]
        >>> shared_depth(torch.tensor([both, [dog, none]]), torch.tensor([apple, dog])).tolist()
        [[3, 1], [0, 2]]
    """
    a, b = _checked_pair(a, b)
    paths_of_a, paths_of_b = _by_path(a), _by_path(b)
    shared = _shared(paths_of_a[0][1], paths_of_b[0][1])
    for i, (items_of_a, left) in enumerate(paths_of_a):
        for j, (items_of_b, right) in enumerate(paths_of_b):
            if i + j:  # the first paths are in `shared` already
                pairs = items_of_a[:, None], items_of_b
                shared[pairs] = torch.maximum(shared[pairs], _shared(left, right))
    return shared


def _by_path(labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Groups labels by path: the first path of all items, then the second path of the items that have one, and so on.

    Returns:
        For each group, the (n,) indices of the items and their (n, L) paths.
    """
    if labels.ndim == 2:
        return [(torch.arange(len(labels), device=labels.device), labels)]
    found = [(torch.arange(len(labels), device=labels.device), labels[:, 0])]
    for path in labels.unbind(1)[1:]:
        items = (path[:, :1] != PAD).any(1).nonzero()[:, 0]
        if len(items):
            found.append((items, path[items]))
    return found


def _checked_pair(a: LabelsLike, b: LabelsLike) -> tuple[Tensor, Tensor]:
    a, b = check_labels(a, several_paths=True), check_labels(b, several_paths=True)
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(f"both label matrices must have the same levels; they have {a.shape[-1]} and {b.shape[-1]}")
    return a, b


def _shared(a: Tensor, b: Tensor) -> Tensor:
    """Returns the shared depth of all pairs of (N, L) and (M, L) paths."""
    shared = torch.zeros(len(a), len(b), dtype=torch.int64, device=a.device)
    alive = torch.ones(len(a), len(b), dtype=torch.bool, device=a.device)
    for left, right in zip(a.unbind(1), b.unbind(1), strict=True):
        alive &= (left[:, None] == right[None, :]) & (left != PAD)[:, None]
        shared += alive
    return shared


def paired_depth(a: Tensor, b: Tensor) -> Tensor:
    """Returns the shared depth of each item and the item of the same index in the other matrix.

    Args:
        a: (N, L) or (N, P, L) labels.
        b: (N, L) or (N, Q, L) labels.

    Returns:
        (N,) int64 in 0..L, the diagonal of ``shared_depth(a, b)``, in O(N P Q L).

    Raises:
        ValueError: If labels are malformed or the two differ in their numbers of items or levels.

    Example:
        >>> paired_depth(torch.tensor([[0, 0], [0, PAD], [1, 2]]), torch.tensor([[0, 1], [0, PAD], [2, 3]])).tolist()
        [1, 1, 0]
    """
    a, b = _checked_pair(a, b)
    if len(a) != len(b):
        raise ValueError(f"paired label matrices must have as many items each; they have {len(a)} and {len(b)}")
    a, b = as_paths(a), as_paths(b)
    same = (a[:, :, None] == b[:, None]) & (a != PAD)[:, :, None]  # (N, P, Q, L)
    return same.long().cumprod(-1).sum(-1).amax((1, 2))


def leads_to(labels: Tensor, node: Tensor) -> Tensor:
    """Returns which label paths lead to a node of their tree or below it, by the ids of the node's level alone.

    Args:
        labels: (N, L) or (N, P, L) labels of a :class:`Taxonomy`, whose ids are unique within their level.
        node: (1, L) labels of a node below the root.

    Returns:
        (N, 1) or (N, P) bool.

    Example:
        >>> leads_to(torch.tensor([[[0, 1], [1, 2]], [[0, 0], [PAD, PAD]]]), torch.tensor([[0, PAD]])).tolist()
        [[True, False], [True, False]]
    """
    column = int(depth(node)) - 1
    found = labels[..., column] == node[0, column]
    return found[:, None] if found.ndim == 1 else found


_LARGEST = 2**63 - 1  # int64


def prefix_ids(labels: Tensor) -> Tensor:
    """Returns labels with new node ids that are unique within their level and leave no gaps.

    Args:
        labels: (N, L) or (N, P, L) labels; an id may be unique within its parent alone.

    Returns:
        int64 of the same shape. Two entries of column l are equal if and only if their rows agree in columns 0..l. Ids
        count from 0 in the sorted order of these prefixes. ``PAD`` stays ``PAD``.

    Example:
        >>> prefix_ids(torch.tensor([[7, 1], [9, 1], [7, 1], [9, PAD]])).tolist()
        [[0, 0], [1, 1], [0, 0], [1, -1]]
    """
    labels = check_labels(labels, several_paths=True)
    if labels.ndim == 3:
        return prefix_ids(labels.flatten(0, 1)).view_as(labels)
    ids = torch.full(labels.shape, PAD, dtype=torch.int64, device=labels.device)
    parents = torch.zeros(len(labels), dtype=torch.int64, device=labels.device)
    if len(labels) == 0:
        return ids
    widths = (labels.amax(0) + 1).clamp(min=1).tolist()
    complete = (labels != PAD).all(0).tolist()  # most columns are, and need no mask
    for level, (column, width) in enumerate(zip(labels.unbind(1), widths, strict=True)):
        known = slice(None) if complete[level] else column != PAD
        nodes = column[known]
        if width * len(labels) > _LARGEST:
            values, nodes = torch.unique(nodes, return_inverse=True)
            width = len(values)
        # Number the pairs (parent, node), each written as one integer that does not overflow.
        _, ids[known, level] = torch.unique(parents[known] * width + nodes, return_inverse=True)
        parents = ids[:, level]
    return ids


def path_heights(labels: Tensor) -> Tensor:
    """Returns the height of every node on each item's path, in the tree that all items together span.

    The height of a node is the length of the longest path from it down to a leaf. With the shared depth d of items i
    and j, entry ``[i, d]`` is the height of their lowest common ancestor.

    Args:
        labels: (N, L) label matrix; an id may be unique within its parent alone.

    Returns:
        (N, L + 1) int64. Column k has the height, 0..L - k, of the item's ancestor of depth k. Column 0 is the root;
        ``PAD`` stands below the item's own node.

    Example:
        >>> tabby, dog, tool = [0, 0, 1], [0, 1, PAD], [2, PAD, PAD]
        >>> path_heights(torch.tensor([tabby, dog, tool])).tolist()
        [[3, 2, 1, 0], [3, 2, 0, -1], [3, 0, -1, -1]]
    """
    labels = check_labels(labels)
    depths = depth(labels)
    nodes = pad(prefix_ids(labels), (1, 0), value=0)  # the root is node 0 of a level 0
    heights = []
    for level, column in enumerate(nodes.unbind(1)):
        known = column != PAD
        deepest = torch.zeros_like(depths).scatter_reduce(0, column[known], depths[known], "amax")
        heights.append(torch.where(known, deepest[column.clamp(min=0)] - level, PAD))
    return torch.stack(heights, 1)


_FIRST_INSTANCE = 1 << 40  # above every node id, so that an image never has the id of a child of its node


def append_instances(labels: Tensor, instances: Tensor) -> Tensor:
    """Adds a level of images to labels, below every item's own node, so that two views of an image share it.

    Args:
        labels: (N, L) or (N, P, L) labels with ids below 2^40.
        instances: (N,) numbers of the images, integers from 0; views of the same image have the same number.

    Returns:
        int64 labels with one more level. The image's node is in the first free column of each path, whatever its depth.
        It depends on the item alone, so that every process can extend the labels of its own items.

    Example:
        >>> labels = append_instances(torch.tensor([[0, 1], [0, PAD], [0, PAD]]), torch.tensor([0, 1, 1]))
        >>> shared_depth(labels, labels).tolist()
        [[3, 1, 1], [1, 2, 2], [1, 2, 2]]
    """
    labels, instances = check_labels(labels, several_paths=True), as_labels(instances, "instances")
    if instances.shape != labels.shape[:1]:
        raise ValueError(
            f"instances must be ({len(labels)},), one number per row; their shape is {tuple(instances.shape)}"
        )
    if labels.numel() and int(labels.max()) >= _FIRST_INSTANCE:
        raise ValueError(f"node ids must be below 2^40 for an instance level; the largest is {int(labels.max())}")
    paths = as_paths(labels)
    depths = (paths != PAD).sum(-1, keepdim=True)
    node = (instances + _FIRST_INSTANCE)[:, None, None].expand_as(depths)
    absent = depths == 0
    absent[:, 0] = False  # an item without a label is an image, too
    extended = torch.cat([paths, torch.full_like(depths, PAD)], -1).scatter(-1, depths, node.masked_fill(absent, PAD))
    return extended[:, 0] if labels.ndim == 2 else extended
