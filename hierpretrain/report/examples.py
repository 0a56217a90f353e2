"""The queries that are answered best and worst."""

from __future__ import annotations

from dataclasses import dataclass

from hierpretrain.report.search import Searched


def best_and_worst(searched: Searched, level: int, number: int = 6) -> tuple[list[int], list[int]]:
    """Picks the queries of highest and of lowest average precision at a level, no two of one node.

    Of equally good ones those with more to find come first, then those that stand first. A query with nothing to find
    is in neither list, one whose ranking is perfect is not among the worst, and none is in both.

    Args:
        searched: Queries in a gallery.
        level: A number from 1, the coarsest.
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
    nodes = searched.query.classes(level)[searched.drawn].tolist()
    scores = searched.of_levels[level - 1]
    precision, relevant = scores["map"].tolist(), scores["num_relevant"].tolist()
    there = [i for i in range(len(nodes)) if relevant[i] > 0]
    there.sort(key=lambda i: (-precision[i], -relevant[i], i))
    best = _one_a_node(there, nodes)[:number]
    there = [i for i in there if precision[i] < 1 and i not in best]
    there.sort(key=lambda i: (precision[i], -relevant[i], i))
    return best, _one_a_node(there, nodes)[:number]


def _one_a_node(ordered: list[int], nodes: list[int]) -> list[int]:
    """Keeps the first position of each node."""
    first: dict[int, int] = {}
    for i in ordered:
        first.setdefault(nodes[i], i)
    return list(first.values())


@dataclass(frozen=True)
class Example:
    """A query with its nearest neighbours.

    Attributes:
        index: The query's, among all images of the report.
        average_precision: Of its ranking, in [0, 1].
        num_relevant: How many images of its node there are to find.
        neighbours: Their indices, the nearest first, and whether each is of its node; ``None`` for one that hangs on
            several nodes of the level and is left out of the precision.
    """

    index: int
    average_precision: float
    num_relevant: int
    neighbours: list[tuple[int, bool | None]]


@dataclass(frozen=True)
class LevelExamples:
    """The best and the worst queries at a level (a number from 1)."""

    level: int
    best: list[Example]
    worst: list[Example]

    def indices(self) -> list[int]:
        """Returns the indices of all images that are shown."""
        examples = [*self.best, *self.worst]
        return [i for example in examples for i in (example.index, *(i for i, _ in example.neighbours))]


def level_examples(searched: Searched, level: int, number: int = 6) -> LevelExamples:
    """Picks ``number`` best and worst queries at a level, see :func:`best_and_worst`, and shows what they found."""
    scores = searched.of_levels[level - 1]
    several = searched.gallery.in_several(level)
    query_indices, gallery_indices = searched.query.indices.tolist(), searched.gallery.indices.tolist()

    def example(i: int) -> Example:
        columns, shared = searched.neighbours[i].tolist(), searched.shared[i].tolist()
        return Example(
            query_indices[int(searched.drawn[i])],
            float(scores["map"][i]),
            int(scores["num_relevant"][i]),
            [
                (gallery_indices[column], None if several[column] else number >= level)
                for column, number in zip(columns, shared, strict=True)
            ],
        )

    best, worst = best_and_worst(searched, level, number)
    return LevelExamples(level, [example(i) for i in best], [example(i) for i in worst])
