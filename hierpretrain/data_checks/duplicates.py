"""Images that are there several times, by their bytes or by their look, in several splits, several classes, or one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hierpretrain.data_checks.look_alikes import look_alikes
from hierpretrain.data_checks.pictures import Pictures
from hierpretrain.data_checks.problems import Problem
from hierpretrain.data_checks.sources import Path, class_name
from hierpretrain.taxonomy import longest_paths


def duplicates(
    files: Sequence[str],
    paths: Sequence[Sequence[Path]],
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
    groups = _groups(np.unique(pictures.digests, axis=0, return_inverse=True)[1].reshape(-1), range(len(files)))
    firsts = np.array([group[0] for group in groups], np.int64)
    problems = []
    for group in groups:
        if len(group) > 1 and pictures.readable[group[0]]:
            problems += _problems(
                "copies", group, files, [paths[i] for i in group], splits, may_contradict=copies_are_merged
            )
    # copies look alike: one of them stands for all, with the labels and the splits of all
    shown = firsts[pictures.readable[firsts] & ~pictures.blank[firsts]]
    pairs = look_alikes(pictures.thumbnails[shown])
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(shown), len(shown)))
    components = connected_components(graph, directed=False)[1]
    for group in _groups(components, shown.tolist()):
        if len(group) > 1:
            problems += _problems("look-alikes", group, files, [paths[i] for i in group], splits)
    return problems


def _groups(numbers: NDArray[Any], items: Iterable[int]) -> list[list[int]]:
    """Returns the items of each number, in their order, by the first of each."""
    groups: dict[int, list[int]] = {}
    for number, item in zip(numbers.tolist(), items, strict=True):
        groups.setdefault(number, []).append(item)
    return list(groups.values())


def _problems(
    what: str,
    group: Sequence[int],
    files: Sequence[str],
    paths: Sequence[Sequence[Path]],
    splits: Sequence[str],
    *,
    may_contradict: bool = False,
) -> list[Problem]:
    """Returns what is wrong with images of one look: one problem, or two where both labels and splits differ."""
    found = []
    several = sorted({splits[i] for i in group})
    if len(several) > 1:
        found.append((f"{what} across splits", "in " + ", ".join(several)))
    if not may_contradict and contradict(paths):
        labels = sorted({class_name(path) for one in paths for path in one})
        found.append(
            (f"{what} across classes", "labelled " + ", ".join(labels[:4]) + (", ..." if len(labels) > 4 else ""))
        )
    if not found and not (may_contradict and len({tuple(one) for one in paths}) > 1):
        found.append((what, ""))
    subject, *others = (files[i] for i in group)
    return [Problem(kind, subject, tuple(others), why) for kind, why in found]


def contradict(paths: Sequence[Sequence[Path]]) -> bool:
    """Returns whether images of one look have labels of which none says all that the others say.

    Example:
        >>> contradict([[("animal", "cat")], [("animal",)], []]), contradict([[("animal", "cat")], [("animal", "dog")]])
        (False, True)
    """
    together = set(longest_paths([path for one in paths for path in one]))
    return all(set(longest_paths(one)) != together for one in paths)
