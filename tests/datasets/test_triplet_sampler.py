from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler
from scipy.stats import chisquare

from hierpretrain.datasets import LeafTripletSampler, LevelTripletSampler
from hierpretrain.datasets.triplet_pools import TripletPools, path_nodes
from hierpretrain.taxonomy import PAD, Taxonomy, paired_depth
from tests.conftest import random_labels
from tests.reference.level_triplet import paths_of, triplets_of_leaves, triplets_of_level


def several(labels, seed, share=0.4):
    """Gives some items a second path: that of another item, unless one of the two goes on from the other."""
    rng = np.random.default_rng(seed)
    paths = torch.full((len(labels), 2, labels.shape[1]), PAD)
    paths[:, 0] = labels
    for item in range(len(labels)):
        other = labels[rng.integers(len(labels))]
        a, b = (tuple(row[row != PAD].tolist()) for row in (labels[item], other))
        if rng.random() < share and a[: len(b)] != b and b[: len(a)] != a:
            paths[item, 1] = other
    return paths


TREES = {
    "ragged": random_labels(0, rows=40, levels=3, branching=3),
    "deep": random_labels(1, rows=60, levels=5, branching=2),
    "even": random_labels(2, rows=30, levels=2, branching=4, ragged=False),
    "several paths": several(random_labels(3, rows=40, levels=3, branching=3), 3),
    "several paths, deep": several(random_labels(4, rows=50, levels=4, branching=2), 4, share=0.9),
    "several paths, few images": several(random_labels(5, rows=14, levels=2, branching=4), 5, share=1.0),
}
on_trees = pytest.mark.parametrize("labels", TREES.values(), ids=TREES.keys())


def triplets_of(batch):
    return list(zip(*np.reshape(batch, (3, -1)).tolist(), strict=True))


def drawn_at(labels, level, triplets, **options):
    """At least that many triplets of one level, as the sampler draws them."""
    sampler = LevelTripletSampler(labels, 10, level=level, replay=0.0, triplets_per_epoch=triplets, **options)
    return [triplet for batch in sampler for triplet in triplets_of(batch)]


# ------------------------------------------------------------------ what a triplet is
@on_trees
def test_triplets_are_those_of_the_paths_and_all_of_them_come(labels):
    levels = {level: triplets_of_level(labels, level) for level in range(1, labels.shape[-1] + 1)}
    sampler = LevelTripletSampler(labels, 2)
    assert sampler.levels == tuple(level for level, nodes in levels.items() if nodes)
    for level in sampler.levels:
        possible = set().union(*levels[level].values())
        assert sampler.nodes_drawn(level) == len(levels[level])
        drawn = set(drawn_at(labels, level, 3000))
        assert drawn <= possible
        # with 3000 draws nearly all of a node's triplets come unless it has thousands
        assert len(drawn) > 0.8 * min(len(possible), 1000)


@on_trees
def test_the_level_follows_from_the_labels(labels):
    for level in LevelTripletSampler(labels, 2).levels:
        a, p, n = (labels[list(rows)] for rows in zip(*drawn_at(labels, level, 200), strict=True))
        assert (paired_depth(a, n) == level - 1).all()
        assert (paired_depth(a, p) >= level).all()


@on_trees
def test_no_negative_hangs_in_the_anchor_s_node_and_no_image_is_its_own_positive(labels):
    items = [paths_of(item) for item in labels]
    for level in LevelTripletSampler(labels, 2).levels:
        for a, p, n in drawn_at(labels, level, 300):
            assert a != p
            assert not {path[:level] for path in items[a] if len(path) >= level} & {path[:level] for path in items[n]}


@on_trees
def test_triplets_of_leaves_are_those_of_the_paths(labels):
    leaves = triplets_of_leaves(labels)
    if not leaves:
        with pytest.raises(ValueError, match="no triplet can be made of the leaves"):
            LeafTripletSampler(labels, 2)
        return
    sampler = LeafTripletSampler(labels, 10, triplets_per_epoch=3000)
    drawn = {triplet for batch in sampler for triplet in triplets_of(batch)}
    possible = set().union(*leaves.values())
    assert drawn <= possible
    assert len(drawn) > 0.8 * min(len(possible), 1000)


