import pytest
import torch

from hierpretrain.report.image_nodes import deepest_nodes, node_numbers
from hierpretrain.report.search import search
from hierpretrain.report.tree_quality import tree_quality
from hierpretrain.taxonomy import PAD
from tests.reference.report import tree_quality as oracle
from tests.report.sets import embedded, random_set


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("places", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_every_node_as_counted_by_loops(seed, places, separate):
    images = random_set(seed, places=places, splits=["query", "gallery"] * 20 if separate else None)
    searched = search(images, k=1)
    found = tree_quality(searched.query, searched.gallery, searched.neighbours[:, 0])
    expected = oracle(images, searched.query.indices.tolist(), searched.gallery.indices.tolist())
    for (level, node), (number, offered, right, mixed) in expected.items():
        quality = found[level - 1]
        assert quality.num_images[node] == number
        assert quality.num_offered[node] == offered
        assert quality.num_right[node] == right
        most = max(mixed.values(), default=0)
        assert quality.num_mixed[node] == most
        assert quality.mixed_with[node] == min((other for other in mixed if mixed[other] == most), default=PAD)


def test_a_neighbour_that_ends_above_the_level_is_wrong_and_of_no_node():
    images = embedded(
        torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]), [("a", "x"), ("a",), ("b", "y")], levels=LEVELS
    )
    kinds = tree_quality(images, images, torch.tensor([1, 0, 1]))[1]
    assert kinds.num_images.tolist() == [1, 1]
    assert kinds.num_right.tolist() == [0, 0]
    assert kinds.mixed_with.tolist() == [PAD, PAD]
    assert kinds.num_mixed.tolist() == [0, 0]


LEVELS = ("kingdom", "kind")


def test_the_deepest_node_of_each_path_has_a_number_of_its_own(tree):
    labels = tree.encode([[("animal", "dog"), ("tool",)], [("food", "fruit", "cherry")], ()])
    first = node_numbers(tree)
    assert first == [0, 3, 6, 10]  # 3 kingdoms, 3 kinds, 4 breeds
    dog, tool, cherry = 3 + 1, 0 + 2, 6 + 3
    assert deepest_nodes(labels, tree).tolist() == [[dog, tool], [cherry, PAD], [PAD, PAD]]
