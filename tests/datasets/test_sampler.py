import itertools
import tracemalloc
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler

from hierpretrain.datasets import HierarchicalBatchSampler
from hierpretrain.datasets.sampling_tree import SamplingTree
from hierpretrain.taxonomy import PAD, depth, shared_depth
from tests.conftest import random_labels
from tests.reference.contrastive import shared_depth as shared_by_loop
from tests.reference.paths import random_paths


def plan(labels, batch_size, epoch=0, **options):
    sampler = HierarchicalBatchSampler(labels, batch_size, **options)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    return batches


def trees():
    for seed in range(6):
        rows, levels, branching = [(40, 3, 2), (101, 3, 4), (64, 1, 5), (200, 4, 3), (33, 2, 30), (57, 5, 2)][seed]
        yield random_labels(seed, rows=rows, levels=levels, branching=branching, ragged=seed != 1)


TREES = list(trees())
FORESTS = [  # images of several paths each
    random_paths(seed, rows=rows, most=most, levels=levels, branching=branching, ragged=seed != 1)
    for seed, (rows, most, levels, branching) in enumerate(
        [(40, 2, 3, 2), (101, 4, 3, 4), (64, 2, 1, 5), (90, 3, 4, 3), (33, 3, 2, 30), (57, 5, 5, 2)]
    )
]


def spare_images(classes, unused, held, later):
    """Returns how many images of a class a batch may take so that the later batches can all hold two classes."""
    counts = Counter(number for image in unused for number in classes[image] if number != held)
    if not later:
        return len(unused)
    return max(1, len(unused) - max(counts.values(), default=0) - later)


def check_partners(labels, batches, size):
    """Replays a plan and checks promise 2 of every tuple: a partner at each level that has an unused one, no others.

    A tuple may be cut where its batch ends and, if the batch would be of its class alone, before the last slot; and
    where more of it would leave too few images outside the largest class for the batches to come.
    """
    classes = [{number} for number in labels[:, 0].tolist()]
    shared, depths = shared_depth(labels, labels), depth(labels)
    unused = set(range(len(labels)))
    for number, batch in enumerate(batches):
        position = 0
        while position < len(batch):
            anchor = batch[position]
            end = position + spare_images(classes, unused, int(labels[anchor, 0]), len(batches) - number - 1)
            unused.remove(anchor)
            position += 1
            for level in range(int(depths[anchor]), 0, -1):
                if position == len(batch) == size:  # the tuple is cut where its batch ends
                    break
                candidates = [other for other in unused if shared[anchor, other] == level]
                last_slot = position == size - 1 and (labels[batch[:position], 0] == labels[anchor, 0]).all()
                if last_slot and any(labels[other, 0] != labels[anchor, 0] for other in unused):
                    break
                if position == end:
                    break
                if candidates:
                    partner = batch[position]
                    assert partner in candidates
                    unused.remove(partner)
                    position += 1


@pytest.mark.parametrize("labels", TREES, ids=lambda labels: "x".join(map(str, labels.shape)))
@pytest.mark.parametrize("batch_size", [1, 7, 16])
def test_every_tuple_has_a_partner_at_every_level_that_has_an_unused_one(labels, batch_size):
    for epoch in range(3):
        batches = plan(labels, batch_size, epoch, drop_last=True)
        check_partners(labels, batches, batch_size)


def test_a_partner_of_the_finest_level_is_of_the_same_node_while_there_is_one():
    labels = torch.tensor([[0, PAD]] * 6 + [[0, 0]] * 6)
    for epoch in range(20):
        batch = plan(labels, 2, epoch, drop_last=True)[0]
        assert (labels[batch[0]] == labels[batch[1]]).all()


