import pytest
import torch

from hierpretrain.functional import hierarchical_contrastive_loss, released_hmlc_loss, rince_loss, supcon_loss
from hierpretrain.registry import MODELS
from hierpretrain.taxonomy import PAD, Taxonomy, append_instances
from tests.conftest import random_features, random_labels
from tests.models.every_loss import every_loss
from tests.reference import contrastive as reference
from tests.reference.paths import random_paths

IMAGES = torch.arange(6).repeat(2)


def batch(ragged=True):
    return random_features(0), random_labels(0, rows=6, ragged=ragged).repeat(2, 1), IMAGES


def build(type, **options):
    return MODELS.build(dict(type=type, **options))


@pytest.mark.parametrize(
    ("name", "options", "function"),
    [
        ("HiMulConLoss", {}, dict(level_weights="exp")),
        ("HiMulConLoss", dict(positives="diverge", level_weights=[1, 2, 3]), {}),
        ("HiConELoss", {}, dict(level_weights="uniform", constraint="pair")),
        ("HiConELoss", dict(constraint="anchor", constraint_grad=True), dict(level_weights="uniform")),
        ("HiMulConELoss", {}, dict(level_weights="exp", constraint="pair")),
        ("HiMulConELoss", dict(constraint="level", level_weights="pow2", temperature=0.5), {}),
    ],
)
def test_hierarchical_losses_are_the_function_with_their_options(name, options, function):
    features, labels, images = batch()
    expected = hierarchical_contrastive_loss(features, labels, **{**options, **function})
    assert build(name, **options)(features, labels, images) == expected
    deeper = append_instances(labels, images)
    if not isinstance(options.get("level_weights"), list):
        expected = hierarchical_contrastive_loss(features, deeper, **{**options, **function})
        assert build(name, **options, instance_level=True)(features, labels, images) == expected


@pytest.mark.parametrize("name", ["HiMulConLoss", "HiConELoss", "HiMulConELoss"])
@pytest.mark.parametrize("instance_level", [False, True])
def test_hierarchical_losses_take_several_paths(name, instance_level):
    features, labels = random_features(0), torch.cat([random_paths(0, rows=6, branching=3)] * 2)
    options = dict(
        HiMulConLoss=dict(level_weights="exp"),
        HiConELoss=dict(level_weights="uniform", constraint="pair"),
        HiMulConELoss=dict(level_weights="exp", constraint="pair"),
    )[name]
    given = append_instances(labels, IMAGES) if instance_level else labels
    expected = reference.hierarchical_contrastive_loss(features, given, **options)
    actual = build(name, instance_level=instance_level)(features, labels, IMAGES)
    torch.testing.assert_close(actual, expected)
    only_first = build(name, instance_level=instance_level)(features, labels[:, 0], IMAGES)
    assert not torch.allclose(actual, only_first)


SEVERAL_PATHS = (
    "CSLLoss",
    "GuidedLoss",
    "HAFrameLoss",
    "HAPPIERLoss",
    "HXELoss",
    "HiConELoss",
    "HiMulConELoss",
    "HiMulConLoss",
    "HierarchicalJointLoss",
    "LevelCrossEntropyLoss",
    "LevelProxyLoss",
    "LevelTripletLoss",
    "NTXentLoss",
    "RINCELoss",
    "SoftLabelLoss",
)


@pytest.mark.parametrize(
    "config",
    [*every_loss(but=SEVERAL_PATHS, num_classes=2, in_channels=4), dict(type="SupConLoss", level=1)],
    ids=lambda config: config["type"],
)
def test_losses_over_the_nodes_of_a_level_want_one_path(config):
    features, labels = random_features(0, dtype=torch.float32), torch.cat([random_paths(0, rows=6, branching=3)] * 2)
    loss = build(**config)
    if hasattr(loss, "set_taxonomy"):
        loss.set_taxonomy(Taxonomy([("a", "x"), ("b", "y")], ("one", "two")))
    message = r"one path an item, here; these have up to 3 paths\. Give the data set paths='first', 'longest' or 'drop'"
    with pytest.raises(ValueError, match=message):
        loss(features, labels, IMAGES)


@pytest.mark.parametrize("labels", [random_labels(0, rows=6).repeat(2, 1), random_paths(0, rows=6).repeat(2, 1, 1)])
def test_rince_is_the_function_with_its_options(labels):
    features, options = random_features(0), dict(temperatures=(0.6, 0.2), variant="in")
    expected = rince_loss(features, labels, **options)
    assert build("RINCELoss", **options)(features, labels, IMAGES) == expected
    assert build("RINCELoss")(features, labels, IMAGES) == rince_loss(features, labels)
    expected = rince_loss(features, append_instances(labels, IMAGES), **options)
    assert build("RINCELoss", **options, instance_level=True)(features, labels, IMAGES) == expected


