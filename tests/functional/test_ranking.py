"""The quick form of the ranking against the readable one, which a loop over sorted lists is the oracle of."""

import numpy as np
import pytest
import torch

from hierpretrain.functional import quick_ranks, ranking
from hierpretrain.functional.ranking import related_ranks
from hierpretrain.functional.search import unit_rows
from hierpretrain.taxonomy import PAD
from tests.conftest import random_labels
from tests.reference import hierarchy as reference

WAYS = {  # how the ranks are found: constants of the modules
    "all sorted, by the readable form": dict(_QUICK=False),
    "all sorted, by the readable form, one by one": dict(_QUICK=False, _BLOCK=1),
    "candidates": {},  # all of them, since the gallery is small
    "small tiles": dict(_QUERIES=7, _TILE=50, _SAMPLE=9, _FLOOR=3),
    "both": dict(_FLOOR=3, _FRACTION=4, _SAMPLE=20, _PICKED=40),
    "counted": dict(_MANY_FLOOR=0, _FRACTION=1, _BLOCK=700, _CHUNK=130),
    "counted, in few bins": dict(_MANY_FLOOR=0, _FRACTION=1, _CHUNK=130, _BINS=4, _WIDTH=7),
    "counted one by one": dict(_MANY_FLOOR=0, _FRACTION=1, _BLOCK=1),
}


def choose(monkeypatch, way):
    module = quick_ranks if WAYS[way].get("_QUICK", True) else ranking
    for name, value in WAYS[way].items():
        monkeypatch.setattr(module, name, value)


