import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from hierpretrain.functional import (
    distortion_loss,
    hierarchical_cross_entropy,
    pairwise_distances,
    soft_label_loss,
    soft_labels,
)
from hierpretrain.models import GuidedLoss, HXELoss, LevelCrossEntropyLoss, SoftLabelLoss
from hierpretrain.registry import MODELS
from hierpretrain.taxonomy import PAD, Taxonomy
from tests import distributed

TREE = Taxonomy([("a", "x", "0"), ("a", "x", "1"), ("a", "y", "2"), ("b", "z", "3"), ("c",)], ("one", "two", "three"))
PATHS = [("a", "x", "0"), ("a", "x", "1"), ("a", "y", "2"), ("b", "z", "3"), ("a", "y"), ("c",), ("b", "z", "3"), ()]
LABELS = TREE.encode(PATHS)
ALL = {
    "LevelCrossEntropyLoss": dict(label_smoothing=0.1),
    "HXELoss": dict(alpha=0.5),
    "SoftLabelLoss": dict(beta=4.0),
    "GuidedLoss": dict(weight=0.5),
}


def features(dtype=torch.float64):
    return 2 * torch.randn(len(PATHS), 5, dtype=dtype, generator=torch.Generator().manual_seed(0))


def build(name, level=-1, **options):
    torch.manual_seed(0)
    loss = MODELS.build(
        dict(
            type=name, num_classes=TREE.num_nodes(level), in_channels=5, level=level, **{**ALL.get(name, {}), **options}
        )
    )
    loss.set_taxonomy(TREE)
    return loss.double()


def call(loss, rows=None, labels=LABELS):
    rows = features() if rows is None else rows
    return loss(rows, labels, torch.arange(len(rows)))


@pytest.mark.parametrize("level", [1, 2, 3, -1, -3])
def test_losses_are_the_mean_over_the_items_with_a_node_at_the_level(level):
    column = LABELS[:, level - 1 if level > 0 else level]
    known = column != PAD
    rows, classes, tree_rows = features()[known], column[known], TREE.node_labels(level)

    loss = build("LevelCrossEntropyLoss", level)
    expected = cross_entropy(loss.classifier(rows), classes, label_smoothing=0.1)
    torch.testing.assert_close(call(loss), expected)

    loss = build("HXELoss", level)
    expected = hierarchical_cross_entropy(loss.classifier(rows), tree_rows, classes, alpha=0.5).mean()
    torch.testing.assert_close(call(loss), expected)

    # heights of the lowest common ancestors, by hand
    heights = {
        1: [[0, 1, 1], [1, 0, 1], [1, 1, 0]],
        2: [[0, 1, 2], [1, 0, 2], [2, 2, 0]],
        3: [[0, 1, 2, 3], [1, 0, 2, 3], [2, 2, 0, 3], [3, 3, 3, 0]],
    }[TREE.level(level)]
    heights = torch.tensor(heights, dtype=torch.float64)
    loss = build("SoftLabelLoss", level)
    expected = soft_label_loss(loss.classifier(rows), soft_labels(heights, beta=4.0)[classes]).mean()
    torch.testing.assert_close(call(loss), expected)

    for options in ({}, dict(scale_free=False, squared=True)):
        loss = build("GuidedLoss", level, **options)
        logits = -pairwise_distances(rows, loss.prototypes, squared=options.get("squared", False))
        expected = cross_entropy(logits, classes) + 0.5 * distortion_loss(
            loss.prototypes, heights, scale_free=options.get("scale_free", True)
        )
        torch.testing.assert_close(call(loss), expected)


@pytest.mark.parametrize("name", [*ALL, "HAFrameLoss", "HAPPIERLoss"])
def test_an_item_of_several_classes_has_the_mean_of_their_losses(name):
    loss = build(name, **(dict(lam=1.0) if name == "HAPPIERLoss" else {}))
    paths = [("a", "x", "0"), ("b", "z", "3")], [("a", "y", "2")], [("c",), ("a", "x", "1")], [("a", "x"), ("c",)]
    rows, labels = features()[:4], TREE.encode(paths)
    one, two, three, four = (
        call(loss, rows[item][None], TREE.encode([path]))
        for item, path in [(0, paths[0][0]), (0, paths[0][1]), (1, paths[1][0]), (2, paths[2][1])]
    )
    extra = call(loss, rows[:0], labels[:0])  # what a loss adds that no item has
    expected = ((one + two) / 2 + three + four - 3 * extra) / 3 + extra
    torch.testing.assert_close(call(loss, rows, labels), expected)
    torch.testing.assert_close(call(loss, rows, labels.flip(1)), expected)
    twice = torch.cat([labels, labels[:, :1]], 1)
    torch.testing.assert_close(call(loss, rows, twice), expected)