def test_nodes_come_equally_often_whatever_their_size():
    tree = Taxonomy([("a", str(i)) for i in range(8)], ("kind", "node"))
    paths = [("a", str(i)) for i in range(8) for _ in range(2 + 20 * i)]  # 2 to 142 images
    labels = tree.encode(paths)
    drawn = drawn_at(labels, 2, 16_000)
    counts = Counter(int(labels[a, 1]) for a, _, _ in drawn)
    assert chisquare([counts[node] for node in range(8)]).pvalue > 1e-3
    siblings = Counter((int(labels[a, 1]), int(labels[n, 1])) for a, _, n in drawn)
    for node in range(8):  # of each, the others come equally often as negatives
        assert chisquare([siblings[node, other] for other in range(8) if other != node]).pvalue > 1e-4
    of_last = Counter(a for a, _, _ in drawn if labels[a, 1] == 7)  # and the images of a node
    assert chisquare([of_last[image] for image in range(len(paths) - 142, len(paths))]).pvalue > 1e-3


@on_trees
def test_nodes_come_equally_often_in_any_tree(labels, monkeypatch):
    """By what draw asks triplets for first; what does not fit is drawn anew for the same node."""
    nodes = triplets_of_level(labels, 1)
    if len(nodes) < 2:
        pytest.skip("a single node")
    pools = TripletPools.of_level(path_nodes(labels), 1)
    asked, candidates = [], pools._draw_candidates
    monkeypatch.setattr(pools, "_draw_candidates", lambda nodes, rng: (asked.append(nodes), candidates(nodes, rng))[1])
    triplets = pools.draw(np.random.default_rng(0), 4000)
    counts = Counter(asked[0].tolist())
    assert chisquare(list(counts.values())).pvalue > 1e-3
    assert len(counts) == len(nodes)
    for node, (a, p, n) in zip(asked[0], triplets.T, strict=True):
        pool = pools.pool(node)
        assert a in pool
        assert p in pool
        assert n not in pool


def test_leaves_come_equally_often():
    labels = torch.tensor([[0, 0]] * 2 + [[0, 1]] * 50 + [[1, PAD]] * 9 + [[0, PAD]] * 30)
    drawn = [
        triplet for batch in LeafTripletSampler(labels, 10, triplets_per_epoch=9000) for triplet in triplets_of(batch)
    ]
    assert max(max(triplet) for triplet in drawn) < 61  # images on the inner node take no part
    leaf = np.array([0] * 2 + [1] * 50 + [2] * 9)
    counts = np.bincount([leaf[a] for a, _, _ in drawn])
    assert chisquare(counts).pvalue > 1e-3


def test_an_image_in_two_folders_below_a_node_is_in_its_pool_once():
    # image 0 hangs in both children of node 0, images 1 to 3 in one
    labels = torch.full((6, 2, 2), PAD)
    labels[:, 0] = torch.tensor([[0, 0], [0, 0], [0, 1], [0, 1], [1, 2], [1, 2]])
    labels[0, 1] = torch.tensor([0, 1])
    counts = Counter(a for a, _, n in drawn_at(labels, 1, 8000) if n > 3)
    assert chisquare([counts[image] for image in range(4)]).pvalue > 1e-3
    assert all(0 not in (a, n) or p == 0 for a, p, n in drawn_at(labels, 2, 500))  # it has no negative there


def test_a_node_with_few_triplets_among_many_images_is_still_drawn():
    """All but one of the sibling's images hang in the anchor's node as well."""
    shared = 400
    labels = torch.full((shared + 2, 2, 1), PAD)
    labels[:, 0, 0] = 0
    labels[:shared, 1, 0] = 1
    labels[shared + 1, 0, 0] = 1  # the one image of node 1 alone; image `shared` is of node 0 alone
    drawn = drawn_at(labels, 1, 50)
    for a, p, n in drawn:
        assert (a == shared and n == shared + 1 and p < shared) or (a == shared + 1 and n == shared and p < shared)
    assert {a for a, _, _ in drawn} == {shared, shared + 1}


