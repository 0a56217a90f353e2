import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from hierpretrain.datasets import LeafTripletSampler, LevelTripletSampler
from hierpretrain.models import HierarchicalJointLoss, LevelTripletLoss
from hierpretrain.registry import LEVEL_MARGINS
from hierpretrain.taxonomy import Taxonomy
from tests import distributed
from tests.reference import level_triplet as reference

PATHS = [("a", "x", "1"), ("a", "x", "2"), ("a", "y"), ("b",), ("b",), ("c", "z"), ("c", "w"), ("a", "x", "1")]
TREE = Taxonomy(PATHS, ("one", "two", "three"))
SEVERAL = [*PATHS, [("a", "y"), ("c", "z")], [("b",), ("a", "x", "2")]]


def features(number, dim=3):
    return torch.randn(number, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def batch(paths, level, number=12):
    labels = TREE.encode(paths)
    sampler = LevelTripletSampler(labels, number, level=level, replay=0.0, triplets_per_epoch=number)
    return next(iter(sampler)), labels


def loss_with(**options):
    loss = LevelTripletLoss(**options)
    loss.set_taxonomy(TREE)
    return loss


@pytest.mark.parametrize("paths", [PATHS, SEVERAL], ids=["one path", "several"])
@pytest.mark.parametrize("level", [1, 2, 3])
def test_the_level_of_a_batch_is_found_in_its_labels(paths, level):
    rows, labels = batch(paths, level)
    vectors = features(len(rows))
    found = loss_with(min_margin=0.3)(vectors, labels[rows], torch.tensor(rows))
    expected = reference.level_triplet_loss(*vectors.chunk(3), [level] * 12, [3] * 12, 0.3)
    assert found.item() == pytest.approx(expected.item(), abs=1e-12)


def deepest_below(path, level):
    """The depth to which the branch below the path's node of a level goes."""
    return max(len(other) for other in PATHS if other[:level] == path[:level])


@pytest.mark.parametrize("level", [1, 2])
def test_branch_depth_differs_from_a_fixed_one_exactly_where_branches_end_earlier(level):
    rows, labels = batch(PATHS, level)
    paths = [PATHS[row] for row in rows[:12]]
    tops = [deepest_below(path, level) for path in paths]
    assert len(set(tops)) > 1 or level == 2
    for row in range(12):
        one = [row, row + 12, row + 24]
        same = torch.zeros(3, 2)  # costs its margin
        branch = loss_with(max_level="branch", min_margin=0.5)(same, labels[[rows[i] for i in one]], torch.arange(3))
        fixed = loss_with(max_level=3, min_margin=0.5)(same, labels[[rows[i] for i in one]], torch.arange(3))
        assert branch.item() == (tops[row] - level) ** 2 + 0.5
        assert (branch != fixed).item() == (tops[row] < 3)


def test_of_several_nodes_of_an_anchor_the_one_of_the_triplet_counts():
    # the anchor hangs in a/y, a leaf of depth 2, and in c/z; the positive in a/x/1; the negative in b
    labels = TREE.encode([[("a", "y"), ("b",)], ("b",), ("c", "w")])
    same = torch.zeros(3, 2)
    # level 1: the node is b, where branch and anchor end at depth 1, though below a it goes down to 3
    assert loss_with(max_level="branch", min_margin=0.5)(same, labels, torch.arange(3)).item() == 0.5
    labels = TREE.encode([[("a", "y"), ("b",)], ("a", "x", "1"), ("c", "w")])
    assert loss_with(max_level="branch", min_margin=0.5)(same, labels, torch.arange(3)).item() == 4.5


def test_leaf_triplets_with_a_constant_margin():
    labels = TREE.encode(SEVERAL)
    rows = next(iter(LeafTripletSampler(labels, 12)))
    vectors = features(len(rows))
    found = loss_with(margin="constant", min_margin=2.0)(vectors, labels[rows], torch.tensor(rows))
    expected = reference.level_triplet_loss(*vectors.chunk(3), [1] * 12, [3] * 12, 2.0, "constant")
    assert found.item() == pytest.approx(expected.item(), abs=1e-12)


def test_a_registered_margin_is_a_config_away():
    LEVEL_MARGINS.register_module(name="cubic", module=lambda level, top, least: (top - level) ** 3 + least)
    try:
        rows, labels = batch(PATHS, 1)
        loss = loss_with(margin="cubic", min_margin=0.5)
        assert loss(torch.zeros(36, 2), labels[rows], torch.tensor(rows)).item() == 8.5
    finally:
        LEVEL_MARGINS.module_dict.pop("cubic")


def marked(number, *stand_ins):
    return torch.zeros(number, dtype=torch.bool).index_fill(0, torch.tensor(stand_ins), True)


@pytest.mark.parametrize("sampler", [LevelTripletSampler, LeafTripletSampler])
def test_triplets_with_a_stand_in_are_left_out_of_the_mean(sampler):
    labels = TREE.encode(PATHS)
    rows = next(iter(sampler(labels, 4, seed=0, triplets_per_epoch=4)))
    stand_ins = marked(12, 1, 6, 10)  # the anchor of triplet 1, the positive and the negative of triplet 2
    moved = [5 if marks else row for row, marks in zip(rows, stand_ins, strict=True)]
    vectors, loss = features(12).requires_grad_(), loss_with(min_margin=0.3)
    found = loss(vectors, labels[moved], torch.tensor(moved), stand_ins=stand_ins)
    of_others = [i for i in range(12) if i % 4 in (0, 3)]
    expected = loss(vectors[of_others], labels[rows][of_others], torch.tensor(rows)[of_others])
    assert found.item() == pytest.approx(expected.item(), abs=1e-12)
    (gradient,) = torch.autograd.grad(found, vectors)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, vectors)[0])
    joint = HierarchicalJointLoss(num_classes=[3], in_channels=3, contrastive=None)
    joint.contrastive = loss
    assert joint.takes_stand_ins
    unit = torch.nn.functional.normalize(vectors)
    assert torch.equal(
        joint._contrast(vectors, labels[moved], torch.tensor(moved), stand_ins=stand_ins)[0],
        loss(unit, labels[moved], torch.tensor(moved), stand_ins=stand_ins),
    )


