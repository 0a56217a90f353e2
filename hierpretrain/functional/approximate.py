"""Indexes of faiss for cosine search: exact, inverted lists or a graph, and how much of the exact answer they find."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import faiss
import numpy as np
import torch
from torch import Tensor

from hierpretrain.functional.search import check_features, unit_rows
from hierpretrain.taxonomy import PAD

KINDS = ("flat", "ivf", "hnsw")

# On one core of a 2.5 GHz server, D = 128 and 256: an exact search of one query among 100,000 rows takes 6 to 20 ms,
# among 1,000,000 it takes 60 to 120 ms, where people begin to wait. Up to here it needs no more than about 30 ms.
FLAT_UP_TO = 200_000
# A graph answers in 0.2 to 0.5 ms with a recall of 0.99, however the rows are spread. It costs 0.3 to 0.6 ms of
# building and 272 bytes a row: at a million minutes and 270 MB, beyond that more than most machines have to spare.
# Inverted lists cost 0.05 ms of building and 8 bytes a row, but need some milliseconds where rows have no clusters.
HNSW_UP_TO = 1_000_000

TARGET = 0.99
"""The recall@10 that a search is widened for; measured on rows of the set, which are easier than new queries."""

_LINKS = 32  # a node of the graph; faiss's guidelines: more than 64 gain nothing
_LISTS = 4  # times the root of N: faiss's guideline for up to a million rows
_FEWEST, _MOST = 39, 64  # training rows a list: below the one centroids are poor, above the other they gain little
_WIDEST = 1024  # nodes of the graph that a search keeps in view
_BLOCK = 65_536  # rows that are scaled and compared at a time
_LENGTH = 1e-2  # by which float16 may make a row of length 1 longer or shorter, and more
_ROUNDING = 1e-6  # two cosines that differ by less may be one, summed in another order

_CLASSES = {
    "IndexFlat": ("flat", False),
    "IndexFlatIP": ("flat", False),  # what the former is once it was written and read
    "IndexScalarQuantizer": ("flat", True),
    "IndexIVFFlat": ("ivf", False),
    "IndexIVFScalarQuantizer": ("ivf", True),
    "IndexHNSWFlat": ("hnsw", False),
    "IndexHNSWSQ": ("hnsw", True),
}


def choose_kind(num_rows: int) -> str:
    """Returns the kind of index for a number of rows: exact while that is quick, then a graph, then inverted lists.

    Example:
        >>> choose_kind(50_000), choose_kind(500_000), choose_kind(5_000_000)
        ('flat', 'hnsw', 'ivf')
    """
    return "flat" if num_rows <= FLAT_UP_TO else "hnsw" if num_rows <= HNSW_UP_TO else "ivf"


def build_index(features: Tensor, kind: str = "auto", *, half: bool = False, seed: int = 0) -> Any:
    """Makes an index of faiss of the rows' directions, whose inner products are cosines.

    Equal arguments give equal indexes, bit for bit, with faiss 1.15 on any number of threads; older versions build a
    graph in an order that depends on the threads.

    Args:
        features: (N, D) floating-point rows, of any length but 0.
        kind: ``'flat'``, exact; ``'ivf'``, inverted lists behind a coarse k-means (Sivic and Zisserman, *Video Google*,
            ICCV 2003); ``'hnsw'``, a graph of neighbours (Malkov and Yashunin, *Efficient and robust approximate
            nearest neighbor search using hierarchical navigable small world graphs*, TPAMI 2020); ``'auto'``, as
            :func:`choose_kind` says.
        half: Whether to store float16: half the memory, and cosines that are off by up to 1e-3.
        seed: Of the k-means: its training rows and its start; 0 to 2^31 - 1.

    Returns:
        The index, a row of ``features`` a number. How wide ``'ivf'`` and ``'hnsw'`` look is for :func:`tune` to set.

    Raises:
        ValueError: If features are malformed (see ``unit_rows``), there is no such kind or the seed is out of range.

    Example:
        >>> index = build_index(torch.tensor([[3.0, 4.0], [1.0, 0.0]]))
        >>> index.ntotal, index.d, kind_of(index)
        (2, 2, ('flat', False))
    """
    check_features(features)
    num_rows, width = features.shape
    kind = choose_kind(num_rows) if kind == "auto" else kind
    if kind not in KINDS:
        raise ValueError(f"kind must be 'auto' or one of {', '.join(map(repr, KINDS))}; it is {kind!r}")
    if not 0 <= seed < 2**31:
        raise ValueError(f"seed must be 0 to {2**31 - 1}; it is {seed}")
    num_lists = max(1, min(round(_LISTS * math.sqrt(num_rows)), num_rows // _FEWEST))
    structure = {"flat": "", "ivf": f"IVF{num_lists},", "hnsw": f"HNSW{_LINKS},"}[kind]
    storage = "SQfp16" if half else "Flat"
    index: Any = faiss.index_factory(width, structure + storage, faiss.METRIC_INNER_PRODUCT)
    if kind == "ivf":
        index.cp.seed, index.cp.spherical = seed, True
        index.cp.min_points_per_centroid = 1  # fewer than faiss warns of only where there are fewer rows
        index.cp.max_points_per_centroid = _MOST
        for start in range(0, num_rows, _BLOCK):
            _unit_block(features, start)  # or a message would name a row of the sample
        sample = np.random.default_rng(seed).choice(num_rows, min(num_rows, _MOST * num_lists), replace=False)
        index.train(unit_rows(features[torch.from_numpy(np.sort(sample))]).numpy())
    for start in range(0, num_rows, _BLOCK):
        index.add(_unit_block(features, start).numpy())
    make_reconstructible(index)
    return index


def make_reconstructible(index: Any) -> None:
    """Makes the rows of an index readable by their numbers, which inverted lists are not when made or read."""
    if isinstance(index, faiss.IndexIVF):
        index.make_direct_map()


def check_stored(index: Any) -> None:
    """Raises unless every row of an index, which :func:`make_reconstructible` prepared, is there and has length 1.

    Raises:
        ValueError: That names a row.

    Example:
        >>> index = faiss.IndexFlatIP(2)
        >>> index.add(np.float32([[0.6, 0.8], [3.0, 4.0]]))
        >>> check_stored(index)
        Traceback (most recent call last):
        ValueError: rows of an index must have length 1; row 1 has 5
    """
    if isinstance(index, faiss.IndexIVF):  # whose lists may have one row twice and another not at all
        if len(missing := np.flatnonzero(faiss.vector_to_array(index.direct_map.array) < 0)):
            raise ValueError(f"rows of an index must be in one of its lists; row {missing[0]} is not")
    for start in range(0, index.ntotal, _BLOCK):
        rows = np.asarray(index.reconstruct_n(start, min(_BLOCK, index.ntotal - start)))  # tensors where torch_utils is
        lengths = np.linalg.norm(rows, axis=1)
        if len(wrong := np.flatnonzero(~(np.abs(lengths - 1) < _LENGTH))):  # NaN is no length either
            raise ValueError(f"rows of an index must have length 1; row {start + wrong[0]} has {lengths[wrong[0]]:g}")


def kind_of(index: Any) -> tuple[str, bool]:
    """Returns the kind of an index and whether it stores float16.

    Raises:
        ValueError: If it is none that :func:`build_index` makes.

    Example:
        >>> kind_of(faiss.IndexFlatL2(2))
        Traceback (most recent call last):
        ValueError: an index must be one of IndexFlat, ..., with the inner product; it is a IndexFlatL2...
    """
    name = type(index).__name__
    kind, half = _CLASSES.get(name, ("", False))
    stored = getattr(index, "storage", index)
    quantizer = getattr(faiss.downcast_index(stored), "sq", None)
    known = kind and index.metric_type == faiss.METRIC_INNER_PRODUCT and index.is_trained
    if not known or (half and (quantizer is None or quantizer.qtype != faiss.ScalarQuantizer.QT_fp16)):
        raise ValueError(
            f"an index must be one of {', '.join(_CLASSES)}, trained, with the inner product; it is a {name}: "
            "build it anew"
        )
    return kind, half


def search_parameters(index: Any) -> dict[str, int]:
    """Returns how wide a search of an index looks: ``nprobe`` lists, ``efSearch`` nodes, or nothing if it is exact."""
    if isinstance(index, faiss.IndexIVF):
        return {"nprobe": int(index.nprobe)}
    return {"efSearch": int(index.hnsw.efSearch)} if isinstance(index, faiss.IndexHNSW) else {}


def set_search_parameters(index: Any, parameters: Mapping[str, int]) -> None:
    """Sets what :func:`search_parameters` returns.

    Raises:
        ValueError: If an index of this kind has no such parameter, or one is below 1 or larger than makes sense.

    Example:
        >>> set_search_parameters(build_index(torch.eye(2), "hnsw"), {"efSearch": 0})
        Traceback (most recent call last):
        ValueError: search parameters must be efSearch, an integer from 1 to 1024; they are {'efSearch': 0}
    """
    wanted = search_parameters(index).keys()
    most = max(_WIDEST, index.ntotal)  # faiss takes memory for as many as it is told
    if parameters.keys() != wanted or any(
        type(value) is not int or not 1 <= value <= most for value in parameters.values()
    ):
        rule = f"{', '.join(wanted)}, an integer from 1 to {most}" if wanted else "none for an exact index"
        raise ValueError(f"search parameters must be {rule}; they are {dict(parameters)}")
    for name, value in parameters.items():
        setattr(index.hnsw if name == "efSearch" else index, name, value)


def recall_queries(num_rows: int, *, num_queries: int = 1000, seed: int = 0) -> Tensor:
    """Draws the rows that the recall of an index is measured with.

    Returns:
        (min(num_queries, num_rows),) int64, ascending.

    Example:
        >>> recall_queries(3).tolist(), len(recall_queries(5000))
        ([0, 1, 2], 1000)
    """
    generator = np.random.default_rng(seed)
    return torch.from_numpy(np.sort(generator.choice(num_rows, min(num_queries, num_rows), replace=False)))


def tune(index: Any, features: Tensor, *, k: int = 10, target: float = TARGET, seed: int = 0) -> float:
    """Lets an index look wider, in steps of two, until it finds enough of the k nearest rows, and says how many.

    The queries are :func:`recall_queries`, each searched for among the other rows, itself left out by its number. A
    found row counts if its cosine is as high as the cosine of the k-th nearest, so that it does not matter which of
    equal rows are found. Cosines are taken from ``features``, so that what float16 loses counts too.

    Args:
        index: What :func:`build_index` made of ``features``.
        features: (N, D) rows, at least 2.
        k: How many nearest rows; N - 1 where there are fewer.
        target: The recall, 0 to 1, that is enough.
        seed: Of the queries.

    Returns:
        The mean share of the k nearest that are found. It is below ``target`` where even the widest search (1,024
        nodes of a graph) is not enough.

    Raises:
        ValueError: If there is one row only, which has no neighbour.

    Example:
        >>> rows = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
        >>> index = build_index(rows, "ivf")
        >>> tune(index, rows) >= 0.99, search_parameters(index)
        (True, {'nprobe': 8})
    """
    if len(features) < 2:
        raise ValueError("recall needs two rows at least, for a row is no neighbour of itself; there is one")
    k = min(k, len(features) - 1)
    rows = recall_queries(len(features), seed=seed)
    query = unit_rows(features[rows], "query")
    worst = _nearest_others(query, rows, features, k)[:, -1:] - _ROUNDING
    widest = getattr(index, "nlist", _WIDEST)
    width = 16 if isinstance(index, faiss.IndexHNSW) else 1
    while True:
        parameters = search_parameters(index)
        set_search_parameters(index, dict.fromkeys(parameters, width))
        found = torch.from_numpy(index.search(query.numpy(), k + 1)[1])
        recall = (_cosines(query, rows, found, features) >= worst).sum(1).clamp(max=k).double().mean().item() / k
        if recall >= target or not parameters or width >= widest:
            return recall
        width = min(2 * width, widest)


def _nearest_others(query: Tensor, rows: Tensor, features: Tensor, k: int) -> Tensor:
    """Returns the (Q, k) cosines of the nearest rows of each query but itself, the highest first, exactly."""
    best = torch.full((len(query), 0), 0.0)
    for start in range(0, len(features), _BLOCK):
        block = _unit_block(features, start)
        own = rows[:, None] - start
        scores, found = (query @ block.T).topk(min(k + 1, len(block)))
        best = torch.cat([best, scores.masked_fill(found == own, -math.inf)], 1)
        best = best.sort(dim=1, descending=True).values[:, :k]
    return best


def _cosines(query: Tensor, rows: Tensor, found: Tensor, features: Tensor) -> Tensor:
    """Returns the (Q, K) cosines of found rows; minus infinity for none and for the query's own row."""
    scores = torch.empty(found.shape)
    for column in range(found.shape[1]):
        scores[:, column] = (query * unit_rows(features[found[:, column].clamp(min=0)])).sum(1)
    return scores.masked_fill((found == PAD) | (found == rows[:, None]), -math.inf)


def _unit_block(features: Tensor, start: int) -> Tensor:
    block = features[start : start + _BLOCK]
    return unit_rows(block, "features" if start == 0 else f"features[{start}:]")
