from types import SimpleNamespace

import pytest
import torch

from hierpretrain.models import HierarchicalContrastive
from hierpretrain.registry import HOOKS
from hierpretrain.taxonomy import Taxonomy

TREE = Taxonomy([("a", "x"), ("a", "y"), ("b", "z")], ("kind", "thing"))


def before_train(model, **metainfo):
    dataset = SimpleNamespace(metainfo=metainfo)
    runner = SimpleNamespace(model=model, train_dataloader=SimpleNamespace(dataset=dataset))
    HOOKS.build(dict(type="TaxonomyHook")).before_train(runner)


def make(num_classes=3, type="HXELoss"):
    backbone = dict(type="ResNet", depth=18, base_channels=8, stem_channels=8)
    return HierarchicalContrastive(backbone, loss=dict(type=type, num_classes=num_classes, in_channels=64))


def test_the_tree_of_the_training_data_reaches_the_loss():
    model = make()
    before_train(model, taxonomy=TREE.to_dict())
    assert torch.equal(model.loss_module.class_labels, TREE.node_labels(2))
    with pytest.raises(ValueError, match=r"Set model\.loss\.num_classes=3"):
        before_train(make(4, "LevelCrossEntropyLoss"), taxonomy=TREE.to_dict())


def test_it_goes_through_a_wrapper_for_several_devices():
    model = make()
    before_train(torch.nn.DataParallel(model), taxonomy=TREE.to_dict())
    assert torch.equal(model.loss_module.class_labels, TREE.node_labels(2))


def test_data_without_a_tree_and_models_that_do_not_ask_are_left_alone():
    model = make()
    before_train(model)
    with pytest.raises(ValueError, match="needs the tree"):
        _ = model.loss_module.class_labels
    before_train(torch.nn.Linear(2, 2), taxonomy=TREE.to_dict())
    contrastive = HierarchicalContrastive(
        dict(type="ResNet", depth=18, base_channels=8, stem_channels=8), loss=dict(type="HiMulConLoss")
    )
    before_train(contrastive, taxonomy=TREE.to_dict())  # a loss that needs no tree
    contrastive.loss_module = None
    before_train(contrastive, taxonomy=TREE.to_dict())
