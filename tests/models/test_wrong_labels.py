"""What no loss takes for labels: each wrong matrix is an error that says the rule, and none a number."""

import pytest
import torch

from hierpretrain.registry import MODELS
from hierpretrain.taxonomy import PAD
from tests import distributed
from tests.models.every_loss import every_loss
from tests.models.test_wrong_features import FEATURES, LABELS, TREE

WRONG = {
    "ignore_index of torch": ([-100, -100], r"ids from 0; row 0 is \[-100, -100\]"),
    "ignore_index as the finest node": ([0, -100], r"ids from 0; row 0 is \[0, -100\]"),
    "below PAD": ([-2, 0], r"ids from 0; row 0 is \[-2, 0\]"),
    "PAD in front": ([PAD, 1], r"PAD \(-1\) only on the right; row 0 is \[-1, 1\]"),
}
LOSSES = [
    *every_loss(but=("ReleasedHMLCLoss", "NTXentLoss"), levels=2, num_classes=4, in_channels=16),
    dict(type="SupConLoss", level="kind"),  # whose classes are another column than the wrong one
    dict(type="TripletLoss", level=1),
    dict(type="LevelCrossEntropyLoss", level=1, num_classes=2, in_channels=16, label_smoothing=0.1),
    dict(type="CSLLoss", level=None, num_classes=6, in_channels=16),
]


def build(config):
    if isinstance(config.get("num_classes"), list):
        config = {**config, "num_classes": [2, 4]}
    loss = MODELS.build(dict(config))
    for name, value in (("set_taxonomy", TREE), ("set_training_labels", LABELS)):
        getattr(loss, name, lambda value: None)(value)
    return loss


def batch(config):
    """Three anchors, three positives and three negatives for the loss of triplets; eight items for the others."""
    if config["type"] == "LevelTripletLoss":
        return torch.cat([FEATURES, FEATURES[:1]]), LABELS[[0, 0, 0, 1, 1, 1, 2, 2, 2]]
    return FEATURES, LABELS


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("config", LOSSES, ids=lambda config: f"{config['type']} {config.get('level', '')}")
def test_malformed_labels_are_refused(config, wrong):
    features, labels = batch(config)
    row, message = WRONG[wrong]
    labels = labels.clone()
    labels[0] = torch.tensor(row)
    with pytest.raises(ValueError, match=message):
        build(config)(features, labels, torch.arange(len(labels)))


@pytest.mark.parametrize(
    "config",
    [config for config in LOSSES if "level" in config or config["type"].endswith(("EntropyLoss", "HXELoss"))],
    ids=lambda config: f"{config['type']} {config.get('level', '')}",
)
@pytest.mark.parametrize("levels", [1, 3])
def test_labels_of_another_number_of_levels_than_the_tree_are_refused(config, levels):
    labels = torch.cat([LABELS, LABELS[:, 1:]], 1)[:, :levels]
    with pytest.raises(ValueError, match=r"one column for each of the 2 levels.* shape is \(8, "):
        build(config)(FEATURES, labels, torch.arange(8))


@pytest.mark.parametrize("kind", ["numpy", "tolist"])
def test_labels_may_be_arrays_and_lists_and_features_arrays(kind):
    for config in every_loss(levels=2, num_classes=4, in_channels=16):
        features, labels = batch(config)
        instances = torch.arange(len(labels))
        if config["type"] == "ReleasedHMLCLoss":
            labels, instances = LABELS[::2].repeat(2, 1), torch.arange(4).repeat(2)
        loss = build(config)
        torch.manual_seed(0)
        expected = loss(features, labels, instances)
        for rows in (features, features.numpy()):
            torch.manual_seed(0)
            assert torch.equal(loss(rows, getattr(labels, kind)(), getattr(instances, kind)()), expected)


def test_a_batch_of_triplets_has_a_label_for_each_row():
    features, labels = batch(dict(type="LevelTripletLoss"))
    with pytest.raises(ValueError, match=r"one row per row of features \(9\); they have 6"):
        build(dict(type="LevelTripletLoss"))(features, labels[:6], torch.arange(6))


def test_the_released_loss_has_an_instance_for_each_row():
    labels = LABELS[::2].repeat(2, 1)
    with pytest.raises(ValueError, match=r"instances must be \(8,\), one number per row; their shape is \(4,\)"):
        build(dict(type="ReleasedHMLCLoss"))(FEATURES, labels, torch.arange(4))


def one_process_has_malformed_labels(rank, world_size):
    for config in LOSSES:
        if config["type"] == "LevelTripletLoss":  # whose processes do not wait for each other
            continue
        labels = LABELS.clone()
        if rank == 1:
            labels[0] = torch.tensor([0, -100])
        with pytest.raises(ValueError, match=r"ids from 0|process 1 has malformed"):
            build(config)(FEATURES, labels, torch.arange(8))


@pytest.mark.ddp
def test_malformed_labels_on_one_process_are_an_error_on_all_and_no_hang():
    distributed.run(one_process_has_malformed_labels, 2)
