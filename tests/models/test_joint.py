"""The joint loss: its two parts, what each of them sees, and the same on several processes."""

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize
from torch.nn.parallel import DistributedDataParallel

from hierpretrain.functional import level_cross_entropies
from hierpretrain.functional.joint import node_counts
from hierpretrain.models import HierarchicalJointLoss
from hierpretrain.registry import MODELS
from hierpretrain.taxonomy import PAD, Taxonomy
from tests import distributed

TREE = Taxonomy(
    [("a", "x", "0"), ("a", "x", "1"), ("a", "y", "2"), ("b", "z", "3"), ("c",), ("d", "unseen")],
    ("one", "two", "three"),
)
PATHS = [("a", "x", "0"), ("a", "x", "1"), ("a", "y", "2"), ("b", "z", "3"), ("a", "y"), ("c",), ("b", "z", "3"), ()]
LABELS = TREE.encode(PATHS)
SEVERAL = TREE.encode([[path, ("b", "z", "3")] if path[:1] == ("a",) else [path] for path in PATHS])
SIZES = [4, 4, 4]


def features(dtype=torch.float64):
    return 2 * torch.randn(len(PATHS), 5, dtype=dtype, generator=torch.Generator().manual_seed(0))


def build(**options):
    torch.manual_seed(0)
    loss = HierarchicalJointLoss(**dict(num_classes=SIZES, in_channels=5) | options)
    loss.set_taxonomy(TREE)
    return loss.double()


def trained_on(labels=LABELS, **options):
    loss = build(**options)
    loss.set_training_labels(labels)
    return loss


