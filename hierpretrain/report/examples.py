"""The queries that are answered best and worst."""

from __future__ import annotations

from dataclasses import dataclass

from hierpretrain.evaluation import Embeddings
from hierpretrain.report.places import in_several
from hierpretrain.report.query_scores import QueryScores, Searched


def best_and_worst(query: Embeddings, scores: QueryScores, level: int, number: int = 6) -> tuple[list[int], list[int]]:
    """Picks the queries of highest and of lowest average precision at a level, no two of one node.

    Of equally good ones those with more to find come first, then those of lower rows. A query with nothing to find is
    in neither list, one whose ranking is perfect is not among the worst, and none is in both.

    Args:
        query: All queries.
        scores: Of some of them.
        level: A number from 1, the coarsest.
        number: How many of each.

    Returns:
        Places in ``scores.rows`` of the best, the best first, and of the worst, the worst first.

    Example:
        >>> import torch
        >>> from hierpretrain.report.query_scores import query_scores
        >>> from hierpretrain.taxonomy import Taxonomy
        >>> tree = Taxonomy([("cat",), ("dog",)], ("kind",))
        >>> labels = tree.encode([("cat",), ("cat",), ("dog",), ("dog",)])
        >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.5], [1.0, 0.6], [0.0, 1.0]])
        >>> pets = Embeddings(features, labels, labels[:, :0], ["all"] * 4, ["a", "b", "c", "d"], tree, ())
        >>> best_and_worst(pets, query_scores(pets, pets, same_set=True), 1)
        ([0, 3], [2, 1])
    """
    nodes = query.classes(level)[scores.rows].tolist()
    precision = scores.average_precision[:, level - 1].tolist()
    relevant = scores.num_relevant[:, level - 1].tolist()
    there = [place for place in range(len(nodes)) if relevant[place]]
    there.sort(key=lambda place: (-precision[place], -relevant[place], place))
    best = _one_a_node(there, nodes)[:number]
    there = [place for place in there if precision[place] < 1 and place not in best]
    there.sort(key=lambda place: (precision[place], -relevant[place], place))
    return best, _one_a_node(there, nodes)[:number]


def _one_a_node(ordered: list[int], nodes: list[int]) -> list[int]:
    """Keeps the first place of each node."""
    first: dict[int, int] = {}
    for place in ordered:
        first.setdefault(nodes[place], place)
    return list(first.values())


@dataclass(frozen=True)
class Example:
    """A query with its nearest neighbours.

    Attributes:
        row: The query's, among all images of the report.
        average_precision: Of its ranking, in [0, 1].
        num_relevant: How many images of its node there are to find.
        neighbours: Their rows, the nearest first, and whether each is of its node; ``None`` for one that is left out,
            since it hangs on several nodes of the level.
    """

    row: int
    average_precision: float
    num_relevant: int
    neighbours: list[tuple[int, bool | None]]


@dataclass(frozen=True)
class LevelExamples:
    """The best and the worst queries at a level (a number from 1)."""

    level: int
    best: list[Example]
    worst: list[Example]

    def rows(self) -> list[int]:
        """Returns the rows of all images that are shown."""
        examples = [*self.best, *self.worst]
        return [row for example in examples for row in (example.row, *(row for row, _ in example.neighbours))]


def level_examples(searched: Searched, level: int, number: int = 6) -> LevelExamples:
    """Picks the best and worst queries at a level, see :func:`best_and_worst`, and shows what they found.

    Args:
        searched: Queries in a gallery.
        level: A number from 1, the coarsest.
        number: How many of each.
    """
    scores = searched.scores
    several = in_several(searched.gallery, level)

    def example(place: int) -> Example:
        columns, shared = scores.neighbours[place].tolist(), scores.shared[place].tolist()
        return Example(
            searched.query_rows[int(scores.rows[place])],
            float(scores.average_precision[place, level - 1]),
            int(scores.num_relevant[place, level - 1]),
            [
                (searched.gallery_rows[column], None if several[column] else number >= level)
                for column, number in zip(columns, shared, strict=True)
            ],
        )

    best, worst = best_and_worst(searched.query, scores, level, number)
    return LevelExamples(level, [example(place) for place in best], [example(place) for place in worst])
