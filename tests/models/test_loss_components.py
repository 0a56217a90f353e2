"""What the losses say they are made of, for the log."""

import math

import pytest
import torch

from hierpretrain.datasets import LevelTripletSampler
from hierpretrain.functional import distortion_loss, rince_level_losses
from hierpretrain.models.gather import gather_rows
from hierpretrain.registry import MODELS
from hierpretrain.taxonomy import Taxonomy, append_instances
from tests import distributed
from tests.conftest import random_features, random_labels
from tests.reference import contrastive as reference
from tests.reference import level_triplet as triplet_reference
from tests.reference.paths import random_paths

IMAGES = torch.arange(6).repeat(2)
NAMES = ["loss/one", "loss/two", "loss/three"]
TREE = Taxonomy([("a", "x", "0"), ("a", "x", "1"), ("a", "y", "2"), ("b", "z", "3")], ("one", "two", "three"))


def build(type, taxonomy=None, **options):
    loss = MODELS.build(dict(type=type, **options))
    if taxonomy is not None:
        loss.set_taxonomy(taxonomy)
    return loss


def components(loss, features, labels, instances):
    """The loss of a batch and what it leaves of it, by their names in the log."""
    value = loss(features, labels, instances)
    return {"loss": value, **{f"loss/{name}": part for name, part in loss.loss_components.items()}}


@pytest.mark.parametrize("instance_level", [False, True])
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("HiMulConLoss", dict(positives="diverge")),
        ("HiConELoss", dict(constraint="anchor")),
        ("HiMulConELoss", dict(constraint="pair", constraint_grad=True)),
        ("HiMulConELoss", dict(constraint="level", temperature=0.5)),
    ],
)
def test_the_hierarchical_losses_have_those_of_their_levels(name, options, several, instance_level):
    labels = torch.cat([random_paths(0, rows=6, branching=3)] * 2) if several else random_labels(0, 6).repeat(2, 1)
    features = random_features(0)
    loss = build(name, TREE, instance_level=instance_level, **options)
    parts = components(loss, features, labels, IMAGES)
    deeper = append_instances(labels, IMAGES) if instance_level else labels
    defaults = {} if name == "HiMulConLoss" else dict(constraint="pair")
    expected = reference.level_losses(features, deeper, **defaults | options)
    names = ["one", "two", "three", *["instance"] * instance_level]
    clamped = name != "HiMulConLoss"
    of_levels = [f"loss/{name}" for name in names]
    assert list(parts) == ["loss", *of_levels, *[f"loss/unclamped/{name}" for name in names] * clamped]
    if clamped:  # what is clamped would be the loss of all pairs as they are
        plain = {key: value for key, value in options.items() if not key.startswith("constraint")}
        expected += reference.level_losses(features, deeper, **plain)
    for found, value in zip(list(parts.values())[1:], expected, strict=True):
        torch.testing.assert_close(found, value.detach(), rtol=0, atol=1e-8)
        assert not found.requires_grad
    weights = "uniform" if name == "HiConELoss" else "exp"
    torch.testing.assert_close(
        parts["loss"],
        reference.hierarchical_contrastive_loss(features, deeper, level_weights=weights, **defaults | options),
        rtol=0,
        atol=1e-8,
    )


def test_levels_are_numbered_until_the_tree_is_known():
    parts = components(
        build("HiMulConLoss", instance_level=True), random_features(0), random_labels(0, 6).repeat(2, 1), IMAGES
    )
    assert list(parts) == ["loss", "loss/level1", "loss/level2", "loss/level3", "loss/level4"]


def test_a_level_that_is_named_as_the_views_of_an_image_keeps_its_loss():
    tree = Taxonomy([("a", "x", "0"), ("b", "y", "1")], ("kind", "thing", "instance"))
    labels = random_labels(0, 6).repeat(2, 1)
    named = components(build("HiMulConLoss", tree, instance_level=True), random_features(0), labels, IMAGES)
    numbered = components(build("HiMulConLoss", instance_level=True), random_features(0), labels, IMAGES)
    assert list(named) == ["loss", "loss/kind", "loss/thing", "loss/instance", "loss/instance (views)"]
    assert [value.item() for value in named.values()] == [value.item() for value in numbered.values()]


def test_the_losses_of_the_levels_are_compiled_once():
    from torch._dynamo.testing import CompileCounterWithBackend

    torch._dynamo.reset()
    counter, loss = CompileCounterWithBackend("aot_eager"), build("HiMulConLoss", TREE)
    compiled, frames = torch.compile(lambda *batch: components(loss, *batch), backend=counter), []
    for seed in range(3):
        features, labels = random_features(seed), random_labels(seed, 6).repeat(2, 1)
        found = compiled(features, labels, IMAGES)
        for name, value in components(loss, features, labels, IMAGES).items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=1e-10)
        frames.append(counter.frame_count)
    assert frames[0] == frames[-1]


@pytest.mark.parametrize("loss_type", ["hmc", "hce", "hmce"])
def test_the_released_loss_is_the_weighted_sum_of_its_levels(loss_type):
    features, labels = random_features(0), random_labels(0, rows=6, ragged=False).repeat(2, 1)
    parts = components(build("ReleasedHMLCLoss", TREE, loss_type=loss_type), features, labels, IMAGES)
    options = dict(num_views=2, temperature=0.1, base_temperature=0.07, loss_type=loss_type, level_weights="exp")
    expected = reference.released_hmlc_loss(features, append_instances(labels, IMAGES), **options)
    weights = [1.0] * 3 if loss_type == "hce" else [math.e ** (1 / k) for k in (3, 2, 1)]
    levels = [parts[name] for name in NAMES]
    torch.testing.assert_close(parts["loss"], expected)
    torch.testing.assert_close(sum(w * part for w, part in zip(weights, levels, strict=True)) / 4, expected.detach())
    finest = reference.supcon_loss(features, labels @ torch.tensor([4, 2, 1])) / 0.7
    torch.testing.assert_close(levels[-1], finest.detach())


