import itertools

import pytest
import torch

from hierpretrain.functional import hierarchical_retrieval_metrics, retrieval_metrics
from hierpretrain.functional.hierarchical_retrieval import hierarchical_retrieval_scores, scores_of_one_ranking
from hierpretrain.functional.retrieval import retrieval_scores
from hierpretrain.taxonomy import PAD, prefix_ids
from tests.conftest import random_labels
from tests.functional.test_ranking import WAYS, choose
from tests.functional.test_retrieval import FAN
from tests.reference import hierarchy as reference
from tests.reference.paths import other_order, random_paths

FURTHER_WAYS = [("pop", way) for way in list(WAYS)[1:]]
FRACTIONS = ("h_ap", "asi", "ndcg", "ndcg@1", "ndcg@3", "ndcg@100")


def random_rows(seed, rows, ties=False):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(rows, 8, generator=generator)
    return features[:, :4].sign() if ties else features  # four entries of +-1: float32 has no rounding, many are equal


def random_set(seed, rows, ties=False, **tree):
    return random_rows(seed, rows, ties), random_labels(seed, rows, **tree)


def assert_same(actual, expected):
    assert list(actual) == list(expected)
    assert actual == pytest.approx(expected, rel=0, abs=1e-9)


def of_levels(levels, **kwargs):
    """Metrics of one query whose gallery, in the order of its ranks, has these match levels of at most 3."""
    rows = {0: [9, 9, 9], 1: [0, 9, 9], 2: [0, 0, 9], 3: [0, 0, 0]}
    angles = torch.linspace(0, 1, len(levels))
    gallery = torch.stack([angles.cos(), angles.sin()], 1)
    labels = torch.tensor([rows[level] for level in levels])
    return hierarchical_retrieval_metrics(gallery[:1], torch.tensor([[0, 0, 0]]), gallery, labels, **kwargs)


@pytest.mark.parametrize(
    ("relevance", "way"), [*itertools.product(["pop", "depth", "map", (0.5, 0.0, 2.0)], list(WAYS)[:1]), *FURTHER_WAYS]
)
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("same_set", [False, True])
@pytest.mark.parametrize("ragged", [False, True])
def test_equals_the_oracle(monkeypatch, relevance, ties, same_set, ragged, way):
    choose(monkeypatch, way)
    gallery = random_set(0, 30, ties, ragged=ragged)
    query = gallery if same_set else random_set(1, 14, ties, ragged=ragged, branching=3)
    options = dict(ks=(1, 3, 100), same_set=same_set, alpha=1.5)
    assert_same(
        hierarchical_retrieval_metrics(*query, *gallery, relevance=relevance, **options),
        reference.hierarchical_retrieval_metrics(*query, *gallery, relevance_kind=relevance, **options),
    )


def test_no_score_exceeds_1():
    """Not even by a bit, as sums of many rounded numbers did (1.000000000000001)."""
    levels = [3] * 7 + [2] * 11 + [1] * 23 + [0] * 3
    for number in range(1, len(levels)):
        for relevance in ("pop", "depth", "map", (0.3, 0.2, 0.1)):
            found = of_levels(sorted(levels[-number:], reverse=True), relevance=relevance) if number > 3 else {}
            assert all(found.get(name, 1) <= 1 for name in ("asi", "ndcg", "ndcg@10"))
            assert found.get("h_ap", 1) <= 1


@pytest.mark.parametrize("same_set", [False, True])
def test_scores_of_chosen_queries_are_those_of_each_query_alone(same_set):
    gallery = random_set(0, 30, ties=True)
    query = gallery if same_set else random_set(1, 14, ties=True, branching=3)
    chosen = torch.randperm(len(query[0]))[:11]
    scores = hierarchical_retrieval_scores(*query, *gallery, ks=(3,), same_set=same_set, queries=chosen)
    heights = reference.hierarchical_retrieval_metrics(*query, *gallery, ks=(3,), same_set=same_set)["lca_height@1"]
    every = hierarchical_retrieval_scores(*query, *gallery, ks=(3,), same_set=same_set)
    assert every["lca_height@1"][every["num_relevant"] > 0].mean() == pytest.approx(heights)
    for name, values in scores.items():
        assert values.tolist() == pytest.approx(every[name][chosen].tolist(), abs=1e-12)
    for i in range(len(query[0])):
        order = reference.ranking(query[0][i].double(), gallery[0].double(), i if same_set else None)
        levels = [reference.shared_depth(query[1][i], gallery[1][j]) for j in order]
        relevant = sum(level > 0 for level in levels)
        assert every["num_relevant"][i] == relevant
        assert every["ndcg"][i] == pytest.approx(reference.ndcg(levels) if relevant else 0)