def rows(seed, number, kind):
    """Unit rows; but for random ones, float32 does not round their products in any order of summing.

    Of the duplicates, half are given twice.
    """
    generator = torch.Generator().manual_seed(seed)
    if kind == "random":  # without ties
        return unit_rows(torch.randn(number, 8, generator=generator))
    if kind == "ties":  # similarities are multiples of 1/2
        return unit_rows(torch.randn(number, 4, generator=generator).sign())
    numbers = torch.tensor([25, 19, 5, 3, 2, 0, 0, 0]).expand(number, -1)  # of length 32: multiples of 1/1024
    found = numbers.gather(1, torch.rand(number, 8, generator=generator).argsort(1)).float()
    found *= torch.randn(number, 8, generator=generator).sign()
    found[(number + 1) // 2 :] = found[torch.randint((number + 1) // 2, (number // 2,), generator=generator)]
    return unit_rows(found)


def oracle(query, query_labels, gallery, gallery_labels, own, order):
    """Returns query -> (ranks, levels) of its related items, by sorting lists of floats."""
    similarities, found = (query @ gallery.T).tolist(), {}
    for i, similarity in enumerate(similarities):
        items = [j for j in range(len(gallery)) if own is None or j != own[i]]
        level = {j: reference.shared_depth(query_labels[i], gallery_labels[j]) for j in items}
        sign = {"gallery": 0, "falling": -1, "rising": 1}[order]
        items = [j for _, _, j in sorted((-similarity[j], sign * level[j], j) for j in items)]
        related = [(rank, level[j]) for rank, j in enumerate(items, 1) if level[j] > 0]
        if related:
            found[i] = related
    return found


def related(*sides, **options):
    """Returns the sorted (query, [(rank, level), ...], times) that ``related_ranks`` yields."""
    found = []
    for ranked in related_ranks(*sides, **options):
        assert len(ranked.queries) > 0
        assert ranked.counts.min() > 0
        assert ranked.counts.sum() == len(ranked.ranks)
        splits = ranked.counts.cumsum()[:-1]
        for i, *parts in zip(
            ranked.queries.tolist(), np.split(ranked.ranks, splits), np.split(ranked.levels, splits), strict=True
        ):
            found.append((i, list(zip(*(part.tolist() for part in parts), strict=True)), ranked.times))
    return sorted(found)


def case(seed, kind):
    levels, number = (1, 2, 3, 5, 15)[seed % 5], (1, 2, 30, 61)[seed % 4]
    gallery = rows(seed, number, kind), random_labels(seed, number, levels, branching=1 + seed % 4, ragged=seed % 3 > 0)
    if seed % 2:  # the queries are some of the gallery
        own = torch.randperm(number, generator=torch.Generator().manual_seed(seed))[: number // 2 + 1]
        return gallery[0][own], gallery[1][own], *gallery, own
    labels = random_labels(seed + 1, 17, levels, branching=1 + seed % 4, ragged=seed % 3 > 0)
    return rows(seed + 1, 17, kind), labels, *gallery, None


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", ["ties", "duplicates", "random"])
@pytest.mark.parametrize("way", WAYS)
def test_equals_the_oracle(monkeypatch, way, kind, seed):
    choose(monkeypatch, way)
    *sides, own = case(seed, kind)
    expected = oracle(*sides, own, "gallery")
    assert related(*sides, own_indices=own) == [(i, expected[i], 1) for i in sorted(expected)]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", ["ties", "duplicates", "random"])
@pytest.mark.parametrize("way", WAYS)
def test_in_both_orders_of_ties(monkeypatch, way, kind, seed):
    choose(monkeypatch, way)
    *sides, own = case(seed, kind)
    orders = [oracle(*sides, own, order) for order in ("falling", "rising")]
    found = [(i, items) for i, items, times in related(*sides, own_indices=own, ties="both") for _ in range(times)]
    assert sorted(found) == sorted((i, order[i]) for order in orders for i in order)


@pytest.mark.parametrize("asked", [1, 4, 1000])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("way", WAYS)
def test_ranks_that_are_asked_for(monkeypatch, way, seed, asked):
    choose(monkeypatch, way)
    *sides, own = case(seed, "ties")
    expected = oracle(*sides, own, "gallery")
    found = related(*sides, own_indices=own, asked=asked)
    assert [i for i, _, _ in found] == sorted(expected)
    for i, items, _ in found:
        most = max(asked, len(items))
        assert len(items) == len(expected[i])
        assert [item for item in items if item[0] <= most] == [item for item in expected[i] if item[0] <= most]


@pytest.mark.parametrize("way", WAYS)
def test_sets_without_an_item_or_a_related_one(monkeypatch, way):
    choose(monkeypatch, way)
    features, labels = rows(0, 9, "duplicates"), random_labels(0, 9)
    nothing = features[:0], labels[:0]
    for sides in (
        (features, labels, *nothing),
        (*nothing, features, labels),
        (*nothing, *nothing),
        (features, labels, features, labels + 100),
        (features, torch.full_like(labels, PAD), features, torch.full_like(labels, PAD)),
    ):
        assert related(*sides) == []


@pytest.mark.parametrize("way", WAYS)
def test_the_largest_ids_there_are(monkeypatch, way):
    choose(monkeypatch, way)
    features, labels = rows(1, 3, "duplicates"), torch.tensor([[2**63 - 1, PAD], [2**63 - 1, 0], [2**63 - 2, 0]])
    levels = [[level for _, level in items] for _, items, _ in related(features, labels, features, labels)]
    assert [sorted(of_query) for of_query in levels] == [[1, 1], [1, 2], [2]]


def test_similarities_of_nearly_0_keep_their_order_with_fifteen_levels():
    # the narrowest keys: numbers down to 2^-37 are told apart
    angles = torch.tensor([2.0**-20, 2.0**-34, 0, -(2.0**-34), -(2.0**-20)] * 30)
    gallery = torch.stack([angles, torch.ones(150)], 1)
    labels = torch.zeros(150, 15, dtype=int)
    labels[1::2, 3:] = 1
    query = torch.tensor([[1.0, 0.0]])
    expected = oracle(query, labels[:1], gallery, labels, None, "gallery")
    assert related(query, labels[:1], gallery, labels) == [(0, expected[0], 1)]


def test_too_small_a_limit_is_noticed(monkeypatch):
    # as where matrix products are less precise than float32
    *sides, own = case(2, "duplicates")
    limits = quick_ranks._Ranking._limits
    monkeypatch.setattr(quick_ranks._Ranking, "_limits", lambda *args: limits(*args) - np.float32(0.3))
    expected = oracle(*sides, own, "gallery")
    assert related(*sides, own_indices=own) == [(i, expected[i], 1) for i in sorted(expected)]


def test_keys_of_both_zeros_tie():
    distance = np.float32([0.5, 0.0, -0.5, -0.0, 0.0, -1.0])
    assert ranking.distance_keys(distance, np.arange(6)).argsort().tolist() == [5, 2, 1, 3, 4, 0]


@pytest.mark.parametrize("ties", ["gallery", "both"])
@pytest.mark.parametrize("top", [2, 300])
def test_a_gallery_so_large_that_some_queries_have_candidates_and_others_do_not(monkeypatch, top, ties):
    generator = torch.Generator().manual_seed(0)
    leaves = torch.randint(900, (6060,), generator=generator)
    labels = torch.stack([leaves * top // 900, leaves], 1)
    features = rows(0, 6060, "duplicates")
    features[::2] = features[leaves[::2]]  # half of the items are what their class looks like
    sides = features[:60], labels[:60], features[60:], labels[60:]
    found = related(*sides, ties=ties)
    monkeypatch.setattr(ranking, "_QUICK", False)
    expected = [(i, items) for i, items, times in related(*sides, ties=ties) for _ in range(times)]
    assert [(i, items) for i, items, times in found for _ in range(times)] == expected
    assert len(expected) >= 50


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 1000])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_entries_that_are_true_are_found_whether_few_or_many(size: int, share: float) -> None:
    mask = np.random.default_rng(size).random(size) < share
    assert quick_ranks._few_nonzero(mask).tolist() == [place for place, is_true in enumerate(mask) if is_true]


@pytest.mark.parametrize("workers", [1, 2, 16])
@pytest.mark.parametrize(
    ("number", "cost", "size"), [(1, 5, 1), (7, 5, 0), (100, 3, 40), (300_000, 3_000_000, 1 << 20)]
)
def test_every_query_is_in_one_block(number, cost, size, workers):
    queries, most = np.arange(number), 256
    costs = np.full(number, cost)
    blocks = quick_ranks._Ranking.blocks(None, queries, size, costs, workers, most)
    assert np.array_equal(np.concatenate(blocks), queries)
    lengths = list(map(len, blocks))
    assert max(lengths) - min(lengths) <= 1
    assert max(lengths) <= min(most, max(size // cost, 1))
    assert len(blocks) == number or len(blocks) % workers == 0


def test_no_block_costs_more_than_a_query_beyond_its_share():
    costs = np.random.default_rng(0).integers(1, 100, 1000)
    blocks = quick_ranks._Ranking.blocks(None, np.arange(1000), 700, costs, 3, 256)
    assert max(costs[block].sum() for block in blocks) <= 700 + 100
    assert quick_ranks._Ranking.blocks(None, np.arange(0), 700, costs[:0], 3, 256) == []