def check_partners_along_a_path(labels, batches, size):
    """The same for images of several paths: every tuple must fit a path of its anchor, whichever that was."""
    unused = set(range(len(labels)))

    classes = [{path[0] for path in item.tolist() if path[0] != PAD} or {PAD} for item in labels]

    def fits(path, batch, position, later):
        """Returns where the next tuple begins if the one behind ``position`` follows this path of its anchor's."""
        end = position + spare_images(classes, unused, int(path[0]), later)
        alone = not position or set.intersection(*(classes[image] for image in batch[:position]))
        if position < size - 1 and alone and any(int(path[0]) not in classes[image] for image in unused):
            end = min(end, size - 1)  # the last slot is for another class
        left, deep = unused - {batch[position]}, int((path != PAD).sum())
        position += 1
        for level in range(deep, 0, -1):
            if position == len(batch) == size:
                break
            candidates = [i for i in left if any(shared_by_loop(path, other) == level for other in labels[i])]
            if position == end:
                break
            if candidates:
                if position == len(batch) or batch[position] not in candidates:
                    return None
                left.remove(batch[position])
                position += 1
        return position

    def replay(number, position):
        """Follows every path that fits, since several may."""
        if number == len(batches):
            return True
        batch = batches[number]
        if position == len(batch):
            return replay(number + 1, 0)
        paths = [path for path in labels[batch[position]] if path[0] != PAD] or [labels[batch[position], 0]]
        for end in dict.fromkeys(fits(path, batch, position, len(batches) - number - 1) for path in paths):
            if end is not None:
                taken = set(batch[position:end])
                unused.difference_update(taken)
                if replay(number, end):
                    return True
                unused.update(taken)
        return False

    assert replay(0, 0)


@pytest.mark.parametrize("labels", FORESTS, ids=lambda labels: "x".join(map(str, labels.shape)))
@pytest.mark.parametrize("batch_size", [1, 7, 16])
def test_every_tuple_of_images_of_several_paths_follows_one_of_its_anchor_s(labels, batch_size):
    assert (labels[:, 1, 0] != PAD).sum() > 5
    for epoch in range(2):
        check_partners_along_a_path(labels, plan(labels, batch_size, epoch, drop_last=True), batch_size)


def test_the_check_along_a_path_sees_a_wrong_partner():
    labels = torch.tensor([[[0, 0], [1, 2]], [[0, 0], [PAD, PAD]], [[1, 2], [PAD, PAD]], [[0, 1], [PAD, PAD]]])
    for good in ([0, 1, 3], [0, 2, 1], [0, 2, 3], [3, 0]):
        check_partners_along_a_path(labels, [good], 3)
    for wrong in ([0, 3, 1], [1, 2, 3], [3, 2, 0]):
        with pytest.raises(AssertionError):
            check_partners_along_a_path(labels, [wrong], 4)


def test_one_path_given_as_several_makes_the_very_plan_of_one():
    for labels in TREES:
        expected = plan(labels, 7, 1)
        assert plan(labels[:, None], 7, 1) == expected
        absent = torch.full_like(labels, PAD)
        assert plan(torch.stack([labels, absent], 1), 7, 1) == expected
        assert plan(torch.stack([absent, labels], 1), 7, 1) == expected


def test_plans_are_the_same_in_numbers_of_64_bits(monkeypatch):
    for labels in (TREES[1], FORESTS[1]):
        expected = plan(labels, 7, 1)
        with monkeypatch.context() as patch:
            patch.setattr("hierpretrain.datasets.sampling_tree._END_OF_32_BITS", 0)
            assert SamplingTree(labels)._records.dtype == np.int64
            assert plan(labels, 7, 1) == expected


def test_a_tree_and_a_plan_take_the_memory_that_is_promised():
    images = 100_000
    labels = torch.arange(images)[:, None] // torch.tensor([10_000, 100, 5])
    nodes = 1 + 10 + 1000 + 20_000
    promised = 8 * images + 20 * nodes
    tree = SamplingTree(labels)
    assert sum(kept.nbytes for kept in vars(tree).values() if isinstance(kept, np.ndarray)) <= promised
    tracemalloc.start()
    batches = tree.plan([64] * 100, np.random.default_rng(0))
    next(batches)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < promised + 4 * nodes + 2 * 8192 * 40  # blocks of Python's numbers


def test_an_image_is_drawn_as_an_anchor_by_each_of_its_paths():
    # image 0 is of both classes; its partner is of the class that it was drawn by
    labels = torch.tensor([[[0], [1]]] + [[[0], [PAD]]] * 3 + [[[1], [PAD]]] * 3)
    anchors, partners = [], []
    for epoch in range(900):
        anchor, partner = plan(labels, 2, epoch, drop_last=True)[0]
        anchors.append(anchor == 0)
        if anchor == 0:
            partners.append(partner in (1, 2, 3))
    assert abs(np.mean(anchors) - 2 / 8) < 4 * (0.25 * 0.75 / 900) ** 0.5  # two of eight entries
    assert abs(np.mean(partners) - 0.5) < 4 * 0.5 / len(partners) ** 0.5


