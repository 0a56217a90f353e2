import gc
import subprocess
import sys
import weakref

import faiss
import pytest
import torch

from hierpretrain.functional import index_search as module
from hierpretrain.functional.approximate import build_index, search_parameters, set_search_parameters
from hierpretrain.functional.index_search import is_exact, search_groups, search_vectors
from hierpretrain.functional.search import unit_rows
from hierpretrain.taxonomy import PAD
from tests.reference import tree_knn as reference


def points(seed, number, dim=5, grid=False):
    """Random rows; on a grid many cosines are equal, and many rows too."""
    rows = torch.randn(number, dim, generator=torch.Generator().manual_seed(seed))
    return rows.mul(1.2).round() + torch.eye(dim)[0] * 1e-9 if grid else rows


def grid(seed, number):
    """Rows of four entries of +-1/2: their cosines are multiples of 1/2 and without rounding."""
    return points(seed, number, 4).sign() / 2


def exact_index(gallery, kind, half=False):
    """An index that finds all: every list is probed, and the graph is searched as widely as it goes."""
    index = build_index(gallery, kind, half=half)
    width = {"flat": {}, "ivf": {"nprobe": getattr(index, "nlist", 0)}, "hnsw": {"efSearch": 500}}[kind]
    set_search_parameters(index, width)
    return index


def assert_same(scores, rows, groups, expected):
    assert rows.tolist() == [[row for _, row, _ in answer] for answer in expected]
    if groups is not None:
        assert groups.tolist() == [[group for _, _, group in answer] for answer in expected]
    for values, answer in zip(scores.tolist(), expected, strict=True):
        assert values == pytest.approx([score for score, _, _ in answer], rel=0, abs=1e-6)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("queries", [1, 7, 40])  # from 8 queries on they are products of matrices
@pytest.mark.parametrize("k", [1, 7, 60, 200])
def test_flat_equals_brute_force_with_duplicates_and_ties(ties, queries, k):
    make = grid if ties else points
    gallery = make(0, 60)
    gallery[10:20] = gallery[50:60]
    query = torch.cat([gallery[10:11], make(1, queries - 1)])
    scores, rows = search_vectors(build_index(gallery), query, k)
    expected = reference.nearest_groups(query, gallery, k, [[j] for j in range(60)])
    assert_same(scores, rows, None, expected)
    assert rows.shape == (queries, min(k, 60))


def test_the_last_places_go_to_the_first_of_equal_rows():
    gallery = torch.tensor([[1.0, 0.2]]).repeat(500, 1)
    gallery[::7] = torch.tensor([0.2, 1.0])
    wanted = [row for row in range(500) if row % 7]
    for k in (1, 5, 40, 428):
        assert search_vectors(build_index(gallery), torch.tensor([[1.0, 0.0]]), k)[1].tolist() == [wanted[:k]]


@pytest.mark.parametrize("queries", [1, 30])
def test_rows_that_single_precision_cannot_tell_apart(queries):
    generator = torch.Generator().manual_seed(0)
    base = torch.ones(8) / 8**0.5
    gallery = base + 1e-7 * torch.randn(300, 8, generator=generator)
    query = base + 0.3 * torch.randn(queries, 8, generator=generator)
    index = build_index(gallery)
    stored = module.vectors_of(index, torch.arange(300)).double()
    expected = (unit_rows(query, "query").double() @ stored.T).topk(10).values
    torch.testing.assert_close(search_vectors(index, query, 10)[0], expected, rtol=0, atol=1e-14)


