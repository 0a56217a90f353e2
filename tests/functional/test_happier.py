import pytest
import torch

from hierpretrain.functional import happier, happier_loss
from hierpretrain.taxonomy import PAD
from tests.conftest import random_features, random_labels
from tests.reference import happier as reference
from tests.reference.contrastive import shared_depth
from tests.reference.paths import other_order, random_paths

OPTIONS = [{}, dict(start=0.0, offset=1.0), dict(alpha=2.0, temperature=0.1, slope=3.0, delta=0.3), dict(alpha=0.0)]


def value_and_grad(function, features, *args, **options):
    loss = function(features, *args, **options)
    return loss.detach(), *torch.autograd.grad(loss, features)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_value_and_gradient_are_those_of_the_loops(options, seed, monkeypatch):
    features, labels = random_features(seed, rows=9), random_labels(seed, rows=9, levels=1 + seed, ragged=seed % 2 == 0)
    expected = value_and_grad(reference.happier_loss, features, labels, **options)
    for block in (1, 4 * 9, 1 << 20):  # one, four and all pairs at a time
        monkeypatch.setattr(happier, "_BLOCK", block)
        actual = value_and_grad(happier_loss, features, labels, **options)
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


def test_the_gradient_has_the_gradient_of_finite_differences():
    features, labels = random_features(1, rows=5), random_labels(1, rows=5)
    options = dict(temperature=0.5, delta=0.3, slope=2.0)
    assert torch.autograd.gradgradcheck(lambda rows: happier_loss(rows, labels, **options), features)


@pytest.mark.parametrize("seed", range(3))
def test_with_a_sharp_step_it_is_exact_h_ap(seed):
    features, labels = random_features(seed, rows=10).detach(), random_labels(seed, rows=10, ragged=False)
    exact = []
    for q in range(10):
        items = [k for k in range(10) if k != q]
        shared = [shared_depth(labels[q], labels[k]) for k in items]
        if any(shared):
            scores = [float(features[q] @ features[k]) for k in items]
            exact.append(reference.h_ap(scores, reference.relevances(shared, 3, 1.0)))
    for temperature, tolerance in ((1e-2, 1e-1), (1e-8, 1e-12)):
        loss = happier_loss(features, labels, temperature=temperature, start=0.0, delta=3.0)
        assert 1 - loss.item() == pytest.approx(sum(exact) / len(exact), abs=tolerance)


def test_a_ranking_by_the_tree_costs_nothing_and_its_reverse_does():
    angles = torch.tensor([0.0, 0.1, 0.8, 3.0], dtype=torch.float64)
    features = torch.stack([angles.cos(), angles.sin()], 1)
    labels = torch.tensor([[0, 0], [0, 0], [0, 1], [1, 2]])
    assert happier_loss(features, labels).item() == pytest.approx(0, abs=1e-9)
    assert happier_loss(features[[0, 3, 2, 1]], labels).item() > 0.5


def test_relevance_is_shared_by_the_items_of_a_level():
    shared = torch.tensor([[0, 3, 3, 2, 1, 1, 1, 0]])
    # (l / 3)^2 over how many: 1 / 2, (4 / 9) / 1, (1 / 9) / 3
    expected = torch.tensor([[0, 1 / 2, 1 / 2, 4 / 9, 1 / 27, 1 / 27, 1 / 27, 0]], dtype=torch.float64)
    torch.testing.assert_close(happier.relevance(shared, 3, 2.0), expected)


def test_the_order_of_the_batch_and_the_names_of_nodes_do_not_matter():
    features, labels = random_features(7), random_labels(7)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    renamed = torch.where(labels == PAD, PAD, 10**12 - labels)
    torch.testing.assert_close(happier_loss(features[order], renamed[order]), happier_loss(features, labels))


