"""A loss made of losses: its parts know of the training data what they know alone."""

import pytest
import torch
from mmpretrain.structures import DataSample
from torch import nn

from hierpretrain.models import HierarchicalContrastive
from hierpretrain.models.num_classes import loss_that_counts, with_num_classes
from hierpretrain.registry import MODELS
from hierpretrain.taxonomy import Taxonomy

TREE = Taxonomy([("a", "x"), ("a", "y"), ("b", "z"), ("c", "unseen")], ("kingdom", "kind"))
LABELS = TREE.encode([("a", "x"), ("a", "y"), ("b", "z")])
BATCH = torch.randn(6, 64, generator=torch.Generator().manual_seed(0)), LABELS.repeat(2, 1), torch.arange(3).repeat(2)


class Total(nn.Module):
    """A loss of other losses, which has nothing but a sum."""

    unit_features = False

    def __init__(self, *parts):
        super().__init__()
        self.parts = nn.ModuleList(MODELS.build(part) for part in parts)

    def forward(self, features, labels, instances):
        return sum(part(features, labels, instances) for part in self.parts)


class Handing(Total):
    """One that hands on which images stand in for others."""

    takes_stand_ins = True

    def forward(self, features, labels, instances, **stand_ins):
        return self.parts[0](features, labels, instances, **stand_ins)


def model_of(loss):
    torch.manual_seed(0)
    backbone = dict(type="ResNet", depth=18, base_channels=8, stem_channels=8)
    model = HierarchicalContrastive(backbone).eval()
    model.loss_module = loss
    model.set_taxonomy(TREE)
    model.set_training_labels(LABELS)
    return model


@pytest.mark.parametrize(
    "part",
    [
        dict(type="HierarchicalJointLoss", num_classes=[3, 4], in_channels=64, balance=1.0),
        dict(type="HierarchicalJointLoss", num_classes=[3, 4], in_channels=64, contrastive=None),
        dict(type="CSLLoss", num_classes=4, in_channels=64),
        dict(type="LevelProxyLoss", num_classes=[3, 4], in_channels=64),
        dict(type="SupConLoss", level="kingdom"),
    ],
    ids=lambda part: part["type"],
)
def test_a_part_is_told_the_tree_and_the_training_labels(part):
    torch.manual_seed(0)
    whole = Total(part, dict(type="SupConLoss", level=2))
    alone = MODELS.build(part)
    alone.load_state_dict(whole.parts[0].state_dict())
    others = MODELS.build(dict(type="SupConLoss", level=2))(*BATCH)
    model_of(alone), model_of(whole)
    value = whole(*BATCH)
    torch.testing.assert_close(value, alone(*BATCH) + others)
    if part["type"] == "HierarchicalJointLoss":
        value.backward()
        assert not whole.parts[0].heads[1].weight.grad[3].any()  # the class that training does not see
        assert whole.parts[0].heads[1].weight.grad[:3].any(1).all()


def test_the_parts_of_a_part_of_a_joint_loss_are_told_by_it():
    MODELS.register_module(name="_Total", module=lambda parts: Total(*parts), force=True)
    try:
        within = dict(type="_Total", parts=[dict(type="SupConLoss", level="kingdom")])
        loss = MODELS.build(dict(type="HierarchicalJointLoss", num_classes=[3, 4], in_channels=64, contrastive=within))
    finally:
        del MODELS.module_dict["_Total"]
    loss.set_taxonomy(TREE)
    assert loss.contrastive.parts[0].level_number == 1


def samples(stand_in):
    """Two triplets of level 1, the negative of the second of which may stand in for another image."""
    rows = LABELS.repeat_interleave(2, 0)
    return [
        DataSample(metainfo=dict(sample_idx=i, stand_in=stand_in and i == 5)).set_gt_label(row)
        for i, row in enumerate(rows)
    ]


def test_stand_ins_are_handed_on_or_an_error():
    triplets, images = (
        dict(type="LevelTripletLoss"),
        torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1)),
    )
    images[5] += 5
    alone, handed, lost = (
        [model_of(make)(images, samples(stand_in), mode="loss")["loss"] for stand_in in stand_ins]
        for make, stand_ins in (
            (MODELS.build(triplets), (False, True)),
            (Handing(triplets), (False, True)),
            (Total(triplets), (False,)),
        )
    )
    assert alone[0] != alone[1]
    assert handed == alone
    assert lost == alone[:1]
    with pytest.raises(
        ValueError,
        match=r"'parts.0' of Total, a LevelTripletLoss, has to leave out.* give it takes_stand_ins = True, and hand",
    ):
        model_of(Total(triplets))(images, samples(True), mode="loss")


def test_num_classes_is_filled_in_wherever_a_config_of_a_loss_leaves_it_out():
    parts = [dict(type="LevelCrossEntropyLoss", level="kingdom"), dict(type="CSLLoss", num_classes=9)]
    config = dict(type="Total", parts=parts, more=dict(joint=dict(type="HierarchicalJointLoss")), weights=(1, 2))
    filled = with_num_classes(config, lambda loss: TREE)
    assert [part["num_classes"] for part in filled["parts"]] == [3, 9]
    assert filled["more"]["joint"]["num_classes"] == [3, 4]
    assert filled["weights"] == (1, 2)
    assert "num_classes" not in parts[0]
    assert loss_that_counts(config).__name__ == "LevelCrossEntropyLoss"
    assert loss_that_counts(filled) is None


def test_a_loss_may_tell_its_parts_another_tree():
    class Coarse(Total):
        def set_taxonomy(self, taxonomy):
            self.parts[0].set_taxonomy(Taxonomy([("a",), ("b",), ("c",)], ("kind",)))

    loss = Coarse(dict(type="SupConLoss", level="kind"))
    model_of(loss)
    assert loss.parts[0].level_number == 1  # in the tree of the training data it is 2
