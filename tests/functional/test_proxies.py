import math

import pytest
import torch
from pytorch_metric_learning.losses import ProxyAnchorLoss
from torch.nn.functional import cross_entropy, normalize

from hierpretrain.functional import cross_scale_loss, cross_scale_losses, proxy_anchor_losses
from hierpretrain.taxonomy import PAD, Taxonomy
from tests.conftest import random_features
from tests.reference import proxies as reference
from tests.reference.paths import other_order

TREE = Taxonomy(
    [("a", "x", "0"), ("a", "x", "1"), ("a", "y", "2"), ("b", "z", "3"), ("b", "w"), ("c",)], ("one", "two", "three")
)
NODES = [TREE.node_labels(level) for level in (1, 2, 3)]
ONE_PATH = TREE.encode(
    [("a", "x", "0"), ("a", "x", "1"), ("b", "z", "3"), ("b",), ("c",), (), ("a", "y"), ("a", "x", "0")]
)
PATHS = TREE.encode(
    [[("a", "x", "0"), ("b", "z", "3")], ("a", "x"), [("c",), ("b", "w")], (), [("a",), ("b", "z", "3")], ("a", "y")]
)


def proxies(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(len(nodes), 4, generator=generator, dtype=torch.float64).requires_grad_() for nodes in NODES]


def with_grads(losses, inputs):
    return losses.detach(), *torch.autograd.grad((losses * torch.arange(1.0, len(losses) + 1)).sum(), inputs)


# ------------------------------------------------------------------ Cross-Scale Learning
def cosines(seed=0, rows=5, classes=4):
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.rand(rows, classes, generator=generator, dtype=torch.float64) - 1).requires_grad_()


CLASSES = torch.tensor([3, 0, 1, 1, 2])


@pytest.mark.parametrize(
    "options", [dict(margins=(0.45, 0.35, 0.25), scale=5.0), dict(margins=(0.3, 0.0, 0.2), scale=1)]
)
@pytest.mark.parametrize("seed", range(3))
def test_csl_is_that_of_the_loops(seed, options):
    given = cosines(seed)
    expected = with_grads(reference.cross_scale_loss(given, NODES[2], CLASSES, **options), given)
    torch.testing.assert_close(with_grads(cross_scale_loss(given, NODES[2], CLASSES, **options), given), expected)
    terms = cross_scale_losses(given, NODES[2], CLASSES, **options)
    torch.testing.assert_close(terms, reference.cross_scale_losses(given, NODES[2], CLASSES, **options))
    assert torch.autograd.gradcheck(lambda c: cross_scale_loss(c, NODES[2], CLASSES, **options), given)


RAGGED = torch.cat([torch.nn.functional.pad(nodes, (0, 3 - nodes.shape[1]), value=PAD) for nodes in NODES])  # 3, 4, 4
SEVERAL = torch.tensor([[7, 9, PAD], [0, PAD, PAD], [6, 2, 6], [4, 4, PAD], [10, 3, 8]])


@pytest.mark.parametrize("known", [None, torch.tensor([1, 1, 0, 0, 1, 1, 1, 0, 1, 1, 0], dtype=torch.bool)])
@pytest.mark.parametrize("classes", [SEVERAL[:, 0], SEVERAL], ids=["one class", "several"])
def test_csl_of_ragged_trees_and_several_classes_is_that_of_the_loops(classes, known):
    given, options = cosines(classes=len(RAGGED)), dict(margins=(0.45, 0.35, 0.25), scale=5.0, known=known)
    expected = with_grads(reference.cross_scale_loss(given, RAGGED, classes, **options), given)
    torch.testing.assert_close(with_grads(cross_scale_loss(given, RAGGED, classes, **options), given), expected)
    if classes.ndim == 2:
        flipped = cross_scale_loss(given, RAGGED, classes.flip(1), **options)
        torch.testing.assert_close(flipped.detach(), expected[0])


