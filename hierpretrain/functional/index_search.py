"""Search in an index of faiss, for the nearest vectors or the nearest groups of vectors, with ties in order."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import faiss
import numpy as np
import torch
from torch import Tensor

from hierpretrain.checks import check_at_least_1, check_one_width
from hierpretrain.functional.largest_products import largest_products
from hierpretrain.functional.search import unit_rows
from hierpretrain.taxonomy import PAD

_faiss: Any = faiss  # whose stubs know its constructors in C++, not in Python
_ROUNDING = 2e-6  # single-precision cosines of one pair, summed in different orders, differ by less
_SIMILARITIES = 2**25  # in memory at a time
_NUMBERS = 2**22  # of vectors whose cosines are taken in double precision at a time
_MANY = (
    8  # queries from which on a product of matrices is quicker than faiss, which compares few with each vector apart
)
_SPARE = 16  # neighbours beyond the k-th that show, if they are farther, that no other is as near as it
_PAIRS = 2**20  # of a query and a vector that are put in order at a time
_VECTORS = 65_536  # that are read out of the index at a time
_WIDEST = 8192  # neighbours of a query that are looked through for groups before all vectors are


def search_vectors(index: Any, query: Tensor, k: int, *, within: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Finds the vectors of highest cosine similarity to each query.

    Args:
        index: What :func:`~hierpretrain.functional.approximate.build_index` made of N vectors.
        query: (Q, D) floating-point features, of any length but 0.
        k: How many to return, from 1; all where there are fewer.
        within: (N,) bool, the vectors to search. Each is compared with the query, whatever the kind of the index.
            ``None``: all are searched, as exactly as the index does.

    Returns:
        (Q, min(k, M)) float64 cosines, the highest first, and the int64 indices of the vectors; M are searched. Equal
        cosines stand in the order of the index; where every vector is compared, the first of equal ones also get the
        last ranks. A query that is in the index finds itself. One that an approximate index finds too few vectors for
        is searched for exactly.

    Raises:
        ValueError: If features are malformed (see ``unit_rows``), the index is of another D, or k is below 1.

    Example:
        >>> from hierpretrain.functional.approximate import build_index
        >>> index = build_index(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]))
        >>> scores, indices = search_vectors(index, torch.tensor([[5.0, 0.0]]), 2)
        >>> scores.tolist(), indices.tolist()
        ([[1.0, 1.0]], [[0, 2]])
        >>> search_vectors(index, torch.tensor([[5.0, 0.0]]), 2, within=torch.tensor([False, True, True]))[1].tolist()
        [[2, 1]]
    """
    query = _checked(index, query, k)
    compared = None if within is None else within.nonzero()[:, 0]
    k = min(k, index.ntotal if compared is None else len(compared))
    if compared is None and not is_exact(index):
        scores, indices = _in_order(index, query, _search(index, query, k)[1], k)
        missed = torch.arange(len(query))[(indices == PAD).any(1)]
    else:
        scores, indices, _ = _empty_answers(len(query), k)
        missed = torch.arange(len(query) if k else 0)
    if len(missed):
        scores[missed], indices[missed] = _compare_with_each(index, query[missed], k, compared, k + _SPARE)
    return scores, indices


