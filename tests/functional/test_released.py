import itertools

import pytest
import torch

from hierpretrain.functional import released_hmlc_loss, supcon_loss
from hierpretrain.taxonomy import PAD
from tests.conftest import random_features, random_labels
from tests.reference import contrastive as reference


def batch(seed, images=8, views=2):
    labels = torch.cat([random_labels(seed, rows=images, ragged=False), torch.arange(images)[:, None]], 1)
    return random_features(seed, rows=views * images), labels.repeat(views, 1)


@pytest.mark.parametrize(
    ("loss_type", "level_weights", "num_views"),
    list(itertools.product(["hmc", "hce", "hmce"], ["exp", "pow2"], [2, 3])),
)
def test_value_and_gradient_are_those_of_the_loops(loss_type, level_weights, num_views):
    options = dict(
        num_views=num_views, temperature=0.2, base_temperature=0.07, loss_type=loss_type, level_weights=level_weights
    )
    for seed in range(3):
        features, labels = batch(seed, views=num_views)
        expected = reference.released_hmlc_loss(features, labels, **options)
        actual = released_hmlc_loss(features, labels, **options)
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-8)
        (grad,), (expected_grad,) = (torch.autograd.grad(loss, features) for loss in (actual, expected))
        torch.testing.assert_close(grad, expected_grad, rtol=0, atol=1e-8)


def test_one_class_column_is_supcon_times_what_the_code_does_to_it():
    features, labels = batch(0)
    labels = labels[:, [0, -1]]
    expected = supcon_loss(features, labels[:, 0], temperature=0.1) * (0.1 / 0.07) * torch.e / 2
    torch.testing.assert_close(released_hmlc_loss(features, labels, loss_type="hmc"), expected)


def test_it_depends_on_the_order_of_the_batch_as_the_released_code_does():
    features, labels = batch(1)
    order = torch.arange(8).flip(0)
    order = torch.cat([order, order + 8])
    loss = released_hmlc_loss(features, labels, loss_type="hmc")
    assert (loss - released_hmlc_loss(features[order], labels[order], loss_type="hmc")).abs() > 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(loss_type="hmlc"), "loss_type must be 'hmc', 'hce' or 'hmce'; it is 'hmlc'"),
        (dict(level_weights="linear"), "level_weights must be 'exp' or 'pow2'; it is 'linear'"),
        (dict(num_views=1), "at least 2 views of each image"),
        (dict(num_views=3), "num_views is 3, with 4 features and 4 labels"),
        (dict(labels=torch.tensor([[0], [1], [0], [1]])), r"they have 1 column\(s\)"),
        (dict(labels=torch.tensor([[0, PAD], [1, 1], [0, PAD], [1, 1]])), "the released loss knows no PAD"),
        (dict(labels=torch.tensor([[0, 0], [0, 0], [1, 1], [1, 1]])), "features must stand view by view"),
    ],
)
def test_bad_input_names_the_rule(change, message):
    arguments = dict(labels=torch.tensor([[0, 0], [1, 1]]).repeat(2, 1)) | change
    with pytest.raises(ValueError, match=message):
        released_hmlc_loss(torch.eye(4), **arguments)
