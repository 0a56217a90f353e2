import pytest
import torch

from hierpretrain.functional import distortion, distortion_loss, prototype_distances, scale_free_distortion
from tests.reference import prototypes as reference


def random_case(seed, classes=5, dim=3):
    generator = torch.Generator().manual_seed(seed)
    prototypes = torch.randn(classes, dim, generator=generator, dtype=torch.float64)
    metric = torch.randint(1, 4, (classes, classes), generator=generator).double()
    return prototypes.requires_grad_(), (metric + metric.T).fill_diagonal_(0)


@pytest.mark.parametrize("seed", range(5))
def test_distances_and_distortions_are_those_of_the_loops(seed):
    prototypes, metric = random_case(seed, classes=4 + seed)
    features = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 100))
    expected = torch.tensor(reference.distances(features, prototypes), dtype=torch.float64)
    torch.testing.assert_close(prototype_distances(features, prototypes), expected)
    torch.testing.assert_close(prototype_distances(features, prototypes, squared=True), expected**2)

    between = prototype_distances(prototypes, prototypes)
    plain, metric_rows = between.tolist(), metric.tolist()
    assert distortion(between, metric).item() == pytest.approx(reference.distortion(plain, metric_rows), abs=1e-12)
    assert scale_free_distortion(between, metric).item() == pytest.approx(
        reference.scale_free_distortion(plain, metric_rows), abs=1e-12
    )
    assert distortion_loss(between, metric, scale_free=False).item() == pytest.approx(
        reference.distortion_loss(plain, metric_rows), abs=1e-12
    )
    # the scale of the smooth loss is the best one: neither a smaller nor a larger one gives less
    a = reference.ratios(plain, metric_rows)
    best = sum(a) / sum(x * x for x in a)
    value = distortion_loss(between, metric).item()
    assert value == pytest.approx(reference.distortion_loss(plain, metric_rows, best), abs=1e-12)
    assert value < min(reference.distortion_loss(plain, metric_rows, best * f) for f in (0.999, 1.001))


@pytest.mark.parametrize(
    "function",
    [scale_free_distortion, distortion_loss, lambda d, m: distortion_loss(d, m, scale_free=False), distortion],
)
def test_gradients_are_those_of_finite_differences(function):
    prototypes, metric = random_case(3)
    assert torch.autograd.gradcheck(lambda p: function(prototype_distances(p, p), metric), prototypes)


def test_scale_free_forms_do_not_see_the_scale_and_are_zero_for_the_tree_s_own_distances():
    prototypes, metric = random_case(1)
    between = prototype_distances(prototypes, prototypes)
    for function in (scale_free_distortion, distortion_loss):
        torch.testing.assert_close(function(7 * between, metric), function(between, metric))
        assert function(3 * metric, metric).item() == pytest.approx(0, abs=1e-15)
    assert distortion(3 * metric, metric) == 2
    assert distortion_loss(3 * metric, metric, scale_free=False) == 4


def test_prototypes_at_one_point_have_distortion_one_and_a_finite_gradient():
    prototypes = torch.zeros(3, 2, requires_grad=True)
    metric = 1 - torch.eye(3)
    between = prototype_distances(prototypes, prototypes)
    for function in (distortion, scale_free_distortion, distortion_loss):
        value = function(between, metric)
        assert value == 1
        (grad,) = torch.autograd.grad(value, prototypes, retain_graph=True)
        assert grad.isfinite().all()


def test_one_class_has_no_distortion():
    for function in (distortion, scale_free_distortion, distortion_loss):
        assert function(torch.zeros(1, 1), torch.zeros(1, 1)) == 0


def test_distances_far_from_the_origin_keep_their_digits():
    features, prototypes = torch.tensor([[1000.0, 0.5]]), torch.tensor([[1000.0, 0.25], [1000.0, 0.75]])
    torch.testing.assert_close(prototype_distances(features, prototypes), torch.tensor([[0.25, 0.25]]))


@pytest.mark.parametrize("function", [distortion, scale_free_distortion, distortion_loss])
def test_bad_input_names_the_rule(function):
    with pytest.raises(ValueError, match=r"must both be \(K, K\); they are \(2, 2\) and \(3, 3\)"):
        function(torch.zeros(2, 2), torch.zeros(3, 3))
    with pytest.raises(
        ValueError, match=r"metric must be above 0 between different classes; it is 0.0 between 0 and 2"
    ):
        function(torch.ones(3, 3), torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]]))
