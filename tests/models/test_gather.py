import pytest
import torch
from torch.nn.functional import normalize
from torch.nn.parallel import DistributedDataParallel

from hierpretrain.models import HiConELoss, HiMulConELoss, HiMulConLoss, NTXentLoss, SupConLoss
from hierpretrain.models.gather import gather_rows
from hierpretrain.taxonomy import PAD
from tests import distributed
from tests.conftest import random_labels
from tests.reference.paths import random_paths

IMAGES = 8
LOSSES = {
    "simclr": lambda: NTXentLoss(),
    "supcon": lambda: SupConLoss(level=2),
    "himulcon": lambda: HiMulConLoss(chunk_size=3),
    "himulcon diverge": lambda: HiMulConLoss(positives="diverge", level_weights="linear"),
    "himulcon instance": lambda: HiMulConLoss(instance_level=True),
    **{
        f"{name} {constraint} {grad} {chunk_size}": (
            lambda loss=loss, constraint=constraint, grad=grad, chunk_size=chunk_size: loss(
                constraint=constraint, constraint_grad=grad, chunk_size=chunk_size, temperature=0.5
            )
        )
        for name, loss in (("hicone", HiConELoss), ("himulcone", HiMulConELoss))
        for constraint in ("pair", "anchor", "level")
        for grad in (False, True)
        for chunk_size in (None, 3)
    },
}
SEVERAL_PATHS = (
    *("himulcon", "himulcon diverge", "himulcon instance"),
    *("hicone pair True None", "himulcone anchor False 3", "hicone level True 3"),
)
LOSSES |= {f"{name} paths": LOSSES[name] for name in SEVERAL_PATHS}


def batch(name):
    """Two views of 8 images as input, their labels (ids unique within their parent only), and the images' numbers.

    Labels are of several paths for the losses that are named so, but only two images have them: some processes none.
    """
    inputs = torch.randn(2, IMAGES, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = random_labels(3, rows=IMAGES)
    if name.endswith("paths"):
        labels = random_paths(3, rows=IMAGES, branching=3)
        labels[2:, 1:] = PAD
    return inputs, labels, torch.arange(100, 100 + IMAGES)


def model():
    torch.manual_seed(0)
    return torch.nn.Linear(6, 4).double()


def loss_of(loss, net, inputs, labels, images):
    features = normalize(net(inputs.flatten(0, 1)), dim=1)
    return loss(features, torch.cat([labels] * len(inputs)), images.repeat(len(inputs)))


def one_process(name):
    net = model()
    loss = loss_of(LOSSES[name](), net, *batch(name))
    loss.backward()
    return loss.detach(), [p.grad for p in net.parameters()]


def compare_with_one_process(rank, world_size):
    cuts = [0, *[IMAGES * (r + 1) // world_size - (r + 1 < world_size) for r in range(world_size)]]  # uneven parts
    own = slice(cuts[rank], cuts[rank + 1])
    for name, make in LOSSES.items():
        inputs, labels, images = batch(name)
        net = DistributedDataParallel(model())
        loss = loss_of(make(), net, inputs[:, own], labels[own], images[own])
        loss.backward()
        value, grads = one_process_reference[name]
        torch.testing.assert_close(loss.detach(), value, rtol=0, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")
        for parameter, grad in zip(net.module.parameters(), grads, strict=True):
            torch.testing.assert_close(parameter.grad, grad, rtol=0, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


def compare(rank, world_size, reference):
    global one_process_reference
    one_process_reference = reference
    compare_with_one_process(rank, world_size)


@pytest.mark.ddp
@pytest.mark.parametrize("world_size", [2, 4])
def test_loss_and_gradient_are_those_of_one_process(world_size):
    distributed.run(compare, world_size, {name: one_process(name) for name in LOSSES})


def gather_uneven_rows(rank, world_size):
    rows = (10.0 * rank + torch.arange(rank + 1.0))[:, None].requires_grad_()  # rank r has r + 1 rows
    everyone, first = gather_rows(rows)
    expected = torch.cat([10.0 * r + torch.arange(r + 1.0) for r in range(world_size)])[:, None]
    assert torch.equal(everyone.detach(), expected)
    assert torch.equal(everyone[first : first + len(rows)], rows)
    # each process weighs each row differently; a row's gradient is the sum of all their weights
    (everyone * (rank + 1) * torch.arange(1.0, len(everyone) + 1)[:, None]).sum().backward()
    place = torch.arange(first + 1.0, first + len(rows) + 1)[:, None]
    assert torch.equal(rows.grad, place * sum(range(1, world_size + 1)))


@pytest.mark.ddp
def test_gradients_of_all_processes_come_back_to_their_rows():
    distributed.run(gather_uneven_rows, 3)


def one_process_has_nan(rank, world_size):
    features = normalize(torch.randn(4, 3), dim=1)
    if rank == 1:
        features[2] = torch.nan
    with pytest.raises(ValueError, match="features must be finite; row 6 is not"):
        HiMulConLoss()(features, torch.zeros(4, 1, dtype=torch.int64), torch.arange(4) + 4 * rank)


@pytest.mark.ddp
def test_nan_on_one_process_is_an_error_on_all_and_no_hang():
    distributed.run(one_process_has_nan, 2)


def test_a_single_process_gathers_nothing():
    rows = torch.ones(2, 3)
    assert gather_rows(rows)[0] is rows
