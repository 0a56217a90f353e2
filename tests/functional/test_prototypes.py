import pytest
import torch

from hierpretrain.functional import distortion, distortion_loss, pairwise_distances, scale_free_distortion
from hierpretrain.functional import prototypes as module
from tests.memory import LargestTensor
from tests.reference import prototypes as reference


def random_case(seed, classes=5, dim=3):
    generator = torch.Generator().manual_seed(seed)
    prototypes = torch.randn(classes, dim, generator=generator, dtype=torch.float64)
    metric = torch.randint(1, 4, (classes, classes), generator=generator).double()
    return prototypes.requires_grad_(), (metric + metric.T).fill_diagonal_(0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("block", [1, 13, 1 << 20])  # one row at a time, a few, all
def test_distances_and_distortions_are_those_of_the_loops(monkeypatch, seed, block):
    monkeypatch.setattr(module, "_BLOCK", block)
    prototypes, metric = random_case(seed, classes=4 + seed)
    features = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 100))
    expected = torch.tensor(reference.distances(features, prototypes), dtype=torch.float64)
    torch.testing.assert_close(pairwise_distances(features, prototypes), expected)
    torch.testing.assert_close(pairwise_distances(features, prototypes, squared=True), expected**2)

    between = pairwise_distances(prototypes, prototypes)
    plain, metric_rows = between.tolist(), metric.tolist()
    assert distortion(between, metric).item() == pytest.approx(reference.distortion(plain, metric_rows), abs=1e-12)
    assert scale_free_distortion(between, metric).item() == pytest.approx(
        reference.scale_free_distortion(plain, metric_rows), abs=1e-12
    )
    assert distortion_loss(prototypes, metric, scale_free=False).item() == pytest.approx(
        reference.distortion_loss(plain, metric_rows), abs=1e-12
    )
    # the scale of the smooth loss is the best one: neither a smaller nor a larger one gives less
    a = reference.ratios(plain, metric_rows)
    best = sum(a) / sum(x * x for x in a)
    value = distortion_loss(prototypes, metric.short()).item()
    assert value == pytest.approx(reference.distortion_loss(plain, metric_rows, best), abs=1e-12)
    assert value < min(reference.distortion_loss(plain, metric_rows, best * f) for f in (0.999, 1.001))


ALL = [
    lambda p, m: distortion(pairwise_distances(p, p), m),
    lambda p, m: scale_free_distortion(pairwise_distances(p, p), m),
    distortion_loss,
    lambda p, m: distortion_loss(p, m, scale_free=False),
]


@pytest.mark.parametrize("function", ALL)
@pytest.mark.parametrize("block", [1, 13, 1 << 20])
def test_gradients_are_those_of_finite_differences(monkeypatch, function, block):
    monkeypatch.setattr(module, "_BLOCK", block)
    prototypes, metric = random_case(3)
    assert torch.autograd.gradcheck(lambda p: function(p, metric), prototypes)


@pytest.mark.parametrize("scale_free", [False, True])
def test_the_loss_never_holds_all_distances(monkeypatch, scale_free):
    monkeypatch.setattr(module, "_BLOCK", 1000)
    prototypes, metric = random_case(0, classes=200)
    with LargestTensor() as made:
        distortion_loss(prototypes, metric, scale_free=scale_free).backward()
    assert made.numel == 1000


def test_scale_free_forms_do_not_see_the_scale_and_are_zero_for_the_tree_s_own_distances():
    prototypes, metric = random_case(1)
    for function in ALL[1:3]:
        torch.testing.assert_close(function(7 * prototypes, metric), function(prototypes, metric))
    corners, metric = 3 * torch.eye(5, dtype=torch.float64), 2**0.5 * (1 - torch.eye(5, dtype=torch.float64))
    for function, expected in zip(ALL, (2, 0, 0, 4), strict=True):  # 3 times as far apart as in the tree
        assert function(corners, metric).item() == pytest.approx(expected, abs=1e-12)


def test_prototypes_at_one_point_have_distortion_one_and_a_finite_gradient():
    prototypes = torch.zeros(3, 2, requires_grad=True)
    metric = 1 - torch.eye(3)
    for function in ALL:
        value = function(prototypes, metric)
        assert value == 1
        (grad,) = torch.autograd.grad(value, prototypes)
        assert grad.isfinite().all()


def test_one_class_has_no_distortion():
    for function in ALL:
        assert function(torch.ones(1, 2), torch.zeros(1, 1)) == 0


def test_distances_far_from_the_origin_keep_their_digits():
    features, prototypes = torch.tensor([[1000.0, 0.5]]), torch.tensor([[1000.0, 0.25], [1000.0, 0.75]])
    torch.testing.assert_close(pairwise_distances(features, prototypes), torch.tensor([[0.25, 0.25]]))


@pytest.mark.parametrize("function", [distortion, scale_free_distortion, distortion_loss])
def test_bad_input_names_the_rule(function):
    with pytest.raises(ValueError, match=r"metric .*\(K, K\); they are \(2, 2\) and \(3, 3\)"):
        function(torch.zeros(2, 2), torch.zeros(3, 3))
    with pytest.raises(
        ValueError, match=r"metric must be finite and above 0 between different classes; it is 0.0 between 0 and 2"
    ):
        function(torch.ones(3, 3), torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]]))


@pytest.mark.parametrize("value", [torch.inf, torch.nan, -1.0])
def test_a_metric_that_is_not_finite_is_refused_by_the_loss_too(value):
    metric = torch.ones(3, 3)
    metric[0, 2] = value
    with pytest.raises(ValueError, match=r"metric must be finite and above 0 .*; it is .* between 0 and 2"):
        distortion_loss(torch.eye(3), metric)
