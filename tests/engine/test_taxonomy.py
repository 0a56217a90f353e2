from types import SimpleNamespace

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from mmengine.runner import EpochBasedTrainLoop

from hierpretrain.engine.taxonomy import weights_of_another_tree
from hierpretrain.models import HierarchicalContrastive
from hierpretrain.registry import HOOKS
from hierpretrain.taxonomy import Taxonomy
from tests.models.every_loss import every_loss

TREE = Taxonomy([("a", "x"), ("a", "y"), ("b", "z")], ("kind", "thing"))


def before_train(model, labels=None, **metainfo):
    dataset = SimpleNamespace(metainfo=metainfo, **({} if labels is None else dict(labels=labels)))
    runner = SimpleNamespace(model=model, train_dataloader=SimpleNamespace(dataset=dataset))
    HOOKS.build(dict(type="TaxonomyHook")).before_train(runner)


def make(num_classes=3, type="HXELoss"):
    backbone = dict(type="ResNet", depth=18, base_channels=8, stem_channels=8)
    return HierarchicalContrastive(backbone, loss=dict(type=type, num_classes=num_classes, in_channels=64))


def test_the_tree_of_the_training_data_reaches_the_loss():
    model = make()
    before_train(model, taxonomy=TREE.to_dict())
    assert torch.equal(model.loss_module.class_labels, TREE.node_labels(2))
    with pytest.raises(ValueError, match=r"Give it num_classes=3, or none"):
        before_train(make(4, "LevelCrossEntropyLoss"), taxonomy=TREE.to_dict())


def test_it_goes_through_a_wrapper_for_several_devices():
    model = make()
    before_train(torch.nn.DataParallel(model), taxonomy=TREE.to_dict())
    assert torch.equal(model.loss_module.class_labels, TREE.node_labels(2))


def test_the_labels_of_the_training_data_reach_the_loss():
    loss = dict(type="HierarchicalJointLoss", num_classes=[2, 3], in_channels=64, contrastive=None)
    model = HierarchicalContrastive(dict(type="ResNet", depth=18, base_channels=8, stem_channels=8), loss=loss)
    for head in model.loss_module.heads:
        head.requires_grad_(False).weight.zero_(), head.bias.zero_()
    labels = torch.tensor([[0, 0], [0, 1]])  # no image of b
    before_train(model, labels, taxonomy=TREE.to_dict())
    value = model.loss_module(torch.zeros(2, 64), labels, torch.arange(2))
    torch.testing.assert_close(value, torch.tensor(2.0).log() * 2 / 3)  # of 1 kind and of 2 things, which count twice
    before_train(make(), labels, taxonomy=TREE.to_dict())  # a loss that does not ask for labels


@pytest.mark.parametrize("loss", every_loss(levels=2, num_classes=2, in_channels=64), ids=lambda loss: loss["type"])
def test_an_average_of_the_weights_begun_before_it_goes_on(loss):
    model = HierarchicalContrastive(dict(type="ResNet", depth=18, base_channels=8, stem_channels=8), loss=loss)
    average = ExponentialMovingAverage(model, momentum=0.25)  # as EMAHook makes one, which is of the same priority
    average.update_parameters(model)  # the first takes the weights as they are
    before_train(
        model, torch.tensor([[0, 0], [1, 1]]), taxonomy=Taxonomy([("a", "x"), ("b", "y")], ("kind", "thing")).to_dict()
    )
    before = [weight.detach().clone() for weight in model.parameters()]
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(1)
    average.update_parameters(model)
    for weight, old in zip(average.module.parameters(), before, strict=True):
        torch.testing.assert_close(weight, old + 0.25)


def saved(model, tree, **parts):
    """Returns the checkpoint of a training with a tree."""
    meta = {"dataset_meta": {"taxonomy": tree.to_dict()}} if tree is not None else {}
    return {"meta": meta, "state_dict": dict(model.state_dict())} | parts


RENAMED = Taxonomy([("a", "x"), ("a", "y"), ("b", "w")], ("kind", "thing"))
LOSS_WEIGHTS = ["loss_module.classifier.weight", "loss_module.classifier.bias"]


