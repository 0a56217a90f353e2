import pytest
import torch
from torch.nn.functional import normalize
from torch.nn.parallel import DistributedDataParallel

from hierpretrain.functional import cross_scale_loss, cross_scale_losses, proxy_anchor_losses
from hierpretrain.models import CSLLoss, LevelProxyLoss
from hierpretrain.taxonomy import PAD, Taxonomy
from tests import distributed

TREE = Taxonomy([("a", "x", "0"), ("a", "x", "1"), ("a", "y", "2"), ("b", "z", "3"), ("c",)], ("one", "two", "three"))
NODES = [TREE.node_labels(level) for level in (1, 2, 3)]
PATHS = [("a", "x", "0"), ("a", "x", "1"), ("a", "y", "2"), ("b", "z", "3"), ("a", "y"), ("c",), ("b", "z", "3"), ()]
LABELS = TREE.encode(PATHS)
SEVERAL = TREE.encode([*[[path] for path in PATHS[:7]], [("a", "y", "2"), ("c",)]])
LOSSES = {
    "csl of all levels": lambda: CSLLoss(num_classes=10, in_channels=5, level=None, scale=4.0),
    "csl": lambda: CSLLoss(num_classes=4, in_channels=5, scale=4.0),
    "csl of a level": lambda: CSLLoss(num_classes=3, in_channels=5, level=2, margins=(0.2, 0.1), scale=4.0),
    "proxies": lambda: LevelProxyLoss(num_classes=[3, 3, 4], in_channels=5, scale=4.0),
    "proxies weighted": lambda: LevelProxyLoss(
        num_classes=[3, 3, 4], in_channels=5, scale=4.0, level_weights=[3, 2, 1]
    ),
}


def features(dtype=torch.float64):
    rows = torch.randn(len(PATHS), 5, dtype=dtype, generator=torch.Generator().manual_seed(0))
    return normalize(rows, dim=1)


def build(name):
    torch.manual_seed(0)
    loss = LOSSES[name]()
    loss.set_taxonomy(TREE)
    return loss.double()


def call(loss, rows=None, labels=LABELS):
    rows = features() if rows is None else rows
    return loss(rows, labels, torch.arange(len(rows)))


@pytest.mark.parametrize(
    ("name", "level", "margins"), [("csl", 3, (0.45, 0.35, 0.25)), ("csl of a level", 2, (0.2, 0.1))]
)
def test_csl_is_the_function_for_the_items_with_a_class(name, level, margins):
    loss, known = build(name), LABELS[:, level - 1] != PAD
    cosines = features()[known] @ normalize(loss.proxies, dim=1).T
    expected = cross_scale_loss(cosines, NODES[level - 1], LABELS[known, level - 1], margins=margins, scale=4.0).mean()
    torch.testing.assert_close(call(loss), expected)
    assert not known.all()
    terms = cross_scale_losses(cosines, NODES[level - 1], LABELS[known, level - 1], margins=margins, scale=4.0)
    names = ["one", "two", "three"][:level]
    assert loss.loss_components == pytest.approx(dict(zip(names, terms.mean(0).tolist(), strict=True)))


ENDS = [[6], [7], [8], [9], [4], [2], [9], []]  # the nodes where paths end: a b c, x y z, 0 1 2 3 are numbered


@pytest.mark.parametrize("several", [False, True], ids=["one path", "several paths"])
def test_csl_of_all_levels_is_the_function_for_the_nodes_where_paths_end(several):
    loss, labels = build("csl of all levels"), SEVERAL if several else LABELS
    ends = torch.tensor([[*(ends + [8, 2] * (several and not ends)), PAD, PAD][:2] for ends in ENDS])
    tree = torch.cat([torch.nn.functional.pad(nodes, (0, 3 - nodes.shape[1]), value=PAD) for nodes in NODES])
    cosines, given = features() @ normalize(loss.proxies, dim=1).T, (ends != PAD).any(1)

    def expected(known=None):
        options = dict(margins=(0.45, 0.35, 0.25), scale=4.0, known=known)
        return cross_scale_loss(cosines[given], tree, ends[given], **options).mean()

    torch.testing.assert_close(call(loss, labels=labels), expected())
    loss.set_training_labels(labels)
    known = torch.tensor([0, 0, 1, 0, 1, 0, 1, 1, 1, 1], dtype=torch.bool)
    torch.testing.assert_close(call(loss, labels=labels), expected(known))
    assert expected() > expected(known)


def test_csl_of_all_levels_is_csl_of_the_finest_one_where_all_paths_end_there():
    every, finest = build("csl of all levels"), build("csl")
    finest.proxies.data = every.proxies.data[-4:].clone()
    for loss in (every, finest):
        loss.set_training_labels(LABELS[:3])  # node 3 has no image
    value, other = call(every, features()[:3], LABELS[:3]), call(finest, features()[:3], LABELS[:3])
    torch.testing.assert_close(value, other)
    value.backward(), other.backward()
    torch.testing.assert_close(every.proxies.grad[-4:], finest.proxies.grad)
    assert not every.proxies.grad[:-4].any()
    assert not finest.proxies.grad[3].any()


