import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from hierpretrain.functional.search import nearest, unit_rows
from tests.reference import metrics as reference


def features(seed, rows, dim=6):
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("exclude_self", [False, True])
def test_equals_the_oracle(exclude_self):
    gallery = features(0, 30)
    query = gallery if exclude_self else features(1, 9)
    similarities, indices = nearest(query, gallery, 7, own_indices=torch.arange(30) if exclude_self else None)
    expected_similarities, expected = reference.nearest(query, gallery, 7, exclude_self=exclude_self)
    assert indices.equal(expected)
    assert similarities.dtype == torch.float32
    assert indices.dtype == torch.int64
    torch.testing.assert_close(similarities.double(), expected_similarities.double(), rtol=0, atol=1e-6)


def test_equals_scikit_learn():
    query, gallery = features(0, 50), features(1, 200)
    distances, expected = NearestNeighbors(n_neighbors=11, metric="cosine").fit(gallery).kneighbors(query)
    similarities, indices = nearest(query, gallery, 11)
    assert indices.equal(torch.from_numpy(expected))
    torch.testing.assert_close(similarities, torch.from_numpy(1 - distances), rtol=0, atol=1e-6)


@pytest.mark.parametrize("copies", [3, 40])  # 40: faiss uses another kernel from 20 queries on
@pytest.mark.parametrize("k", [1, 2])
def test_self_is_removed_by_index_and_duplicates_stay(copies, k):
    rows = torch.tensor([[1.0, 0.0]]).repeat(copies, 1)
    similarities, indices = nearest(rows, rows, k, own_indices=torch.arange(copies))
    assert similarities.eq(1).all()
    assert (indices != torch.arange(copies)[:, None]).all()
    assert all(len(set(row)) == k for row in indices.tolist())


def test_queries_that_are_some_of_the_gallery_are_no_answers_to_themselves():
    gallery, own = features(0, 30), torch.tensor([7, 29, 3])
    found = nearest(gallery[own], gallery, 5, own_indices=own)
    every = nearest(gallery, gallery, 5, own_indices=torch.arange(30))
    assert found[1].equal(every[1][own])
    torch.testing.assert_close(found[0], every[0][own])


def test_ties_stand_in_the_order_of_the_gallery():
    gallery = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 3.0], [1.0, 0.0], [0.0, 2.0]])
    assert nearest(torch.tensor([[0.0, 1.0]]), gallery, 5)[1].tolist() == [[0, 2, 4, 1, 3]]


def test_length_device_type_and_gradient_of_a_row_do_not_matter():
    query, gallery = features(0, 5), features(1, 20)
    expected = nearest(query, gallery, 4)
    scale = torch.logspace(-140, 140, 20, dtype=torch.float64)[:, None]
    actual = nearest(query.requires_grad_(), gallery.double() * scale, 4)
    assert actual[1].equal(expected[1])
    torch.testing.assert_close(actual[0], expected[0])
    assert not actual[0].requires_grad
    assert unit_rows(torch.tensor([[3e-39, 4e-39]])).tolist()[0] == pytest.approx([0.6, 0.8], rel=1e-5)
    assert unit_rows(torch.tensor([[3e4, 4e4]], dtype=torch.float16)).tolist()[0] == pytest.approx([0.6, 0.8], rel=1e-3)


@pytest.mark.parametrize(
    ("query", "gallery", "kwargs", "message"),
    [
        (torch.ones(3), torch.ones(3, 2), dict(k=1), r"query must be \(N, D\).*their shape is \(3,\)"),
        (
            torch.ones(3, 2),
            torch.ones(0, 2),
            dict(k=1),
            r"gallery must be \(N, D\).*not empty; their shape is \(0, 2\)",
        ),
        (
            torch.ones(3, 2, dtype=int),
            torch.ones(3, 2),
            dict(k=1),
            r"query must be floating-point; .*int64.*\.float\(\)",
        ),
        (torch.ones(3, 2), torch.ones(3, 4), dict(k=1), "one D; they have 2 and 4"),
        (torch.ones(3, 2), torch.ones(3, 2), dict(k=4), "k must be 1 to 3, .*it is 4"),
        (torch.ones(3, 2), torch.ones(3, 2), dict(k=0), "k must be 1 to 3, .*it is 0"),
        (torch.ones(3, 2), torch.ones(3, 2), dict(k=3, own_indices=torch.arange(3)), "k must be 1 to 2, .*it is 3"),
        (
            torch.ones(2, 2),
            torch.ones(3, 2),
            dict(k=1, own_indices=torch.arange(3)),
            r"own_indices must be \(2,\), the gallery index of each query; their shape is \(3,\)",
        ),
    ],
)
def test_malformed_input(query, gallery, kwargs, message):
    with pytest.raises(ValueError, match=message):
        nearest(query, gallery, **kwargs)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_not_finite_names_the_row(value):
    rows = torch.ones(4, 3)
    rows[2, 1] = value
    with pytest.raises(ValueError, match=r"gallery must be finite; row 2 is not\. Lower"):
        nearest(torch.ones(4, 3), rows, 1)


def test_zero_names_the_row():
    rows = torch.ones(4, 3)
    rows[3] = 0
    with pytest.raises(ValueError, match="features must have a direction; row 3 is all zero; leave it out"):
        unit_rows(rows)
