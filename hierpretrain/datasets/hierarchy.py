"""A hierarchy of classes in which a class may have several parents, and the tree that is made of it."""

from __future__ import annotations

import graphlib
import itertools
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mmengine.logging import print_log

from hierpretrain.datasets.annotations import some

POLICIES = ("error", "first", "last", "longest", "drop")
"""What may be done about a node with several parents, see :meth:`ClassHierarchy.paths`."""

_DUMMY = re.compile(r"dummy\d+")


@dataclass(frozen=True)
class LeafPaths:
    """The label paths of classes, and what had to be decided to get them.

    Args:
        paths: Class -> names from below the root to the class, in the order in which the classes were asked for.
        dropped: The classes that were asked for and left out.
        num_ambiguous: How many nodes had several parents, of which a policy took one or left the classes below out.
    """

    paths: dict[str, tuple[str, ...]]
    dropped: tuple[str, ...] = ()
    num_ambiguous: int = 0


class ClassHierarchy:
    """Nodes with any number of parents each: a directed acyclic graph, read from a file.

    Args:
        edges: Pairs (parent, child) in the order of the file; a repeated pair counts once.
        names: Node -> its names in words, a comma between synonyms; a node may lack them.
        source: What the edges were read from, for messages.
        lines: The line of every edge in ``source``, for messages.
        policy: What :meth:`paths` does about several parents unless told otherwise.
        hint: What to do when classes are missing, for messages.

    Attributes:
        parents: Node -> its parents in the order of the edges; parents come before their children.
        names: As given.

    Raises:
        ValueError: If there is no edge, a node is its own parent or ancestor, or the policy is unknown.

    Example:
        >>> pets = ClassHierarchy([("all", "animal"), ("all", "tool"), ("animal", "cat"), ("animal", "dog")],
        ...                       names={"cat": "cat, true cat"})
        >>> pets.paths(["cat", "dog", "tool"]).paths
        {'cat': ('animal', 'cat cat'), 'dog': ('animal', 'dog'), 'tool': ('tool',)}
    """

    def __init__(
        self,
        edges: Sequence[tuple[str, str]],
        *,
        names: Mapping[str, str] | None = None,
        source: str = "the hierarchy",
        lines: Sequence[int] | None = None,
        policy: str = "error",
        hint: str = "",
    ) -> None:
        if not edges:
            raise ValueError(f"{source} has no edge; a hierarchy needs at least one parent and child")
        _check_choice("policy", policy, POLICIES)
        self.names = dict(names or {})
        self.source = source
        self.policy = policy
        self.hint = hint
        parents: dict[str, dict[str, None]] = {}  # the inner dicts are ordered sets
        for parent, child in edges:
            parents.setdefault(parent, {})
            parents.setdefault(child, {})[parent] = None
        try:
            order = tuple(graphlib.TopologicalSorter(parents).static_order())
        except graphlib.CycleError as error:
            cycle = error.args[1]
            where = source
            if lines is not None:
                where += f":{lines[list(edges).index((cycle[0], cycle[1]))]}"
            raise ValueError(
                f"{where}: the cycle {' -> '.join(cycle)} makes a node its own ancestor; remove one of its edges"
            ) from error
        self.parents = {node: tuple(parents[node]) for node in order}

    def __contains__(self, node: object) -> bool:
        return node in self.parents

    def __len__(self) -> int:
        return len(self.parents)

    def __repr__(self) -> str:
        return f"ClassHierarchy({len(self)} nodes, {sum(map(len, self.parents.values()))} edges; {self.source})"

    def name(self, node: str) -> str:
        """Returns a node's name on a path: the node and its first name in words, as ``'n02012849 crane'``.

        The node comes with it because names repeat: ImageNet has two classes *crane* and two *maillot*.
        """
        words = self.names.get(node, "").split(",")[0].strip()
        return f"{node} {words}" if words else node

    def ancestors(self, nodes: Iterable[str]) -> set[str]:
        """Returns the nodes and all their ancestors.

        Raises:
            ValueError: If a node is unknown.

        Example:
            >>> sorted(ClassHierarchy([("all", "cat"), ("pet", "cat"), ("all", "dog")]).ancestors(["cat"]))
            ['all', 'cat', 'pet']
        """
        stack = list(nodes)
        self._check_known(stack)
        found: set[str] = set()
        while stack:
            node = stack.pop()
            if node not in found:
                found.add(node)
                stack.extend(self.parents[node])
        return found

    # ---------------------------------------------------------------- a tree
    def paths(
        self,
        leaves: Iterable[str],
        *,
        policy: str | None = None,
        collapse: bool = True,
        drop_dummies: bool = True,
        depths: Sequence[int] | None = None,
        root: str | None = None,
        missing: str = "error",
    ) -> LeafPaths:
        """Reduces the hierarchy above some classes to a tree, and returns every class's path in it.

        The steps, in order: only the classes and their ancestors below ``root`` remain; ``policy`` leaves one parent to
        every node; dummy nodes go; chains are collapsed; ``depths`` cuts levels out. A class is never removed by the
        last three, also where it is an ancestor of another class.

        Args:
            leaves: The classes. They may be ancestors of each other; repetitions count once.
            policy: Which parent a node with several keeps: the ``'first'`` or the ``'last'`` in the file's order, or
                the one with the ``'longest'`` path to the root (the first of equals). ``'drop'`` leaves out the classes
                that have several paths to the root; ``'error'`` raises. By default what suits the file.
            collapse: Whether nodes with one child go, unless they are classes: their child moves up. This holds for the
                root too: the tree starts where it first branches.
            drop_dummies: Whether nodes named ``dummy`` and a number go, their children moving up. The BREEDS hierarchy
                has them to bring branches to one length.
            depths: Keep only inner nodes of these depths, counted from 1 below the root after all the other steps,
                and hang every class below the last of them on its path. A class whose inner nodes end above a depth
                has a shorter path: nothing is repeated or skipped to fill it, and no node of another depth steps in. An
                inner node that is itself a class stays at any depth, so classes above classes lengthen paths.
            root: The node to start below; the only node without a parent by default.
            missing: What happens to classes that the hierarchy lacks, or has elsewhere than below ``root``:
                ``'error'`` or ``'drop'``.

        Returns:
            Paths of :meth:`name`, the coarsest first; the class is the last on its own path. The root is on no path,
            unless it is a class.

        Raises:
            ValueError: If an argument is none of its choices, a class is missing and ``missing='error'``, no class is
                left, several nodes have no parent and no ``root`` is given, or a node has several parents and
                ``policy='error'``.
        """
        policy = self.policy if policy is None else policy
        _check_choice("policy", policy, POLICIES)
        _check_depths(depths)
        asked = tuple(dict.fromkeys(leaves))
        kept, parents = self._below(asked, root, missing)
        ambiguous = [node for node in parents if len(parents[node]) > 1]
        if ambiguous and policy == "error":
            raise ValueError(
                f"{self.source}: {len(ambiguous)} nodes have several parents, the first {self.name(ambiguous[0])!r}: "
                f"{', '.join(map(self.name, parents[ambiguous[0]]))}; choose a policy of 'first', 'last', 'longest' or "
                "'drop'"
            )
        if ambiguous and policy == "drop":
            doubtful = set(ambiguous)
            for node in parents:  # parents come before children
                if not doubtful.isdisjoint(parents[node]):
                    doubtful.add(node)
            kept = tuple(leaf for leaf in kept if leaf not in doubtful)
            if not kept:
                raise ValueError(f"{self.source}: policy='drop' drops every class: each has several paths to the root")
            kept, parents = self._below(kept, next(iter(parents)), missing)
        chosen = _one_parent(parents, policy)
        classes = frozenset(kept)
        trails = {leaf: _trail(leaf, chosen, classes, drop_dummies) for leaf in kept}
        steps = {step for trail in trails.values() for step in itertools.pairwise(trail)}
        num_children = Counter(parent for parent, _ in steps)
        paths = {}
        for leaf, trail in trails.items():
            nodes = [node for node in trail if node in classes or not collapse or num_children[node] != 1]
            paths[leaf] = tuple(
                self.name(node)
                for depth, node in enumerate(nodes)  # from 0, the root, or where the tree first branches
                if node in classes or (depth > 0 and (depths is None or depth in depths))
            )
        dropped = tuple(leaf for leaf in asked if leaf not in paths)
        self._log(ambiguous, policy, dropped, len(asked))
        return LeafPaths(paths, dropped, len(ambiguous))

    def superclasses(
        self, nodes: Sequence[str], leaves: Iterable[str], *, overlap: str = "error", missing: str = "error"
    ) -> LeafPaths:
        """Puts every class below the one of some given nodes that is its ancestor: a tree of two levels.

        All parents count, so no policy is needed. Classes below none of the nodes are left out.

        Args:
            nodes: The superclasses.
            leaves: The classes.
            overlap: What happens to a class below several of the nodes: ``'error'``, or it goes to the ``'first'`` of
                them in the order of ``nodes``.
            missing: What happens to classes that the hierarchy lacks: ``'error'`` or ``'drop'``.

        Returns:
            Paths (superclass, class) of :meth:`name`.

        Raises:
            ValueError: If a node is unknown or has no class below it, a class is missing and ``missing='error'``, or a
                class is below several nodes and ``overlap='error'``.

        Example:
            >>> edges = [("all", "animal"), ("all", "tool"), ("animal", "cat"), ("animal", "dog"), ("tool", "saw")]
            >>> ClassHierarchy(edges).superclasses(["animal", "tool"], ["cat", "saw"])
            LeafPaths(paths={'cat': ('animal', 'cat'), 'saw': ('tool', 'saw')}, dropped=(), num_ambiguous=0)
        """
        _check_choice("overlap", overlap, ("error", "first"))
        self._check_known(nodes)
        asked = tuple(dict.fromkeys(leaves))
        paths, used = {}, set()
        for leaf in self._present(asked, missing):
            above = self.ancestors([leaf])
            covering = [node for node in nodes if node in above]
            if len(covering) > 1 and overlap == "error":
                raise ValueError(
                    f"{self.source}: the class {self.name(leaf)!r} is below the superclasses "
                    f"{', '.join(map(self.name, covering))}; take one of them out, or choose overlap='first'"
                )
            if covering:
                used.add(covering[0])
                paths[leaf] = (self.name(covering[0]), self.name(leaf))
        if unused := [self.name(node) for node in nodes if node not in used]:
            raise ValueError(f"{self.source}: no class is below the superclasses {some(unused)}; take them out")
        dropped = tuple(leaf for leaf in asked if leaf not in paths)
        self._log((), "", dropped, len(asked))
        return LeafPaths(paths, dropped)

    def nodes_at_level(
        self,
        level: int,
        leaves: Iterable[str],
        *,
        root: str | None = None,
        below: str | None = None,
        min_leaves: int = 1,
        missing: str = "error",
    ) -> tuple[str, ...]:
        """Returns the nodes at a level, which is the length of the longest path from the root, as in BREEDS.

        Chains and dummy nodes count. BREEDS makes its superclasses so, from its own hierarchy: Entity-13 and Entity-30
        of levels 3 and 4, Living-17 and Nonliving-26 of level 5 below ``n00004258`` and ``n00021939``, where
        ``min_leaves`` is the number of classes that it draws in each: 20, 8, 4 and 4.

        Args:
            level: From 0, the root.
            leaves: The classes; only they and their ancestors count.
            root: As in :meth:`paths`.
            below: A node that those returned are, or are below; levels count from the root nevertheless.
            min_leaves: The least number of classes that a node must have below it, itself included.
            missing: As in :meth:`paths`.

        Returns:
            The nodes, sorted.

        Raises:
            ValueError: If ``below`` is unknown, a class is missing, or no node qualifies.

        Example:
            >>> pets = ClassHierarchy([("all", "animal"), ("all", "cat"), ("animal", "cat"), ("all", "saw")])
            >>> pets.nodes_at_level(1, ["cat", "saw"]), pets.nodes_at_level(2, ["cat", "saw"])
            (('animal', 'saw'), ('cat',))
        """
        if below is not None:
            self._check_known([below])
        kept, parents = self._below(tuple(dict.fromkeys(leaves)), root, missing)
        levels = _levels(parents)
        num_leaves: Counter[str] = Counter()
        for leaf in kept:
            num_leaves.update(self.ancestors([leaf]))
        nodes = sorted(
            node
            for node in parents
            if levels[node] == level
            and num_leaves[node] >= min_leaves
            and (below is None or below in self.ancestors([node]))
        )
        if not nodes:
            raise ValueError(
                f"{self.source} has no node at level {level} with at least {min_leaves} classes"
                f"{f' below {below}' if below else ''}; levels are 0 (the root) to {max(levels.values())}"
            )
        return tuple(nodes)

    # ---------------------------------------------------------------- parts
    def _check_known(self, nodes: Iterable[str]) -> None:
        if unknown := [node for node in nodes if node not in self.parents]:
            raise ValueError(f"{self.source} has no node {some(unknown)}; {self.hint or 'correct the name'}")

    def _present(self, leaves: Collection[str], missing: str, below: Collection[str] | None = None) -> tuple[str, ...]:
        """Returns the classes that the hierarchy has (below a root), or raises."""
        _check_choice("missing", missing, ("error", "drop"))
        places: Collection[str] = self.parents if below is None else below
        kept = tuple(leaf for leaf in leaves if leaf in places)
        if len(kept) < len(leaves) and (missing == "error" or not kept):
            lost = [leaf for leaf in leaves if leaf not in places]
            remedy = self.hint or "correct the classes or the file"
            raise ValueError(
                f"{self.source} lacks {len(lost)} of the {len(leaves)} classes"
                f"{'' if below is None else ' below the root'}: {some(lost)}; {remedy}"
                f"{', or leave them out by missing=' + repr('drop') if kept else ''}"
            )
        if not kept:
            raise ValueError("there is no class to find in the hierarchy; give at least one")
        return kept

    def _below(
        self, leaves: tuple[str, ...], root: str | None, missing: str
    ) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
        """Returns the classes below the root, and node -> parents of them and their ancestors, the root first."""
        if root is None:
            leaves = self._present(leaves, missing)
            wanted = self.ancestors(leaves)
            roots = [node for node in self.parents if node in wanted and not self.parents[node]]
            if len(roots) > 1:
                raise ValueError(
                    f"{self.source}: {len(roots)} nodes above the classes have no parent: "
                    f"{some(list(map(self.name, roots)))}; choose one as root"
                )
            root = roots[0]
        else:
            self._check_known([root])
        under = {root}
        for node, parents in self.parents.items():  # parents come before children
            if not under.isdisjoint(parents):
                under.add(node)
        leaves = self._present(leaves, missing, under)
        wanted = self.ancestors(leaves) & under
        order = [root, *(node for node in self.parents if node in wanted and node != root)]
        return leaves, {node: tuple(p for p in self.parents[node] if p in wanted and node != root) for node in order}

    def _log(self, ambiguous: Sequence[str], policy: str, dropped: Sequence[str], num_asked: int) -> None:
        if ambiguous:
            warn(f"{self.source}: {len(ambiguous)} nodes have several parents; policy {policy!r} decided")
        if dropped:
            warn(f"{self.source}: left out {len(dropped)} of {num_asked} classes: {some(dropped)}")