def _compare_with_each(index: Any, query: Tensor, k: int, compared: Tensor | None, width: int) -> tuple[Tensor, Tensor]:
    """Finds the k nearest of some vectors, of at least k, by comparing each with the query.

    The nearest ``width`` in single precision are put in order, and more where one beyond may be as near as the last.
    """
    number = index.ntotal if compared is None else len(compared)
    width = min(width, number)
    scores, indices, _ = _empty_answers(len(query), k)
    for block in torch.split(torch.arange(len(query)), max(1, _PAIRS // width)):
        if len(block) < _MANY:
            similarities, found = _search(index, query[block], width, _exhaustive(index, compared))
        else:
            similarities, found = _multiply(index, query[block], width, compared)
        scores[block], indices[block] = _in_order(index, query[block], found, k)
        unsure = block[similarities[:, k - 1] - similarities[:, -1] <= _ROUNDING]
        if width < number and len(unsure):
            scores[unsure], indices[unsure] = _compare_with_each(index, query[unsure], k, compared, 4 * width)
    return scores, indices


def _multiply(index: Any, query: Tensor, width: int, compared: Tensor | None) -> tuple[Tensor, Tensor]:
    """Returns what :func:`_search` does, of all vectors or of some, by products of matrices."""
    compared = torch.arange(index.ntotal) if compared is None else compared
    similarities, positions = largest_products(
        query, lambda part: vectors_of(index, compared[part]), len(compared), width
    )
    return similarities, compared[positions]


def _in_order(index: Any, query: Tensor, found: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Returns the cosines and the indices of the k nearest of what was found, equal ones in their order."""
    found = found.sort(dim=1).values
    scores, order = _cosines(index, query, found).sort(dim=1, descending=True, stable=True)
    return scores[:, :k].contiguous(), found.gather(1, order)[:, :k].contiguous()


def search_groups(
    index: Any, query: Tensor, k: int, groups: Tensor, *, exact: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Finds the nearest groups of vectors to each query, a group by the nearest of its vectors.

    Args:
        index: What :func:`~hierpretrain.functional.approximate.build_index` made of N vectors.
        query: (Q, D) floating-point features, of any length but 0.
        k: How many groups to return, from 1; all G where there are fewer.
        groups: (N,) or (N, P) ids from 0 of the group, or groups, of each vector, ``PAD`` for none.
        exact: Whether to compare every vector of a group, so that the answer is exact in an approximate index too.
            Otherwise such an index is asked for more and more neighbours, up to 8,192, until they are of k groups, and
            only where that is not enough are all vectors compared.

    Returns:
        (Q, min(k, G)) float64 cosines, the highest first, the int64 indices of the vectors and their groups. Equal
        cosines stand in the order of the index, and equal cosines of one vector in the order of the groups.

    Raises:
        ValueError: If features are malformed (see ``unit_rows``), the index is of another D, k is below 1, or
            groups are not of N vectors.

    Example:
        >>> from hierpretrain.functional.approximate import build_index
        >>> index = build_index(torch.tensor([[1.0, 0.0], [4.0, 3.0], [0.0, 1.0]]))
        >>> scores, indices, groups = search_groups(index, torch.tensor([[1.0, 0.0]]), 2, torch.tensor([7, 7, 5]))
        >>> indices.tolist(), groups.tolist()
        ([[0, 2]], [[7, 5]])
    """
    query = _checked(index, query, k)
    groups = groups[:, None] if groups.ndim == 1 else groups
    if groups.ndim != 2 or len(groups) != index.ntotal:
        raise ValueError(
            f"groups must be (N,) or (N, P) for the {index.ntotal} vectors; they are {tuple(groups.shape)}"
        )
    k = min(k, groups.numel())
    answers, left = _empty_answers(len(query), k), torch.arange(len(query))
    if k and not exact and not is_exact(index):
        left = _widen(index, query, k, groups, answers)
    if not len(left):
        return answers
    entries = _entries(groups)  # of all vectors, so only now
    compared = _compare_all(index, query[left], min(k, len(entries.starts)), entries)
    if len(left) == len(query):  # so it is where there are fewer than k groups
        return compared
    for answer, values in zip(answers, compared, strict=True):
        answer[left] = values
    return answers


_Answers = tuple[Tensor, Tensor, Tensor]  # (Q, k) cosines, indices, groups


def _empty_answers(num_queries: int, k: int) -> _Answers:
    indices, groups = torch.zeros(2, num_queries, k, dtype=torch.int64)
    return torch.zeros(num_queries, k, dtype=torch.float64), indices, groups


class _Entries(NamedTuple):
    """The entries that are compared: one for each group of each vector, all entries of a group together."""

    indices: Tensor  # (M,)
    groups: Tensor  # (M,) ascending
    starts: Tensor  # (G,) the first entry of each group


def _entries(groups: Tensor) -> _Entries:
    indices, columns = (groups != PAD).nonzero(as_tuple=True)
    of, order = groups[indices, columns].sort(stable=True)
    first = torch.ones(len(of), dtype=torch.bool)
    first[1:] = of.diff() != 0
    return _Entries(indices[order], of, first.nonzero()[:, 0])


def is_exact(index: Any) -> bool:
    """Returns whether an index compares every vector with a query."""
    return not isinstance(index, faiss.IndexIVF | faiss.IndexHNSW)


def _widen(index: Any, query: Tensor, k: int, groups: Tensor, answers: _Answers) -> Tensor:
    """Answers the queries whose k nearest groups are among so many neighbours that not all vectors need be compared.

    Returns:
        The numbers of the other queries.
    """
    left, width = torch.arange(len(query)), 4 * k
    while len(left) and width <= min(_WIDEST, index.ntotal // 4):
        missed = []
        for block in torch.split(left, max(1, _NUMBERS // (width * query.shape[1]))):
            _, found = _search(index, query[block], width, _wider(index, width // (4 * k)))
            scores = _cosines(index, query[block], found)
            of, position = (found != PAD).nonzero(as_tuple=True)
            entry, column = (groups[found[of, position]] != PAD).nonzero(as_tuple=True)
            of, scores, indices = of[entry], scores[of, position][entry], found[of, position][entry]
            of, *picked = first_of_groups(of, scores, indices, groups[indices, column], k)
            enough = of.bincount(minlength=len(block)) == k
            for answer, values in zip(answers, picked, strict=True):
                answer[block[enough]] = values[enough[of]].view(-1, k)
            missed.append(block[~enough])
        left, width = torch.cat(missed), 4 * width
    return left


def _compare_all(index: Any, query: Tensor, k: int, entries: _Entries) -> _Answers:
    """Finds the k nearest groups of each query, of at least k, by comparing it with every vector that has an entry.

    By products of matrices; vectors without a group are left out.
    """
    answers = _empty_answers(len(query), k)
    if k == 0:
        return answers
    indices, groups, starts = entries
    # compared in their own order, in which they need not be copied
    in_order = bool((indices.diff() > 0).all())
    compared, column = (indices, slice(None)) if in_order else torch.unique(indices, return_inverse=True)
    sizes = torch.cat([starts, torch.tensor([len(indices)])]).diff()
    for block in torch.split(torch.arange(len(query)), max(1, _SIMILARITIES // len(indices))):
        products = [query[block] @ vectors_of(index, part).T for part in torch.split(compared, _VECTORS)]
        similarities = (torch.cat(products, 1) if len(products) > 1 else products[0])[:, column]
        best = torch.from_numpy(np.maximum.reduceat(similarities.numpy(), starts.numpy(), axis=1))  # (B, G)
        worst = best.topk(k).values[:, -1:]
        near = similarities >= (torch.maximum(worst, best) - _ROUNDING).repeat_interleave(sizes, 1)
        step = max(1, _PAIRS // int(np.count_nonzero(near.numpy(), axis=1).max()))
        for queries, chosen in zip(torch.split(block, step), torch.split(near, step), strict=True):
            of, entry = chosen.nonzero(as_tuple=True)
            scores = _pair_cosines(index, query, queries[of], indices[entry])
            _, *picked = first_of_groups(of, scores, indices[entry], groups[entry], k)
            for answer, values in zip(answers, picked, strict=True):
                answer[queries] = values.view(-1, k)
    return answers


def first_of_groups(of: Tensor, scores: Tensor, indices: Tensor, groups: Tensor, k: int) -> list[Tensor]:
    """Picks the best of the entries that a query, ``of``, has of a group, and of these its best k, or all if fewer.

    Returns:
        The same four columns, ordered by the query, then from the best to the worst.
    """
    order = torch.from_numpy(np.lexsort((groups.numpy(), indices.numpy(), -scores.numpy(), of.numpy())))
    of, scores, indices, groups = (column[order] for column in (of, scores, indices, groups))
    _, first = np.unique((of * (groups.max() + 1 if len(groups) else 1) + groups).numpy(), return_index=True)
    best = torch.from_numpy(np.sort(first))
    rank = torch.arange(len(best)) - torch.searchsorted(of[best], of[best])  # among its query's
    return [column[best[rank < k]] for column in (of, scores, indices, groups)]


def _cosines(index: Any, query: Tensor, indices: Tensor) -> Tensor:
    """Returns the (Q, M) float64 cosines of each query and M vectors, minus infinity for ``PAD``."""
    cosines = torch.full(indices.shape, -math.inf, dtype=torch.float64)
    of, position = (indices != PAD).nonzero(as_tuple=True)
    cosines[of, position] = _pair_cosines(index, query, of, indices[of, position])
    return cosines


def _pair_cosines(index: Any, query: Tensor, of: Tensor, indices: Tensor) -> Tensor:
    """Returns the (M,) float64 cosines of the queries ``of`` and as many vectors.

    In double precision and one way of summing, so that equal vectors have equal cosines.
    """
    step = _NUMBERS // query.shape[1] + 1
    pairs = zip(torch.split(of, step), torch.split(indices, step), strict=True)
    cosines = [(vectors_of(index, b).double() * query[a].double()).sum(1) for a, b in pairs]
    return torch.cat(cosines)


def vectors_of(index: Any, indices: Tensor) -> Tensor:
    """Returns the (n, D) float32 vectors of an index, without a copy of float32 ones that are next to each other.

    Args:
        index: What :func:`~hierpretrain.functional.approximate.build_index` made; it lives as long as the result.
        indices: (n,) int64 numbers of vectors.

    Example:
        >>> from hierpretrain.functional.approximate import build_index
        >>> vectors_of(build_index(torch.tensor([[1.0, 0.0], [0.0, 2.0]])), torch.tensor([1])).tolist()
        [[0.0, 1.0]]
    """
    stored = _stored_in(index)
    if isinstance(stored, faiss.IndexFlat):
        memory = faiss.rev_swig_ptr(stored.get_xb(), index.ntotal * index.d)
    elif isinstance(stored, faiss.IndexScalarQuantizer):  # float16 of the order in which they came
        memory = faiss.rev_swig_ptr(stored.codes.data(), 2 * index.ntotal * index.d).view(np.float16)
    else:
        return torch.from_numpy(index.reconstruct_batch(indices.numpy()))
    owned: Any = memory.view(_MemoryOf)
    owned.owner = index
    matrix = torch.from_numpy(owned).view(-1, index.d)
    in_a_run = len(indices) > 0 and bool((indices.diff() == 1).all())
    return (matrix[indices[0] : indices[-1] + 1] if in_a_run else matrix[indices]).float()


class _MemoryOf(np.ndarray):
    """Memory that belongs to an object, which it keeps alive."""

    owner: Any


class _Options(NamedTuple):
    """The index in which faiss searches, the one itself or what a graph stores, and the parameters of the search."""

    searched: Any
    parameters: Any


def _exhaustive(index: Any, compared: Tensor | None) -> _Options:
    """Returns how faiss compares every vector, or every one of some, with a query."""
    stored = _stored_in(index)
    selector: Any = None
    if compared is not None and isinstance(stored, faiss.IndexFlat):
        selector = _faiss.IDSelectorArray(compared.numpy())  # it goes through these vectors alone
    elif compared is not None:
        within = np.zeros(index.ntotal, bool)
        within[compared.numpy()] = True
        selector = _faiss.IDSelectorBitmap(np.packbits(within, bitorder="little"))
    if isinstance(index, faiss.IndexIVF):
        return _Options(index, _faiss.SearchParametersIVF(sel=selector, nprobe=index.nlist))
    return _Options(stored, _faiss.SearchParameters(sel=selector) if selector else None)


def _wider(index: Any, times: int) -> _Options:
    """Returns how faiss searches in some times as many inverted lists as an index is tuned to."""
    if isinstance(index, faiss.IndexIVF):
        return _Options(index, _faiss.SearchParametersIVF(nprobe=min(times * index.nprobe, index.nlist)))
    return _Options(index, None)  # a graph is searched as widely as the number of neighbours demands


def _search(index: Any, query: Tensor, k: int, options: _Options | None = None) -> tuple[Tensor, Tensor]:
    """Returns the (Q, k) float32 cosines and indices that faiss finds, the best first."""
    searched, parameters = options or (index, None)
    # faiss.contrib.torch_utils, which pytorch-metric-learning imports, hides this search by one that takes no params
    search = getattr(searched, "search_numpy", searched.search)
    cosines, indices = search(query.numpy(), k, params=parameters)
    return torch.from_numpy(cosines), torch.from_numpy(indices)


def _stored_in(index: Any) -> Any:
    """Returns the vectors of an index, which a graph of neighbours keeps in another."""
    return faiss.downcast_index(index.storage) if isinstance(index, faiss.IndexHNSW) else index


def _checked(index: Any, query: Tensor, k: int) -> Tensor:
    check_at_least_1(k=k)
    query = unit_rows(query, "query")
    check_one_width(query.shape[1], index.d, "query", "index")
    return query
