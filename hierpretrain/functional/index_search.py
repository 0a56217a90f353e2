"""Search in an index of faiss, for the nearest rows or for the nearest groups of rows, with ties in order."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import faiss
import numpy as np
import torch
from torch import Tensor

from hierpretrain.functional.search import unit_rows
from hierpretrain.taxonomy import PAD

_ROUNDING = 2e-6  # single-precision cosines of one pair, summed in different orders, differ by less
_SIMILARITIES = 2**25  # in memory at a time
_NUMBERS = 2**22  # of rows whose cosines are taken in double precision at a time
_ROWS = 65_536  # rows that are read out of the index at a time
_WIDEST = 8192  # neighbours of a query that are looked through for groups before all rows are


def search_rows(index: Any, query: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Finds the rows of highest cosine similarity to each query.

    Args:
        index: What :func:`~hierpretrain.functional.approximate.build_index` made of N rows.
        query: (Q, D) floating-point features, of any length but 0.
        k: How many to return, from 1; all N where there are fewer.

    Returns:
        (Q, min(k, N)) float64 cosines, the highest first, and the int64 rows. Equal cosines stand in the order of the
        rows, and in an exact index the first of equal rows are also those that get the last places. A query that is
        a row of the index finds itself. One that an approximate index finds too few rows for is searched for exactly.

    Raises:
        ValueError: If features are malformed (see ``unit_rows``), the index is of another D, or k is below 1.

    Example:
        >>> from hierpretrain.functional.approximate import build_index
        >>> index = build_index(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]))
        >>> scores, rows = search_rows(index, torch.tensor([[5.0, 0.0]]), 2)
        >>> scores.tolist(), rows.tolist()
        ([[1.0, 1.0]], [[0, 2]])
    """
    query = _checked(index, query, k)
    k = min(k, index.ntotal)
    numbers = torch.arange(index.ntotal)
    everything = _Entries(numbers, numbers, numbers)
    if is_exact(index):
        return _stacked(_compare_all(index, query, k, everything), k)[:2]
    found = _search(index, query, k).sort(dim=1).values
    scores, order = _cosines(index, query, found).sort(dim=1, descending=True, stable=True)
    rows = found.gather(1, order)
    if (missed := (rows == PAD).any(1)).any():
        scores[missed], rows[missed], _ = _stacked(_compare_all(index, query[missed], k, everything), k)
    return scores, rows


