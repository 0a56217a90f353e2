import pytest
import torch

from hierpretrain.report.examples import best_and_worst, level_examples
from hierpretrain.report.search import search
from tests.reference.report import query_score
from tests.report.sets import embedded, random_set


@pytest.mark.parametrize("seed", range(3))
def test_best_and_worst_are_the_ends_of_the_sorted_precisions_one_of_each_node(seed):
    images = random_set(seed, number=60)
    searched = search(images)
    for level in (1, 2, 3):
        scored = [(i, query_score(images, i, range(60), level)) for i in range(60)]
        scored = [(i, precision, number) for i, (number, _, _, precision) in scored if number]
        nodes = images.nodes(level).tolist()

        def first_of_each_node(ordered, nodes=nodes):
            return [i for at, i in enumerate(ordered) if nodes[i] not in [nodes[j] for j in ordered[:at]]]

        best = first_of_each_node([i for i, _, _ in sorted(scored, key=lambda s: (-round(s[1], 9), -s[2], s[0]))])[:4]
        rest = [s for s in scored if s[1] < 1 - 1e-9 and s[0] not in best]
        worst = first_of_each_node([i for i, _, _ in sorted(rest, key=lambda s: (round(s[1], 9), -s[2], s[0]))])[:4]
        assert best_and_worst(searched, level, 4) == (best, worst)


def test_examples_name_the_rows_of_all_images_and_tell_right_from_wrong():
    # two queries, two of the gallery between them: the first cat's nearest is the dog
    features = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.7, 0.7]]
    splits = ["gallery", "query", "gallery", "query"]
    images = embedded(features, [("dog",), ("cat",), ("cat",), ("bird",)], levels=("kind",), splits=splits)
    found = level_examples(search(images), 1)
    assert found.best[0].index == 1
    assert found.best[0].neighbours == [(0, False), (2, True)]
    assert found.best[0].average_precision == 0.5
    assert found.best[0].num_relevant == 1
    assert found.worst == []  # the only query with something to find is among the best
    assert sorted(found.indices()) == [0, 1, 2]


def test_a_perfect_ranking_is_not_among_the_worst():
    images = embedded(torch.eye(4)[[0, 0, 1, 1]], [("a",), ("a",), ("b",), ("b",)], levels=("kind",))
    found = level_examples(search(images), 1)
    assert [example.average_precision for example in found.best] == [1.0, 1.0]
    assert found.worst == []


def test_a_neighbour_of_several_nodes_is_neither_right_nor_wrong():
    paths = [[("cat",)], [("cat",), ("dog",)], [("dog",)], [("cat",)]]
    images = embedded([[1.0, 0.0], [1.0, 0.1], [1.0, 0.2], [1.0, 0.3]], paths, levels=("kind",))
    found = level_examples(search(images), 1)
    first = next(example for example in [*found.best, *found.worst] if example.index == 0)
    assert first.neighbours == [(1, None), (2, False), (3, True)]
    assert (first.average_precision, first.num_relevant) == (0.5, 1)  # the dog alone stands before the cat
