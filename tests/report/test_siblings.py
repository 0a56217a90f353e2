import pytest
import torch

from hierpretrain.report.nearest_images import nearest_others
from hierpretrain.report.search import search
from hierpretrain.report.siblings import sibling_confusion
from hierpretrain.taxonomy import PAD
from tests.reference.report import sibling_confusion as oracle
from tests.report.sets import embedded, random_set, unlabelled


def among_all(images, k, **options):
    """The confusion of all images among themselves."""
    return sibling_confusion(images, images, nearest_others(images.features, k)[1], same_set=True, **options)


def counted(confusion):
    return {
        (a, b): confusion.counts[i, j].item()
        for i, a in enumerate(confusion.children)
        for j, b in enumerate(confusion.children)
        if confusion.counts[i, j]
    }


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("places", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_every_parent_as_counted_by_loops(seed, places, separate):
    images = random_set(seed, places=places, splits=["query", "gallery"] * 20 if separate else None)
    searched = search(images, k=2)
    found = sibling_confusion(searched.query, searched.gallery, searched.neighbours, same_set=not separate)
    expected = oracle(images, searched.query.indices.tolist(), searched.gallery.indices.tolist())
    assert [(confusion.level, confusion.node) for confusion in found] == list(expected)
    for confusion, counts in zip(found, expected.values(), strict=True):
        assert counted(confusion) == counts
        assert confusion.num_images == sum(counts.values())
        assert confusion.num_wrong == sum(count for (a, b), count in counts.items() if a != b)
        assert confusion.num_children == len(confusion.children)
        assert confusion.counts[:, -1].sum() == 0


def test_of_many_children_the_most_confused_are_shown_and_the_rest_is_one_column():
    # by angle: c0 and c1 alternate, the others are apart but for one image of c2 beside c3
    angles = {"c0": [0, 2, 4], "c1": [1, 3, 5], "c2": [40, 41, 69], "c3": [70, 71], "c4": [100, 101]}
    names = [name for name, of_child in angles.items() for _ in of_child]
    radians = torch.deg2rad(torch.tensor([angle for of_child in angles.values() for angle in of_child]).float())
    images = embedded(torch.stack([radians.cos(), radians.sin()], 1), [(name,) for name in names], levels=("kind",))
    (root,) = among_all(images, 3, most_children=3)
    assert root.node == PAD
    assert root.children == [0, 1, 2]
    assert root.num_children == 5
    assert root.counts.sum(1).tolist() == [3, 3, 3]
    assert root.counts[2].tolist() == [0, 0, 2, 1]  # the last is taken for c3, which is not shown
    assert root.num_images == 13
    (whole,) = among_all(images, 3)
    assert whole.children == [0, 1, 2, 3, 4]
    assert root.num_wrong == whole.num_wrong == whole.counts.sum() - whole.counts.diagonal().sum()


def test_a_parent_of_one_child_and_one_image_on_two_children_have_nothing_to_confuse():
    one_child = embedded(torch.eye(2), [("a", "x"), ("a", "x")], levels=("kingdom", "kind"))
    assert among_all(one_child, 1) == []
    tomato = embedded(torch.eye(2), [[("a",), ("b",)], [()]], levels=("kind",))
    assert among_all(tomato, 1) == []


def test_without_labels_there_is_no_parent():
    images = unlabelled(5)
    assert among_all(images, 2) == []