@pytest.mark.parametrize("name", ALL)
def test_the_order_of_the_batch_does_not_matter(name):
    order = torch.randperm(len(PATHS), generator=torch.Generator().manual_seed(1))
    loss = build(name)
    torch.testing.assert_close(call(loss, features()[order], LABELS[order]), call(loss))


@pytest.mark.parametrize("name", ALL)
def test_a_batch_without_a_labelled_item_costs_nothing_and_has_gradients(name):
    loss = build(name, **(dict(weight=0.0) if name == "GuidedLoss" else {}))
    rows = features().requires_grad_()
    value = call(loss, rows, torch.full_like(LABELS, PAD))
    assert value == 0
    value.backward()
    for tensor in (rows, *loss.parameters()):
        assert torch.equal(tensor.grad, torch.zeros_like(tensor))


@pytest.mark.parametrize("name", ALL)
def test_one_class_in_the_tree(name):
    loss = MODELS.build(dict(type=name, num_classes=1, in_channels=5))
    loss.set_taxonomy(Taxonomy([("a",)], ("one",)))
    value = loss(features(torch.float32), torch.zeros(len(PATHS), 1, dtype=torch.int64), torch.arange(len(PATHS)))
    assert value == 0
    value.backward()
    assert all(parameter.grad.isfinite().all() for parameter in loss.parameters())


@pytest.mark.parametrize("name", ALL)
def test_autocast_changes_nothing(name):
    loss = build(name).float()
    expected = call(loss, features(torch.float32).bfloat16().float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = call(loss, features(torch.float32).bfloat16())
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", ALL)
def test_checkpoints_do_not_carry_the_tree_and_load_without_it(name):
    loss, fresh = build(name), build(name)
    assert not any("labels" in key for key in loss.state_dict())
    untold = type(loss)(num_classes=4, in_channels=5).double()
    untold.load_state_dict(loss.state_dict())
    fresh.load_state_dict(untold.state_dict())
    torch.testing.assert_close(call(fresh), call(loss))


@pytest.mark.parametrize("name", ALL)
def test_learning_finds_the_classes(name):
    loss = build(name)
    rows = torch.eye(5, dtype=torch.float64)[[0, 1, 2, 3]]
    labels = TREE.node_labels(3)
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.3)
    for _ in range(100):
        optimizer.zero_grad()
        call(loss, rows, labels).backward()
        optimizer.step()
    logits = -pairwise_distances(rows, loss.prototypes) if name == "GuidedLoss" else loss.classifier(rows)
    assert logits.argmax(1).tolist() == [0, 1, 2, 3]


def test_guided_distortion_of_some_classes_is_that_of_a_draw_that_resumes():
    def distortions(loss, steps):
        loss.weight = 1.0
        return [(call(loss) - call(plain)).item() for _ in range(steps)]

    plain = build("GuidedLoss", weight=0.0)
    loss = build("GuidedLoss", max_classes=3, seed=5)
    drawn = distortions(loss, 6)
    possible = {}
    for left_out in range(4):
        chosen = [k for k in range(4) if k != left_out]
        rows = TREE.node_labels(3)[chosen]
        heights = torch.tensor([[sum(x != y for x, y in zip(a, b, strict=True)) for b in rows] for a in rows]).double()
        possible[left_out] = distortion_loss(loss.prototypes[chosen], heights).item()
    nearest = [min(possible, key=lambda k, v=value: abs(possible[k] - v)) for value in drawn]
    assert [possible[k] for k in nearest] == pytest.approx(drawn)
    assert len(set(nearest)) > 1

    resumed = build("GuidedLoss", max_classes=3, seed=5)
    distortions(resumed, 3)
    fresh = build("GuidedLoss", max_classes=3, seed=5)
    fresh.load_state_dict(resumed.state_dict())
    torch.manual_seed(99)  # the draw has nothing to do with global generators
    assert distortions(fresh, 3) == drawn[3:]
    assert distortions(build("GuidedLoss", max_classes=3, seed=6), 6) != drawn
    assert distortions(build("GuidedLoss", max_classes=9), 1) == pytest.approx(distortions(build("GuidedLoss"), 1))


def test_guided_draws_do_not_advance_in_evaluation():
    loss = build("GuidedLoss", max_classes=2).eval()
    assert len({call(loss).item() for _ in range(5)}) == 1
    assert loss.steps == 0


