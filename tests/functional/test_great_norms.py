"""Every loss, on features that overflow where they are squared, on wrong types, and on labels of any type."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize, one_hot

from hierpretrain import functional
from hierpretrain.functional.triplet import Mining

LABELS = torch.tensor([[0, 0], [0, 0], [0, 1], [0, 1], [1, 2], [1, 2]])
FLAT, TREE = LABELS[:, 1], torch.tensor([[0, 0], [0, 1], [1, 2]])
VIEWS = torch.cat([LABELS.unique(dim=0), torch.arange(3)[:, None]], 1).repeat(2, 1)
METRIC = torch.tensor([[0, 1, 2], [1, 0, 2], [2, 2, 0]])

# what each loss is called with, from (6, 3) features and labels that may be cast by `to`
LOSSES = {
    "cross_scale_loss": lambda x, to: functional.cross_scale_loss(x, to(TREE), to(FLAT)),
    "cross_scale_losses": lambda x, to: functional.cross_scale_losses(x, to(TREE), to(FLAT)),
    "distortion_loss": lambda x, to: functional.distortion_loss(x[:3], METRIC),
    "distortion_loss, scaled": lambda x, to: functional.distortion_loss(x[:3], METRIC, scale_free=False),
    "haframe_losses": lambda x, to: torch.cat(
        functional.haframe_losses(x, to(FLAT), functional.hierarchy_aware_frame(METRIC).to(x.dtype))
    ),
    "happier_loss": lambda x, to: functional.happier_loss(x, to(LABELS)),
    "hierarchical_contrastive_loss": lambda x, to: functional.hierarchical_contrastive_loss(x, to(LABELS)),
    "hierarchical_cross_entropy": lambda x, to: functional.hierarchical_cross_entropy(x, to(TREE), to(FLAT), alpha=0.1),
    "level_cross_entropies": lambda x, to: functional.level_cross_entropies([x[:, :2], x], to(LABELS)),
    "level_losses": lambda x, to: functional.level_losses(x, to(LABELS), constraint="pair"),
    "level_triplet_loss": lambda x, to: functional.level_triplet_loss(
        x[:2], x[2:4], x[4:], level=1, max_level=2, min_margin=0.1
    ),
    "proxy_anchor_losses": lambda x, to: functional.proxy_anchor_losses(
        x, to(LABELS), [torch.eye(3)[:2], torch.eye(3)], [to(TREE[::2, :1]), to(TREE)]
    ),
    "proxy_anchor_losses, proxies": lambda x, to: functional.proxy_anchor_losses(
        torch.eye(3).repeat(2, 1), to(LABELS), [x[:2], x[:3]], [to(TREE[::2, :1]), to(TREE)]
    ),
    "released_hmlc_loss": lambda x, to: functional.released_hmlc_loss(x, to(VIEWS)),
    "rince_level_losses": lambda x, to: functional.rince_level_losses(x, to(LABELS)),
    "rince_loss": lambda x, to: functional.rince_loss(x, to(LABELS)),
    "soft_label_loss": lambda x, to: functional.soft_label_loss(x, one_hot(FLAT, 3).float()),
    "supcon_loss": lambda x, to: functional.supcon_loss(x, to(FLAT)),
    **{
        f"triplet_loss, {mining}, {distance}": lambda x, to, mining=mining, distance=distance: functional.triplet_loss(
            x, to(FLAT), mining=mining, distance=distance
        )
        for mining in Mining.__args__
        for distance in ("squared", "euclidean")
    },
}


def as_they_are(labels):
    return labels


def random_features():
    return normalize(torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), dim=1)


def test_every_loss_of_the_toolbox_is_tried():
    exported = {name for name in functional.__all__ if "loss" in name or name == "hierarchical_cross_entropy"}
    exported -= {"log_loss"}  # a metric of probabilities, which have no norm
    assert exported <= {name.partition(",")[0] for name in LOSSES}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_of_features_of_any_norm_is_finite_or_an_error(name):
    outcomes = []
    for exponent in (*range(0, 38, 2), 18.5, 19, 19.3, 38.4):
        features = (random_features() * 10.0**exponent).requires_grad_()
        try:
            loss = LOSSES[name](features, as_they_are)
        except ValueError as error:
            told = any(word in str(error) for word in ("finite", "overflow"))
            assert told, error  # noqa: PT017  either is right
            outcomes.append(False)
            continue
        assert loss.isfinite().all(), (exponent, loss)
        outcomes.append(True)
        if exponent <= 6:
            (gradient,) = torch.autograd.grad(loss.sum(), features)
            assert gradient.isfinite().all(), exponent
    assert outcomes[0]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_features_that_are_not_finite_are_an_error(name, value):
    features = random_features()
    features[2, 1] = value
    with pytest.raises(ValueError, match="finite"):
        LOSSES[name](features, as_they_are)


@pytest.mark.parametrize("name", LOSSES)
def test_integer_features_are_an_error(name):
    with pytest.raises(ValueError, match=r"floating[- ]point"):
        LOSSES[name](torch.eye(3, dtype=torch.int64).repeat(2, 1), as_they_are)


TYPES = {
    **{str(kind): lambda labels, kind=kind: labels.to(kind) for kind in (torch.uint8, torch.int8, torch.int32)},
    **{str(kind): lambda labels, kind=kind: labels.to(kind) for kind in (torch.uint16, torch.uint32, torch.uint64)},
    **{name: lambda labels, name=name: labels.numpy().astype(name) for name in ("uint8", "uint16", ">i4", "uint64")},
}


@pytest.mark.parametrize("name", LOSSES)
def test_labels_of_any_type_of_integers_give_the_same_loss(name):
    expected = LOSSES[name](random_features(), as_they_are)
    for cast in TYPES.values():
        assert torch.equal(LOSSES[name](random_features(), cast), expected)


@pytest.mark.parametrize("name", LOSSES)
def test_255_of_unsigned_labels_is_a_node_and_no_pad(name):
    """A loss without a table of nodes takes it; one with a table says that there is no such node."""
    for cast in (lambda labels: labels.to(torch.uint8), lambda labels: labels.numpy().astype(np.uint8)):

        def renamed(labels, cast=cast):
            return cast(torch.where(labels == 2, 255, labels))

        try:
            loss = LOSSES[name](random_features(), renamed)
        except ValueError as error:
            assert "255" in str(error)  # noqa: PT017  either is right
        else:
            assert torch.equal(loss, LOSSES[name](random_features(), as_they_are))


# of proxies only, or with items and proxies of one type
@pytest.mark.parametrize(
    "name", [name for name in LOSSES if not name.startswith("distortion") and "proxies" not in name]
)
@pytest.mark.parametrize("norm", [1e3, 2e5])
def test_one_row_longer_than_the_others_gives_the_value_of_float64(name, norm):
    features = random_features()
    features[3] *= norm
    found, expected = (rows.requires_grad_() for rows in (features.clone(), features.double()))
    found_loss, expected_loss = LOSSES[name](found, as_they_are), LOSSES[name](expected, as_they_are)
    torch.testing.assert_close(found_loss.double(), expected_loss, rtol=1e-4, atol=1e-5)
    (gradient,) = torch.autograd.grad(found_loss.sum(), found)
    (of_float64,) = torch.autograd.grad(expected_loss.sum(), expected)
    assert (gradient.double() - of_float64).norm() <= 1e-3 * of_float64.norm()