def test_the_answer_does_not_depend_on_the_size_of_blocks(monkeypatch):
    gallery, query = grid(0, 90), grid(1, 8)
    groups = torch.randint(-1, 20, (90, 2), generator=torch.Generator().manual_seed(2))
    index = build_index(gallery)
    expected = [*search_vectors(index, query, 9), *search_groups(index, query, 9, groups)]
    monkeypatch.setattr(module, "_SIMILARITIES", 7)
    monkeypatch.setattr(module, "_NUMBERS", 7)
    monkeypatch.setattr(module, "_VECTORS", 11)
    monkeypatch.setattr(module, "_PAIRS", 60)
    for one, other in zip(
        expected, [*search_vectors(index, query, 9), *search_groups(index, query, 9, groups)], strict=True
    ):
        assert one.equal(other)


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
@pytest.mark.parametrize("seed", range(8))
def test_groups_equal_the_oracle_on_every_kind(kind, seed):
    generator = torch.Generator().manual_seed(seed)
    number = int(torch.randint(2, 120, (), generator=generator))
    make = grid if seed % 2 else points
    gallery, query = make(seed, number), make(seed + 100, 6)
    places = 1 + seed % 3
    groups = torch.randint(-1, 1 + number // 3, (number, places), generator=generator)
    groups = groups[:, 0] if places == 1 else groups
    wanted = groups.view(number, -1).tolist()
    k = int(torch.randint(1, 30, (), generator=generator))
    expected = reference.nearest_groups(query, gallery, k, wanted)
    index = exact_index(gallery, kind)
    assert_same(*search_groups(index, query, k, groups), expected)


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_an_approximate_index_is_asked_for_more_until_there_are_k_groups(monkeypatch, kind):
    calls = []
    compare = module._compare_all
    monkeypatch.setattr(module, "_compare_all", lambda *args: calls.append(len(args[1])) or compare(*args))
    gallery = points(0, 2000, 8)
    nearest = torch.nn.functional.normalize(gallery)[:, 0].argsort(descending=True)
    query = torch.eye(8)[:1]
    groups = torch.arange(2000)
    groups[nearest[:100]] = 7777  # the first hundred are of one group
    expected = reference.nearest_groups(query, gallery, 5, [[group] for group in groups.tolist()])
    index = exact_index(gallery, kind)
    assert_same(*search_groups(index, query, 5, groups, exact=False), expected)
    assert calls == []
    groups[nearest[:1900]] = 7777  # now there is none among as many as it looks through
    expected = reference.nearest_groups(query, gallery, 5, [[group] for group in groups.tolist()])
    assert_same(*search_groups(index, query, 5, groups, exact=False), expected)
    assert calls == [1]


def test_more_lists_are_searched_for_more_groups(monkeypatch):
    monkeypatch.setattr(module, "_compare_all", None)  # not needed
    monkeypatch.setattr(module, "_entries", None)
    gallery = points(0, 2000, 2)
    index = build_index(gallery, "ivf")
    set_search_parameters(index, {"nprobe": 1})  # some 40 rows
    by_angle = torch.atan2(gallery[:, 1], gallery[:, 0]).argsort()
    groups = torch.empty(2000, dtype=torch.int64)
    groups[by_angle] = torch.arange(2000) // 100
    query = gallery[by_angle[[550, 1250]]]
    _, _, found = search_groups(index, query, 3, groups, exact=False)
    assert [set(row) for row in found.tolist()] == [{4, 5, 6}, {11, 12, 13}]
    assert search_parameters(index) == {"nprobe": 1}


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
@pytest.mark.parametrize("places", [0, 2])
def test_an_index_of_many_rows_and_no_group(kind, places):
    groups = torch.full((500, places), PAD)
    for found in search_groups(build_index(points(0, 500, 4), kind), torch.eye(4), 3, groups, exact=False):
        assert found.shape == (4, 0)


def test_rows_without_a_group_and_no_group_at_all():
    gallery = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    index = build_index(gallery)
    scores, rows, groups = search_groups(index, gallery[:2], 9, torch.tensor([PAD, 4, PAD]))
    assert (rows.tolist(), groups.tolist()) == ([[1], [1]], [[4], [4]])
    assert scores.shape == (2, 1)
    for found in search_groups(index, gallery[:2], 9, torch.full((3, 2), PAD)):
        assert found.shape == (2, 0)


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_a_query_that_an_approximate_index_finds_too_few_for_is_compared_with_all(kind):
    gallery = points(0, 400) if kind == "ivf" else torch.ones(400, 5)
    index = build_index(gallery, kind)
    if kind == "ivf":
        set_search_parameters(index, {"nprobe": 1})  # a list has some 40 rows
    query = points(1, 3)
    scores, rows = search_vectors(index, query, 300)
    assert_same(scores, rows, None, reference.nearest_groups(query, gallery, 300, [[j] for j in range(400)]))


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_half_precision_is_off_by_a_thousandth_at_most(kind):
    gallery = points(0, 300, 64)
    query = points(1, 20, 64)
    scores, rows = search_vectors(exact_index(gallery, kind, half=True), query, 300)
    cosines = torch.nn.functional.cosine_similarity(query[:, None].double(), gallery[None].double(), dim=2)
    difference = (scores - cosines.gather(1, rows)).abs().max()
    assert 0 < difference < 1e-3
    assert (scores[:, :-1] >= scores[:, 1:]).all()


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("queries", [1, 7, 40])
def test_half_precision_answers_as_the_stored_vectors_do_in_double(ties, queries):
    make = grid if ties else points
    index = build_index(make(0, 200), half=True)
    stored = module.vectors_of(index, torch.arange(200))
    assert stored.equal(torch.as_tensor(index.reconstruct_n(0, 200)))
    assert stored.equal(unit_rows(make(0, 200)).half().float())
    query = make(1, queries)
    products = unit_rows(query).double() @ stored.double().T
    wanted = products.sort(dim=1, descending=True, stable=True)  # equal ones in their order
    for k in (1, 30, 200):
        scores, rows = search_vectors(index, query, k)
        torch.testing.assert_close(scores, wanted.values[:, :k], rtol=0, atol=1e-12)
        assert rows.equal(wanted.indices[:, :k])


def test_a_query_in_the_index_finds_itself_and_its_length_does_not_matter():
    gallery = points(0, 50)
    index = build_index(gallery)
    scores, rows = search_vectors(index, gallery * 1e-20, 1)
    assert rows[:, 0].tolist() == list(range(50))
    torch.testing.assert_close(scores, torch.ones_like(scores), rtol=0, atol=1e-6)
    assert search_vectors(index, gallery, 9)[1].equal(search_vectors(build_index(gallery * 1e20), gallery, 9)[1])


def test_which_are_exact():
    gallery = points(0, 50)
    assert [is_exact(build_index(gallery, kind)) for kind in ("flat", "ivf", "hnsw")] == [True, False, False]
    assert is_exact(build_index(gallery, half=True))


def test_errors():
    index = build_index(torch.eye(3))
    groups = torch.arange(3)
    for search in (search_vectors, lambda *args: search_groups(*args, groups)):
        with pytest.raises(ValueError, match="k must be at least 1; it is 0"):
            search(index, torch.eye(3), 0)
        with pytest.raises(ValueError, match="must come from one model and have one D; they have 2 and 3"):
            search(index, torch.eye(2), 1)
        with pytest.raises(ValueError, match="query must have a direction; row 1 is all zero"):
            search(index, torch.eye(3)[[0, 0]] * torch.tensor([[1.0], [0.0]]), 1)
    for wrong in (torch.arange(4), torch.zeros(3, 2, 2, dtype=torch.int64)):
        with pytest.raises(ValueError, match=r"groups must be \(N,\) or \(N, P\) for the 3 vectors; they are \("):
            search_groups(index, torch.eye(3), 1, wrong)


def test_any_number_of_threads():
    gallery, query = grid(0, 300), grid(1, 30)
    before = faiss.omp_get_max_threads()
    try:
        found = []
        for threads in (1, 3):
            faiss.omp_set_num_threads(threads)
            found.append(search_vectors(build_index(gallery), query, 20))
    finally:
        faiss.omp_set_num_threads(before)
    assert found[0][0].equal(found[1][0])
    assert found[0][1].equal(found[1][1])


def test_another_package_may_replace_the_methods_of_faiss():
    code = (
        "import faiss.contrib.torch_utils, torch\n"
        "from hierpretrain.functional.approximate import build_index\n"
        "from hierpretrain.functional.index_search import search_groups\n"
        "rows = torch.eye(4)\n"
        "index = build_index(rows, 'hnsw')\n"
        "print(search_groups(index, rows[:2], 1, torch.arange(4), exact=False)[1].tolist())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[[0], [1]]\n"


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
@pytest.mark.parametrize("seed", range(4))
def test_a_search_within_some_rows_compares_all_of_them_on_every_kind(kind, half, seed):
    make = grid if seed % 2 else points
    gallery, query = make(seed, 300), make(seed + 100, (6, 6, 1, 30)[seed])
    index = build_index(gallery, kind, half=half)
    width = {"flat": {}, "ivf": {"nprobe": 1}, "hnsw": {"efSearch": 1}}[kind]
    set_search_parameters(index, width)
    within = torch.rand(300, generator=torch.Generator().manual_seed(seed)) < (0.02, 0.2, 0.6, 1)[seed]
    stored = module.vectors_of(index, torch.arange(300))
    for k in (1, 7, 300):
        expected = reference.nearest_groups(query, stored, k, [[j] if within[j] else [] for j in range(300)])
        scores, rows = search_vectors(index, query, k, within=within)
        assert rows.shape == (len(query), min(k, int(within.sum())))
        if half:  # the lengths of rows are no longer 1
            assert scores.tolist() == [pytest.approx([s for s, _, _ in answer], abs=1e-3) for answer in expected]
        else:
            assert_same(scores, rows, None, expected)
    assert search_parameters(index) == width


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_a_search_within_no_row(kind):
    for found in search_vectors(build_index(points(0, 90), kind), points(1, 3), 4, within=torch.zeros(90) > 0):
        assert found.shape == (3, 0)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_vectors_of_runs_and_of_any_numbers_are_those_that_were_put_in(kind, half):
    gallery = points(0, 90, 8)
    index, rows = build_index(gallery, kind, half=half), unit_rows(gallery)
    for numbers in (torch.arange(20, 30), torch.tensor([7, 3, 3, 89]), torch.arange(0)):
        torch.testing.assert_close(module.vectors_of(index, numbers), rows[numbers], rtol=0, atol=1e-3 if half else 0)


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_vectors_keep_the_index_whose_memory_they_are(kind):
    rows = unit_rows(torch.randn(50, 8))
    index = build_index(rows, kind=kind)
    alive = weakref.ref(index)
    vectors = module.vectors_of(index, torch.arange(10, 20))
    del index
    gc.collect()
    assert alive() is not None
    torch.testing.assert_close(vectors, rows[10:20])
    del vectors
    gc.collect()
    assert alive() is None