def test_an_image_is_a_partner_by_any_of_its_paths():
    # the one image that shares a node with image 0 does so by its second path, with image 2 by its first
    labels = torch.tensor([[[0, 0], [PAD, PAD]], [[1, 1], [0, 0]], [[1, 1], [PAD, PAD]]])
    tree = SamplingTree(labels)
    first = {tuple(next(tree.plan([3], np.random.default_rng(seed)))) for seed in range(60)}
    assert {batch[:2] for batch in first} >= {(0, 1), (1, 0), (1, 2), (2, 1)}


@pytest.mark.parametrize("labels", TREES + FORESTS, ids=lambda labels: "x".join(map(str, labels.shape)))
@pytest.mark.parametrize(("batch_size", "world_size"), list(itertools.product([1, 5, 16], [1, 2, 4])))
@pytest.mark.parametrize("drop_last", [False, True])
def test_every_image_comes_once_and_all_ranks_have_as_many_batches(labels, batch_size, world_size, drop_last):
    if batch_size == 1 and not drop_last and len(labels) % world_size:
        with pytest.raises(ValueError, match="cannot be shared evenly by"):
            HierarchicalBatchSampler(labels, 1, world_size=world_size)
        return
    if len(labels) < batch_size * world_size:
        labels = torch.cat([labels, labels])
    ranks = [
        plan(labels, batch_size, drop_last=drop_last, rank=rank, world_size=world_size) for rank in range(world_size)
    ]
    images = [image for batches in ranks for batch in batches for image in batch]
    sizes = [[len(batch) for batch in batches] for batches in ranks]
    assert len(set(images)) == len(images)
    assert len({len(batches) for batches in ranks}) == 1
    if drop_last:
        assert {size for rank in sizes for size in rank} == {batch_size}
        assert len(labels) - len(images) < batch_size * world_size
    else:
        assert sorted(images) == list(range(len(labels)))
        last = 2 if 0 < len(labels) % (batch_size * world_size) < world_size else 1
        assert all(size == batch_size for rank in sizes for size in rank[:-last])
        ends = [size for rank in sizes for size in rank[-last:]]
        assert 1 <= min(ends)
        assert max(ends) <= batch_size
        assert max(ends) - min(ends) <= 1
    # together the ranks follow the one plan that a single process would make of batches of these sizes
    whole = [batch for together in zip(*ranks, strict=True) for batch in together]
    if drop_last:
        alone = plan(labels, batch_size, drop_last=True)
        assert whole == alone[: len(whole)]


def test_equal_seed_and_epoch_give_equal_plans_and_others_do_not():
    labels = TREES[1]
    assert plan(labels, 8, seed=3, epoch=5) == plan(labels, 8, seed=3, epoch=5)
    assert plan(labels, 8, seed=3, epoch=5) != plan(labels, 8, seed=3, epoch=6)
    assert plan(labels, 8, seed=0, epoch=1) != plan(labels, 8, seed=1, epoch=0)


def test_global_generators_are_left_alone():
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    plan(TREES[0], 8)
    assert (np.random.get_state()[1] == before[0]).all()  # noqa: NPY002
    assert (torch.get_rng_state() == before[1]).all()


@pytest.mark.parametrize("world_size", [1, 2])
def test_it_goes_on_in_the_middle_of_an_epoch(world_size):
    options = dict(batch_size=6, seed=1, rank=world_size - 1, world_size=world_size)
    whole = plan(TREES[3], epoch=4, **options)
    first = HierarchicalBatchSampler(TREES[3], **options)
    first.set_epoch(4)
    head = list(itertools.islice(first, 3))
    second = HierarchicalBatchSampler(TREES[3], **options)
    second.load_state_dict(first.state_dict())
    second.set_epoch(4)  # as MMEngine does at the start of the epoch that is gone on with
    assert head + list(second) == whole
    second.set_epoch(5)
    assert list(second) == plan(TREES[3], epoch=5, **options)


def test_nothing_is_left_of_an_epoch_that_was_done():
    sampler = HierarchicalBatchSampler(TREES[0], 6)
    whole = list(sampler)
    done = sampler.state_dict()
    assert done["position"] == len(whole)
    sampler.load_state_dict(done)
    sampler.set_epoch(0)
    assert list(sampler) == []
    sampler.set_epoch(1)
    assert list(sampler) == plan(TREES[0], 6, 1)


def test_an_iteration_that_is_given_up_does_not_shorten_the_next():
    sampler = HierarchicalBatchSampler(TREES[0], 6)
    whole = list(sampler)
    next(iter(sampler))
    assert list(sampler) == whole


