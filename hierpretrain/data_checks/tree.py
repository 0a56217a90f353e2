"""What is odd about the shape of a label tree."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from hierpretrain._names import LabelNames
from hierpretrain.data_checks.names import spelling_key
from hierpretrain.data_checks.problems import Problem
from hierpretrain.data_checks.sources import class_name
from hierpretrain.taxonomy import longest_paths

_FEW = 0.25  # of the names of a level that have two parents, up to which each of them is told
_DIGIT = re.compile(r"\d")


def count_nodes(paths: Sequence[Sequence[LabelNames]]) -> Counter[LabelNames]:
    """Returns every node of the tree, without the root, with the number of images on it or below it.

    Example:
        >>> count_nodes([[("animal", "cat")], [("animal",)], []])
        Counter({('animal',): 2, ('animal', 'cat'): 1})
    """
    number: Counter[tuple[LabelNames, ...]] = Counter(map(tuple, paths))
    nodes: Counter[LabelNames] = Counter()
    for of_image, count in number.items():
        for node in {path[:level] for path in of_image for level in range(1, len(path) + 1)}:
            nodes[node] += count
    return nodes


def tree_problems(
    paths: Sequence[Sequence[LabelNames]], nodes: Counter[LabelNames], level_names: Sequence[str]
) -> list[Problem]:
    """Finds classes of one image, of one child, chains, and names below two parents.

    Args:
        paths: The label paths of each image.
        nodes: What :func:`count_nodes` counts.
        level_names: A name for each level.
    """
    children: dict[LabelNames, list[LabelNames]] = {}
    for node in sorted(nodes):
        children.setdefault(node[:-1], []).append(node)
    problems = [
        Problem("one image", class_name(node)) for node in sorted(nodes) if nodes[node] == 1 and node not in children
    ]
    problems += _chains(children)
    problems += _two_parents(paths, nodes, level_names)
    return problems


def _chains(children: dict[LabelNames, list[LabelNames]]) -> list[Problem]:
    """Finds nodes of one child; one below another is one chain."""
    problems = []
    for node in sorted(children):
        above_is_single = node and len(children[node[:-1]]) == 1
        if above_is_single or len(children[node]) > 1:
            continue
        chain = [node]
        while len(children.get(chain[-1], ())) == 1:
            chain += children[chain[-1]]
        first, *others = map(class_name, chain)
        problems.append(Problem("one child" if len(chain) == 2 else "chain", first, tuple(others)))
    return problems


def _two_parents(
    paths: Sequence[Sequence[LabelNames]], nodes: Counter[LabelNames], level_names: Sequence[str]
) -> list[Problem]:
    """Finds names of one level below several parents; where many are, that is how the tree is made."""
    by_name: list[dict[str, list[LabelNames]]] = [{} for _ in level_names]
    for node in sorted(nodes):
        by_name[len(node) - 1].setdefault(node[-1], []).append(node)
    on_purpose = {  # images of several paths
        node
        for of_image in set(map(tuple, paths))
        if len(longest_paths(of_image)) > 1
        for path in of_image
        for node in (path[:level] for level in range(1, len(path) + 1))
    }
    problems = []
    for names in by_name[1:]:
        several = {
            name: found
            for name, found in names.items()
            if len({spelling_key(node[-2]) for node in found}) > 1 and not on_purpose >= set(found)
        }
        ids = all(map(_DIGIT.search, names))
        if ids or len(several) <= _FEW * len(names):
            for found in several.values():
                first, *others = sorted(found, key=lambda node: (-nodes[node], node))
                counts = ", ".join(f"{nodes[node]:,}" for node in (first, *others))
                problems.append(
                    Problem("two parents", class_name(first), tuple(map(class_name, others)), f"{counts} images")
                )
    return problems