@pytest.mark.parametrize("seed", range(20))
def test_random_trees_equal_the_oracle_and_stay_in_0_to_1(seed):
    levels = 1 + seed % 5
    rows = random_set(seed, 16, seed % 2 == 0, levels=levels, branching=1 + seed % 3)
    options = dict(ks=(1, 3, 100), same_set=True, alpha=seed / 5)
    metrics = hierarchical_retrieval_metrics(*rows, *rows, **options)
    assert_same(metrics, reference.hierarchical_retrieval_metrics(*rows, *rows, **options))
    assert all(0 <= metrics[name] <= 1 + 1e-12 for name in FRACTIONS)
    assert 0 <= metrics["lca_height@1"] <= levels


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_number_of_threads(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        rows = random_set(2, 3, levels=1, branching=1, ragged=False)  # fewer queries than threads
        assert hierarchical_retrieval_metrics(*rows, *rows, same_set=True)["h_ap"] == pytest.approx(1)
    finally:
        torch.set_num_threads(before)


# ---------------------------------------------------------------- by hand
def test_by_hand():
    # levels 2, 0, 3, 1: each of n_1 = n_2 = n_3 = 1, so that rel is 2/3, 0, 1, 1/3
    assert of_levels([2, 0, 3, 1], ks=(1, 3)) == pytest.approx(
        {
            "h_ap": ((2 / 3) / 1 + (1 + 2 / 3) / 3 + (1 / 3 * 3) / 4) / 2,
            "asi": (0 / 1 + 1 / 2 + 2 / 3) / 3,  # of 3 | 3, 2 | 3, 2, 1: none | 2 | 2 and 3
            "ndcg": (3 + 7 / 2 + 1 / 2.321928094887362) / (7 + 3 / 1.584962500721156 + 1 / 2),
            "ndcg@1": 3 / 7,
            "ndcg@3": (3 + 7 / 2) / (7 + 3 / 1.584962500721156 + 1 / 2),
            "lca_height@1": 1,
            "num_queries": 1,
            "num_queries_without_positives": 0,
            "num_lone_queries": 0,
        }
    )


def test_a_k_given_twice_counts_once():
    assert of_levels([1, 3, 0, 2], ks=(3, 1, 3, 1)) == of_levels([1, 3, 0, 2], ks=(3, 1))
    assert of_levels([3, 1, 0, 0], ks=(1, 1))["ndcg@1"] == 1


def test_ndcg_at_k_is_relative_to_the_best_of_the_whole_gallery():
    # 1 / (3 + 3 / log2(3)); a best order of the first two alone would call it perfect
    assert of_levels([1, 0, 0, 2, 2], ks=(2,))["ndcg@2"] == pytest.approx(0.2044, abs=5e-5)


@pytest.mark.parametrize("relevance", ["depth", "map", (1.0, 2.0, 0.5)])
def test_a_gallery_sorted_by_level_is_perfect(relevance):
    metrics = of_levels([3, 3, 2, 1, 1, 1, 0, 0], relevance=relevance, ks=(1, 3, 100))
    assert [metrics[name] for name in FRACTIONS] == pytest.approx([1] * 6)
    worst = of_levels([0, 0, 1, 1, 1, 2, 3, 3], relevance=relevance, ks=(1, 3, 100))
    assert all(worst[name] < 0.5 for name in FRACTIONS if name != "ndcg")


def test_levels_of_equal_relevance_are_no_collision():
    # 'pop': 1 / 3 / 1 = 2 / 3 / 2; matching levels by their relevance counts each of the items twice
    assert of_levels([2, 2, 1, 0])["h_ap"] == pytest.approx(1)
    assert of_levels([1, 2, 2, 0])["h_ap"] == pytest.approx(1)  # sorted by relevance as well
    assert of_levels([3] * 3 + [2] * 2 + [1] + [0])["h_ap"] == pytest.approx(1)


def test_pop_shares_the_weight_of_a_level_among_its_items():
    # rel: level 3, 1 / 6; level 1, 1 / 3 / 1: the one coarse item counts more
    assert of_levels([1, 3, 3, 3, 3, 3, 3])["h_ap"] == pytest.approx(1)
    assert of_levels([3, 3, 3, 3, 3, 3, 1])["h_ap"] == pytest.approx((6 * 1 / 6 + (6 * 1 / 6 + 1 / 3) / 7) / (4 / 3))


@pytest.mark.parametrize("relevance", ["pop", "depth"])
def test_any_alpha_is_finite(relevance):
    for alpha in (0.0, 1e3, 1e6):
        assert 0 < of_levels([0, 1, 2, 1], relevance=relevance, alpha=alpha)["h_ap"] < 1
    # only the deepest level is left: average precision with it as the one relevant item, at rank 3
    assert of_levels([0, 1, 2, 1], relevance=relevance, alpha=1e6)["h_ap"] == pytest.approx(1 / 3)


def test_ties_rank_in_the_order_of_the_gallery():
    query, labels = torch.tensor([[1.0, 0.0]]), torch.tensor([[0], [1], [2], [3]])
    gallery = query.repeat(4, 1)
    found = [hierarchical_retrieval_metrics(query, labels[i : i + 1], gallery, labels)["h_ap"] for i in range(4)]
    assert found == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])
    # 0 has two signs in float32: they tie as well
    gallery = torch.tensor([[0.0, 1.0], [0.0, -1.0], [-0.0, 1.0], [-1.0, 0.0]])
    found = [hierarchical_retrieval_metrics(query, labels[i : i + 1], gallery, labels)["h_ap"] for i in range(4)]
    assert found == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])


