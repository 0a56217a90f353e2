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


def direct(features, others):
    return torch.cdist(features.double(), others.double(), compute_mode="donot_use_mm_for_euclid_dist")


def test_two_far_clusters_keep_the_distances_within_them():
    features = rows(0, 8).float() * 0.05
    features[:4, 0] += 1000
    features[4:, 0] -= 1000
    expected = direct(features, features)
    for squared in (False, True):
        found = pairwise_distances(features, features, squared=squared)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), expected**2 if squared else expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1e5, 1e20])
def test_distances_grow_with_the_features_and_their_gradient_stays(scale):
    features, others = rows(0, 5).float() * scale, rows(1, 4).float() * scale
    features.requires_grad_()
    found = pairwise_distances(features, others)
    torch.testing.assert_close(found.double(), direct(features, others), rtol=1e-5, atol=0)
    found.sum().backward()
    assert features.grad.norm(dim=1).min() > 0.1
