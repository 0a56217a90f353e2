"""Hierarchy violations: triples of items whose similarities contradict the label tree."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hierpretrain.checks import check_at_least_1
from hierpretrain.functional.hierarchical_retrieval import check_label_matrix
from hierpretrain.functional.ranking import related_ranks
from hierpretrain.functional.sampling import sample_indices
from hierpretrain.functional.search import unit_rows
from hierpretrain.taxonomy import depth


def hierarchy_violations(
    embeddings: Tensor, labels: Tensor, *, max_anchors: int = 2000, seed: int = 0
) -> dict[str, float]:
    """Counts the triples in which the item that is closer in the tree is the less similar one.

    For an anchor i and two other items j and k with match levels (``shared_depth`` with the anchor) l_ij > l_ik, the
    triple is violated if the cosine similarities say s_ij < s_ik; s_ij = s_ik counts half. Over the triples of all
    anchors together,

    - ``violations`` is the violated fraction of those with l_ij > l_ik >= 1: of two relatives, the closer one is the
      less similar. It needs two levels, and says nothing of unrelated items;
    - ``violations@l``, for each level l, is the violated fraction of those with l_ij >= l > l_ik, where k may be
      unrelated (l_ik = 0): 1 - AUC of the similarity as a detector of items of the anchor's node of level l, the
      anchors' AUCs weighted by their numbers of triples.

    0 is an order that the tree agrees with, 1 its reverse, 0.5 what random or equal embeddings get. All triples of an
    anchor are counted, by ranking the other items and counting, for each level, the items in front: O(N log N + N L)
    for each anchor, on one core 1 to 2 s for 2,000 anchors among 100,000 items of 128 numbers and three levels.

    Args:
        embeddings: (N, D) floating-point features on any device, of any length but 0.
        labels: (N, L) label matrix, the coarsest level first, ``PAD`` on the right only, or (N, P, L) for items with
            several paths. An item without any label is no anchor, and unrelated to all others.
        max_anchors: If more items have a label, so many of them are drawn as anchors; j and k are always any items.
        seed: Draws the anchors.

    Returns:
        ``violations`` and ``violations@1`` to ``violations@L`` as fractions in [0, 1]; one of no triples is left
        out, as ``violations`` is where L = 1. The integers ``num_triples``, of ``violations`` alone, and
        ``num_anchors``.

    Raises:
        ValueError: If embeddings or labels are malformed (see ``unit_rows`` and ``check_labels``), ``max_anchors`` is
            below 1, or there is no triple at all.

    Example:
        From the first cat, the dog is nearer than the other cat; from the other cat, both come in the right order.

        >>> cat, dog, tool = [0, 0], [0, 1], [1, 2]
        >>> embeddings = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.8, -0.6], [-1.0, 0.0]])
        >>> metrics = hierarchy_violations(embeddings, torch.tensor([cat, cat, dog, tool]))
        >>> {name: round(value, 4) for name, value in metrics.items()}
        {'violations': 0.5, 'violations@1': 0.0, 'violations@2': 0.25, 'num_triples': 2, 'num_anchors': 4}
    """
    return violation_fractions(*violation_counts(embeddings, labels, max_anchors=max_anchors, seed=seed))


def violation_counts(
    embeddings: Tensor,
    labels: Tensor,
    *,
    max_anchors: int = 2000,
    seed: int = 0,
    shard: tuple[int, int] = (0, 1),
) -> tuple[Tensor, int]:
    """Counts what :func:`hierarchy_violations` takes fractions of, for one of several shards of the anchors.

    Args:
        embeddings: (N, D) floating-point features.
        labels: (N, L) or (N, P, L) labels.
        max_anchors: How many anchors are drawn at most, for all shards together.
        seed: Draws the anchors, the same for every shard.
        shard: (rank, world_size): the anchors rank, rank + world_size and so on are counted.

    Returns:
        (2, L + 1, L + 1) int64, where [0, p, q] is the number of triples with match levels p of j and q of k, and
        [1, p, q] twice the number of those that are violated, for p > q; and the number of anchors. Both can be added
        up over the shards; :func:`violation_fractions` divides them.

    Raises:
        ValueError: As :func:`hierarchy_violations`, but for no triple at all.

    Example:
        >>> embeddings, labels = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.8, -0.6]]), torch.tensor([[0], [0], [1]])
        >>> counts, num_anchors = violation_counts(embeddings, labels, shard=(0, 2))
        >>> counts[:, 1, 0].tolist(), num_anchors  # of anchors 0 and 2, the first has a triple: violated, twice counted
        ([1, 2], 2)
    """
    features = unit_rows(embeddings, "embeddings")
    labels = check_label_matrix(labels, len(features))
    check_at_least_1(max_anchors=max_anchors)
    anchors = depth(labels).nonzero()[:, 0]
    anchors = anchors[sample_indices(len(anchors), max_anchors, seed=seed)][shard[0] :: shard[1]]

    size = labels.shape[-1] + 1
    # every anchor is counted in two orders: of equal similarities, a pair is violated in one of them
    triples, violated = np.zeros((2, size, size), np.int64)
    sides = features[anchors], labels[anchors], features, labels
    for ranked in related_ranks(*sides, own_indices=anchors, ties="both"):
        rows, level, in_front = np.repeat(np.arange(len(ranked.counts)), ranked.counts), ranked.levels, ranked.ranks - 1
        at_least = [np.full(len(ranked.counts), len(features) - 1), ranked.counts]  # items of level 0, of level 1, ...
        for q in range(size - 1):
            # now the items of match level q or more are in front; those of more than q stay for the next round
            if q:
                some = np.flatnonzero(level > q)
                rows, level, in_front = rows[some], level[some], in_front[some]
                at_least.append(np.bincount(rows, minlength=len(at_least[0])))
            first = at_least[-1].cumsum() - at_least[-1]
            closer = np.arange(len(rows)) - np.repeat(first, at_least[-1])
            of_level = np.bincount(level, in_front - closer, minlength=size)  # sums, which stay below 2^53
            violated[:, q] += ranked.times * of_level.astype(np.int64)
            in_front = closer
        numbers = -np.diff(np.stack(at_least), axis=0, append=0).T
        triples += ranked.times * (numbers.T @ numbers)
    return torch.from_numpy(np.stack([triples // 2, violated])), len(anchors)


def violation_fractions(counts: Tensor, num_anchors: int) -> dict[str, float]:
    """Turns the counts of :func:`violation_counts`, added up over all shards, into fractions.

    Raises:
        ValueError: If there is no triple.

    Example:
        >>> violation_fractions(torch.tensor([[[0, 0], [4, 0]], [[0, 0], [2, 0]]]), 3)
        {'violations@1': 0.25, 'num_triples': 0, 'num_anchors': 3}
    """
    triples, violated = counts
    num_levels = len(triples) - 1
    level = torch.arange(num_levels + 1)
    j, k = level[:, None], level
    compared = {"violations": (j > k) & (k >= 1)} | {
        f"violations@{m}": (j >= m) & (k < m) for m in range(1, num_levels + 1)
    }
    metrics: dict[str, float] = {
        name: int(violated[pairs].sum()) / 2 / number
        for name, pairs in compared.items()
        if (number := int(triples[pairs].sum()))
    }
    if not metrics:
        raise ValueError(
            f"violations need an anchor with two other items, one closer in the tree; none of {num_anchors} anchors "
            "has; pass more items, or labels with more than one class"
        )
    return metrics | {"num_triples": int(triples[compared["violations"]].sum()), "num_anchors": num_anchors}
