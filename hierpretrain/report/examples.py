"""The queries that are answered best and worst, over the branches of the tree."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hierpretrain.datasets.copies import fold_copies
from hierpretrain.functional.sampling import over_branches
from hierpretrain.report.image_nodes import deepest_nodes
from hierpretrain.report.search import Searched
from hierpretrain.report.tree_quality import first_node

ALL_LEVELS = 0
"""Stands for all levels together, where a level has a number from 1."""

_SPARE = 4  # so many times the queries are considered, since copies of one image are one query


def best_and_worst(searched: Searched, level: int, number: int = 6) -> tuple[list[int], list[int]]:
    """Picks queries of high and of low precision, spread over the branches of the tree, no two of one node.

    Of a level, the precision is the average precision there; of all levels together the hierarchical one (H-AP). The
    best are the best of each node of the first level, then the next best of these, of other children, and so on; see
    :func:`~hierpretrain.functional.sampling.over_branches`. Of equally good ones those with more to find come first,
    then those that stand first. A query with nothing to find is in neither list, one whose ranking is perfect is not
    among the worst, and none is in both. Copies of one file are one query.

    Args:
        searched: Queries in a gallery.
        level: A number from 1, the coarsest, or ``ALL_LEVELS``.
        number: How many of each.

    Returns:
        Positions in ``searched.drawn`` of the best, the best first, and of the worst, the worst first.

    Example:
        >>> import torch
        >>> from hierpretrain.evaluation import Embeddings
        >>> from hierpretrain.report.search import search
        >>> from hierpretrain.taxonomy import Taxonomy
        >>> tree = Taxonomy([("cat",), ("dog",)], ("kind",))
        >>> labels = tree.encode([("cat",), ("cat",), ("dog",), ("dog",)])
        >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.5], [1.0, 0.6], [0.0, 1.0]])
        >>> pets = Embeddings(features, labels, labels[:, :0], ["all"] * 4, ["a", "b", "c", "d"], tree, ())
        >>> best_and_worst(search(pets), 1)
        ([0, 3], [2, 1])
    """
    labels = searched.query.labels[searched.drawn]
    if level == ALL_LEVELS:
        nodes = first_node(deepest_nodes(labels, searched.query.taxonomy)).tolist()
    else:
        labels, nodes = labels[..., :level], searched.query.classes(level)[searched.drawn].tolist()
    scores, num_relevant = _scores(searched, level)
    precision, relevant = scores.tolist(), num_relevant.tolist()
    there = [i for i in range(len(nodes)) if relevant[i] > 0]

    def picked(candidates: list[int], sign: int) -> list[int]:
        order = sorted(candidates, key=lambda i: (sign * precision[i], -relevant[i], i))
        if not order:
            return []
        turns = over_branches(labels[order], torch.arange(len(order))).tolist()
        apart = _one_a_node([order[turn] for turn in turns], nodes)[: _SPARE * number]
        paths = [searched.query.paths[int(searched.drawn[i])] for i in apart]
        chosen = [apart[first] for first, *_ in fold_copies(paths, [nodes[i] for i in apart])[:number]]
        return [i for i in order if i in chosen]

    best = picked(there, -1)
    return best, picked([i for i in there if precision[i] < 1 and i not in best], 1)


def _scores(searched: Searched, level: int) -> tuple[Tensor, Tensor]:
    """Returns the precision of the scored queries and how much they have to find."""
    if level == ALL_LEVELS:
        return searched.of_tree["h_ap"], searched.of_tree["num_relevant"]
    scores = searched.of_levels[level - 1]
    return scores["map"], scores["num_relevant"]


def _one_a_node(ordered: list[int], nodes: list[int]) -> list[int]:
    """Keeps the first position of each node."""
    first: dict[int, int] = {}
    for i in ordered:
        first.setdefault(nodes[i], i)
    return list(first.values())


@dataclass(frozen=True)
class ExampleNeighbour:
    """An image that was found.

    Attributes:
        index: Among all images of the report.
        shared: How many levels of the tree it shares with the query.
        whole: Whether these are a whole path of the query.
        copies: How many files of the same bytes and labels were found; it stands for all of them.
    """

    index: int
    shared: int
    whole: bool
    copies: int = 1


@dataclass(frozen=True)
class Example:
    """A query with its nearest neighbours.

    Attributes:
        index: The query's, among all images of the report.
        precision: Of its ranking, in [0, 1]: average precision at the level, or H-AP.
        num_relevant: How many images there are to find.
        neighbours: The nearest first.
    """

    index: int
    precision: float
    num_relevant: int
    neighbours: list[ExampleNeighbour]


@dataclass(frozen=True)
class LevelExamples:
    """The best and the worst queries at a level, a number from 1, or at ``ALL_LEVELS``."""

    level: int
    best: list[Example]
    worst: list[Example]

    def indices(self) -> list[int]:
        """Returns the indices of all images that are shown."""
        examples = [*self.best, *self.worst]
        return [i for example in examples for i in (example.index, *(found.index for found in example.neighbours))]


def level_examples(searched: Searched, level: int, number: int = 6, num_neighbours: int = 8) -> LevelExamples:
    """Picks ``number`` best and worst queries at a level, see :func:`best_and_worst`, and shows what they found.

    Args:
        searched: Queries in a gallery.
        level: A number from 1, or ``ALL_LEVELS``.
        number: How many of each.
        num_neighbours: The most neighbours of each.
    """
    scores, num_relevant = _scores(searched, level)
    indices, paths = searched.gallery.indices.tolist(), searched.gallery.paths

    def example(i: int) -> Example:
        query = int(searched.drawn[i])
        columns = searched.neighbours[query].tolist()
        groups = fold_copies([paths[column] for column in columns], searched.gallery.labels[columns].tolist())
        neighbours = [
            ExampleNeighbour(
                indices[columns[first]],
                int(searched.shared[i, first]),
                bool(searched.whole[i, first]),
                1 + len(copies),
            )
            for first, *copies in groups[:num_neighbours]
        ]
        return Example(int(searched.query.indices[query]), float(scores[i]), int(num_relevant[i]), neighbours)

    best, worst = best_and_worst(searched, level, number)
    return LevelExamples(level, [example(i) for i in best], [example(i) for i in worst])