def _levels(parents: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Returns the length of the longest path from the root to every node; parents come before children."""
    levels: dict[str, int] = {}
    for node in parents:
        levels[node] = 1 + max((levels[parent] for parent in parents[node]), default=-1)
    return levels


def _one_parent(parents: Mapping[str, Sequence[str]], policy: str) -> dict[str, str]:
    """Returns the parent that each node but the root keeps."""
    if policy == "longest":
        levels = _levels(parents)
        return {node: max(above, key=levels.__getitem__) for node, above in parents.items() if above}
    return {node: above[-1 if policy == "last" else 0] for node, above in parents.items() if above}


def _trail(leaf: str, parent: Mapping[str, str], classes: Collection[str], drop_dummies: bool) -> list[str]:
    """Returns the nodes from the root to a class, without dummies."""
    trail = [leaf]
    while above := parent.get(trail[-1]):
        trail.append(above)
    hidden = {node for node in trail[:-1] if drop_dummies and _DUMMY.fullmatch(node)}.difference(classes)
    return [node for node in reversed(trail) if node not in hidden]


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; it is {value!r}")


def _check_depths(depths: Sequence[int] | None) -> None:
    if depths is None:
        return
    if not depths or any(isinstance(depth, bool) or not isinstance(depth, int) or depth < 1 for depth in depths):
        raise ValueError(f"depths must be integers from 1, the coarsest first; they are {depths!r}")
    if any(a >= b for a, b in itertools.pairwise(depths)):
        raise ValueError(f"depths must increase, the coarsest first; they are {depths!r}")


def warn(message: str) -> None:
    """Logs a warning through the current logger."""
    print_log(message, logger="current", level=logging.WARNING)
