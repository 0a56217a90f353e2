import math

import pytest
import torch
from torch.nn.functional import softplus

from hierpretrain.functional import rince_level_losses, rince_loss, supcon_loss
from hierpretrain.taxonomy import PAD, append_instances
from tests.conftest import random_features, random_labels
from tests.reference import rince as reference
from tests.reference.paths import other_order, random_paths

VARIANTS = ["out", "in", "out-in"]


def value_and_grad(function, features, *args, **options):
    losses = function(features, *args, **options)
    return losses.detach(), *torch.autograd.grad((losses * torch.arange(1.0, len(losses) + 1)).sum(), features)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("seed", range(4))
def test_value_and_gradient_are_those_of_the_loops(variant, seed):
    features, levels = random_features(seed), 1 + seed % 3
    temperatures = [0.9, 0.5, 0.3][-levels:]
    for labels in (random_labels(seed, levels=levels, ragged=seed % 2 == 0), random_paths(seed, levels=levels)):
        options = dict(temperatures=temperatures, variant=variant)
        expected = value_and_grad(reference.rince_level_losses, features, labels, **options)
        torch.testing.assert_close(value_and_grad(rince_level_losses, features, labels, **options), expected)
        torch.testing.assert_close(rince_loss(features, labels, **options), expected[0].sum())


def test_the_gradient_is_that_of_finite_differences():
    labels = random_labels(1, rows=6)
    for variant in VARIANTS:
        assert torch.autograd.gradcheck(
            lambda rows, v=variant: rince_level_losses(rows, labels, temperatures=(1.0, 0.5), variant=v),
            random_features(1, rows=6),
        )


@pytest.mark.parametrize("variant", VARIANTS)
def test_with_one_rank_and_one_positive_each_it_is_the_contrastive_loss(variant):
    features, images = random_features(0), torch.arange(6).repeat(2)
    expected = supcon_loss(features, images, temperature=0.3)
    torch.testing.assert_close(
        rince_loss(features, images[:, None], temperatures=[0.3], variant=variant), expected, rtol=0, atol=1e-12
    )
    # the same of the images as the only rank of rows without a label
    nothing = torch.full((12, 0), PAD)
    torch.testing.assert_close(
        rince_loss(features, nothing, temperatures=[0.3], variant=variant, instances=images), expected
    )


def test_in_wants_one_positive_ahead_and_out_all_of_them():
    # an anchor with one positive at similarity 1, one at -1, and a negative at 0
    features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    labels = torch.tensor([[0], [0], [0], [1]])
    e = math.e
    inside = rince_loss(features, labels, temperatures=[1.0], variant="in")
    first, third = math.log(1 + 1 / (e + 1 / e)), math.log(1 + 1 / (2 / e))
    assert inside.item() == pytest.approx((2 * first + third) / 3)
    outside = rince_loss(features, labels, temperatures=[1.0], variant="out")
    first, third = (math.log(1 + 1 / e) + math.log(1 + e)) / 2, math.log(1 + e)
    assert outside.item() == pytest.approx((2 * first + third) / 3)


def test_out_in_is_out_at_the_finest_level_and_in_above_it():
    features, labels = random_features(2), random_labels(2)
    out, inside, both = (rince_level_losses(features, labels, variant=variant) for variant in VARIANTS)
    torch.testing.assert_close(both, torch.cat([inside[:2], out[2:]]))
    assert not torch.allclose(out[0], inside[0])


def test_an_item_nearer_than_the_rank_plays_no_part_in_it():
    features = random_features(0, rows=4).detach()
    labels = torch.tensor([[0, 0], [0, 0], [0, 1], [1, 2]])  # the second is nearer to the first than level 1
    similarities = features @ features.T / 0.5

    def of_anchor(anchor, positives, negative):
        return softplus(similarities[anchor, negative] - similarities[anchor, positives].logsumexp(0))

    expected = (of_anchor(0, [2], 3) + of_anchor(1, [2], 3) + of_anchor(2, [0, 1], 3)) / 3
    torch.testing.assert_close(rince_level_losses(features, labels, temperatures=(0.5, 0.1))[0], expected)