def test_self_is_removed_by_index_and_its_duplicate_stays():
    # rows 0 and 1 are one picture under two labels; by position, row 1 would drop row 0 and find itself
    rows, labels = FAN[[0, 0, 2, 3]], torch.tensor([[0, 0], [1, 0], [0, 0], [1, 0]])
    # of one relevant item each, at rank 2, 3, 2, 3, as in test_retrieval
    metrics = hierarchical_retrieval_metrics(rows, labels, rows, labels, same_set=True)
    assert metrics["h_ap"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert metrics["lca_height@1"] == 2


def test_lone_queries_and_those_without_a_label_are_counted():
    labels = torch.tensor([[0, 0], [0, 1], [PAD, PAD], [PAD, PAD], [1, 2]])
    metrics = hierarchical_retrieval_metrics(FAN, labels, FAN, labels, same_set=True)
    assert (metrics["num_queries"], metrics["num_queries_without_positives"], metrics["h_ap"]) == (2, 3, 1.0)
    metrics = hierarchical_retrieval_metrics(FAN, labels, FAN, labels)
    assert (metrics["num_queries"], metrics["num_queries_without_positives"], metrics["asi"]) == (3, 2, 1.0)
    assert type(metrics["num_queries"]) is int


def test_one_class_is_perfect():
    labels = torch.zeros(5, 3, dtype=int)
    for same_set in (False, True):
        metrics = hierarchical_retrieval_metrics(FAN, labels, FAN, labels, same_set=same_set, ks=(1, 3, 100))
        assert [metrics[name] for name in FRACTIONS] == pytest.approx([1] * 6)
        assert metrics["lca_height@1"] == 0


def test_lca_height_of_ragged_labels_is_the_longest_way_down():
    # the first item is (0, 0), a leaf; (0,) is the parent of a chain down to level 3; (1,) is a leaf
    query_labels = torch.tensor([[0, 0, PAD], [0, 5, PAD], [0, PAD, PAD], [1, PAD, PAD]])
    gallery_labels = torch.tensor([[0, 0, PAD], [0, 1, 1], [1, PAD, PAD], [0, PAD, PAD], [0, PAD, PAD]])
    query = FAN[[0, 0, 0, 2]]
    heights = [
        hierarchical_retrieval_metrics(query[i : i + 1], query_labels[i : i + 1], FAN, gallery_labels)["lca_height@1"]
        for i in range(4)
    ]
    # same leaf | below (0,), above (0, 1, 1) | a query on an inner node | same leaf
    assert heights == [0, 2, 2, 0]
    assert hierarchical_retrieval_metrics(FAN[2:3], query_labels[:1], FAN, gallery_labels)["lca_height@1"] == 3


# ---------------------------------------------------------------- several paths
@pytest.mark.parametrize("same_set", [False, True])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("way", ["all sorted, by the readable form", "all sorted, by the readable form, one by one"])
def test_several_paths_equal_the_oracle(monkeypatch, same_set, seed, way):
    choose(monkeypatch, way)
    gallery = random_rows(seed, 20, seed == 0), random_paths(seed, 20, branching=3)
    one_path = seed == 3  # of the queries alone
    labels = random_labels(9, 10, branching=3) if one_path else random_paths(9, 10, most=2, branching=3)
    query = gallery if same_set else (random_rows(seed + 1, 10, seed == 0), labels)
    options = dict(ks=(1, 3, 100), same_set=same_set)
    expected = reference.hierarchical_retrieval_metrics(*query, *gallery, **options)
    assert_same(hierarchical_retrieval_metrics(*query, *gallery, **options), expected)
    if not same_set:
        changed = gallery[0], other_order(gallery[1], seed)
        assert_same(hierarchical_retrieval_metrics(*query, *changed, **options), expected)


def test_one_path_given_as_several_is_that_path():
    query, gallery = random_set(1, 14), random_set(0, 30)
    expected = hierarchical_retrieval_metrics(*query, *gallery)
    assert hierarchical_retrieval_metrics(query[0], query[1][:, None], *gallery) == expected
    assert hierarchical_retrieval_metrics(*query, gallery[0], gallery[1][:, None].repeat(1, 2, 1)) == expected


def test_any_pair_of_paths_makes_a_match():
    none = [PAD, PAD]
    tomato, carrot, apple, saw = [[0, 1], [1, 2]], [[1, 3], none], [[0, 0], none], [[2, 4], none]
    labels = torch.tensor([carrot, tomato, saw, apple])  # in the order of their ranks: match levels 1, 2, 0, 1
    metrics = hierarchical_retrieval_metrics(FAN[:1], torch.tensor([tomato]), FAN[:4], labels)
    # rel: 1 / 2 / 2 and 1; H-rank: 1/4, 1 + 1/4 and 3 * 1/4
    assert metrics["h_ap"] == pytest.approx((1 / 4 + 5 / 4 / 2 + 3 / 4 / 4) / 1.5)
    assert metrics["lca_height@1"] == 1  # the vegetables


def test_of_equally_deep_common_ancestors_the_lowest_counts():
    none = [PAD] * 3
    query = torch.tensor([[[0, 0, PAD], [1, 1, PAD]]])
    both, first, deep = [[0, 2, PAD], [1, 3, PAD]], [[0, 2, PAD], none], [[0, 4, 5], none]
    # below (0,) a path goes down to level 3, below (1,) to level 2
    for nearest, height in ((both, 1), (both[::-1], 1), (first, 2), (deep, 2), ([[0, 0, PAD], [1, 3, PAD]], 0)):
        labels = torch.tensor([nearest, both, deep, deep, deep])
        assert hierarchical_retrieval_metrics(FAN[:1], query, FAN, labels)["lca_height@1"] == height


# ---------------------------------------------------------------- identities and invariances
@pytest.mark.parametrize("same_set", [False, True])
@pytest.mark.parametrize("relevance", ["pop", "depth", "map"])
def test_with_one_level_h_ap_is_average_precision(same_set, relevance):
    gallery = random_set(3, 80, levels=1, branching=9)
    query = gallery if same_set else random_set(4, 30, levels=1, branching=9)
    flat = retrieval_metrics(query[0], query[1][:, 0], gallery[0], gallery[1][:, 0], same_set=same_set)
    metrics = hierarchical_retrieval_metrics(*query, *gallery, same_set=same_set, relevance=relevance)
    assert metrics["h_ap"] == pytest.approx(flat["map"], abs=1e-9)
    assert metrics["num_lone_queries"] == flat["num_lone_queries"]
    assert metrics["ndcg@1"] == pytest.approx(flat["precision@1"])
    assert metrics["lca_height@1"] == pytest.approx(1 - flat["precision@1"])


def test_map_relevance_is_the_weighted_mean_of_average_precisions():
    weights = (0.2, 0.5, 0.3)
    (gallery, gallery_labels), query = random_set(5, 60, ragged=False), random_rows(6, 10)
    query_labels = random_labels(6, 10, ragged=False)
    ids = prefix_ids(torch.cat([query_labels, gallery_labels]))
    for i in range(10):  # one at a time, for each has the levels that it has
        one = slice(i, i + 1)
        precisions = []
        for level in range(3):
            try:
                found = retrieval_metrics(query[one], ids[one, level], gallery, ids[10:, level])
            except ValueError:
                precisions.append(None)
            else:
                precisions.append(found["map"])
        known = [(w, p) for w, p in zip(weights, precisions, strict=True) if p is not None]
        expected = sum(w * p for w, p in known) / sum(w for w, _ in known)
        metrics = hierarchical_retrieval_metrics(
            query[one], query_labels[one], gallery, gallery_labels, relevance=weights
        )
        assert metrics["h_ap"] == pytest.approx(expected)


@pytest.mark.parametrize("same_set", [False, True])
def test_invariances(same_set):
    gallery, gallery_labels = random_set(8, 60)
    query, query_labels = (gallery, gallery_labels) if same_set else random_set(9, 30)
    expected = hierarchical_retrieval_metrics(query, query_labels, gallery, gallery_labels, same_set=same_set)

    def check(change_query, change_gallery):
        changed = change_query(query, query_labels), change_gallery(gallery, gallery_labels)
        assert_same(hierarchical_retrieval_metrics(*changed[0], *changed[1], same_set=same_set), expected)

    names = torch.randperm(2) + 2**24  # adjacent ids beyond what float32 tells apart
    for change in (
        lambda rows, labels: (rows, torch.where(labels == PAD, PAD, names[labels])),
        lambda rows, labels: (rows * 2.0 ** torch.randint(-60, 60, (len(rows), 1)), labels),
        lambda rows, labels: (rows.double(), labels.int()),
        lambda rows, labels: (rows.T.contiguous().T, labels.T.contiguous().T),
    ):
        check(change, change)
    order = torch.randperm(len(gallery))
    permute = lambda rows, labels: (rows[order], labels[order])  # noqa: E731
    check(permute if same_set else lambda *unchanged: unchanged, permute)


# ---------------------------------------------------------------- errors
def test_a_single_row_has_no_other_to_find():
    with pytest.raises(ValueError, match="none of 1 has"):
        hierarchical_retrieval_metrics(FAN[:1], torch.tensor([[0]]), FAN[:1], torch.tensor([[0]]), same_set=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(query=FAN[:, :1]), "query and gallery must come from one model and have one D; they have 1 and 2"),
        (dict(gallery=FAN * torch.nan), "gallery must be finite; row 0 is not"),
        (
            dict(query_labels=torch.zeros(4, 2, dtype=int)),
            r"query_labels must be \(5, L\), .* shape is \(4, 2\)",
        ),
        (dict(query_labels=torch.zeros(5, dtype=int)), r"query_labels must be \(5, L\).*their shape is \(5,\)"),
        (dict(query_labels=torch.zeros(5, 0, dtype=int)), "with one level at least"),
        (dict(query_labels=torch.zeros(5, 0, 2, dtype=int)), r"query_labels must be .* is \(5, 0, 2\)"),
        (dict(query_labels=torch.zeros(5, 1, 1, 2, dtype=int)), r"query_labels must be .* is \(5, 1, 1, 2\)"),
        (dict(query_labels=torch.zeros(5, 4, 3, dtype=int)), "must have the same levels; they have 3 and 2"),
        (dict(gallery_labels=torch.tensor([[[0, 1], [PAD, 1]]] * 5)), "PAD .* only on the right; row 1 of item 0"),
        (dict(query_labels=torch.zeros(5, 3, dtype=int)), "must have the same levels; they have 3 and 2"),
        (dict(gallery_labels=torch.zeros(5, 2)), "labels must be integers"),
        (dict(gallery_labels=torch.tensor([[PAD, 1]] * 5)), "PAD .* only on the right"),
        (dict(ks=(1, 0)), "every k of ks must be a whole number of at least 1; 0 is not"),
        (dict(alpha=-1.0), "alpha must be a finite number from 0; it is -1.0"),
        (dict(alpha=float("nan")), "alpha must be a finite number from 0; it is nan"),
        (dict(relevance="fine"), "relevance must be 'pop', 'depth', 'map' or one number per level; it is 'fine'"),
        (dict(relevance=(1.0,)), r"one finite weight from 0 for each of 2 levels.*it is \[1.0\]"),
        (dict(relevance=(0.0, 1.0)), "the first, the coarsest level's, above 0"),
        (dict(relevance=(1.0, -1.0)), "one finite weight from 0"),
        (dict(relevance=(1.0, float("inf"))), "one finite weight from 0"),
        (dict(same_set=True), "same_set takes query i for gallery item i, but their labels differ"),
        (dict(query_labels=torch.full((5, 2), 9)), "must have a relevant gallery item; none of 5 has; check that"),
        (dict(query_labels=torch.full((5, 2), PAD)), "none of 5 has"),
    ],
)
def test_malformed_input(changes, message):
    arguments = dict(
        query=FAN,
        query_labels=torch.arange(5)[:, None].repeat(1, 2),
        gallery=FAN,
        gallery_labels=torch.tensor([[0, 0], [0, 1], [1, PAD], [PAD, PAD], [2, 2]]),
    )
    with pytest.raises(ValueError, match=message):
        hierarchical_retrieval_metrics(**(arguments | changes))