def test_simclr_looks_at_no_path():
    features, labels, images = batch()
    several = torch.cat([random_paths(0, rows=6)] * 2)
    assert build("NTXentLoss")(features, several, images) == build("NTXentLoss")(features, labels, images)


def test_supcon_takes_the_prefix_down_to_its_level_as_the_class():
    features, labels, images = batch(ragged=False)
    classes = [labels[:, 0], labels[:, 0] * 2 + labels[:, 1], labels @ torch.tensor([4, 2, 1])]
    for level in (1, 2, 3):
        expected = supcon_loss(features, classes[level - 1])
        torch.testing.assert_close(build("SupConLoss", level=level)(features, labels, images), expected)
        torch.testing.assert_close(build("SupConLoss", level=level - 4)(features, labels, images), expected)


def test_supcon_leaves_an_item_without_a_node_at_the_level_to_the_negatives():
    features = random_features(1, rows=4)
    labels = torch.tensor([[0, 0], [0, 0], [0, PAD], [0, PAD]])
    loss = build("SupConLoss", level=2)(features, labels, torch.arange(4))
    torch.testing.assert_close(loss, supcon_loss(features, torch.tensor([0, 0, PAD, PAD])))


def test_simclr_needs_no_labels():
    features, _, images = batch()
    loss = build("NTXentLoss", temperature=0.5)(features, torch.empty(12, 0, dtype=torch.int64), images)
    torch.testing.assert_close(loss, supcon_loss(features, images, temperature=0.5))


def test_released_form_gets_the_images_as_its_last_column():
    features, labels, images = batch(ragged=False)
    expected = released_hmlc_loss(features, torch.cat([labels, images[:, None]], 1), loss_type="hmc")
    torch.testing.assert_close(build("ReleasedHMLCLoss", loss_type="hmc")(features, labels, images), expected)


def test_a_level_whose_name_is_a_number_may_be_given_as_one():
    features, labels, images = batch(ragged=False)
    labels = labels[:, :2]
    loss = build("SupConLoss", level=2025)
    loss.set_taxonomy(Taxonomy([("a", "x"), ("b", "y")], ("2024", "2025")))
    assert loss(features, labels, images) == build("SupConLoss", level=2)(features, labels, images)


@pytest.mark.parametrize("level", [0, 4, -4])
def test_supcon_names_the_levels_there_are(level):
    with pytest.raises(ValueError, match=rf"1 \(coarsest\) to 3, or -1 \(finest\) to -3; it is {level}"):
        build("SupConLoss", level=level)(*batch())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "HiMulConELoss",
            dict(constraint="pairs"),
            "constraint must be None, 'pair', 'anchor' or 'level'; it is 'pairs'",
        ),
        ("HiConELoss", dict(positives="all"), "positives must be 'share' or 'diverge'; it is 'all'"),
        ("HiMulConLoss", dict(level_weights="log"), "level_weights must be one of 'exp'"),
        ("HiMulConLoss", dict(level_weights=[1, -1]), "level_weights must be finite and not below 0"),
        ("SupConLoss", dict(temperature=0), "temperature must be above 0; it is 0"),
        ("NTXentLoss", dict(chunk_size=0), "chunk_size must be a whole number from 1"),
        ("ReleasedHMLCLoss", dict(loss_type="hme"), "loss_type must be 'hmc', 'hce' or 'hmce'; it is 'hme'"),
        ("ReleasedHMLCLoss", dict(num_views=1), "at least 2 views of each image"),
        ("TripletLoss", dict(mining="semi"), "mining must be 'hard' or 'all'; it is 'semi'"),
        ("HAPPIERLoss", dict(num_classes=2, in_channels=2, alpha=-1), "alpha must be finite and not below 0; it is -1"),
        ("RINCELoss", dict(variant="both"), "variant must be 'out', 'in' or 'out-in'; it is 'both'"),
        ("RINCELoss", dict(temperatures=(0.1, -1)), "temperatures must be above 0; it is -1"),
        ("CSLLoss", dict(num_classes=2, in_channels=2, margins=(0.1, -1)), "margins must be finite and not below 0"),
        ("CSLLoss", dict(num_classes=2, in_channels=2, scale=0), "scale must be above 0; it is 0"),
        ("LevelProxyLoss", dict(num_classes=[2, 0], in_channels=2), "num_classes must be at least 1; it is 0"),
        ("LevelProxyLoss", dict(num_classes=[2, 2], in_channels=2, margin=-1), "margin must be finite and not below 0"),
        (
            "LevelProxyLoss",
            dict(num_classes=[2, 2], in_channels=2, level_weights=[1]),
            "one number for each of the 2 lev",
        ),
        ("HAFrameLoss", dict(num_classes=2, in_channels=2, alpha=2), "alpha must be in 0 to 1; it is 2"),
        ("HAFrameLoss", dict(num_classes=2, in_channels=2, gamma=0), "gamma must be above 0; it is 0"),
    ],
)
def test_a_wrong_option_is_an_error_before_there_is_a_batch(name, options, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(dict(type=name, **options))