def call(loss, rows=None, labels=LABELS, images=None):
    rows = features() if rows is None else rows
    return loss(rows, labels, torch.arange(len(rows)) // 2 if images is None else images)


def test_it_is_the_contrastive_loss_of_unit_rows_and_the_mean_cross_entropy_of_the_rows_as_they_are():
    loss = trained_on(weight=0.7, level_weights="uniform", contrastive=dict(type="HiMulConELoss", temperature=0.3))
    contrastive = MODELS.build(dict(type="HiMulConELoss", temperature=0.3))
    entropies = []
    for level, head in enumerate(loss.heads):
        column = LABELS[:, level]
        logits, kept = head(features()), column != PAD
        if level < 2:  # d and unseen have no image
            logits = logits[:, : [3, 3][level]]
        entropies.append(cross_entropy(logits[kept], column[kept]))
    expected = call(contrastive, normalize(features(), dim=1)) + 0.7 * torch.stack(entropies).mean()
    torch.testing.assert_close(call(loss), expected)


@pytest.mark.parametrize("labels", [LABELS, SEVERAL], ids=["one path", "several paths"])
@pytest.mark.parametrize("heads", ["linear", "cosine"])
def test_options_reach_the_cross_entropies(heads, labels):
    weights, options = [1.0, 0.0, 3.0], dict(balance=0.5, label_smoothing=0.2)
    loss = trained_on(
        labels, contrastive=None, heads=heads, head_temperature=0.2, level_weights=weights, weight=2, **options
    )
    if heads == "linear":
        logits = [head(features()) for head in loss.heads]
    else:
        assert all(head.bias is None for head in loss.heads)
        logits = [normalize(features(), dim=1) @ normalize(head.weight, dim=1).T / 0.2 for head in loss.heads]
    counts = [counts.float() for counts in node_counts(labels, SIZES)]
    one, _, three = level_cross_entropies(logits, labels, counts=counts, **options)
    torch.testing.assert_close(call(loss, labels=labels), 2 * (one + 3 * three) / 4)


def test_the_contrastive_part_alone_goes_through_a_projection():
    loss = trained_on(projection=dict(type="ProjectionHead", out_channels=3), contrastive=dict(type="NTXentLoss"))
    assert loss.projection.layers[0].in_features == 5
    contrastive = call(MODELS.build(dict(type="NTXentLoss")), normalize(loss.projection(features()), dim=1))
    alone = trained_on(contrastive=None)
    alone.heads.load_state_dict(loss.heads.state_dict())
    torch.testing.assert_close(call(loss), contrastive + call(alone))


def test_the_contrastive_part_may_be_a_loss_with_weights_of_its_own():
    contrastive = dict(type="HAPPIERLoss", num_classes=4)
    assert build(contrastive=contrastive).contrastive.proxies.shape == (4, 5)
    projection = dict(type="ProjectionHead", out_channels=3)
    loss = trained_on(contrastive=contrastive, projection=projection)
    assert loss.contrastive.proxies.shape == (4, 3)
    call(loss).backward()
    assert all(parameter.grad.isfinite().all() for parameter in loss.parameters())


def test_its_components_have_the_names_of_parts_and_levels():
    loss = trained_on(weight=3.0, level_weights="uniform", contrastive=dict(type="HiConELoss"))
    value, parts = call(loss), loss.loss_components
    levels = ["one", "two", "three"]
    assert list(parts) == [
        "contrastive",
        *[f"contrastive/{name}" for name in levels],
        *[f"contrastive/unclamped/{name}" for name in levels],
        "cross_entropy",
        *[f"cross_entropy/{name}" for name in levels],
    ]
    assert not any(part.requires_grad for part in parts.values())
    torch.testing.assert_close(value.detach(), parts["contrastive"] + 3 * parts["cross_entropy"])
    torch.testing.assert_close(
        parts["cross_entropy"], torch.stack([parts[f"cross_entropy/{name}"] for name in levels]).mean()
    )
    alone = trained_on(contrastive=None)
    call(alone)
    assert list(alone.loss_components) == ["cross_entropy", *[f"cross_entropy/{name}" for name in levels]]


def test_unseen_classes_are_pushed_nowhere():
    loss = trained_on()
    call(loss).backward()
    for level, unseen in ((0, 3), (1, 3)):
        assert torch.equal(loss.heads[level].weight.grad[unseen], torch.zeros(5, dtype=torch.float64))
        assert loss.heads[level].weight.grad[:unseen].any(1).all()
    untold = build()  # until the labels are known, all nodes are in the softmax
    call(untold).backward()
    assert untold.heads[0].weight.grad.any(1).all()


def test_the_tree_reaches_a_contrastive_part_that_wants_it():
    by_name, by_number = (trained_on(contrastive=dict(type="SupConLoss", level=level)) for level in ("two", 2))
    torch.testing.assert_close(call(by_name), call(by_number))


def test_checkpoints_carry_the_weights_alone():
    loss, fresh = trained_on(balance=1.0), trained_on(balance=1.0)
    assert set(loss.state_dict()) == {f"heads.{level}.{name}" for level in range(3) for name in ("weight", "bias")}
    torch.nn.init.normal_(loss.heads[0].weight)
    fresh.load_state_dict(loss.state_dict())
    assert call(fresh) == call(loss)


def test_learning_finds_the_classes_of_all_levels():
    loss = trained_on(contrastive=None)
    rows, labels = torch.eye(5, dtype=torch.float64)[[0, 1, 2, 3]], TREE.node_labels(3)
    optimizer = torch.optim.SGD(loss.parameters(), lr=1.0)
    for _ in range(100):
        optimizer.zero_grad()
        call(loss, rows, labels).backward()
        optimizer.step()
    assert torch.stack([head(rows).argmax(1) for head in loss.heads], 1).equal(labels)


def test_autocast_changes_nothing():
    rows = features(torch.float32).bfloat16()
    loss = trained_on().float()
    expected = call(loss, rows.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = call(loss, rows)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(num_classes=None), "needs num_classes, the number of nodes of each level, coarsest first .* in_channels"),
        (dict(in_channels=None), "needs num_classes, the number of nodes of each level, coarsest first .* in_channels"),
        (dict(num_classes=4), "must be a list, the number of nodes of each level, coarsest first; it is 4"),
        (dict(num_classes=[4, 0, 4]), "num_classes must be at least 1; it is 0"),
        (
            dict(num_classes=[4, 4, 5]),
            r"\('one', 'two', 'three'\), \[4, 4, 4\]; it is \[4, 4, 5\]. Give it num_classes=\[4, 4, 4\]",
        ),
        (dict(weight=-1), "weight must be finite and not below 0; it is -1"),
        (dict(heads="cosines"), "heads must be 'linear' or 'cosine'; it is 'cosines'"),
        (dict(head_temperature=0), "head_temperature must be above 0; it is 0"),
        (dict(label_smoothing=2), "label_smoothing must be in 0 to 1; it is 2"),
        (dict(balance=-1), "balance must be finite and not below 0; it is -1"),
        (dict(level_weights=[1, 2]), "level_weights must be one number for each of the 3 levels, coarsest first"),
        (dict(level_weights=[0, 0, 0]), r"level_weights must not all be 0; they are \[0, 0, 0\]. For no classif"),
        (dict(contrastive=None, projection=dict(type="ProjectionHead")), "contrastive is None; leave projection out"),
    ],
)
def test_a_wrong_option_is_an_error_before_there_is_a_batch(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_balance_needs_the_labels_of_the_training():
    with pytest.raises(ValueError, match=r"balance needs the labels .*TaxonomyHook.* or call set_training_labels"):
        call(build(balance=1.0))


# ------------------------------------------------------------------ several processes
OPTIONS = {
    "linear": dict(balance=0.5),
    "cosine": dict(heads="cosine", projection=dict(type="ProjectionHead", out_channels=4)),
    "alone": dict(contrastive=None, label_smoothing=0.1),
}


class Net(torch.nn.Module):
    """A layer and a loss with weights, both of which DistributedDataParallel sees."""

    def __init__(self, name):
        super().__init__()
        self.loss = trained_on(SEVERAL, **OPTIONS[name])
        self.layer = torch.nn.Linear(5, 5).double()

    def forward(self, rows, labels, images):
        return call(self.loss, self.layer(rows), labels, images)


def value_and_grads(net, *batch):
    loss = net(*batch)
    loss.backward()
    return loss.detach(), {name.removeprefix("module."): p.grad for name, p in net.named_parameters()}


def compare(rank, world_size, reference):
    # uneven parts; the last process has only items without a class at the finest level
    order = torch.tensor([5, 7, 4, 0, 1, 2, 3, 6])
    own = [order[3:], order[:3]][rank]
    for name, expected in reference.items():
        batch = features()[own], SEVERAL[own], own // 2
        actual = value_and_grads(DistributedDataParallel(Net(name)), *batch)
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.ddp
def test_loss_and_gradient_are_those_of_one_process():
    batch = features(), SEVERAL, torch.arange(len(PATHS)) // 2
    distributed.run(compare, 2, {name: value_and_grads(Net(name), *batch) for name in OPTIONS})


def one_process_has_an_unknown_class(rank, world_size):
    for options in ({}, dict(contrastive=None)):
        labels = LABELS.clone()
        if rank == 1:
            labels[1, 2] = 7
        with pytest.raises(ValueError, match="level 3 has 4 nodes, but a label is node 7; the tree of these labels is"):
            call(build(**options), labels=labels)


@pytest.mark.ddp
def test_an_unknown_class_on_one_process_is_an_error_on_all_and_no_hang():
    distributed.run(one_process_has_an_unknown_class, 2)