def test_weights_of_another_trees_classes_are_found():
    model, data = make(), SimpleNamespace(metainfo=dict(taxonomy=TREE.to_dict()))
    assert weights_of_another_tree(saved(model, RENAMED), model, data) == LOSS_WEIGHTS
    assert weights_of_another_tree(saved(model, RENAMED), model, torch.utils.data.Subset(data, [0])) == LOSS_WEIGHTS
    other_names = Taxonomy([("a", "x"), ("a", "y"), ("b", "z")], ("sort", "piece"))  # the same nodes
    for same in (saved(model, TREE), saved(model, None), {"state_dict": {}}, saved(model, other_names)):
        assert weights_of_another_tree(same, model, data) == []
    without = HierarchicalContrastive(
        dict(type="ResNet", depth=18, base_channels=8, stem_channels=8), loss=dict(type="HiMulConLoss")
    )
    assert weights_of_another_tree(saved(without, RENAMED), without, data) == []
    assert weights_of_another_tree(saved(model, RENAMED), model, [1]) == []
    model.loss_module.temperature = torch.nn.Parameter(torch.ones(()))  # is of no class
    assert weights_of_another_tree(saved(model, RENAMED), model, data) == LOSS_WEIGHTS
    for meta in (1, dict(dataset_meta=2), dict(dataset_meta=dict(taxonomy=3))):
        assert weights_of_another_tree(saved(model, RENAMED, meta=meta), model, data) == []


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("partly", [False, True])
def test_a_training_takes_no_weights_of_another_trees_classes(resume, partly):
    model, lines = make(), []
    runner = SimpleNamespace(
        model=model,
        train_dataloader=SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(taxonomy=TREE.to_dict()))),
        _train_loop=object.__new__(EpochBasedTrainLoop),
        _resume=resume,
        _load_from="old.pth",
        cfg=dict(load_from_partly=partly),
        logger=SimpleNamespace(warning=lines.append),
    )
    hook, checkpoint = HOOKS.build(dict(type="TaxonomyHook")), saved(model, RENAMED)
    if resume or not partly:
        message = r"old\.pth was trained with another label tree .*\(loss_module\.classifier\.weight, .*partly=True"
        with pytest.raises(ValueError, match=message):
            hook.after_load_checkpoint(runner, checkpoint)
    else:
        hook.after_load_checkpoint(runner, checkpoint)
        assert model.state_dict().keys() - checkpoint["state_dict"].keys() == set(LOSS_WEIGHTS)
        (line,) = lines
        assert line.startswith("load_from_partly: weights of another tree's classes start anew: loss_module.classifier")
    same = saved(model, TREE)
    hook.after_load_checkpoint(runner, same)
    assert same["state_dict"].keys() == model.state_dict().keys()
    runner._train_loop = None  # a test, which looks at no class's weights
    hook.after_load_checkpoint(runner, saved(model, RENAMED))


def test_levels_go_by_name():
    backbone = dict(type="ResNet", depth=18, base_channels=8, stem_channels=8)
    features, labels = torch.eye(4, 64), torch.tensor([[0, 0], [0, 0], [0, 1], [1, 2]])
    losses = {
        "SupConLoss": {},
        "TripletLoss": {},
        **dict.fromkeys(("LevelCrossEntropyLoss", "GuidedLoss", "HXELoss", "SoftLabelLoss", "HAPPIERLoss")),
    }
    for name, options in losses.items():
        options = dict(num_classes=2) if options is None else options
        loss = dict(type=name, **options)
        named = HierarchicalContrastive(backbone, loss=dict(loss, level="kind"))
        numbered = HierarchicalContrastive(backbone, loss=dict(loss, level=1))
        numbered.load_state_dict(named.state_dict())
        if name not in ("HXELoss", "SoftLabelLoss", "GuidedLoss"):  # which want the tree anyway
            with pytest.raises(
                ValueError, match=f"level='kind' of {name} needs the tree .*TaxonomyHook.*or give a num"
            ):
                named.loss_module(features, labels, torch.arange(4))
        for model in (named, numbered):
            before_train(model, taxonomy=TREE.to_dict())
        values = [model.loss_module(features, labels, torch.arange(4)) for model in (named, numbered)]
        assert values[0] == values[1], name
        wrong = HierarchicalContrastive(backbone, loss=dict(loss, level="knid"))
        with pytest.raises(ValueError, match=r"no level 'knid' \(did you mean 'kind'\?\): levels are 1"):
            before_train(wrong, taxonomy=TREE.to_dict())


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
