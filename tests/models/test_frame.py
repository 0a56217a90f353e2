import pytest
import torch
from torch.nn.functional import cosine_similarity, cross_entropy
from torch.nn.parallel import DistributedDataParallel

from hierpretrain.functional import class_distances, hierarchy_aware_frame
from hierpretrain.models import HAFrameLoss
from hierpretrain.taxonomy import PAD, Taxonomy
from tests import distributed

TREE = Taxonomy([("a", "x", "0"), ("a", "x", "1"), ("a", "y", "2"), ("b", "z", "3"), ("c",)], ("one", "two", "three"))
PATHS = [("a", "x", "0"), ("a", "x", "1"), ("a", "y", "2"), ("b", "z", "3"), ("a", "y"), ("c",), ("b", "z", "3"), ()]
LABELS = TREE.encode(PATHS)


def features(dtype=torch.float64):
    return 2 * torch.randn(len(PATHS), 5, dtype=dtype, generator=torch.Generator().manual_seed(0))


def build(level=-1, **options):
    torch.manual_seed(0)
    loss = HAFrameLoss(num_classes=TREE.num_nodes(level), in_channels=5, level=level, **options)
    loss.set_taxonomy(TREE)
    return loss.double()


def call(loss, rows=None, labels=LABELS):
    rows = features() if rows is None else rows
    return loss(rows, labels, torch.arange(len(rows)))


@pytest.mark.parametrize("level", [1, 2, 3, -1, -3, "two"])
def test_it_is_cross_entropy_and_squared_differences_of_cosines_for_the_items_with_a_node(level):
    column = LABELS[:, TREE.level(level) - 1]
    known = column != PAD
    loss = build(level, alpha=0.3, gamma=2.0)
    frame = hierarchy_aware_frame(class_distances(TREE, level), gamma=2.0)
    items, classes = loss.transform(features()[known]), column[known]
    cosines = cosine_similarity(items[:, None], frame, dim=2)
    of_cosines = (cosines - (frame @ frame.T)[classes]).square().sum(1).mean()
    torch.testing.assert_close(call(loss), 0.7 * cross_entropy(items @ frame.T, classes) + 0.3 * of_cosines)


def test_learning_turns_the_items_to_the_directions_of_their_classes():
    loss, labels = build(alpha=1.0), TREE.node_labels(3)
    rows = torch.eye(5, dtype=torch.float64)[:4]
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.3)
    for _ in range(300):
        optimizer.zero_grad()
        call(loss, rows, labels).backward()
        optimizer.step()
    cosines = cosine_similarity(loss.transform(rows)[:, None], loss.frame, dim=2)
    torch.testing.assert_close(cosines, loss.frame @ loss.frame.T, rtol=0, atol=1e-2)


def test_a_batch_without_a_labelled_item_costs_nothing_and_has_gradients():
    loss, rows = build(), features().requires_grad_()
    value = call(loss, rows, torch.full_like(LABELS, PAD))
    value.backward()
    assert value == 0
    assert not any(tensor.grad.any() for tensor in (rows, *loss.parameters()))


def test_autocast_changes_nothing():
    loss = build().float()
    expected = call(loss, features(torch.float32).bfloat16().float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = call(loss, features(torch.float32).bfloat16())
    torch.testing.assert_close(value, expected, rtol=0, atol=0)


def test_checkpoints_do_not_carry_the_frame_and_load_without_it():
    loss = build()
    assert set(loss.state_dict()) == {"transform.weight", "transform.bias"}
    untold = HAFrameLoss(num_classes=4, in_channels=5).double()
    untold.load_state_dict(loss.state_dict())
    with pytest.raises(ValueError, match="HAFrameLoss needs the tree of the classes: put taxonomy="):
        call(untold)
    untold.set_taxonomy(TREE)
    torch.testing.assert_close(call(untold), call(loss))


def test_the_number_of_classes_must_be_that_of_the_level():
    with pytest.raises(ValueError, match=r"num_classes of HAFrameLoss .* 4 of 'three'; it is 3. Give it num_classes=4"):
        HAFrameLoss(num_classes=3, in_channels=5).set_taxonomy(TREE)


# ------------------------------------------------------------------ several processes
class Net(torch.nn.Module):
    """A layer and a loss with weights, both of which DistributedDataParallel sees."""

    def __init__(self):
        super().__init__()
        self.loss = build()
        self.layer = torch.nn.Linear(5, 5).double()

    def forward(self, rows, labels):
        return call(self.loss, self.layer(rows), labels)


def value_and_grads(net, rows, labels):
    loss = net(rows, labels)
    loss.backward()
    return loss.detach(), {name.removeprefix("module."): p.grad for name, p in net.named_parameters()}


def compare(rank, world_size, expected):
    own = [slice(0, 6), slice(6, 8)][rank]
    actual = value_and_grads(DistributedDataParallel(Net()), features()[own], LABELS[own])
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)


@pytest.mark.ddp
def test_loss_and_gradient_are_those_of_one_process():
    distributed.run(compare, 2, value_and_grads(Net(), features(), LABELS))