def test_csl_of_ragged_trees_never_parts_a_class_from_what_is_above_or_below_it():
    def pushed(*classes):
        given = cosines(rows=1, classes=len(RAGGED))
        cross_scale_loss(given, RAGGED, torch.tensor([classes])).sum().backward()
        return "".join("-+."[0 if value > 0 else 1 if value < 0 else 2] for value in given.grad[0])

    # a b c, x y w z, 0 1 2 3: positives are +, negatives -
    assert pushed(0) == "+--..--...-"
    assert pushed(3) == ".--+---..--"
    assert pushed(7) == ".--.---+---"
    assert pushed(7, 2) == ".-+.---+---"


def test_csl_of_one_level_without_a_margin_is_cross_entropy():
    expected = cross_entropy(7 * cosines(), CLASSES, reduction="none")
    actual = cross_scale_loss(cosines(), torch.arange(4)[:, None], CLASSES, margins=[0.0], scale=7.0)
    torch.testing.assert_close(actual, expected)


def test_csl_takes_two_margins_for_the_coarsest_and_the_finest():
    expected = cross_scale_loss(cosines(), NODES[2], CLASSES, margins=(0.45, 0.35, 0.25))
    torch.testing.assert_close(cross_scale_loss(cosines(), NODES[2], CLASSES), expected)


def test_csl_of_one_class_is_0_and_great_gaps_are_finite():
    one = cosines(classes=1)
    loss = cross_scale_loss(one, torch.zeros(1, 2, dtype=torch.int64), torch.zeros(5, dtype=torch.int64))
    loss.sum().backward()
    assert not loss.any()
    assert not one.grad.any()
    far = torch.tensor([[-1e6, 1e6]], requires_grad=True)
    loss = cross_scale_loss(far, torch.tensor([[0], [1]]), torch.tensor([0]), margins=[0.0])
    assert loss.item() == pytest.approx(32 * 2e6)
    loss.backward()
    assert far.grad.tolist() == [[-32, 32]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(scale=0), "scale must be above 0; it is 0"),
        (dict(margins=(0.1, -0.1)), "margins must be finite and not below 0; it is -0.1"),
        (dict(margins=(0.1,)), "margins must be one number for each of the 3 levels"),
        (dict(labels=CLASSES[:4]), r"cosines must be \(N, C\), class_labels \(C, L\) and labels \(N,\) or \(N, P\)"),
        (dict(labels=CLASSES + 1), "labels must be classes from 0 to 3; they go from 1 to 4"),
        (dict(labels=CLASSES - 1), "labels must be classes from 0 to 3; they go from -1 to 2. Leave out items without"),
        (dict(labels=torch.full((5, 2), PAD)), "they go from -1 to -1. Leave out items without a class"),
    ],
)
def test_csl_names_the_rule_that_input_breaks(change, message):
    arguments = dict(cosines=cosines(), class_labels=NODES[2], labels=CLASSES) | change
    with pytest.raises(ValueError, match=message):
        cross_scale_loss(**arguments)


# ------------------------------------------------------------------ Proxy Anchor of every level
@pytest.mark.parametrize("labels", [ONE_PATH, PATHS], ids=["one path", "several paths"])
@pytest.mark.parametrize("options", [dict(margin=0.1, scale=4.0), dict(margin=0.5, scale=1.0)])
def test_proxy_anchor_is_that_of_the_loops(labels, options):
    features, given = random_features(0, rows=len(labels)), proxies()
    expected = with_grads(reference.proxy_anchor_losses(features, labels, given, NODES, **options), [features, *given])
    actual = with_grads(proxy_anchor_losses(features, labels, given, NODES, **options), [features, *given])
    torch.testing.assert_close(actual, expected)
    several = labels if labels.ndim == 3 else labels[:, None]
    losses = proxy_anchor_losses(features, other_order(several), given, NODES, **options)
    torch.testing.assert_close(losses.detach(), expected[0])


def test_proxy_anchor_of_one_level_is_that_of_pytorch_metric_learning():
    features, classes = random_features(1), torch.arange(12) % 5
    theirs = ProxyAnchorLoss(num_classes=7, embedding_size=4, margin=0.2, alpha=16).double()
    given, nodes = theirs.proxies.detach(), torch.arange(7)[:, None]
    ours = proxy_anchor_losses(features, classes[:, None], [given], [nodes], margin=0.2, scale=16.0)
    torch.testing.assert_close(ours[0], theirs(features, classes).double())