def test_triplets_that_are_wrong_for_another_reason_are_errors_beside_stand_ins():
    labels = TREE.encode(PATHS[:6])
    with pytest.raises(ValueError, match="triplet 1 of the batch has a positive that shares no more of the tree"):
        loss_with()(torch.zeros(6, 2), labels, torch.arange(6), stand_ins=marked(6, 0))
    with pytest.raises(ValueError, match=r"every triplet .* cannot be read \(on_error='skip'\), and none is left"):
        loss_with()(torch.zeros(6, 2), labels, torch.arange(6), stand_ins=marked(6, 0, 5))


def compare_with_one_process(rank, world_size):
    labels = TREE.encode(SEVERAL)
    inputs = torch.randn(len(labels), 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def gradient(rows, wrap, stand_ins=None):
        torch.manual_seed(0)
        net = wrap(torch.nn.Linear(5, 3).double())
        loss = loss_with(max_level="branch")
        loss(net(inputs[rows]), labels[rows], torch.tensor(rows), stand_ins=stand_ins).backward()
        return [p.grad for p in net.parameters()]

    for level in (1, 2):
        options = dict(level=level, seed=2, triplets_per_epoch=12)
        own = next(iter(LevelTripletSampler(labels, 6, rank=rank, world_size=world_size, **options)))
        whole = next(iter(LevelTripletSampler(labels, 12, **options)))
        for ours, expected in zip(
            gradient(own, DistributedDataParallel), gradient(whole, lambda net: net), strict=True
        ):
            torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
    own = [slice(0, 6), slice(6, 12)][rank]
    own = [row for part in (0, 12, 24) for row in range(36)[part:][own]]  # of the triplets of one process
    stand_ins = marked(36, 0, 1, 2, 3, 17)  # more of them on the first process
    for ours, expected in zip(
        gradient([whole[row] for row in own], DistributedDataParallel, stand_ins[own]),
        gradient(whole, lambda net: net, stand_ins),
        strict=True,
    ):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)


@pytest.mark.ddp
def test_the_gradient_of_two_processes_is_that_of_one():
    distributed.run(compare_with_one_process, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(max_level=0), "max_level must be a whole number from 1, None or 'branch'; it is 0"),
        (dict(max_level=3.0), "max_level must be a whole number from 1, None or 'branch'; it is 3.0"),
        (dict(max_level=True), "max_level must be a whole number from 1, None or 'branch'; it is True"),
        (dict(max_level="deep"), "max_level must be a whole number from 1, None or 'branch'; it is 'deep'"),
        (dict(min_margin=-1.0), "min_margin must be finite and not below 0; it is -1.0"),
        (dict(margin=max), "margin must be one of 'quadratic', .* not <built-in function max>; register your own"),
        (dict(margin="cubic"), "margin must be one of 'quadratic', .* not 'cubic'; register your own"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        LevelTripletLoss(**options)


def test_bad_batches():
    labels = TREE.encode(PATHS[:6])
    with pytest.raises(ValueError, match=r"as many of each; it has 5 items. Set train_dataloader.batch_sampler"):
        loss_with()(torch.zeros(5, 2), labels[:5], torch.arange(5))
    with pytest.raises(ValueError, match="triplet 1 of the batch has a positive that shares no more of the tree"):
        loss_with()(torch.zeros(6, 2), labels, torch.arange(6))
    rows, labels = batch(PATHS, 1)
    with pytest.raises(ValueError, match=r"max_level=None needs the tree .*TaxonomyHook"):
        LevelTripletLoss()(torch.zeros(36, 2), labels[rows], torch.tensor(rows))
    rows, labels = batch(PATHS, 2)
    with pytest.raises(ValueError, match="triplet 0 has level 2 and max_level 1"):
        LevelTripletLoss(max_level=1)(torch.zeros(36, 2), labels[rows], torch.tensor(rows))
