from collections import Counter

import pytest
import torch
import torch.distributed as dist
from torch.nn.functional import normalize
from torch.nn.parallel import DistributedDataParallel

from hierpretrain.functional import hierarchical_contrastive_loss
from hierpretrain.models import HiConELoss, HiMulConELoss, HiMulConLoss, NTXentLoss, RINCELoss, SupConLoss
from hierpretrain.models.gather import gather_rows
from hierpretrain.taxonomy import PAD
from tests import distributed
from tests.conftest import random_features, random_labels
from tests.reference.paths import random_paths

IMAGES = 8
LOSSES = {
    "simclr": lambda: NTXentLoss(),
    "supcon": lambda: SupConLoss(level=2),
    "himulcon": lambda: HiMulConLoss(chunk_size=3),
    "himulcon diverge": lambda: HiMulConLoss(positives="diverge", level_weights="linear"),
    "himulcon instance": lambda: HiMulConLoss(instance_level=True),
    "rince": lambda: RINCELoss(),
    "rince instance": lambda: RINCELoss(temperatures=(0.9, 0.3), variant="in", instance_level=True),
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
    *("himulcon", "himulcon diverge", "himulcon instance", "rince"),
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


def gather_even_rows(rank, world_size):
    rows = torch.full((2, 3), float(rank), requires_grad=True)
    for counts in (None, 2, [2] * world_size):
        everyone, first = gather_rows(rows, counts)
        assert first == 2 * rank
        assert torch.equal(
            everyone.detach(), torch.arange(float(world_size)).repeat_interleave(2)[:, None].expand(-1, 3)
        )
        (grad,) = torch.autograd.grad((everyone.T * (rank + 1.0)).sum(), rows)  # a gradient that is not contiguous
        assert torch.equal(grad, torch.full((2, 3), float(sum(range(1, world_size + 1)))))
    labels = torch.arange(2) + 2**40 * rank  # integers have no gradient
    expected = torch.cat([torch.arange(2) + 2**40 * r for r in range(world_size)])
    assert torch.equal(gather_rows(labels, 2)[0], expected)


@pytest.mark.ddp
@pytest.mark.parametrize("function", [gather_uneven_rows, gather_even_rows])
def test_gradients_of_all_processes_come_back_to_their_rows(function):
    distributed.run(function, 3)


def gather_with_an_empty_process(rank, world_size):
    rows = torch.full((0 if rank == 1 else 3, 2), float(rank), requires_grad=True)
    everyone, first = gather_rows(rows)
    assert everyone[:, 0].tolist() == [0.0] * 3 + [2.0] * 3
    assert first == (0 if rank == 0 else 3)
    everyone.sum().backward()
    assert torch.equal(rows.grad, torch.full_like(rows, 3.0))


@pytest.mark.ddp
def test_a_process_may_have_no_row():
    distributed.run(gather_with_an_empty_process, 3)


ROWS = 330  # more than a block of sorted rows, so that the default cuts them
PARTS = ((0, ROWS - 1), (ROWS - 1, ROWS), (ROWS, ROWS))  # the second process has one row, the third none


def compare_large_batch(rank, world_size, expected):
    features, labels = large_batch()
    own = slice(*PARTS[rank])
    for name, options in LARGE.items():
        part = features[own].clone().requires_grad_()
        loss = hierarchical_contrastive_loss(part, labels[own], gather=gather_rows, **options)
        loss.backward()
        value, grad = expected[name]
        torch.testing.assert_close(loss.detach(), value, rtol=0, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")
        # as under DistributedDataParallel, each process has the loss of all
        actual = part.grad / world_size
        torch.testing.assert_close(actual, grad[own], rtol=0, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


LARGE = {
    f"{positives} {constraint} {grad}": dict(positives=positives, constraint=constraint, constraint_grad=grad)
    for positives in ("share", "diverge")
    for constraint in (None, "pair", "anchor", "level")
    for grad in (False, True)
    if constraint or not grad
}


def large_batch():
    return random_features(5, rows=ROWS).detach(), random_labels(5, rows=ROWS, levels=3, branching=3)


@pytest.mark.ddp
def test_by_default_chunks_and_uneven_parts_change_nothing():
    features, labels = large_batch()
    expected = {}
    for name, options in LARGE.items():
        leaf = features.clone().requires_grad_()
        loss = hierarchical_contrastive_loss(leaf, labels, **options)
        loss.backward()
        expected[name] = loss.detach(), leaf.grad
    distributed.run(compare_large_batch, len(PARTS), expected)


def count_collectives(rank, world_size):
    features, labels = random_features(6).detach().requires_grad_(), random_labels(6)
    called = Counter()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("all_gather_into_tensor", "reduce_scatter_tensor", "all_gather", "all_reduce"):
            original = getattr(dist, name)
            patch.setattr(dist, name, lambda *args, n=name, f=original: called.update([n]) or f(*args))
        hierarchical_contrastive_loss(features, labels, gather=gather_rows).backward()
    # the numbers of rows once; features, labels, the loss; back, the gradients of the loss and of the features
    assert called == {"all_gather_into_tensor": 4, "reduce_scatter_tensor": 2}


@pytest.mark.ddp
def test_the_numbers_of_rows_are_exchanged_once_a_loss():
    distributed.run(count_collectives, 2)


def one_process_has_nan(rank, world_size):
    features = normalize(torch.randn(4, 3), dim=1)
    if rank == 1:
        features[2] = torch.nan
    with pytest.raises(ValueError, match="features must be finite; row 6 is not"):
        HiMulConLoss()(features, torch.zeros(4, 1, dtype=torch.int64), torch.arange(4) + 4 * rank)


@pytest.mark.ddp
def test_nan_on_one_process_is_an_error_on_all_and_no_hang():
    distributed.run(one_process_has_nan, 2)


def one_process_is_malformed(rank, world_size):
    good = dict(features=random_features(7, 4).detach(), labels=torch.zeros(4, 2, dtype=torch.int64))
    good["instances"] = torch.arange(4) + 4 * rank
    others = "process 1 has malformed features or labels; its own error says what is wrong"
    widths = r"features and labels of one width: here \(D, P, L\) is \(4, 0, {}\), on process {} it is \(4, 0, {}\)"
    cases = [
        (dict(labels=torch.tensor([[0, 0], [PAD, 1], [0, 0], [0, 0]])), r"only on the right; row 1 is", others),
        (dict(labels=good["labels"][:3]), "labels must have one row per row of features", others),
        (dict(features=good["features"][0]), r"features must be \(M, D\) floating point", others),
        (dict(instances=torch.arange(3)), r"instances must be \(4,\)", others),
        (dict(labels=torch.zeros(4, 3, dtype=torch.int64)), widths.format(4, 0, 3), widths.format(3, 1, 4)),
    ]
    loss = HiMulConLoss(instance_level=True, level_weights=[1.0, 1.0, 1.0])
    for change, own, of_others in cases:
        with pytest.raises(ValueError, match=own if rank == 1 else of_others):
            loss(**(good | (change if rank == 1 else {})))
    assert loss(**good) > 0  # the processes are still in step
    classes = dict(labels=good["labels"][:, 0]) if rank == 1 else {}
    with pytest.raises(ValueError, match=widths.format(*((0, 0, 2) if rank == 1 else (2, 1, 0)))):
        HiMulConLoss()(**(good | classes))
    assert loss(**good) > 0


@pytest.mark.ddp
def test_malformed_labels_on_one_process_are_an_error_on_all_and_no_hang():
    distributed.run(one_process_is_malformed, 2)


def differentiate_twice(rank, world_size):
    rows = torch.ones(2, 3, requires_grad=True)
    with pytest.raises(RuntimeError, match="it cannot be differentiated again; leave create_graph=True out"):
        torch.autograd.grad(gather_rows(rows)[0].sum(), rows, create_graph=True)


@pytest.mark.ddp
def test_the_gradient_of_the_gradient_is_an_error():
    distributed.run(differentiate_twice, 2)


def test_a_single_process_gathers_nothing():
    rows = torch.ones(2, 3)
    assert gather_rows(rows)[0] is rows