def test_triplets_have_the_losses_of_the_levels_that_the_batch_is_of():
    labels = TREE.encode([("a", "x", "0"), ("a", "x", "1"), ("a", "y", "2"), ("b", "z", "3")] * 2)
    batches = [
        next(iter(LevelTripletSampler(labels, 6, level=level, replay=0.0, triplets_per_epoch=6))) for level in (1, 3)
    ]
    rows = [row for part in zip(*[torch.tensor(batch).chunk(3) for batch in batches], strict=True) for row in part]
    rows = torch.cat(rows)  # the anchors of both levels, their positives, their negatives
    vectors = torch.randn(36, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    parts = components(build("LevelTripletLoss", TREE, min_margin=0.3), vectors, labels[rows], rows)
    assert list(parts) == ["loss", "loss/one", "loss/three"]
    for place, level in ((slice(0, 6), 1), (slice(6, 12), 3)):
        triplets = [part[place] for part in vectors.chunk(3)]
        expected = triplet_reference.level_triplet_loss(*triplets, [level] * 6, [3] * 6, 0.3)
        assert parts[NAMES[level - 1]].item() == pytest.approx(float(expected), abs=1e-12)
    assert parts["loss"].item() == pytest.approx((parts["loss/one"] + parts["loss/three"]).item() / 2)


def test_prototypes_have_their_cross_entropy_and_distortion():
    features, labels = random_features(0, rows=8, dtype=torch.float32), TREE.node_labels(3).repeat(2, 1)
    loss = build("GuidedLoss", TREE, num_classes=4, in_channels=4, weight=0.5)
    parts = components(loss, features, labels, torch.arange(8))
    heights = torch.tensor([[0, 1, 2, 3], [1, 0, 2, 3], [2, 2, 0, 3], [3, 3, 3, 0]])
    torch.testing.assert_close(parts["loss/distortion"], distortion_loss(loss.prototypes, heights).detach())
    distances = (features[:, None] - loss.prototypes).norm(dim=2)
    expected = torch.nn.functional.cross_entropy(-distances, labels[:, -1])
    torch.testing.assert_close(parts["loss/cross_entropy"], expected.detach())
    torch.testing.assert_close(parts["loss"], expected + 0.5 * parts["loss/distortion"])


def test_happier_has_its_ranking_and_its_cross_entropy():
    features, labels = random_features(0, rows=8, dtype=torch.float32), TREE.node_labels(3).repeat(2, 1)
    ranking, both = (build("HAPPIERLoss", TREE, num_classes=4, in_channels=4, lam=lam) for lam in (0.0, 0.25))
    both.load_state_dict(ranking.state_dict())
    parts = components(both, features, labels, torch.arange(8))
    torch.testing.assert_close(parts["loss/ranking"], ranking(features, labels, torch.arange(8)).detach())
    cosines = features @ torch.nn.functional.normalize(both.proxies, dim=1).T
    expected = torch.nn.functional.cross_entropy(cosines / 0.05, labels[:, -1])
    torch.testing.assert_close(parts["loss/cross_entropy"], expected.detach())
    torch.testing.assert_close(parts["loss"], 0.75 * parts["loss/ranking"] + 0.25 * expected)


@pytest.mark.parametrize("instance_level", [False, True])
def test_rince_is_the_sum_of_its_levels(instance_level):
    features, labels = random_features(0), random_labels(0, 6).repeat(2, 1)
    loss = build("RINCELoss", TREE, variant="in", temperatures=(0.4, 0.2), instance_level=instance_level)
    parts = components(loss, features, labels, IMAGES)
    given = append_instances(labels, IMAGES) if instance_level else labels
    expected = rince_level_losses(features, given, variant="in", temperatures=(0.4, 0.2)).detach()
    assert list(parts) == ["loss", *NAMES, *["loss/instance"] * instance_level]
    torch.testing.assert_close(torch.stack(list(parts.values())[1:]), expected)
    torch.testing.assert_close(parts["loss"].detach(), expected.sum())


# ------------------------------------------------------------------ several processes
CONSTRAINTS = [
    ("HiMulConLoss", {}),
    ("RINCELoss", {}),
    *[("HiMulConELoss", dict(constraint=name, temperature=0.5)) for name in ("pair", "anchor", "level")],
]


def compare(rank, world_size, expected):
    features, labels = random_features(0).detach(), random_labels(0, 6).repeat(2, 1)
    own = [slice(0, 7), slice(7, 12)][rank]
    for (name, options), parts in zip(CONSTRAINTS, expected, strict=True):
        found = components(build(name, TREE, **options), features[own], labels[own], IMAGES[own])
        for key, value in parts.items():
            torch.testing.assert_close(found[key], value, rtol=0, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.ddp
def test_the_losses_of_the_levels_are_those_of_one_process():
    features, labels = random_features(0).detach(), random_labels(0, 6).repeat(2, 1)
    expected = [components(build(name, TREE, **options), features, labels, IMAGES) for name, options in CONSTRAINTS]
    distributed.run(compare, 2, expected)
    assert gather_rows(features)[0] is features