def test_order_of_rows_and_of_paths_and_ids_do_not_matter():
    features, labels = random_features(3), random_paths(3)
    expected = rince_level_losses(features, labels)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(rince_level_losses(features[order], labels[order]), expected)
    torch.testing.assert_close(rince_level_losses(features, other_order(labels)), expected)
    far = torch.where(labels == PAD, PAD, labels + 2**40)
    torch.testing.assert_close(rince_level_losses(features, far), expected)


def test_images_are_the_nearest_rank():
    features, labels, images = random_features(0), random_labels(0, rows=6).repeat(2, 1), torch.arange(6).repeat(2)
    options = dict(temperatures=(0.6, 0.2))
    expected = rince_level_losses(features, append_instances(labels, images), **options)
    torch.testing.assert_close(rince_level_losses(features, labels, instances=images, **options), expected)
    assert len(expected) == 4


def test_two_temperatures_are_spaced_evenly():
    features, labels = random_features(0), random_labels(0)
    torch.testing.assert_close(
        rince_level_losses(features, labels, temperatures=(0.7, 0.3)),
        rince_level_losses(features, labels, temperatures=(0.7, 0.5, 0.3)),
    )
    torch.testing.assert_close(
        rince_level_losses(features, labels[:, :1], temperatures=(0.7, 0.3)),
        rince_level_losses(features, labels[:, :1], temperatures=[0.3]),
    )


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "labels",
    [
        torch.full((4, 2), PAD),  # no positive
        torch.zeros(4, 2, dtype=torch.int64),  # no negative
        torch.tensor([[0, 0], [0, PAD], [1, 1], [PAD, PAD]]),
        torch.zeros(4, 0, dtype=torch.int64),
    ],
)
def test_anchors_without_positives_or_negatives_have_finite_gradients(variant, labels):
    features = random_features(0, rows=4)
    loss = rince_loss(features, labels, variant=variant)
    (grad,) = torch.autograd.grad(loss, features)
    assert loss.isfinite()
    assert grad.isfinite().all()
    if not (labels == 0).any() or (labels == 0).all():
        assert loss == 0
        assert not grad.any()


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_rows_cost_nothing(rows):
    loss = rince_loss(random_features(0, rows=rows), torch.zeros(rows, 2, dtype=torch.int64))
    loss.backward()
    assert loss == 0


def test_opposite_rows_at_a_low_temperature_stay_finite():
    features = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]], requires_grad=True)
    loss = rince_loss(features, torch.tensor([[0], [0], [1]]), temperatures=[1e-3])
    loss.backward()
    assert loss.item() == pytest.approx((2000 + math.log(2)) / 2, abs=1)  # which exp would make infinite
    assert features.grad.isfinite().all()


def test_half_precision_and_autocast_are_computed_in_float32():
    features, labels = random_features(0, dtype=torch.float32).detach().bfloat16(), random_labels(0)
    expected = rince_loss(features.float(), labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = rince_loss(features, labels)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(variant="in-out"), "variant must be 'out', 'in' or 'out-in'; it is 'in-out'"),
        (dict(temperatures=(0.1, 0.0)), "temperatures must be above 0; it is 0.0"),
        (
            dict(temperatures=(0.4, 0.3, 0.2, 0.1)),
            r"temperatures must be one number for each of the 3 levels, coarsest first, or two, .* are \[0.4, 0.3, 0.2",
        ),
        (dict(features=torch.full((12, 4), 1e30)), "features must be unit rows, or their similarities overflow"),
        (dict(features=torch.full((12, 4), torch.nan)), "features must be finite; row 0 is not"),
        (dict(labels=torch.zeros(12, dtype=torch.int64)), r"labels must be \(N, L\), one row of node ids per item"),
        (dict(labels=torch.zeros(11, 3, dtype=torch.int64)), "labels must have one row per row of features"),
    ],
)
def test_bad_input_names_the_rule(change, message):
    arguments = dict(features=random_features(0, dtype=torch.float32), labels=random_labels(0)) | change
    with pytest.raises(ValueError, match=message):
        rince_loss(**arguments)