@pytest.mark.parametrize("labels", [LABELS, SEVERAL], ids=["one path", "several paths"])
def test_level_proxies_are_the_weighted_mean_of_the_function(labels):
    loss, weighted = build("proxies"), build("proxies weighted")
    losses = proxy_anchor_losses(features(), labels, list(loss.proxies), NODES, scale=4.0)
    torch.testing.assert_close(call(loss, labels=labels), losses.mean())
    torch.testing.assert_close(call(weighted, labels=labels), losses @ torch.tensor([1, 2 / 3, 1 / 3]).double())
    assert list(loss.loss_components) == ["one", "two", "three"]
    torch.testing.assert_close(torch.stack(list(loss.loss_components.values())), losses.detach())


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_without_a_labelled_item_costs_nothing_and_has_gradients(name):
    loss, rows = build(name), features().requires_grad_()
    value = call(loss, rows, torch.full_like(LABELS, PAD))
    value.backward()
    assert value == 0
    assert not any(tensor.grad.any() for tensor in (rows, *loss.parameters()))


@pytest.mark.parametrize("name", LOSSES)
def test_autocast_changes_nothing(name):
    loss = build(name).float()
    expected = call(loss, features(torch.float32).bfloat16().float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = call(loss, features(torch.float32).bfloat16())
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", LOSSES)
def test_checkpoints_do_not_carry_the_tree_and_load_without_it(name):
    loss, untold = build(name), LOSSES[name]().double()
    assert {key.split(".")[0] for key in loss.state_dict()} == {"proxies"}
    untold.load_state_dict(loss.state_dict())
    with pytest.raises(ValueError, match=f"{type(loss).__name__} needs the tree of the .*: put taxonomy="):
        call(untold)
    untold.set_taxonomy(TREE)
    torch.testing.assert_close(call(untold), call(loss))


@pytest.mark.parametrize("name", ["csl", "proxies"])
def test_learning_finds_the_classes(name):
    loss, labels = build(name), TREE.node_labels(3)
    rows = torch.eye(5, dtype=torch.float64)[:4]
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.3)
    for _ in range(100):
        optimizer.zero_grad()
        call(loss, rows, labels).backward()
        optimizer.step()
    of_levels = [loss.proxies] if name == "csl" else loss.proxies
    for proxies, column in zip(of_levels, labels.T[-len(of_levels) :], strict=True):
        cosines = rows @ normalize(proxies, dim=1).T
        assert cosines[:, : int(column.max()) + 1].argmax(1).tolist() == column.tolist()


def test_the_numbers_of_nodes_must_be_those_of_the_tree():
    assert LevelProxyLoss.count_classes(TREE) == [3, 3, 4]
    message = r"LevelProxyLoss .* of the levels \('one', 'two', 'three'\), \[3, 3, 4\]; it is \[3, 3, 5\]. Give it"
    with pytest.raises(ValueError, match=message):
        LevelProxyLoss(num_classes=[3, 3, 5], in_channels=5).set_taxonomy(TREE)
    with pytest.raises(ValueError, match=r"num_classes of CSLLoss .* 4 of 'three'; it is 3. Give it num_classes=4"):
        CSLLoss(num_classes=3, in_channels=5).set_taxonomy(TREE)
    assert CSLLoss.count_classes(TREE, level=None) == 10
    with pytest.raises(ValueError, match="num_classes of CSLLoss must be the number of nodes of the tree, 10; it is 4"):
        CSLLoss(num_classes=4, in_channels=5, level=None).set_taxonomy(TREE)
    for wrong in (None, 4):
        with pytest.raises(ValueError, match=f"LevelProxyLoss must be a list, .* fills in .*; it is {wrong}"):
            LevelProxyLoss(num_classes=wrong, in_channels=5)


def test_a_level_may_be_named():
    loss = CSLLoss(num_classes=3, in_channels=5, level="two", margins=(0.2, 0.1), scale=4.0).double()
    loss.load_state_dict(build("csl of a level").state_dict())
    loss.set_taxonomy(TREE)
    torch.testing.assert_close(call(loss), call(build("csl of a level")))


# ------------------------------------------------------------------ several processes
class Net(torch.nn.Module):
    """A layer and a loss with weights, both of which DistributedDataParallel sees."""

    def __init__(self, name):
        super().__init__()
        self.loss = build(name)
        self.layer = torch.nn.Linear(5, 5).double()

    def forward(self, rows, labels):
        return call(self.loss, normalize(self.layer(rows), dim=1), labels)


def value_and_grads(net, rows, labels):
    loss = net(rows, labels)
    loss.backward()
    components = getattr(net, "module", net).loss.loss_components
    return loss.detach(), {name.removeprefix("module."): p.grad for name, p in net.named_parameters()}, components


def compare(rank, world_size, reference):
    # uneven parts; the last process has only items without a class
    order = [5, 7, 4, 0, 1, 2, 3, 6]
    own = [order[3:], order[:3]][rank]
    for name, expected in reference.items():
        actual = value_and_grads(DistributedDataParallel(Net(name)), features()[own], SEVERAL[own])
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.ddp
def test_loss_gradient_and_what_is_logged_are_those_of_one_process():
    distributed.run(compare, 2, {name: value_and_grads(Net(name), features(), SEVERAL) for name in LOSSES})


def one_process_has_an_unknown_node(rank, world_size):
    labels = LABELS.clone()
    if rank == 1:
        labels[1, 2] = 7
    with pytest.raises(ValueError, match="level 3 has proxies of nodes 0 to 3, but the batch has node 7"):
        call(build("proxies"), labels=labels)
    with pytest.raises(ValueError, match="level 3 has 4 nodes, but a label is node 7"):
        call(build("csl of all levels"), labels=labels)


@pytest.mark.ddp
def test_an_unknown_node_on_one_process_is_an_error_on_all_and_no_hang():
    distributed.run(one_process_has_an_unknown_node, 2)