def test_an_item_pushes_no_proxy_that_may_be_its_own():
    features, given = random_features(0, rows=1), proxies()

    def pushed(*paths):
        losses = proxy_anchor_losses(features, TREE.encode([paths]), given, NODES)
        grads = torch.autograd.grad(losses.sum(), given)
        return ["".join("x" if any(row) else "." for row in grad) for grad in grads]

    # one: a b c, two: x y w z, three: 0 1 2 3
    assert pushed(("b",)) == ["xxx", "xx..", "xxx."]
    assert pushed(("a", "x")) == ["xxx", "xxxx", "..xx"]
    assert pushed(("a", "x"), ("c",)) == ["xxx", "xxxx", "..xx"]
    assert pushed(("b", "w")) == ["xxx", "xxxx", "xxxx"]  # a leaf
    assert pushed(()) == ["...", "....", "...."]


def test_proxies_have_any_length_and_the_order_of_items_does_not_matter():
    features = random_features(0, rows=8)
    expected = proxy_anchor_losses(features, ONE_PATH, proxies(), NODES)
    longer = [1000 * proxy for proxy in proxies()]
    torch.testing.assert_close(proxy_anchor_losses(features, ONE_PATH, longer, NODES), expected)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(proxy_anchor_losses(features[order], ONE_PATH[order], proxies(), NODES), expected)


@pytest.mark.parametrize("rows", [0, 3])
def test_nothing_labelled_costs_nothing(rows):
    features, given = random_features(0, rows=rows), proxies()
    losses = proxy_anchor_losses(features, torch.full((rows, 3), PAD), given, NODES)
    losses.sum().backward()
    assert losses.tolist() == [0, 0, 0]
    assert not any(tensor.grad.any() for tensor in (features, *given))


def test_long_features_are_finite_and_half_precision_is_computed_in_float32():
    features = 1e6 * random_features(0, rows=8, dtype=torch.float32).detach()
    losses = proxy_anchor_losses(features.requires_grad_(), ONE_PATH, [p.float() for p in proxies()], NODES)
    losses.sum().backward()
    assert losses.isfinite().all()
    assert features.grad.isfinite().all()
    half = normalize(features.detach(), dim=1).bfloat16()
    expected = proxy_anchor_losses(half.float(), ONE_PATH, [p.float() for p in proxies()], NODES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = proxy_anchor_losses(half, ONE_PATH, [p.float() for p in proxies()], NODES)
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def test_a_perfect_embedding_of_one_level_has_the_least_loss():
    features, nodes = torch.eye(3, dtype=torch.float64), torch.arange(3)[:, None]
    losses = proxy_anchor_losses(features, nodes, [torch.eye(3)], [nodes], margin=0.0, scale=2.0)
    assert losses.item() == pytest.approx(math.log(1 + math.exp(-2)) + math.log(3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(margin=-1), "margin must be finite and not below 0; it is -1"),
        (dict(scale=0), "scale must be above 0; it is 0"),
        (dict(labels=ONE_PATH[:, :2]), "labels must have 3 levels, one for each level of proxies"),
        (dict(labels=ONE_PATH[:, 0]), r"labels must be \(N, L\), one row of node ids per item"),
        (dict(nodes=NODES[::-1]), r"nodes must be \[\(3, 1\), \(4, 2\), \(4, 3\)\]; .* nodes are \[\(4, 3\)"),
        (dict(labels=ONE_PATH + 3 * (ONE_PATH > 1)), "level 1 has proxies of nodes 0 to 2, but the batch has node 5"),
    ],
)
def test_proxy_anchor_names_the_rule_that_input_breaks(change, message):
    arguments = dict(features=random_features(0, rows=8), labels=ONE_PATH, proxies=proxies(), nodes=NODES) | change
    with pytest.raises(ValueError, match=message):
        proxy_anchor_losses(**arguments)
