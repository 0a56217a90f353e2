import pytest
import torch

from hierpretrain.functional.distances import pairwise_distances, square_root


def rows(seed, number):
    return torch.randn(number, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("squared", [False, True])
def test_distances_are_those_of_torch(squared):
    features, others = rows(0, 5), rows(1, 4)
    expected = torch.cdist(features, others, compute_mode="donot_use_mm_for_euclid_dist")
    found = pairwise_distances(features, others, squared=squared)
    torch.testing.assert_close(found, expected**2 if squared else expected)


def test_of_nothing_there_are_no_distances():
    assert pairwise_distances(rows(0, 3), rows(1, 0), squared=True).shape == (3, 0)
    assert pairwise_distances(rows(0, 0), rows(1, 2), squared=False).shape == (0, 2)


def test_the_gradient_of_a_distance_of_0_is_0_and_not_lost():
    features = torch.tensor([[1.0, 2.0], [3.0, 5.0]], requires_grad=True)
    pairwise_distances(features, features.detach(), squared=False).diagonal().sum().backward()
    assert torch.equal(features.grad, torch.zeros_like(features))
    squares = torch.tensor([0.0, 4.0], requires_grad=True)
    square_root(squares).sum().backward()
    assert squares.grad.tolist() == [0.0, 0.25]