def test_a_node_whose_every_anchor_shares_all_negatives_is_not_drawn():
    # nodes 0 and 1 of level 1; both images of 0 also hang in 2, and so does the only image of 1
    labels = torch.tensor([[[0], [2]], [[0], [2]], [[1], [2]], [[3], [PAD]]])
    possible = triplets_of_level(labels, 1)
    assert {(0,), (2,)} == set(possible)  # with image 3 as the negative
    assert {n for _, _, n in drawn_at(labels, 1, 200)} == {3}
    with pytest.raises(ValueError, match="no triplet can be made"):
        LevelTripletSampler(labels[:3], 1)


# ------------------------------------------------------------------ levels of an epoch
@pytest.mark.parametrize("replay", [0.0, 0.3, 1.0])
def test_replayed_levels_come_as_often_as_they_should(replay):
    labels = TREES["deep"]
    sampler = LevelTripletSampler(labels, 1, level=4, replay=replay, triplets_per_epoch=8000)
    levels = sampler.step_levels()
    assert sampler.levels == (1, 2, 3, 4, 5)
    assert len(levels) == len(sampler) == 8000
    expected = np.array([replay / 4] * 3 + [1 - replay + replay / 4])
    counts = np.bincount(levels, minlength=6)
    assert counts[5] == 0
    if replay == 0:
        assert counts[4] == 8000
    else:
        assert chisquare(counts[1:5], expected * 8000).pvalue > 1e-3
    for level, batch in zip(levels, sampler, strict=True):  # step_levels agrees with the batches
        a, _, n = batch
        assert int(paired_depth(labels[[a]], labels[[n]])) == level - 1


def test_a_step_has_triplets_of_one_level():
    labels = TREES["deep"]
    sampler = LevelTripletSampler(labels, 20, level=5, replay=1.0, triplets_per_epoch=2000)
    for level, batch in zip(sampler.step_levels(), sampler, strict=True):
        a, _, n = (labels[list(rows)] for rows in zip(*triplets_of(batch), strict=True))
        assert (paired_depth(a, n) + 1 == level).all()


# ------------------------------------------------------------------ one plan
@on_trees
def test_plans_repeat_and_differ_by_seed_and_epoch(labels):
    def plan(seed, epoch):
        sampler = LevelTripletSampler(labels, 4, seed=seed, triplets_per_epoch=400)
        sampler.set_level(sampler.levels[-1])
        sampler.set_epoch(epoch)
        return list(sampler)

    assert plan(0, 0) == plan(0, 0)
    assert plan(0, 0) != plan(0, 1)
    assert plan(0, 0) != plan(1, 0)


@pytest.mark.parametrize("kind", [LevelTripletSampler, LeafTripletSampler])
@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_the_triplets_of_one(kind, world_size):
    labels = TREES["several paths"]
    options = dict(seed=3, triplets_per_epoch=997)
    whole = kind(labels, 2 * world_size, **options)
    parts = [kind(labels, 2, rank=rank, world_size=world_size, **options) for rank in range(world_size)]
    assert len({len(whole), *map(len, parts)}) == 1
    for batch, *own in zip(whole, *parts, strict=True):
        assert [len(part) for part in own] == [6] * world_size
        assert triplets_of(batch) == [triplet for part in own for triplet in triplets_of(part)]


@pytest.mark.parametrize("kind", [LevelTripletSampler, LeafTripletSampler])
@pytest.mark.parametrize("position", [1, 255, 256, 300])
def test_a_run_goes_on_in_the_middle_of_an_epoch(kind, position):
    labels = TREES["deep"]

    def sampler():
        made = kind(labels, 2, triplets_per_epoch=1000)
        if kind is LevelTripletSampler:
            made.set_level(3)
        return made

    first = sampler()
    first.set_epoch(5)
    whole = list(first)
    first.set_epoch(4)
    first.set_epoch(5)
    batches = iter(first)
    for _ in range(position):
        next(batches)
    state = first.state_dict()
    assert state == {"epoch": 5, "position": position, "batches": 500}
    second = sampler()
    second.load_state_dict(state)
    second.set_epoch(5)  # as the loop's hook does
    assert list(second) == whole[position:]
    assert len(list(second)) == 500  # and the next iteration is a whole one
    with pytest.raises(ValueError, match="had 7 batches and now has 500"):
        second.load_state_dict(state | {"batches": 7})


