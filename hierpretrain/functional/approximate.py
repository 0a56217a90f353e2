"""Indexes of faiss for cosine search: exact, inverted lists or a graph, and how much of the exact answer they find."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import faiss
import numpy as np
import torch
from torch import Tensor

from hierpretrain.checks import check_features, check_one_of
from hierpretrain.functional.sampling import sample_indices
from hierpretrain.functional.search import unit_rows
from hierpretrain.taxonomy import PAD

KINDS = ("flat", "ivf", "hnsw")

# On one core of a 2.5 GHz server, D = 128 and 256: an exact search of one query among 100,000 vectors takes 6 to 20 ms,
# among 1,000,000 it takes 60 to 120 ms, where people begin to wait. Up to here it needs no more than about 30 ms.
FLAT_UP_TO = 200_000
# A graph answers in 0.2 to 0.5 ms with a recall of 0.99, however the vectors are spread. It costs 0.3 to 0.6 ms of
# building and 272 bytes a vector: at a million minutes and 270 MB, beyond that more than most machines have to spare.
# Inverted lists cost 0.05 ms of building and 8 bytes a vector, but need some milliseconds where there are no clusters.
HNSW_UP_TO = 1_000_000

TARGET = 0.99
"""The recall@10 that a search is widened for; measured on queries of the set, which are easier than new ones."""

RECALL_QUERIES = 1000
"""The most features that the recall of an index is measured with."""

_LINKS = 32  # a node of the graph; faiss's guidelines: more than 64 gain nothing
_LISTS = 4  # times the root of N: faiss's guideline for up to a million vectors
_FEWEST, _MOST = 39, 64  # training vectors a list: below the one centroids are poor, above the other they gain little
_WIDEST = 1024  # nodes of the graph that a search keeps in view
_BLOCK = 65_536  # vectors that are scaled and compared at a time
_LENGTH = 1e-2  # by which float16 may make a vector of length 1 longer or shorter, and more
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


def choose_kind(number: int) -> str:
    """Returns the kind of index for a number of vectors: exact while that is quick, then a graph, then inverted lists.

    Example:
        >>> choose_kind(50_000), choose_kind(500_000), choose_kind(5_000_000)
        ('flat', 'hnsw', 'ivf')
    """
    return "flat" if number <= FLAT_UP_TO else "hnsw" if number <= HNSW_UP_TO else "ivf"


def build_index(features: Tensor, kind: str = "auto", *, half: bool = False, seed: int = 0) -> Any:
    """Makes an index of faiss of features scaled to length 1, whose inner products are cosines.

    Equal arguments give equal indexes, bit for bit, with faiss 1.15 on any number of threads; older versions build a
    graph in an order that depends on the threads.

    Args:
        features: (N, D) floating-point, of any length but 0.
        kind: ``'flat'``, exact; ``'ivf'``, inverted lists behind a coarse k-means (Sivic and Zisserman, *Video Google*,
            ICCV 2003); ``'hnsw'``, a graph of neighbours (Malkov and Yashunin, *Efficient and robust approximate
            nearest neighbor search using hierarchical navigable small world graphs*, TPAMI 2020); ``'auto'``, as
            :func:`choose_kind` says.
        half: Whether to store float16: half the memory, and cosines that are off by up to 1e-3.
        seed: Of the k-means: its training sample and its start; 0 to 2^31 - 1.

    Returns:
        The index, in the order of ``features``. How wide ``'ivf'`` and ``'hnsw'`` look is for :func:`tune` to set.

    Raises:
        ValueError: If features are malformed (see ``unit_rows``), there is no such kind or the seed is out of range.

    Example:
        >>> index = build_index(torch.tensor([[3.0, 4.0], [1.0, 0.0]]))
        >>> index.ntotal, index.d, kind_of(index)
        (2, 2, ('flat', False))
    """
    features = check_features(features)
    number, width = features.shape
    check_one_of("kind", kind, ("auto", *KINDS))
    kind = choose_kind(number) if kind == "auto" else kind
    if not 0 <= seed < 2**31:
        raise ValueError(f"seed must be 0 to {2**31 - 1}; it is {seed}")
    num_lists = max(1, min(round(_LISTS * math.sqrt(number)), number // _FEWEST))
    structure = {"flat": "", "ivf": f"IVF{num_lists},", "hnsw": f"HNSW{_LINKS},"}[kind]
    storage = "SQfp16" if half else "Flat"
    index: Any = faiss.index_factory(width, structure + storage, faiss.METRIC_INNER_PRODUCT)
    if kind == "ivf":
        index.cp.seed, index.cp.spherical = seed, True
        index.cp.min_points_per_centroid = 1  # fewer than faiss warns of only where there are fewer in all
        index.cp.max_points_per_centroid = _MOST
        for start in range(0, number, _BLOCK):
            _unit_block(features, start)  # or a message would count in the sample
        index.train(unit_rows(features[sample_indices(number, _MOST * num_lists, seed=seed)]).numpy())
    for start in range(0, number, _BLOCK):
        index.add(_unit_block(features, start).numpy())
    make_reconstructible(index)
    return index


def flat_index(vectors: Tensor, *, half: bool = False) -> Any:
    """Makes an exact index of vectors that have length 1, to rounding, and stay as they are, bit for bit.

    Args:
        vectors: (N, D) float32, from other indexes for instance; a float16 index's vectors are kept exactly.
        half: Whether to store float16.

    Example:
        >>> index = flat_index(torch.eye(3), half=True)
        >>> index.ntotal, kind_of(index)
        (3, ('flat', True))
    """
    storage = "SQfp16" if half else "Flat"
    index: Any = faiss.index_factory(vectors.shape[1], storage, faiss.METRIC_INNER_PRODUCT)
    for block in torch.split(vectors, _BLOCK):
        index.add(block.contiguous().numpy())
    return index


def make_reconstructible(index: Any) -> None:
    """Makes the vectors of an index readable by their numbers, which inverted lists are not when made or read."""
    if isinstance(index, faiss.IndexIVF):
        index.make_direct_map()


def check_stored(index: Any) -> None:
    """Raises unless every vector of an index, which :func:`make_reconstructible` prepared, is there and has length 1.

    Raises:
        ValueError: That names a vector.

    Example:
        >>> index = faiss.IndexFlatIP(2)
        >>> index.add(np.float32([[0.6, 0.8], [3.0, 4.0]]))
        >>> check_stored(index)
        Traceback (most recent call last):
        ValueError: vectors of an index must have length 1; number 1 has 5
    """
    if isinstance(index, faiss.IndexIVF):  # whose lists may have one vector twice and another not at all
        if len(missing := np.flatnonzero(faiss.vector_to_array(index.direct_map.array) < 0)):
            raise ValueError(f"vectors of an index must be in one of its lists; number {missing[0]} is not")
    for start in range(0, index.ntotal, _BLOCK):
        # tensors where faiss.contrib.torch_utils is imported
        vectors = np.asarray(index.reconstruct_n(start, min(_BLOCK, index.ntotal - start)))
        lengths = np.linalg.norm(vectors, axis=1)
        if len(wrong := np.flatnonzero(~(np.abs(lengths - 1) < _LENGTH))):  # NaN is no length either
            raise ValueError(
                f"vectors of an index must have length 1; number {start + wrong[0]} has {lengths[wrong[0]]:g}"
            )


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


def tune(index: Any, features: Tensor, *, k: int = 10, target: float = TARGET, seed: int = 0) -> float:
    """Lets an index look wider, in steps of two, until it finds enough of the k nearest vectors, and says how many.

    The queries are a sample of up to 1,000 features, each searched for among the others, itself left out by its number.
    What is found counts if its cosine is as high as the cosine of the k-th nearest, so that it does not matter which of
    equal vectors are found. Cosines are taken from ``features``, so that what float16 loses counts too.

    Args:
        index: What :func:`build_index` made of ``features``.
        features: (N, D), at least 2.
        k: How many nearest; N - 1 where there are fewer.
        target: The recall, 0 to 1, that is enough.
        seed: Of the queries.

    Returns:
        The mean fraction of the k nearest that are found. It is below ``target`` where even the widest search (1,024
        nodes of a graph) is not enough.

    Raises:
        ValueError: If N is 1: there is no neighbour then.

    Example:
        >>> features = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
        >>> index = build_index(features, "ivf")
        >>> tune(index, features) >= 0.99, search_parameters(index)
        (True, {'nprobe': 8})
    """
    if len(features) < 2:
        raise ValueError("recall needs two features at least, for none is a neighbour of itself; there is one")
    k = min(k, len(features) - 1)
    chosen = sample_indices(len(features), RECALL_QUERIES, seed=seed)
    query = unit_rows(features[chosen], "query")
    worst = _nearest_others(query, chosen, features, k)[:, -1:] - _ROUNDING
    widest = getattr(index, "nlist", _WIDEST)
    width = 16 if isinstance(index, faiss.IndexHNSW) else 1
    while True:
        parameters = search_parameters(index)
        set_search_parameters(index, dict.fromkeys(parameters, width))
        found = torch.from_numpy(index.search(query.numpy(), k + 1)[1])
        recall = (_cosines(query, chosen, found, features) >= worst).sum(1).clamp(max=k).double().mean().item() / k
        if recall >= target or not parameters or width >= widest:
            return recall
        width = min(2 * width, widest)


def _nearest_others(query: Tensor, chosen: Tensor, features: Tensor, k: int) -> Tensor:
    """Returns the (Q, k) cosines of the nearest features of each query but itself, the highest first, exactly."""
    best = torch.full((len(query), 0), 0.0)
    for start in range(0, len(features), _BLOCK):
        block = _unit_block(features, start)
        own = chosen[:, None] - start
        scores, found = (query @ block.T).topk(min(k + 1, len(block)))
        best = torch.cat([best, scores.masked_fill(found == own, -math.inf)], 1)
        best = best.sort(dim=1, descending=True).values[:, :k]
    return best


def _cosines(query: Tensor, chosen: Tensor, found: Tensor, features: Tensor) -> Tensor:
    """Returns the (Q, K) cosines of what was found; minus infinity for nothing and for the query itself."""
    scores = torch.empty(found.shape)
    for column in range(found.shape[1]):
        scores[:, column] = (query * unit_rows(features[found[:, column].clamp(min=0)])).sum(1)
    return scores.masked_fill((found == PAD) | (found == chosen[:, None]), -math.inf)


def _unit_block(features: Tensor, start: int) -> Tensor:
    block = features[start : start + _BLOCK]
    return unit_rows(block, "features" if start == 0 else f"features[{start}:]")
