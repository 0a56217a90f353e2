import itertools

import pytest
import torch

from hierpretrain.functional import triplet_loss
from hierpretrain.taxonomy import PAD
from tests.conftest import random_features
from tests.reference import triplet as reference

OPTIONS = [
    *(
        dict(margin=margin, mining=mining, distance=distance)
        for margin, mining, distance in itertools.product([0.0, 0.2, 1.0], ["hard", "all"], ["squared", "euclidean"])
    ),
    dict(margin="soft", distance="squared"),
    dict(margin="soft", distance="euclidean"),
]


def random_classes(seed, rows=12, classes=4):
    return torch.randint(-1, classes, (rows,), generator=torch.Generator().manual_seed(seed))


def value_and_grad(function, features, *args, **options):
    loss = function(features, *args, **options)
    return loss.detach(), *torch.autograd.grad(loss, features)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
@pytest.mark.parametrize("seed", range(4))
def test_value_and_gradient_are_those_of_the_loops(options, seed):
    features, classes = random_features(seed), random_classes(seed)
    expected = value_and_grad(reference.triplet_loss, features, classes, **options)
    actual = value_and_grad(triplet_loss, features, classes, **options)
    assert expected[0] > 0
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)


def test_triplets_of_four_points_on_a_line():
    # by hand: hardest costs are 1 + 1 - 1.5, 1 + 1 - 0.5, 1 + 2.5 - 0.5, 1 + 2.5 - 3
    features, classes = torch.tensor([[0.0], [1.0], [1.5], [4.0]]), torch.tensor([7, 7, 9, 9])
    assert triplet_loss(features, classes, margin=1.0, distance="euclidean") == (0.5 + 1.5 + 3 + 0.5) / 4
    # all: anchor 0 0.5; 1 1.5; 1.5 2 and 3; 4 0.5 and, towards 0, 1 + 2.5 - 4 < 0
    assert triplet_loss(features, classes, margin=1.0, distance="euclidean", mining="all") == (0.5 + 1.5 + 5 + 0.5) / 5


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
def test_order_and_names_of_classes_do_not_matter(options):
    features, classes = random_features(5), random_classes(5)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    renamed = torch.where(classes == PAD, PAD, 10**12 - classes)
    torch.testing.assert_close(
        triplet_loss(features[order], renamed[order], **options), triplet_loss(features, classes, **options)
    )


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
@pytest.mark.parametrize("classes", [[0, 0, 0, 0], [0, 1, 2, 3], [PAD] * 4, [0, 0, PAD, PAD], []])
def test_without_a_triplet_the_loss_is_zero_with_gradient(options, classes):
    features = random_features(0, rows=len(classes))
    loss, grad = value_and_grad(triplet_loss, features, torch.tensor(classes, dtype=torch.int64), **options)
    assert loss == 0
    assert torch.equal(grad, torch.zeros_like(features))


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
def test_duplicates_have_finite_gradients(options):
    features = torch.eye(2)[[0, 0, 0, 1, 1]].requires_grad_()  # the third row is a duplicate of another class
    loss, grad = value_and_grad(triplet_loss, features, torch.tensor([0, 0, 1, 1, 1]), **options)
    assert loss > 0
    assert grad.isfinite().all()


def test_half_precision_is_computed_in_full():
    features, classes = random_features(1, dtype=torch.float32).detach(), random_classes(1)
    expected = triplet_loss(features.bfloat16().float(), classes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = triplet_loss(features.bfloat16(), classes)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(mining="semi"), "mining must be 'hard' or 'all'; it is 'semi'"),
        (dict(distance="cosine"), "distance must be 'squared' or 'euclidean'; it is 'cosine'"),
        (dict(margin="hard"), "margin must be a number or 'soft', not 'hard'"),
        (dict(margin=-0.1), "margin must be finite and not below 0; it is -0.1"),
        (dict(margin=float("nan")), "margin must be finite and not below 0; it is nan"),
        (dict(margin="soft", mining="all"), "margin='soft' goes with mining='hard'"),
        (dict(labels=torch.zeros(3, 1, dtype=torch.int64)), r"labels of triplet_loss must be \(M,\).*\(3, 1\)"),
        (dict(labels=torch.zeros(4, dtype=torch.int64)), r"one entry per row of features \(3\); they have 4"),
        (dict(features=torch.ones(3, 2, dtype=torch.int64)), r"features must be \(M, D\) floating point; .*int64"),
        (dict(features=torch.tensor([[0.0], [1.0], [torch.nan]])), "features must be finite; row 2 is not"),
    ],
)
def test_bad_input_names_the_rule(options, message):
    options = dict(dict(features=torch.ones(3, 2), labels=torch.tensor([0, 0, 1])), **options)
    with pytest.raises(ValueError, match=message):
        triplet_loss(options.pop("features"), options.pop("labels"), **options)
