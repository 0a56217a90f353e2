"""Classification down the label tree by the vote of the nearest neighbours."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from hierpretrain.checks import check_above_0, check_neighbours
from hierpretrain.functional.votes import added_up
from hierpretrain.taxonomy import PAD, as_paths, check_labels, paired_depth

_ENTRIES = 2**22  # label ids of neighbours in memory at a time


def tree_knn(
    similarities: Tensor, indices: Tensor, labels: Tensor, *, temperature: float = 0.07
) -> tuple[Tensor, Tensor]:
    """Goes down the tree from the root, at every node to the child with the most votes of a query's neighbours.

    A neighbour's vote has the weight ``exp(cosine / temperature)`` (Wu et al., *Unsupervised Feature Learning via
    Non-Parametric Instance Discrimination*, CVPR 2018, section 3.4) and counts for its node and all nodes above. The
    confidence in a node is the fraction of all votes that count for it. It never rises on the way down: votes are lost
    to other branches, and at every inner node to neighbours that hang on it and say nothing of its children. Where to
    stop is a threshold on it.

    Args:
        similarities: (Q, K) cosines, K at least 1.
        indices: (Q, K) int64, the neighbours, as indices into ``labels``; ``PAD`` for none.
        labels: (N, L) or (N, P, L) labels of one taxonomy. A neighbour of several paths votes for each of them,
            and once for a node that several are below: the fractions of siblings may then add up to more than 1. One
            without a label votes for the root alone.
        temperature: Above 0; a small one leaves the vote to the nearest.

    Returns:
        (Q, L) int64, the nodes, the coarsest first and ``PAD`` below the last that has a vote, and (Q, L) float64, the
        confidence in each, 0 where there is none. Of children with equal votes the smaller id is taken.

    Raises:
        ValueError: If labels or neighbours are malformed (see :func:`~hierpretrain.checks.check_neighbours`), or the
            temperature is not above 0.

    Example:
        Three neighbours, equally near, are two tabbies and a dog.

        >>> tabby, dog = [0, 0, 1], [0, 1, PAD]
        >>> labels = torch.tensor([tabby, dog, tabby])
        >>> nodes, confidences = tree_knn(torch.ones(1, 3), torch.tensor([[0, 1, 2]]), labels)
        >>> nodes.tolist(), [round(confidence, 2) for confidence in confidences[0].tolist()]
        ([[0, 0, 1]], [1.0, 0.67, 0.67])
    """
    labels = check_labels(labels, several_paths=True)
    similarities, indices = check_neighbours(similarities, indices, len(labels))
    check_above_0(temperature=temperature)
    labels = as_paths(labels)  # (N, P, L)
    block = max(1, _ENTRIES // max(1, indices.shape[1] * labels.shape[1] * labels.shape[2]))
    parts = zip(torch.split(similarities, block), torch.split(indices, block), strict=True)
    found = [_descend(some.double(), which, labels, temperature) for some, which in parts]
    width = labels.shape[2]
    nodes = torch.cat([torch.empty(0, width, dtype=torch.int64), *(nodes for nodes, _ in found)])
    return nodes, torch.cat([torch.empty(0, width, dtype=torch.float64), *(confidences for _, confidences in found)])


def _descend(similarities: Tensor, indices: Tensor, labels: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    similarities = similarities.masked_fill(indices == PAD, -math.inf)
    nearest = similarities.amax(1, keepdim=True)
    nearest = torch.where(nearest.isfinite(), nearest, 0.0)
    weights = ((similarities - nearest) / temperature).exp()  # (Q, K); one factor a query changes no fraction
    total = weights.sum(1)
    paths = labels[indices.clamp(min=0)]  # (Q, K, P, L)
    nodes = torch.full((len(indices), labels.shape[2]), PAD)
    confidences = torch.zeros(nodes.shape, dtype=torch.float64)
    confidence = torch.ones(len(indices), dtype=torch.float64)
    for level in range(labels.shape[2]):
        here = nodes[:, None, None].expand_as(paths)
        below = paired_depth(paths.flatten(0, 2), here.flatten(0, 2)).view(paths.shape[:3]) == level
        nodes[:, level], votes = _most_votes(torch.where(below, paths[..., level], PAD), weights)
        confidence = torch.minimum(confidence, votes / total)  # rounding must not let it rise
        confidences[:, level] = torch.where(nodes[:, level] == PAD, 0.0, confidence)
    return nodes, confidences


def _most_votes(candidates: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the (Q,) candidates with the most votes, the smallest of equals, and their votes.

    ``candidates`` are (Q, K, P) ids, several a voter, ``PAD`` for none; ``weights`` are (Q, K), of the voters.
    """
    candidates = candidates.sort(dim=2).values
    again = pad(candidates.diff(dim=2) == 0, (1, 0))
    candidates = candidates.masked_fill(again, PAD)  # a voter has one vote for a node
    ids, sums = added_up(candidates.flatten(1), weights[:, :, None].expand_as(candidates).flatten(1))
    best = sums.argmax(1, keepdim=True)  # the first of equals
    most = sums.gather(1, best)[:, 0]
    return torch.where(most > 0, ids.gather(1, best)[:, 0], PAD), most
