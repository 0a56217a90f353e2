"""A class hierarchy in which a node may have several parents, and the trees that are made of it."""

from __future__ import annotations

import graphlib
import itertools
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from hierpretrain.checks import check_one_of
from hierpretrain.datasets.messages import some, warn

POLICIES = ("error", "first", "last", "longest", "drop")
"""The choices for nodes with several parents, see :meth:`ClassHierarchy.paths`."""

_DUMMY = re.compile(r"dummy\d+")


@dataclass(frozen=True)
class LeafPaths:
    """The label paths of classes, and what was decided to get them.

    Args:
        paths: Class -> the names from below the root down to the class, in the order in which classes were asked for.
        dropped: The classes that were asked for and left out.
        num_ambiguous: The number of nodes with several parents. A policy kept one parent, or left out the classes
            below the node.
    """

    paths: dict[str, tuple[str, ...]]
    dropped: tuple[str, ...] = ()
    num_ambiguous: int = 0


class ClassHierarchy:
    """Nodes with any number of parents each: a directed acyclic graph, read from a file.

    Args:
        edges: Pairs (parent, child) in the order of the file; a repeated pair counts once.
        names: Node -> its names in words, separated by commas; nodes may be missing.
        source: What the edges were read from, for messages.
        lines: The line of every edge in ``source``, for messages.
        policy: The default of :meth:`paths` for nodes with several parents, one of :data:`POLICIES`.
        hint: What to do when classes are missing, for messages.

    Attributes:
        parents: Node -> its parents in the order of the edges; a node comes after all its parents.
        names: Node -> its names in words.

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
        check_one_of("policy", policy, POLICIES)
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
        """Returns the name of a node on a label path: its id and its first name in words, as ``'n02012849 crane'``.

        The id is part of it because names in words repeat: ImageNet has two classes *crane* and two *maillot*.
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
        """Reduces the hierarchy above some classes to a tree, and returns the path of every class in it.

        The steps, in order:

        1. Only the classes and their ancestors below ``root`` are kept.
        2. ``policy`` keeps one parent of every node.
        3. Dummy nodes are removed.
        4. Chains of single children are collapsed.
        5. Only the inner nodes at ``depths`` are kept.

        Steps 3 to 5 never remove a class, even if it is an ancestor of another class.

        Args:
            leaves: The classes. They may be ancestors of each other; repetitions count once.
            policy: Which parent a node with several parents keeps: the ``'first'`` or the ``'last'`` in the file's
                order, or the parent with the ``'longest'`` path to the root (the first of equals). ``'drop'`` leaves
                out the classes that have several paths to the root, and ``'error'`` raises. The default depends on the
                file.
            collapse: Whether nodes with one child are removed, unless they are classes; the child moves up. The root is
                no exception, so the tree starts where it first branches.
            drop_dummies: Whether nodes named ``dummy`` and a number are removed; their children move up. The BREEDS
                hierarchy has them to make all branches equally long.
            depths: The depths of the inner nodes to keep, counted from 1 below the root after all other steps; by
                default all. Every class becomes a child of the last kept node on its path. A class whose path has no
                node at some depth gets a shorter path; no other node fills the gap. An inner node that is a class is
                kept at any depth.
            root: The node that the tree starts below; by default the only node without a parent.
            missing: What happens to classes that are not in the hierarchy, or not below ``root``: ``'error'`` raises,
                ``'drop'`` leaves them out.

        Returns:
            Paths of node names, see :meth:`name`, from the coarsest node to the class. The root is on no path, unless
            it is a class.

        Raises:
            ValueError: If an argument is none of its choices, a class is missing and ``missing='error'``, no class is
                left, several nodes have no parent and no ``root`` is given, or a node has several parents and
                ``policy='error'``.
        """
        policy = self.policy if policy is None else policy
        check_one_of("policy", policy, POLICIES)
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
            doubtful = set(ambiguous)  # with all nodes below
            for node in parents:  # a node comes after its parents
                if not doubtful.isdisjoint(parents[node]):
                    doubtful.add(node)
            kept = tuple(leaf for leaf in kept if leaf not in doubtful)
            if not kept:
                raise ValueError(f"{self.source}: policy='drop' drops every class: each has several paths to the root")
            kept, parents = self._below(kept, next(iter(parents)), missing)
        # `parents` holds the classes and their ancestors. From here on, every node has one parent.
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
        """Makes a tree of two levels: given superclasses, and below each the classes that it is an ancestor of.

        Ancestors by any parent count, so no policy is needed. Classes below none of the superclasses are left out.

        Args:
            nodes: The superclasses.
            leaves: The classes.
            overlap: What happens to a class below several superclasses: ``'error'`` raises, with ``'first'`` it is
                below the first of them in the order of ``nodes``.
            missing: What happens to classes that are not in the hierarchy: ``'error'`` raises, ``'drop'`` leaves them
                out.

        Returns:
            Paths (superclass, class) of node names, see :meth:`name`.

        Raises:
            ValueError: If a node is unknown or has no class below it, a class is missing and ``missing='error'``, or a
                class is below several nodes and ``overlap='error'``.

        Example:
            >>> edges = [("all", "animal"), ("all", "tool"), ("animal", "cat"), ("animal", "dog"), ("tool", "saw")]
            >>> ClassHierarchy(edges).superclasses(["animal", "tool"], ["cat", "saw"])
            LeafPaths(paths={'cat': ('animal', 'cat'), 'saw': ('tool', 'saw')}, dropped=(), num_ambiguous=0)
        """
        check_one_of("overlap", overlap, ("error", "first"))
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
        """Returns the nodes at a level; as in BREEDS, a node's level is the length of its longest path to the root.

        Chains and dummy nodes count. BREEDS chooses its superclasses so, from its own hierarchy: Entity-13 at level 3
        with ``min_leaves=20``, Entity-30 at level 4 with 8, Living-17 at level 5 below ``n00004258`` with 4, and
        Nonliving-26 at level 5 below ``n00021939`` with 4.

        Args:
            level: The level, from 0, the root.
            leaves: The classes; only they and their ancestors count.
            root: The node that levels are counted from; by default the only node without a parent.
            below: Return only this node and nodes below it; levels are still counted from the root.
            min_leaves: The least number of classes that a node must have below it, itself included.
            missing: What happens to classes that are not in the hierarchy, or not below ``root``: ``'error'`` raises,
                ``'drop'`` leaves them out.

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

    # ---------------------------------------------------------------- helpers
    def _check_known(self, nodes: Iterable[str]) -> None:
        if unknown := [node for node in nodes if node not in self.parents]:
            raise ValueError(f"{self.source} has no node {some(unknown)}; {self.hint or 'correct the name'}")

    def _present(self, leaves: Collection[str], missing: str, below: Collection[str] | None = None) -> tuple[str, ...]:
        """Returns the classes that the hierarchy has, or that are among ``below``; raises if ``missing`` says so."""
        check_one_of("missing", missing, ("error", "drop"))
        known: Collection[str] = self.parents if below is None else below
        kept = tuple(leaf for leaf in leaves if leaf in known)
        if len(kept) < len(leaves) and (missing == "error" or not kept):
            lost = [leaf for leaf in leaves if leaf not in known]
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
        """Returns the classes below the root, and node -> parents for them and their ancestors, the root first."""
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
        for node, parents in self.parents.items():  # a node comes after its parents
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
    """Returns the length of the longest path from the root to every node; nodes must come after their parents."""
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


def _check_depths(depths: Sequence[int] | None) -> None:
    if depths is None:
        return
    if not depths or any(isinstance(depth, bool) or not isinstance(depth, int) or depth < 1 for depth in depths):
        raise ValueError(f"depths must be integers from 1, the coarsest first; they are {depths!r}")
    if any(a >= b for a, b in itertools.pairwise(depths)):
        raise ValueError(f"depths must increase, the coarsest first; they are {depths!r}")
