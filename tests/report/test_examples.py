import pytest
import torch
from PIL import Image

from hierpretrain.functional.sampling import over_branches
from hierpretrain.report.examples import ALL_LEVELS, ExampleNeighbour, best_and_worst, level_examples
from hierpretrain.report.search import search
from tests.reference.report import query_score
from tests.report.sets import LEVELS, embedded, random_set


@pytest.mark.parametrize("seed", range(3))
def test_best_and_worst_go_round_the_branches_by_precision_one_of_each_node(seed):
    images = random_set(seed, number=60)
    searched = search(images)
    for level in (ALL_LEVELS, 1, 2, 3):
        if level == ALL_LEVELS:
            h_ap, number = searched.of_tree["h_ap"].tolist(), searched.of_tree["num_relevant"].tolist()
            scored = [(i, h_ap[i], number[i]) for i in range(60) if number[i]]
            paths = [images.taxonomy.decode(row) for row in images.labels.tolist()]
        else:
            scored = [(i, query_score(images, i, range(60), level)) for i in range(60)]
            scored = [(i, precision, number) for i, (number, _, _, precision) in scored if number]
            paths = [images.taxonomy.decode(row)[:level] for row in images.labels.tolist()]

        def picked(candidates, sign, level=level, paths=paths):
            ordered = sorted((sign * round(precision, 9), -number, i) for i, precision, number in candidates)
            ordered = [i for *_, i in ordered]
            chosen = []
            for turn in over_branches(images.labels[ordered][:, : level or 3], torch.arange(len(ordered))).tolist():
                i = ordered[turn]
                if paths[i] not in [paths[j] for j in chosen]:
                    chosen.append(i)
            return [i for i in ordered if i in chosen[:4]]

        best = picked(scored, -1)
        worst = picked([s for s in scored if s[1] < 1 - 1e-9 and s[0] not in best], 1)
        assert best_and_worst(searched, level, 4) == (best, worst)


def test_on_a_ragged_tree_examples_come_from_every_branch():
    # one branch is deep, three are not; of the deepest level alone all examples would be of the deep one
    paths = [("deep", "a", f"{i % 4}") for i in range(16)] + [(name,) for name in ("x", "y", "z") for _ in range(8)]
    images = embedded(torch.randn(40, 5, generator=torch.Generator().manual_seed(0)), paths, levels=LEVELS)
    found = level_examples(search(images), ALL_LEVELS, 4)
    for examples in (found.best, found.worst):
        assert {paths[example.index][0] for example in examples} == {"deep", "x", "y", "z"}
    assert {paths[example.index][0] for example in level_examples(search(images), 3, 4).worst} == {"deep"}


def test_examples_name_the_rows_of_all_images_and_what_they_have_in_common():
    # two queries, two of the gallery between them: the first cat's nearest is the dog
    features = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.7, 0.7]]
    splits = ["gallery", "query", "gallery", "query"]
    paths = [("pet", "dog"), ("pet", "cat"), ("pet", "cat"), ("bird",)]
    images = embedded(features, paths, levels=("kind", "class"), splits=splits)
    found = level_examples(search(images), 2)
    assert found.best[0].index == 1
    assert found.best[0].neighbours == [ExampleNeighbour(0, 1, False), ExampleNeighbour(2, 2, True)]
    assert found.best[0].precision == 0.5
    assert found.best[0].num_relevant == 1
    assert found.worst == []  # the only query with something to find is among the best
    assert sorted(found.indices()) == [0, 1, 2]


def test_a_perfect_ranking_is_not_among_the_worst():
    images = embedded(torch.eye(4)[[0, 0, 1, 1]], [("a",), ("a",), ("b",), ("b",)], levels=("kind",))
    found = level_examples(search(images), 1)
    assert [example.precision for example in found.best] == [1.0, 1.0]
    assert found.worst == []


def test_of_several_paths_the_one_in_common_counts():
    paths = [[("cat",)], [("cat",), ("dog",)], [("dog",)], [("cat",)]]
    images = embedded([[1.0, 0.0], [1.0, 0.1], [1.0, 0.2], [1.0, 0.3]], paths, levels=("kind",))
    found = level_examples(search(images), 1)
    first = next(example for example in [*found.best, *found.worst] if example.index == 0)
    assert [(one.index, one.shared, one.whole) for one in first.neighbours] == [
        (1, 1, True),
        (2, 0, False),
        (3, 1, True),
    ]
    assert (first.precision, first.num_relevant) == (0.5, 1)  # the dog alone stands before the cat


def test_copies_of_a_file_are_one_neighbour_and_one_query(tmp_path):
    colours = ["red", "blue", "blue", "green", "blue", "red"]
    files = []
    for i, colour in enumerate(colours):
        files.append(str(tmp_path / f"{i}.png"))
        Image.new("RGB", (8, 8), colour).save(files[-1])
    angles = torch.tensor([0.0, 5, 5, 20, 5, 0]).deg2rad()
    features = torch.stack([angles.cos(), angles.sin()], 1)
    paths = [("a", "x"), ("a", "y"), ("a", "y"), ("a", "x"), ("b", "z"), ("a", "x")]
    images = embedded(features, paths, levels=("kind", "class"), files=files)
    found = level_examples(search(images), 2, num_neighbours=3)
    (query,) = [example for example in [*found.best, *found.worst] if example.index == 0]
    # the copy of the query is a find of its own; the blue one that hangs elsewhere is no copy of the others
    assert [(one.index, one.copies) for one in query.neighbours] == [(5, 1), (1, 2), (4, 1)]
    queries = [example.index for example in [*found.best, *found.worst]]
    assert not {0, 5} <= set(queries)
    assert not {1, 2} <= set(queries)