def test_no_image_is_loaded_for_the_batches_that_were_done():
    loaded = []

    class Images(torch.utils.data.Dataset):
        labels = TREES[1]

        def __getitem__(self, index):
            loaded.append(index)
            return index

        def __len__(self):
            return len(self.labels)

    images = Images()
    sampler = HierarchicalBatchSampler(SimpleNamespace(dataset=images), 10)
    whole = list(sampler)
    sampler.load_state_dict({"epoch": 0, "position": 8, "batches": len(sampler)})
    batches = [batch.tolist() for batch in torch.utils.data.DataLoader(images, batch_sampler=sampler)]
    assert batches == whole[8:]
    assert loaded == [image for batch in whole[8:] for image in batch]


def test_it_takes_what_mmengine_gives(monkeypatch):
    monkeypatch.setattr("mmengine.dataset.sampler.get_dist_info", lambda: (2, 3))
    dataset = torch.utils.data.TensorDataset(torch.arange(101))
    dataset.labels = TREES[1]
    sampler = HierarchicalBatchSampler(DefaultSampler(dataset, shuffle=True, seed=11), batch_size=5)
    assert (sampler.rank, sampler.world_size, sampler.seed) == (2, 3, 11)
    sampler.sampler.set_epoch(2)  # what DistSamplerSeedHook calls
    assert list(sampler) == plan(TREES[1], 5, 2, seed=11, rank=2, world_size=3)


def test_children_are_drawn_evenly_whatever_their_size():
    # an anchor of node 0 finds its coarse partner in node 1 (2 images) as often as in node 2 (60 images)
    labels = torch.tensor([[0, 0]] * 60 + [[0, 1]] * 2 + [[0, 2]] * 60)
    small = total = 0
    for epoch in range(600):
        batch = plan(labels, 3, epoch, drop_last=True)[0]
        if labels[batch[0], 1] == 0:
            small += int(labels[batch[2], 1] == 1)
            total += 1
    assert abs(small / total - 0.5) < 4 * 0.5 / total**0.5  # four standard deviations


def test_anchors_are_drawn_image_by_image():
    labels = torch.tensor([[0]] * 30 + [[1]] * 10)
    first = [int(labels[plan(labels, 1, epoch, drop_last=True)[0][0], 0]) for epoch in range(800)]
    assert abs(np.mean(first) - 0.25) < 4 * (0.25 * 0.75 / 800) ** 0.5


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (torch.zeros(4, 1, dtype=torch.int64), dict(batch_size=0), "batch_size must be at least 1; it is 0"),
        (torch.zeros(4, 1, dtype=torch.int64), dict(batch_size=2.0), "batch_size must be a whole number; it is 2.0"),
        (torch.zeros(4, 1, dtype=torch.int64), dict(batch_size=2, seed=-1), "seed must be an integer from 0; it is -1"),
        (torch.zeros(4, 1, dtype=torch.int64), dict(batch_size=2, seed=1.5), "seed must be an integer from 0; .* 1.5"),
        (
            torch.zeros(4, 1, dtype=torch.int64),
            dict(batch_size=2, world_size=0),
            "rank must be from 0 to world_size - 1, and world_size at least 1; they are 0 and 0",
        ),
        (torch.zeros(4, 1, dtype=torch.int64), dict(batch_size=2, rank=2, world_size=2), "they are 2 and 2"),
        (
            torch.zeros(4, 1, dtype=torch.int64),
            dict(batch_size=5, drop_last=True),
            r"4 images do not fill one batch of 5 on each of 1 process\(es\).*set drop_last=False",
        ),
        (torch.zeros(3, 1, dtype=torch.int64), dict(batch_size=5, world_size=4), "3 images do not fill one batch of 1"),
        (torch.empty(0, 2, dtype=torch.int64), dict(batch_size=5), "0 images do not fill"),
        (torch.tensor([[PAD, 0]]), dict(batch_size=1), "PAD .* only on the right"),
        (torch.tensor([[[0, 0], [PAD, 0]]]), dict(batch_size=1), "PAD .* only on the right; row 1 of item 0"),
        (SimpleNamespace(dataset=[1, 2]), dict(batch_size=1), "needs a dataset with `.labels`.*list has none"),
    ],
)
def test_bad_input_names_the_rule(labels, options, message):
    with pytest.raises(ValueError, match=message):
        HierarchicalBatchSampler(labels, **options)


