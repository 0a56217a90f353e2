import faiss
import numpy as np
import pytest
import torch

from hierpretrain.functional import approximate as module
from hierpretrain.functional.approximate import (
    FLAT_UP_TO,
    HNSW_UP_TO,
    build_index,
    choose_kind,
    kind_of,
    search_parameters,
    set_search_parameters,
    tune,
)
from hierpretrain.functional.sampling import sample_indices

KINDS = ("flat", "ivf", "hnsw")


def points(seed, number, dim=8):
    return torch.randn(number, dim, generator=torch.Generator().manual_seed(seed))


def recall_by_brute_force(index, features, rows, k=10):
    """The mean share of the k nearest others that a search finds, from all cosines in double precision."""
    unit = torch.nn.functional.normalize(features.double())
    shares = []
    for row in rows.tolist():
        cosines = (unit @ unit[row]).tolist()
        others = sorted((cosine for j, cosine in enumerate(cosines) if j != row), reverse=True)
        k_here = min(k, len(others))
        found = index.search(unit[row : row + 1].float().numpy(), k_here + 1)[1][0].tolist()
        right = [j for j in found if j not in (-1, row) and cosines[j] >= others[k_here - 1] - 1e-6]
        shares.append(min(len(right), k_here) / k_here)
    return sum(shares) / len(shares)


def test_kinds_by_size():
    sizes = (1, FLAT_UP_TO, FLAT_UP_TO + 1, HNSW_UP_TO, HNSW_UP_TO + 1)
    assert [choose_kind(size) for size in sizes] == ["flat", "flat", "hnsw", "hnsw", "ivf"]


@pytest.mark.parametrize("number", [1, 5, 300])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_rows_are_stored_in_order_with_length_one(monkeypatch, kind, half, number):
    monkeypatch.setattr(module, "_BLOCK", 70)
    features = points(0, number) * torch.logspace(-9, 9, number)[:, None]
    index = build_index(features, kind, half=half)
    assert kind_of(index) == (kind, half)
    stored = index.reconstruct_batch(np.arange(number))
    expected = torch.nn.functional.normalize(features.double()).numpy()
    np.testing.assert_allclose(stored, expected, rtol=0, atol=1e-3 if half else 1e-6)
    if number == 300:
        assert (np.abs(stored - expected).max() > 1e-6) == half


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_equal_seeds_give_equal_bytes_on_any_number_of_threads(kind, half):
    features = points(0, 6000)
    before = faiss.omp_get_max_threads()
    try:
        made = []
        for threads in (1, 1, 3):
            faiss.omp_set_num_threads(threads)
            made.append(faiss.serialize_index(build_index(features, kind, half=half, seed=5)))
    finally:
        faiss.omp_set_num_threads(before)
    assert all(np.array_equal(made[0], other) for other in made)
    other = faiss.serialize_index(build_index(features, kind, half=half, seed=6))
    assert np.array_equal(made[0], other) == (kind != "ivf")


@pytest.mark.parametrize("number", [2, 7, 900, 2500])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_recall_is_that_of_brute_force(kind, half, number):
    features = points(1, number, 24)
    index = build_index(features, kind, half=half)
    recall = tune(index, features, seed=3, target=0.8)
    rows = sample_indices(number, 1000, seed=3)
    assert len(rows) == min(number, 1000)
    assert len(set(rows.tolist())) == len(rows)
    assert recall == pytest.approx(recall_by_brute_force(index, features, rows), rel=0, abs=1e-9)
    assert recall >= 0.8


def test_recall_below_the_target_is_said(monkeypatch):
    monkeypatch.setattr(module, "_WIDEST", 16)
    features = points(0, 3000, 48)
    index = build_index(features, "hnsw")
    recall = tune(index, features)
    assert search_parameters(index) == {"efSearch": 16}
    assert recall < module.TARGET
    assert recall == pytest.approx(
        recall_by_brute_force(index, features, sample_indices(3000, 1000, seed=0)), rel=0, abs=1e-9
    )


