"""The largest inner products of queries with many vectors, by products of matrices in blocks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hierpretrain.functional.products import inner_products

_QUERIES, _VECTORS = 256, 16_384  # whose products, 16 MiB, are in memory at a time
_GROUP = 16  # products of which only the largest is looked at first


def largest_products(
    query: Tensor, vectors: Callable[[slice], Tensor], number: int, width: int
) -> tuple[Tensor, Tensor]:
    """Finds the vectors that have the largest inner products with each query.

    Memory is read once for every 256 queries, and vectors may come from a smaller type, block by block.

    Args:
        query: (Q, D) float32.
        vectors: Gives the (n, D) float32 vectors of a part of all.
        number: How many vectors there are in all.
        width: How many to find, 1 to ``number``.

    Returns:
        (Q, width) float32 inner products, the largest first, and the int64 positions of the vectors. Which of several
        equal ones are the last of the ``width`` is open.

    Example:
        >>> vectors = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
        >>> products, positions = largest_products(vectors[:1], lambda part: vectors[part], len(vectors), 2)
        >>> positions.tolist()
        [[0, 1]]
    """
    products = torch.empty(len(query), width)
    positions = torch.empty(len(query), width, dtype=torch.int64)
    for first in range(0, len(query), _QUERIES):
        queries = query[first : first + _QUERIES]
        best, found = torch.empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.int64)
        for start in range(0, number, _VECTORS):
            block = vectors(slice(start, min(start + _VECTORS, number)))
            values, columns = _largest(inner_products(queries, block), width)
            best, order = torch.cat([best, values], 1).topk(min(width, found.shape[1] + columns.shape[1]))
            found = torch.cat([found, columns + start], 1).gather(1, order)
        products[first : first + len(queries)], positions[first : first + len(queries)] = best, found
    return products, positions


def _largest(products: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Returns the largest of the (Q, n) products, all if there are fewer, and their columns, in any order.

    Column j is in the group j modulo n / 16. The ``width`` largest products are in the groups of the ``width`` largest
    maxima, for every product in another group is at most as large as each of these maxima.
    """
    num_groups = products.shape[1] // _GROUP
    if num_groups <= width:
        return products.topk(min(width, products.shape[1]), sorted=False)
    grouped = products[:, : num_groups * _GROUP].view(-1, _GROUP, num_groups)
    groups = grouped.amax(1).topk(width, sorted=False).indices
    rest = torch.arange(num_groups * _GROUP, products.shape[1]).expand(len(products), -1)
    members = groups[:, None] + num_groups * torch.arange(_GROUP)[:, None]  # (Q, 16, width)
    columns = torch.cat([members.flatten(1), rest], 1)
    values, order = products.gather(1, columns).topk(width, sorted=False)
    return values, columns.gather(1, order)