def test_a_state_of_another_run_is_refused():
    sampler = HierarchicalBatchSampler(TREES[1], 10)
    with pytest.raises(ValueError, match="had 3 batches and now has 11; resume in its middle with the same"):
        sampler.load_state_dict({"epoch": 0, "position": 2, "batches": 3})


def test_one_image_and_one_node():
    assert plan(torch.zeros(1, 2, dtype=torch.int64), 4) == [[0]]
    assert sorted(itertools.chain(*plan(torch.zeros(9, 2, dtype=torch.int64), 4))) == list(range(9))
    assert sorted(itertools.chain(*plan(torch.empty(9, 0, dtype=torch.int64), 4))) == list(range(9))
    assert sorted(itertools.chain(*plan(torch.full((9, 3, 2), PAD), 4))) == list(range(9))
    assert sorted(itertools.chain(*plan(torch.zeros(9, 3, 2, dtype=torch.int64), 4))) == list(range(9))


def random_classes(trial):
    """Labels of a few classes of very different sizes, with images without a label and a batch size and more."""
    rng = np.random.default_rng(trial)
    sizes = rng.integers(1, rng.choice([3, 10, 60]), rng.integers(1, 12))
    if rng.random() < 0.5:
        sizes[0] = rng.integers(1, 300)
    top = np.repeat(np.arange(len(sizes)), sizes)
    labels = np.concatenate([top[:, None], rng.integers(0, 3, (len(top), 2))], 1)
    depths = rng.integers(rng.integers(2), 4, len(top))
    labels[np.arange(3)[None] >= depths[:, None]] = PAD
    options = dict(batch_size=int(rng.choice([1, 2, 3, 4, 8, 16, 32])), drop_last=bool(rng.integers(2)), seed=trial)
    return torch.from_numpy(labels), int(rng.integers(1, 4)), options


@pytest.mark.parametrize("block", range(4))
def test_no_batch_is_of_one_class_while_two_are_unused_and_as_few_as_can_be_are(block):
    for trial in range(100 * block, 100 * block + 100):
        labels, world_size, options = random_classes(trial)
        try:
            samplers = [
                HierarchicalBatchSampler(labels, **options, rank=rank, world_size=world_size)
                for rank in range(world_size)
            ]
        except ValueError:
            continue  # too few images
        batches = [batch for together in zip(*samplers, strict=True) for batch in together]
        unused = np.bincount(labels[:, 0] + 1)
        num_batches = sum(len(batch) > 1 for batch in batches)
        unavoidable = max(0, num_batches - (len(labels) - unused.max()))
        alone = 0
        for batch in batches:
            one = len(batch) > 1 and len(set(labels[batch, 0].tolist())) == 1
            assert not (one and (unused > 0).sum() > 1), (trial, batch)
            alone += one
            np.subtract.at(unused, labels[batch, 0].numpy() + 1, 1)
        assert alone <= unavoidable, trial


@pytest.mark.parametrize("labels", FORESTS, ids=lambda labels: "x".join(map(str, labels.shape)))
@pytest.mark.parametrize("batch_size", [4, 7, 16])
def test_images_of_several_paths_share_no_class_if_an_image_of_another_is_unused(labels, batch_size):
    classes = [{path[0] for path in item.tolist() if path[0] != PAD} or {PAD} for item in labels]
    for epoch in range(3):
        unused = set(range(len(labels)))
        for batch in plan(labels, batch_size, epoch):
            shared = set.intersection(*(classes[image] for image in batch[:-1])) if len(batch) > 1 else set()
            if shared & classes[batch[-1]]:
                others = unused - set(batch)
                assert not any(shared.isdisjoint(classes[image]) for image in others)
            unused -= set(batch)


def test_a_rare_class_lasts_as_long_as_a_shuffle_makes_it_last():
    labels = torch.tensor([[0]] * 950 + [[1]] * 50)
    batches = plan(labels, 32)
    assert all(len(set(labels[batch, 0].tolist())) == 2 for batch in batches)
    labels = torch.tensor([[0]] * 990 + [[1]] * 10)  # too few for 32 batches: one for each of the first ten
    rare = [int((labels[batch, 0] == 1).sum()) for batch in plan(labels, 32)]
    assert rare == [1] * 10 + [0] * 22


def test_a_plan_without_a_batch_of_one_class_is_what_it_always_was():
    # drawn before the sampler looked at the classes of a batch
    labels = torch.arange(60)[:, None] // torch.tensor([12, 4])
    assert plan(labels, 12, seed=1)[0] == [58, 57, 49, 25, 26, 32, 45, 47, 39, 27, 24, 31]
