"""Images that are there several times, by their bytes or by their look, in several splits, several classes, or one."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hierpretrain._names import LabelNames
from hierpretrain.data_checks.look_alikes import look_alikes
from hierpretrain.data_checks.pictures import Pictures
from hierpretrain.data_checks.problems import Problem
from hierpretrain.data_checks.sources import class_name
from hierpretrain.taxonomy import longest_paths


def duplicates(
    files: Sequence[str],
    paths: Sequence[Sequence[LabelNames]],
    splits: Sequence[str],
    pictures: Pictures,
    *,
    copies_are_merged: bool = False,
) -> list[Problem]:
    """Finds copies and look-alikes.

    Args:
        files: N files.
        paths: The label paths of each.
        splits: The split of each.
        pictures: What they are.
        copies_are_merged: Whether copies are one image of several label paths, so that they contradict nothing.
    """
    _, firsts, numbers = np.unique(pictures.digests, axis=0, return_index=True, return_inverse=True)
    readable = zip(numbers.reshape(-1).tolist(), pictures.readable.tolist(), strict=True)
    contents = [number if known else None for number, known in readable]
    problems = copies(contents, files, paths, splits, copies_are_merged=copies_are_merged)
    firsts.sort()
    # of copies, the first stands for all
    shown = firsts[pictures.readable[firsts] & ~pictures.blank[firsts]]
    pairs = shown[look_alikes(pictures.thumbnails[shown])]
    in_two_splits = np.array([splits[a] != splits[b] for a, b in pairs.tolist()], bool)
    in_two_classes = np.array([contradict([paths[a], paths[b]]) for a, b in pairs.tolist()], bool)
    # a chain of look-alikes leads far: each image of a group is like one of another split, or of another class, itself
    for what, chosen in (
        ("look-alikes across splits", in_two_splits),
        ("look-alikes across classes", in_two_classes),
        ("look-alikes", ~(in_two_splits | in_two_classes)),
    ):
        problems += [_problem(what, group, files, paths, splits) for group in _components(pairs[chosen])]
    return problems


def copies(
    contents: Sequence[Hashable],
    files: Sequence[str],
    paths: Sequence[Sequence[LabelNames]],
    splits: Sequence[str],
    *,
    copies_are_merged: bool = False,
) -> list[Problem]:
    """Finds images of the same bytes; as :func:`duplicates`, which finds look-alikes too.

    Args:
        contents: What tells the bytes of each of N images from others; ``None`` where they are not known.
        files: N files.
        paths: The label paths of each.
        splits: The split of each.
        copies_are_merged: Whether copies are one image of several label paths.

    Example:
        >>> copies(["1", "2", "1"], ["a", "b", "c"], [[("cat",)], [("cat",)], [("dog",)]], ["", "", ""])
        [Problem(kind='copies across classes', subject='a', others=('c',), why='labelled cat, dog')]
    """
    problems = []
    known = [i for i, content in enumerate(contents) if content is not None]
    for group in _groups([contents[i] for i in known], known):
        if len(group) == 1:
            continue
        of_group = [paths[i] for i in group]
        kinds = ["copies across splits"] if len({splits[i] for i in group}) > 1 else []
        if not copies_are_merged:
            kinds += ["copies across classes"] if contradict(of_group) else []
            kinds = kinds or ["copies"]
        elif len(set(map(tuple, of_group))) == 1:
            kinds = kinds or ["copies"]
        problems += [_problem(kind, group, files, paths, splits) for kind in kinds]
    return problems


def _components(pairs: NDArray[np.int64]) -> list[list[int]]:
    """Returns the items that pairs lead to from one another, each group in ascending order, by the first of each."""
    items, numbers = np.unique(pairs, return_inverse=True)
    numbers = numbers.reshape(-1, 2)
    graph = coo_array((np.ones(len(numbers), bool), (numbers[:, 0], numbers[:, 1])), shape=(len(items), len(items)))
    return _groups(connected_components(graph, directed=False)[1].tolist(), items.tolist()) if len(items) else []


def _groups(numbers: Iterable[Hashable], items: Iterable[int]) -> list[list[int]]:
    """Returns the items of each number, in their order, by the first of each."""
    groups: dict[Hashable, list[int]] = {}
    for number, item in zip(numbers, items, strict=True):
        groups.setdefault(number, []).append(item)
    return list(groups.values())


def _problem(
    kind: str, group: Sequence[int], files: Sequence[str], paths: Sequence[Sequence[LabelNames]], splits: Sequence[str]
) -> Problem:
    """Returns the problem of images of one look; it says which splits or labels they have."""
    why = ""
    if kind.endswith("splits"):
        why = "in " + _some({splits[i] or "(none)" for i in group})
    elif kind.endswith("classes"):
        why = "labelled " + _some({class_name(path) for i in group for path in paths[i]})
    subject, *others = (files[i] for i in group)
    return Problem(kind, subject, tuple(others), why)


def _some(names: Collection[str], most: int = 4) -> str:
    return ", ".join(sorted(names)[:most]) + (", ..." if len(names) > most else "")


def contradict(paths: Sequence[Sequence[LabelNames]]) -> bool:
    """Returns whether images of one look have labels of which none says all that the others say.

    Example:
        >>> contradict([[("animal", "cat")], [("animal",)], []]), contradict([[("animal", "cat")], [("animal", "dog")]])
        (False, True)
    """
    together = set(longest_paths([path for one in paths for path in one]))
    return all(set(longest_paths(one)) != together for one in paths)