def test_an_epoch_is_a_third_of_the_images_in_whole_steps():
    labels = TREES["ragged"]  # 40 images: 13.3 triplets
    assert len(LevelTripletSampler(labels, 4)) == 4
    assert len(LevelTripletSampler(labels, 4, world_size=2)) == 2
    assert [len(batch) for batch in LevelTripletSampler(labels, 4)] == [12] * 4


def test_it_takes_what_the_host_builds():
    dataset = SimpleNamespace(labels=TREES["ragged"], __len__=lambda: 40)
    host = DefaultSampler(TREES["ragged"], shuffle=True, seed=11)
    host.dataset = dataset
    sampler = LevelTripletSampler(host, 4)
    assert (sampler.seed, sampler.rank, sampler.world_size) == (11, 0, 1)
    assert sampler.sampler is sampler
    assert list(sampler) == list(LevelTripletSampler(TREES["ragged"], 4, seed=11))


# ------------------------------------------------------------------ bad input
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(batch_size=0), "batch_size must be at least 1; it is 0"),
        (dict(replay=1.5), "replay must be in 0 to 1; it is 1.5"),
        (dict(level=4), "level must be one that triplets can be made of, 1, 2, 3; it is 4"),
        (dict(level=0), "level must be one that triplets can be made of, 1, 2, 3; it is 0"),
        (dict(triplets_per_epoch=0), "triplets_per_epoch must be at least 1"),
        (dict(triplets_per_epoch=2.5), "triplets_per_epoch must be a whole number; it is 2.5"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        LevelTripletSampler(TREES["ragged"], **{"batch_size": 2, **options})


def test_levels_that_cannot_be_replayed():
    sampler = LevelTripletSampler(TREES["ragged"], 2)
    for replayed, what in (([1, 9], "it is 9"), ([], r"it is \[\]")):
        with pytest.raises(ValueError, match=f"one that triplets can be made of, 1, 2, 3; {what}"):
            sampler.set_level(2, replayed)


def test_an_image_of_two_leaves_has_no_negative_in_either():
    """The leaves are of different depth, so the two share no node of the depth of the deeper one."""
    labels = torch.full((6, 2, 2), PAD)
    labels[:3, 0] = torch.tensor([0, 0])  # three images of the deep leaf, of which image 0 hangs in the shallow one too
    labels[0, 1] = torch.tensor([1, PAD])
    labels[3:5, 0] = torch.tensor([1, PAD])
    labels[5, 0] = torch.tensor([2, PAD])
    drawn = [t for batch in LeafTripletSampler(labels, 10, triplets_per_epoch=2000) for t in triplets_of(batch)]
    assert set(drawn) == set().union(*triplets_of_leaves(labels).values())
    assert {n for a, _, n in drawn if a == 0} == {5}


def test_images_that_all_hang_in_two_nodes_do_not_slow_the_start(monkeypatch):
    """No node has an anchor of its own, yet few need a look at all their triplets."""
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.permuted(np.tile(np.arange(200), (2000, 1)), axis=1)[:, :2, None])
    looks = []
    monkeypatch.setattr(TripletPools, "negatives", lambda *arguments: looks.append(arguments))
    assert LevelTripletSampler(labels, 2).nodes_drawn(1) == 200
    assert not looks


@pytest.mark.parametrize(
    "labels",
    [
        torch.tensor([[0, 0]] * 5),  # one chain
        torch.tensor([[0], [1], [2]]),  # one image a node
        torch.full((4, 2), PAD),  # no labels
        torch.zeros(3, 0, dtype=torch.int64),  # no levels
    ],
    ids=["chain", "single images", "no labels", "no levels"],
)
@pytest.mark.parametrize("kind", [LevelTripletSampler, LeafTripletSampler])
def test_trees_without_a_triplet(kind, labels):
    with pytest.raises(ValueError, match="no triplet can be made"):
        kind(labels, 2)


def test_data_without_labels():
    with pytest.raises(ValueError, match=r"LevelTripletSampler needs a dataset with `.labels`.*range has none"):
        LevelTripletSampler(SimpleNamespace(dataset=range(3)), 2)