def test_the_search_is_widened_no_further_than_it_must():
    features = points(0, 2000, 24)
    index = build_index(features, "ivf")
    recall = tune(index, features, target=0.9)
    probes = search_parameters(index)["nprobe"]
    assert recall >= 0.9
    assert 1 < probes < index.nlist
    set_search_parameters(index, {"nprobe": probes // 2})
    assert recall_by_brute_force(index, features, sample_indices(2000, 1000, seed=0)) < 0.9
    assert tune(index, features, target=1.0) == 1.0  # every list: exact


def test_equal_rows_are_found_whichever_of_them():
    features = points(0, 20).repeat(40, 1)  # each row forty times: which ten are found is open
    assert tune(build_index(features, "ivf"), features) == 1.0


def test_an_exact_index_finds_all_and_half_precision_nearly_all():
    features = points(0, 500, 32)
    assert tune(build_index(features), features) == 1.0
    assert 0.97 < tune(build_index(features, half=True), features) <= 1.0


def test_blocks_do_not_matter(monkeypatch):
    features = points(0, 700, 24)
    expected = tune(build_index(features, "ivf"), features, target=0.5)
    monkeypatch.setattr(module, "_BLOCK", 50)
    assert tune(build_index(features, "ivf"), features, target=0.5) == expected


def test_lists_have_rows_enough():
    assert [build_index(points(0, number, 2), "ivf").nlist for number in (1, 38, 78, 1000, 20_000)] == [
        1,
        1,
        2,
        25,
        512,
    ]
    assert round(4 * 20_000**0.5) == 566  # more would have fewer than 39 rows each


def test_errors():
    with pytest.raises(ValueError, match="kind must be 'auto', 'flat', 'ivf' or 'hnsw'; it is 'pq'"):
        build_index(torch.eye(2), "pq")
    with pytest.raises(ValueError, match=r"features must be \(N, D\).* not empty; their shape is \(0, 2\)"):
        build_index(torch.empty(0, 2))
    for kind in KINDS:
        with pytest.raises(ValueError, match="features must be finite; row 1 is not"):
            build_index(torch.tensor([[1.0], [float("nan")]]), kind)
        for seed in (-1, 2**31):
            with pytest.raises(ValueError, match=f"seed must be 0 to 2147483647; it is {seed}"):
                build_index(torch.eye(2), kind, seed=seed)
    with pytest.raises(ValueError, match="recall needs two features at least"):
        tune(build_index(torch.eye(2)[:1]), torch.eye(2)[:1])
    index = build_index(torch.eye(2), "ivf")
    for wrong in (
        {},
        {"nprobe": 0},
        {"nprobe": True},
        {"nprobe": 1.0},
        {"efSearch": 4},
        {"nprobe": 1, "more": 1},
        {"nprobe": 2**40},
    ):
        with pytest.raises(ValueError, match="search parameters must be nprobe, an integer from 1 to 1024; they are"):
            set_search_parameters(index, wrong)
    with pytest.raises(ValueError, match="search parameters must be none for an exact index; they are"):
        set_search_parameters(build_index(torch.eye(2)), {"nprobe": 1})


@pytest.mark.parametrize("recipe", ["PQ4x4", "SQ8", "IVF2,SQ8", "HNSW8,SQ8", "IDMap,Flat"])
def test_other_indexes_are_refused(recipe):
    index = faiss.index_factory(8, recipe, faiss.METRIC_INNER_PRODUCT)
    index.train(points(0, 64).numpy())
    name = type(index).__name__
    with pytest.raises(ValueError, match=f"must be one of IndexFlat, .*inner product; it is a {name}: build it anew"):
        kind_of(index)


def test_other_metrics_and_untrained_indexes_are_refused():
    for index in (
        faiss.IndexFlatL2(8),
        faiss.IndexHNSWFlat(8, 4),
        faiss.index_factory(8, "IVF2,Flat", faiss.METRIC_INNER_PRODUCT),
    ):
        with pytest.raises(ValueError, match="trained, with the inner product; it is a"):
            kind_of(index)