# ---------------------------------------------------------------- one ranking for several scores
@pytest.mark.parametrize("same_set", [False, True])
@pytest.mark.parametrize("levels", [(1, 2, 3), (3, 2), (2,), (3, 3)])
@pytest.mark.parametrize("way", WAYS)
def test_one_ranking_gives_what_several_give(monkeypatch, way, levels, same_set):
    choose(monkeypatch, way)
    gallery = random_set(0, 30, ties=True, branching=3)
    query = gallery if same_set else random_set(1, 14, ties=True, branching=3)
    chosen = torch.randperm(len(query[0]))[:11]
    common = dict(same_set=same_set, queries=chosen)
    ids = prefix_ids(torch.cat([query[1], gallery[1]]))
    asked = [dict(ks=(1, 3, 1), average_precision=level != 2) for level in levels]
    trees = [dict(ks=(2,), relevance="map"), dict()]
    for wanted in (trees, []):
        of_levels, of_trees = scores_of_one_ranking(
            *query, *gallery, levels=list(zip(levels, asked, strict=True)), trees=wanted, **common
        )
        for level, options, found in zip(levels, asked, of_levels, strict=True):
            of_query, of_gallery = ids[: len(query[1]), level - 1], ids[len(query[1]) :, level - 1]
            expected = retrieval_scores(query[0], of_query, gallery[0], of_gallery, **options, **common)
            assert list(found) == list(expected)
            for name, values in expected.items():
                if name != "first_rank" or options["average_precision"]:
                    torch.testing.assert_close(found[name], values, rtol=0, atol=1e-12)
        for options, found in zip(wanted, of_trees, strict=True):
            expected = hierarchical_retrieval_scores(*query, *gallery, **options, **common)
            assert list(found) == list(expected)
            for name, values in expected.items():
                torch.testing.assert_close(found[name], values, rtol=0, atol=1e-12)


def test_what_one_ranking_cannot_give():
    features, labels = random_set(0, 5)
    options = dict(ks=(1,), average_precision=True)
    for level in (0, 4):
        with pytest.raises(ValueError, match=f"a level must be 1 to 3, the levels of the labels; it is {level}"):
            scores_of_one_ranking(features, labels, features, labels, levels=[(level, options)])
    with pytest.raises(ValueError, match="an item of several paths may have several classes at a level"):
        scores_of_one_ranking(features, labels[:, None], features, labels, levels=[(1, options)])