@pytest.mark.parametrize("seed", range(3))
def test_several_paths(seed):
    features, labels = random_features(seed, rows=9), random_paths(seed, rows=9, branching=3)
    expected = value_and_grad(reference.happier_loss, features, labels)
    for given in (labels, other_order(labels, seed)):
        torch.testing.assert_close(value_and_grad(happier_loss, features, given), expected, rtol=1e-9, atol=1e-9)
    one = random_labels(seed, rows=9)
    expected = value_and_grad(happier_loss, features, one)
    torch.testing.assert_close(value_and_grad(happier_loss, features, one[:, None]), expected, rtol=0, atol=0)


def test_two_paths_are_ranked_by_the_nearer():
    # a tomato (fruit and vegetable) asks: a carrot shares as much as an apple, each of them less than another tomato
    tomato, apple, carrot = [[0, 0], [1, 1]], [[0, 2], [PAD, PAD]], [[1, 3], [PAD, PAD]]
    angles = torch.tensor([0.0, 0.1, 0.8, -0.9], dtype=torch.float64)
    features = torch.stack([angles.cos(), angles.sin()], 1)
    assert happier_loss(features, torch.tensor([tomato, tomato, apple, carrot])).item() == pytest.approx(0, abs=1e-9)
    assert happier_loss(features, torch.tensor([tomato, apple, tomato, carrot])).item() > 0.1


@pytest.mark.parametrize("labels", [[[0], [1], [2]], [[PAD]] * 3, [[0, PAD], [1, PAD], [PAD, PAD]]])
def test_without_a_positive_the_loss_is_zero_with_gradient(labels):
    features = random_features(0, rows=3)
    loss, grad = value_and_grad(happier_loss, features, torch.tensor(labels))
    assert loss == 0
    assert torch.equal(grad, torch.zeros_like(features))


@pytest.mark.parametrize("labels", [[[0, 0]] * 4, [[0, 0], [0, 0], [0, 1], [1, 2]]], ids=["one class", "classes"])
def test_duplicates_and_one_class_have_finite_gradients(labels):
    features = torch.eye(3)[[0, 0, 0, 0]].requires_grad_()
    loss, grad = value_and_grad(happier_loss, features, torch.tensor(labels))
    assert loss.isfinite()
    assert grad.isfinite().all()


def test_half_precision_is_computed_in_full():
    features, labels = random_features(1, dtype=torch.float32).detach(), random_labels(1)
    expected = happier_loss(features.bfloat16().float(), labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = happier_loss(features.bfloat16(), labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(alpha=-1), "alpha must be finite and not below 0; it is -1"),
        (dict(temperature=0), "temperature must be above 0; it is 0"),
        (dict(slope=-1), "slope must be finite and not below 0; it is -1"),
        (dict(delta=float("nan")), "delta must be finite and not below 0; it is nan"),
        (dict(labels=torch.zeros(4, 1, dtype=torch.int64)), r"one row per row of features \(3\); they have 4"),
        (dict(labels=torch.tensor([[PAD, 0]] * 3)), r"PAD \(-1\) only on the right; row 0 is \[-1, 0\]"),
        (dict(features=torch.full((3, 2), torch.inf)), "features must be finite; row 0 is not"),
    ],
)
def test_bad_input_names_the_rule(options, message):
    options = dict(dict(features=torch.ones(3, 2), labels=torch.tensor([[0], [0], [1]])), **options)
    with pytest.raises(ValueError, match=message):
        happier_loss(options.pop("features"), options.pop("labels"), **options)


@pytest.mark.parametrize("alpha", [1.0, 80.0, 200.0])
def test_a_great_alpha_leaves_no_query_without_relevance(alpha):
    """Most of these share one level of three with others, whose relevance 3^-alpha is 0 in float32."""
    features = random_features(1, rows=6).detach()
    labels = torch.tensor([[0, 0, 0], [0, 1, 1], [0, 2, 2], [1, 3, 3], [1, 4, 4], [2, 5, 5]])
    expected = reference.happier_loss(features, labels, alpha=alpha)
    assert happier_loss(features.float(), labels, alpha=alpha).item() == pytest.approx(expected.item(), rel=1e-4)
