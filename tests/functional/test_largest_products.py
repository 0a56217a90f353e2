import pytest
import torch

from hierpretrain.functional import largest_products as module
from hierpretrain.functional.largest_products import largest_products


def random(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("width", [1, 3, 40, 300])
@pytest.mark.parametrize("blocks", [(256, 16_384), (7, 130), (3, 64)])  # vectors that are no whole number of groups
def test_they_are_the_largest_of_all_products(monkeypatch, width, blocks):
    monkeypatch.setattr(module, "_QUERIES", blocks[0])
    monkeypatch.setattr(module, "_VECTORS", blocks[1])
    query, vectors = random(0, 20, 8), random(1, 301, 8)
    products, positions = largest_products(query, lambda part: vectors[part], len(vectors), width)
    wanted = (query @ vectors.T).topk(width)
    torch.testing.assert_close(products, wanted.values)
    assert positions.equal(wanted.indices)


def test_of_many_equal_products_some_are_taken_and_each_once():
    vectors = torch.ones(1000, 2)
    vectors[::5] = 2
    products, positions = largest_products(torch.ones(2, 2), lambda part: vectors[part], 1000, 300)
    assert products.tolist() == [[4.0] * 200 + [2.0] * 100] * 2
    for row in positions.tolist():
        assert len(set(row)) == 300
        assert set(range(0, 1000, 5)) < set(row)