def search_groups(
    index: Any, query: Tensor, k: int, groups: Tensor, *, every_row: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Finds the nearest groups of rows to each query, a group by the nearest of its rows.

    Args:
        index: What :func:`~hierpretrain.functional.approximate.build_index` made of N rows.
        query: (Q, D) floating-point features, of any length but 0.
        k: How many groups to return, from 1; all G where there are fewer.
        groups: (N,) or (N, P) ids from 0 of the group, or groups, of each row, ``PAD`` for none. ``arange(N)`` with
            ``PAD`` for some searches the other rows.
        every_row: Whether to compare every row of a group, so that the answer is exact in an approximate index too.
            Otherwise such an index is asked for more and more neighbours, up to 8,192, until they are of k groups, and
            only where that is not enough are all rows compared.

    Returns:
        (Q, min(k, G)) float64 cosines, the highest first, the int64 rows and their groups. Equal cosines stand in the
        order of the rows, and those of one row in the order of the groups.

    Raises:
        ValueError: If features are malformed (see ``unit_rows``), the index is of another D, k is below 1, or there is
            not one row of groups per row of the index.

    Example:
        >>> from hierpretrain.functional.approximate import build_index
        >>> index = build_index(torch.tensor([[1.0, 0.0], [4.0, 3.0], [0.0, 1.0]]))
        >>> scores, rows, groups = search_groups(index, torch.tensor([[1.0, 0.0]]), 2, torch.tensor([7, 7, 5]))
        >>> rows.tolist(), groups.tolist()
        ([[0, 2]], [[7, 5]])
    """
    query = _checked(index, query, k)
    groups = groups[:, None] if groups.ndim == 1 else groups
    if groups.ndim != 2 or len(groups) != index.ntotal:
        raise ValueError(f"groups must be (N,) or (N, P) for the {index.ntotal} rows; they are {tuple(groups.shape)}")
    answers: dict[int, _Answer] = {}
    if not every_row and not is_exact(index):
        _widen(index, query, k, groups, answers)
    if left := [i for i in range(len(query)) if i not in answers]:
        entries = _entries(groups)
        k = min(k, len(entries.starts))
        answers.update(zip(left, _compare_all(index, query[torch.tensor(left)], k, entries), strict=True))
    return _stacked([answers[i] for i in sorted(answers)], k)


_Answer = tuple[Tensor, Tensor, Tensor]  # (k,) cosines, rows, groups


class _Entries(NamedTuple):
    """What is compared: an entry for each group of each row, those of a group together."""

    rows: Tensor  # (M,)
    groups: Tensor  # (M,) ascending
    starts: Tensor  # (G,) the first entry of each group


def _entries(groups: Tensor) -> _Entries:
    rows, places = (groups != PAD).nonzero(as_tuple=True)
    of, order = groups[rows, places].sort(stable=True)
    first = torch.ones(len(of), dtype=torch.bool)
    first[1:] = of.diff() != 0
    return _Entries(rows[order], of, first.nonzero()[:, 0])


def _stacked(answers: list[_Answer], k: int) -> _Answer:
    scores = torch.zeros(len(answers), k, dtype=torch.float64)
    rows, groups = torch.zeros(2, len(answers), k, dtype=torch.int64)
    for i, answer in enumerate(answers):
        scores[i], rows[i], groups[i] = answer
    return scores, rows, groups


def is_exact(index: Any) -> bool:
    """Returns whether an index compares every row with a query."""
    return not isinstance(index, faiss.IndexIVF | faiss.IndexHNSW)


def _widen(index: Any, query: Tensor, k: int, groups: Tensor, answers: dict[int, _Answer]) -> None:
    """Answers the queries whose k nearest groups are among so many neighbours that not all rows need be compared."""
    open_queries, width = torch.arange(len(query)), 4 * k
    while len(open_queries) and width <= min(_WIDEST, index.ntotal // 4):
        step = max(1, _NUMBERS // (width * query.shape[1]))
        missed = []
        for block in torch.split(open_queries, step):
            found = _search(index, query[block], width, wider=width // (4 * k))
            for i, scores, rows in zip(block.tolist(), _cosines(index, query[block], found), found, strict=True):
                rows, scores = rows[rows != PAD], scores[rows != PAD]
                found_at, place = (groups[rows] != PAD).nonzero(as_tuple=True)
                answer = _first_of_groups(scores[found_at], rows[found_at], groups[rows[found_at], place], k)
                if len(answer[0]) == k:
                    answers[i] = answer
                else:
                    missed.append(i)
        open_queries, width = torch.tensor(missed, dtype=torch.int64), 4 * width


def _compare_all(index: Any, query: Tensor, k: int, entries: _Entries) -> list[_Answer]:
    """Finds the k nearest groups of each query by comparing it with every row that has an entry.

    By products of matrices, which are several times as fast for many queries as faiss's own search.
    """
    if k == 0:
        return [(torch.empty(0, dtype=torch.float64), *torch.empty(2, 0, dtype=torch.int64))] * len(query)
    rows, groups, starts = entries
    # compared in their own order, in which they need not be copied
    in_order = bool((rows.diff() > 0).all())
    compared, column = (rows, slice(None)) if in_order else torch.unique(rows, return_inverse=True)
    sizes = torch.cat([starts, torch.tensor([len(rows)])]).diff()
    answers = []
    for block in torch.split(query, max(1, _SIMILARITIES // len(rows))):
        products = [block @ _vectors(index, part).T for part in torch.split(compared, _ROWS)]
        similarities = torch.cat(products, 1)[:, column]
        if len(starts) == len(rows):  # each its own group
            near = similarities >= similarities.topk(k).values[:, -1:] - _ROUNDING
        else:
            best = torch.from_numpy(np.maximum.reduceat(similarities.numpy(), starts.numpy(), axis=1))  # (B, G)
            worst = best.topk(k).values[:, -1:]
            near = similarities >= (torch.maximum(worst, best) - _ROUNDING).repeat_interleave(sizes, 1)
        for i in range(len(block)):
            chosen = near[i].nonzero()[:, 0]
            scores = _cosines(index, block[i : i + 1], rows[None, chosen])[0]
            answers.append(_first_of_groups(scores, rows[chosen], groups[chosen], k))
    return answers


def _first_of_groups(scores: Tensor, rows: Tensor, groups: Tensor, k: int) -> _Answer:
    """Picks the best entry of each group, and of those the best k, or all where they are fewer."""
    order = np.lexsort((groups.numpy(), rows.numpy(), -scores.numpy()))
    _, first = np.unique(groups.numpy()[order], return_index=True)
    picked = torch.from_numpy(order[np.sort(first)[:k]])
    return scores[picked], rows[picked], groups[picked]


def _cosines(index: Any, query: Tensor, rows: Tensor) -> Tensor:
    """Returns the (Q, M) float64 cosines of (Q, M) rows, minus infinity for ``PAD``.

    In double precision and one way of summing, so that equal rows have equal cosines.
    """
    cosines = torch.full(rows.shape, -math.inf, dtype=torch.float64)
    step = _NUMBERS // query.shape[1] + 1
    for entries in torch.split((rows != PAD).nonzero(), step):
        of, place = entries.unbind(1)
        cosines[of, place] = (_vectors(index, rows[of, place]).double() * query[of].double()).sum(1)
    return cosines


def _vectors(index: Any, rows: Tensor) -> Tensor:
    """Returns the (n, D) float32 rows of given numbers, without a copy where they are next to each other."""
    stored = faiss.downcast_index(index.storage) if isinstance(index, faiss.IndexHNSW) else index
    if not isinstance(stored, faiss.IndexFlat):
        return torch.from_numpy(index.reconstruct_batch(rows.numpy()))
    matrix = torch.from_numpy(faiss.rev_swig_ptr(stored.get_xb(), index.ntotal * index.d)).view(-1, index.d)
    in_a_run = len(rows) > 0 and bool((rows.diff() == 1).all())
    return matrix[rows[0] : rows[-1] + 1] if in_a_run else matrix[rows]


def _search(index: Any, query: Tensor, k: int, *, wider: int = 1) -> Tensor:
    """Returns the (Q, k) rows that faiss finds, in ``wider`` times as many inverted lists as the index is tuned to."""
    options: Any = None  # a graph is searched as widely as k demands
    if isinstance(index, faiss.IndexIVF):
        options = faiss.SearchParametersIVF()
        options.nprobe = min(wider * index.nprobe, index.nlist)
    # faiss.contrib.torch_utils, which pytorch-metric-learning imports, hides this search by one that takes no params
    search = getattr(index, "search_numpy", index.search)
    return torch.from_numpy(search(query.numpy(), k, params=options)[1])


def _checked(index: Any, query: Tensor, k: int) -> Tensor:
    if k < 1:
        raise ValueError(f"k must be at least 1; it is {k}")
    query = unit_rows(query, "query")
    if query.shape[1] != index.d:
        raise ValueError(
            f"query and index must come from one model and have one D; they have {query.shape[1]} and {index.d}"
        )
    return query