@pytest.mark.parametrize("name", ALL)
def test_the_number_of_classes_must_be_that_of_the_level(name):
    loss = MODELS.build(dict(type=name, num_classes=5, in_channels=5, level=2))
    with pytest.raises(
        ValueError, match=rf"num_classes of {name} must be .* 3 of 'two'; it is 5. Give it num_classes=3, or none"
    ):
        loss.set_taxonomy(TREE)
    with pytest.raises(ValueError, match="no level 9"):
        MODELS.build(dict(type=name, num_classes=5, in_channels=5, level=9)).set_taxonomy(TREE)


def test_a_level_may_have_braces_in_its_name():
    tree = Taxonomy([("a",), ("b",)], ("{kind}",))
    with pytest.raises(ValueError, match=r"number of nodes of its level, 2 of '\{kind\}'; it is 3"):
        LevelCrossEntropyLoss(num_classes=3, in_channels=5).set_taxonomy(tree)


@pytest.mark.parametrize("name", ["HXELoss", "SoftLabelLoss", "GuidedLoss"])
def test_the_tree_must_be_known(name):
    loss = MODELS.build(dict(type=name, num_classes=4, in_channels=5)).double()
    with pytest.raises(ValueError, match=f"{name} needs the tree of the classes: put taxonomy="):
        call(loss)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: LevelCrossEntropyLoss(in_channels=5, level="two"),
            r"LevelCrossEntropyLoss needs num_classes, .*: taxonomy.num_nodes\('two'\). A training fills it in from",
        ),
        (
            lambda: LevelCrossEntropyLoss.count_classes(TREE, level=None),
            r"no level None: levels are 1 \(coarsest\) to 3",
        ),
        (lambda: LevelCrossEntropyLoss(num_classes=0, in_channels=5), "num_classes must be at least 1; it is 0"),
        (
            lambda: LevelCrossEntropyLoss(num_classes=4, in_channels=5, label_smoothing=2),
            "label_smoothing must be in 0 to 1; it is 2",
        ),
        (lambda: call(LevelCrossEntropyLoss(num_classes=3, in_channels=5)), "has 3 classes, but the batch has node 3"),
        (lambda: call(build("HXELoss", alpha=float("nan"))), "alpha must be finite; it is nan"),
        (lambda: call(build("SoftLabelLoss", beta=-1)), "beta must be finite and not below 0; it is -1"),
        (lambda: build("GuidedLoss", weight=-1), "weight must be finite and not below 0; it is -1"),
        (lambda: build("GuidedLoss", max_classes=1), "max_classes must be at least 2, or None for all .*; it is 1"),
        (
            lambda: LevelCrossEntropyLoss(num_classes=4, in_channels=5, level=4)(features(), LABELS, None),
            r"level of LevelCrossEntropyLoss must be 1 \(coarsest\) to 3, or -1 \(finest\) to -3; it is 4",
        ),
        (
            lambda: call(build("HXELoss"), features() * torch.nan),
            "losses must be finite; row 0 is not",
        ),
    ],
)
def test_bad_input_names_the_rule(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ------------------------------------------------------------------ several processes
class Net(torch.nn.Module):
    """A layer and a loss with weights, both of which DistributedDataParallel sees."""

    def __init__(self, name):
        super().__init__()
        self.loss = build(name)
        self.layer = torch.nn.Linear(5, 5).double()

    def forward(self, rows, labels):
        return call(self.loss, self.layer(rows), labels)


def value_and_grads(net, rows, labels):
    loss = net(rows, labels)
    loss.backward()
    return loss.detach(), {name.removeprefix("module."): p.grad for name, p in net.named_parameters()}


def compare(rank, world_size, reference):
    # uneven parts; the last process has only items without a class
    order = [5, 7, 4, 0, 1, 2, 3, 6]
    own = [order[3:], order[:3]][rank]
    for name, expected in reference.items():
        actual = value_and_grads(DistributedDataParallel(Net(name)), features()[own], LABELS[own])
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.ddp
def test_loss_and_gradient_are_those_of_one_process():
    distributed.run(compare, 2, {name: value_and_grads(Net(name), features(), LABELS) for name in ALL})


def one_process_has_an_unknown_class(rank, world_size):
    for name in ALL:
        labels = LABELS.clone()
        if rank == 1:
            labels[1, 2] = 7
        with pytest.raises(ValueError, match=f"{name} has 4 classes, but the batch has node 7 of level -1"):
            call(build(name), labels=labels)


@pytest.mark.ddp
def test_an_unknown_class_on_one_process_is_an_error_on_all_and_no_hang():
    distributed.run(one_process_has_an_unknown_class, 2)


def test_these_classes_are_registered():
    assert [type(build(name)) for name in ALL] == [LevelCrossEntropyLoss, HXELoss, SoftLabelLoss, GuidedLoss]
