import pytest
import torch

from hierpretrain.functional import products
from hierpretrain.functional.products import inner_products


@pytest.fixture(params=[True, False], ids=["onednn", "torch"])
def library(request, monkeypatch):
    if not request.param:
        monkeypatch.setattr(products, "_has_onednn", lambda: False)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 50, 128), (70, 33, 7), (0, 5, 4), (5, 0, 4), (3, 2, 0)])
def test_equals_the_products_in_double_precision(library, shape):
    queries, items, dim = shape
    generator = torch.Generator().manual_seed(0)
    query, gallery = (torch.randn(number, dim, generator=generator) for number in (queries, items))
    found = inner_products(query, gallery)
    assert found.dtype == torch.float32
    assert found.is_contiguous()
    torch.testing.assert_close(found.double(), query.double() @ gallery.double().T, rtol=1e-5, atol=1e-5)


def test_any_order_in_memory(library):
    generator = torch.Generator().manual_seed(1)
    query, gallery = torch.randn(8, 60, generator=generator).T, torch.randn(90, 8, generator=generator)[::3]
    torch.testing.assert_close(inner_products(query, gallery), query @ gallery.T)


def test_equal_items_have_equal_products(library):
    # in one tile of the gallery and in others
    generator = torch.Generator().manual_seed(2)
    query, item = torch.randn(40, 128, generator=generator), torch.randn(1, 128, generator=generator)
    whole = inner_products(query, item.expand(77, -1))
    assert torch.equal(whole, whole[:, :1].expand(-1, 77))
