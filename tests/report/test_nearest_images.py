import numpy as np
import pytest
import torch

from hierpretrain.functional.search import nearest
from hierpretrain.report.nearest_images import nearest_inside, nearest_others
from hierpretrain.taxonomy import PAD
from tests.reference.report import nearest_among
from tests.report.sets import random_set


@pytest.mark.parametrize("k", [1, 3, 39])
@pytest.mark.parametrize("seed", range(3))
def test_nearest_inside_a_part_is_that_of_an_exhaustive_search(seed, k):
    images = random_set(seed)
    rows = torch.from_numpy(np.sort(np.random.default_rng(seed).choice(40, 9, replace=False)))
    _, neighbours = nearest_others(images.features, k)
    expected = [nearest_among(images, row, rows.tolist()) for row in rows.tolist()]
    sides = images.features, images.features, rows, rows
    assert nearest_inside(*sides, neighbours, same_set=True).tolist() == expected


@pytest.mark.parametrize("k", [1, 20])
def test_nearest_of_another_set_inside_a_part(k):
    images = random_set(1)
    asked, offered = torch.tensor([0, 4, 7]), torch.tensor([1, 5, 6, 11])
    query, gallery = images.features[:20], images.features[20:]
    neighbours = nearest(query, gallery, k)[1]
    expected = [nearest_among(images, i, (20 + offered).tolist()) - 20 for i in asked.tolist()]
    assert nearest_inside(query, gallery, asked, offered, neighbours, same_set=False).tolist() == expected
    empty = offered[:0]
    assert nearest_inside(query, gallery, asked, empty, neighbours, same_set=False).tolist() == [PAD] * 3


def test_nearest_inside_a_part_is_never_the_image_itself_even_among_duplicates():
    features = torch.ones(4, 2)
    _, neighbours = nearest_others(features, 1)
    part = torch.tensor([1, 3])
    found = nearest_inside(features, features, part, part, neighbours, same_set=True)
    assert found.tolist() == [3, 1]


def test_a_part_of_one_image_has_no_neighbour():
    images = random_set(0)
    part, neighbours = torch.tensor([7]), nearest_others(images.features, 2)[1]
    found = nearest_inside(images.features, images.features, part, part, neighbours, same_set=True)
    assert found.tolist() == [PAD]


def test_neighbours_are_as_many_as_there_are_others():
    similarities, neighbours = nearest_others(torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), 8)
    assert neighbours.tolist() == [[1, 2], [2, 0], [1, 0]]
    torch.testing.assert_close(similarities, torch.tensor([[0.6, 0.0], [0.8, 0.6], [0.8, 0.0]]))
