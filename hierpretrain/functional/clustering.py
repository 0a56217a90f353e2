"""Clustering metrics: k-means on the embeddings against the classes of one level."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import faiss
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hierpretrain.checks import check_flat, check_from_0
from hierpretrain.functional.search import unit_rows
from hierpretrain.taxonomy import PAD

_STARTS = 3  # of k-means


def clustering_metrics(
    embeddings: Tensor, labels: Tensor, *, parents: Tensor | None = None, seed: int = 0
) -> dict[str, float]:
    """Compares a k-means clustering of the embeddings, with as many clusters as there are classes, with the classes.

    The embeddings are scaled to length 1. k-means is faiss's: up to 50 iterations over all items, the best of 3 starts
    by greedy k-means++, which tries 2 + ln K items for each centroid and takes the one that helps most.

    Args:
        embeddings: (N, D) floating-point features on any device, of any length but 0.
        labels: (N,) integers: node ids from 0; an item of ``PAD`` is left out.
        parents: (N,) each item's node at a coarser level, to measure inside each parent as well. An item whose parent
            is ``PAD`` is left out of that measure.
        seed: Chooses the initial centroids; equal seeds give equal results on one machine.

    Returns:
        ``nmi``, normalised mutual information (arithmetic mean) in [0, 1]; ``ami``, the same adjusted for chance (0 is
        what random clusters get, at most 1); ``num_classes``. With ``parents`` also ``nmi_in_parent``, the mean over
        parents of the NMI of a clustering of that parent's items alone (the NMI at product level of Zhang et al.,
        *Use All The Labels*, 2022), and ``num_parents``, over how many: a parent of one class has nothing to
        cluster and is left out.

        NMI grows with the number of classes per item, up to 1 if every item is its own class; compare AMI where the
        numbers of classes differ.

    Raises:
        ValueError: If embeddings or labels are malformed (see ``unit_rows`` and ``check_flat``), there are fewer than
            two classes, or no parent has two.

    Example:
        >>> import torch
        >>> embeddings = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9], [-1.0, 0.0], [-0.9, 0.1]])
        >>> metrics = clustering_metrics(
        ...     embeddings, torch.tensor([5, 5, 6, 6, 8, 8]), parents=torch.tensor([0, 0, 0, 0, 1, 1])
        ... )
        >>> {name: round(value, 4) for name, value in metrics.items()}
        {'nmi': 1.0, 'ami': 1.0, 'num_classes': 3, 'nmi_in_parent': 1.0, 'num_parents': 1}
    """
    _, metrics = best_clustering(embeddings, labels, seed=seed)
    if parents is None:
        return metrics
    by_parent = nmi_by_parent(embeddings, labels, parents, seed=seed)
    return metrics | {"nmi_in_parent": mean_over_parents(by_parent), "num_parents": len(by_parent)}


def best_clustering(
    embeddings: Tensor, labels: Tensor, *, seed: int = 0, shard: tuple[int, int] = (0, 1)
) -> tuple[tuple[float, int], dict[str, float]]:
    """Clusters the embeddings by k-means, from one of several shards of its starts, and compares with the classes.

    Args:
        embeddings: (N, D) floating-point features.
        labels: (N,) node ids, or ``PAD``.
        seed: Chooses the initial centroids of all starts.
        shard: (rank, world_size): the starts rank, rank + world_size and so on are made.

    Returns:
        The sum of squared distances of the best clustering and its start, by which the best of several shards is the
        smallest; the sum is infinite if the shard has no start. And its ``nmi``, ``ami`` and ``num_classes``.

    Raises:
        ValueError: As :func:`clustering_metrics`.

    Example:
        >>> import torch
        >>> features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        >>> best_clustering(features, torch.tensor([0, 1, 0]), shard=(1, 2))
        ((0.0, 1), {'nmi': 1.0, 'ami': 1.0, 'num_classes': 2})
    """
    features = unit_rows(embeddings, "embeddings").numpy()
    classes = check_flat(labels, len(features)).numpy()
    known = classes != PAD
    num_classes = len(np.unique(classes[known]))
    if num_classes < 2:
        raise ValueError(
            f"clustering needs at least 2 classes; these {len(features)} items have {num_classes}; use a finer level "
            "or more items"
        )
    starts = range(shard[0], _STARTS, shard[1])
    if not starts:
        return (float("inf"), _STARTS), {}
    from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score  # a second; few wait for it

    total, start, clusters = _kmeans(features[known], num_classes, seed, starts)
    return (total, start), {
        "nmi": float(normalized_mutual_info_score(classes[known], clusters)),
        "ami": float(adjusted_mutual_info_score(classes[known], clusters)),
        "num_classes": num_classes,
    }


def nmi_by_parent(
    embeddings: Tensor, labels: Tensor, parents: Tensor, *, seed: int = 0, shard: tuple[int, int] = (0, 1)
) -> dict[int, float]:
    """Clusters the items of each parent alone, for one of several shards of the parents, and computes the NMI.

    Args:
        embeddings: (N, D) floating-point features.
        labels: (N,) node ids, or ``PAD``.
        parents: (N,) node ids at a coarser level, or ``PAD``.
        seed: Chooses the initial centroids.
        shard: (rank, world_size): of the parents with at least two classes, in the order of their size, those at
            rank, rank + world_size and so on.

    Returns:
        NMI by parent. :func:`mean_over_parents` takes the mean over the parents of all shards.

    Raises:
        ValueError: As :func:`clustering_metrics`, but not if no parent has two classes.

    Example:
        >>> import torch
        >>> features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]])
        >>> nmi_by_parent(features, torch.tensor([0, 1, 0]), torch.tensor([5, 5, 5]))
        {5: 1.0}
    """
    features = unit_rows(embeddings, "embeddings").numpy()
    classes = check_flat(labels, len(features)).numpy()
    above = check_flat(parents, len(features), "parents").numpy()
    known = classes != PAD
    several = []
    for parent in np.unique(above[known & (above != PAD)]).tolist():
        inside = np.flatnonzero(known & (above == parent))
        if len(np.unique(classes[inside])) > 1:
            several.append((parent, inside))
    several.sort(key=lambda of: -len(of[1]))  # so that shards are about as large
    from sklearn.metrics import normalized_mutual_info_score

    scores = {}
    for parent, inside in several[shard[0] :: shard[1]]:
        num_inside = len(np.unique(classes[inside]))
        _, _, clusters = _kmeans(features[inside], num_inside, seed, range(_STARTS))
        scores[parent] = float(normalized_mutual_info_score(classes[inside], clusters))
    return scores


def mean_over_parents(scores: Mapping[int, float]) -> float:
    """Returns the mean of what :func:`nmi_by_parent` returned for all shards.

    Raises:
        ValueError: If there is no parent with two classes.

    Example:
        >>> mean_over_parents({5: 1.0, 7: 0.5})
        0.75
    """
    if not scores:
        raise ValueError(
            "clustering inside parents needs a parent with at least 2 classes; none has; pass the level above the "
            "labels, or no parents"
        )
    return float(np.mean([scores[parent] for parent in sorted(scores)]))


def _kmeans(
    features: NDArray[np.float32], num_clusters: int, seed: int, starts: Iterable[int]
) -> tuple[float, int, NDArray[np.int64]]:
    """Returns the sum of squared distances, the start and the (N,) clusters of the best of some starts."""
    best: tuple[float, int, NDArray[np.int64]] = (np.inf, _STARTS, np.zeros(len(features), np.int64))
    check_from_0(seed=seed)
    seeds = np.random.default_rng(seed).integers(2**31, size=_STARTS).tolist()
    for start in starts:
        kmeans = faiss.Kmeans(
            features.shape[1],
            num_clusters,
            niter=50,
            seed=seeds[start],
            min_points_per_centroid=1,
            max_points_per_centroid=len(features),  # faiss would train on a sample of 256 per centroid
        )
        # faiss's own starts, from random items or by plain k-means++, end in sums up to a quarter larger
        kmeans.train(features, init_centroids=_plus_plus(features, num_clusters, np.random.default_rng(seeds[start])))
        distance, nearest = kmeans.index.search(features, 1)
        if (total := float(distance.sum(dtype=np.float64))) < best[0]:
            best = total, start, nearest[:, 0]
    return best


def _plus_plus(features: NDArray[np.float32], num_clusters: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Chooses (K, D) of the (N, D) unit vectors as centroids by greedy k-means++.

    Arthur and Vassilvitskii, *k-means++: The Advantages of Careful Seeding*, SODA 2007. scikit-learn's does the same
    in float64 and takes four times as long.
    """
    columns = np.ascontiguousarray(features.T)  # for a few items at a time the product is then twice as fast
    num_trials = 2 + int(np.log(num_clusters))
    chosen = np.empty(num_clusters, np.int64)
    chosen[0] = rng.integers(len(features))
    closest = _squared_distances(features[chosen[:1]], columns)[0]
    for i in range(1, num_clusters):
        closest[chosen[i - 1]] = 0  # exactly, so that no item is chosen twice while another is left
        so_far = closest.cumsum(dtype=np.float64)
        drawn = so_far.searchsorted(rng.random(num_trials) * so_far[-1], side="right")
        trials = drawn.clip(max=len(features) - 1)  # what rounding, or items that are all equal, put behind the last
        distance = _squared_distances(features[trials], columns)
        np.minimum(distance, closest, out=distance)
        best = int(distance.sum(1).argmin())
        chosen[i], closest = trials[best], distance[best]
    return features[chosen]


def _squared_distances(features: NDArray[np.float32], columns: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the (K, N) squared distances of (K, D) unit vectors and (D, N) ones in columns."""
    distance: NDArray[np.float32] = features @ columns
    distance *= -2
    distance += 2
    np.maximum(distance, 0, out=distance)
    return distance
