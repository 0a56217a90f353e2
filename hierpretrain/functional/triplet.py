"""The triplet loss over one set of classes, on plain tensors.

With ``d(i, j)`` the distance of two features, a triplet is an anchor a, a positive p != a of its class and a negative n
of another class, and costs ``max(0, margin + d(a, p) - d(a, n))``.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from hierpretrain.checks import as_tensor, check_not_below_0, check_one_of
from hierpretrain.functional.batch import Gather, join_processes, sum_over_processes
from hierpretrain.functional.distances import check_squares, pairwise_distances, raise_too_long, square_root
from hierpretrain.taxonomy import PAD, as_labels

Mining = Literal["hard", "all"]
Distance = Literal["squared", "euclidean"]


def triplet_loss(
    features: Tensor,
    labels: Tensor,
    *,
    margin: float | Literal["soft"] = 0.2,
    mining: Mining = "hard",
    distance: Distance = "squared",
    gather: Gather | None = None,
) -> Tensor:
    """Computes the triplet loss over all triplets of a batch (Hermans et al., *In Defense of the Triplet Loss*, 2017).

    Args:
        features: (M, D) features, all views of all images; half precision is computed in float32.
        labels: (M,) integer classes. Items labelled ``PAD`` (-1) are left out altogether.
        margin: By how much a negative shall be further away than a positive, in the unit of the distance, at least 0.
            ``'soft'`` takes ``log(1 + exp(d(a, p) - d(a, n)))`` instead; it needs ``mining='hard'``.
        mining: ``'hard'`` ("batch hard"): the mean over the anchors of the triplet of the furthest positive and the
            nearest negative; an anchor without a positive or without a negative is left out. ``'all'`` ("batch all"):
            the mean over the triplets whose cost is above 0.
        distance: ``'squared'`` Euclidean distance, 0 to 4 between unit vectors, or ``'euclidean'``, 0 to 2. The
            Euclidean distance has gradient 0 between equal features.
        gather: Stacks the features of all processes, with gradient, as :func:`hierpretrain.models.gather.gather_rows`.
            The items of this process are then the anchors, the items of all processes their positives and negatives,
            and the loss is the one of all items together. ``None``: there is one process.

    Returns:
        0-dim tensor; 0 if there is no triplet. Time is O(M^2 log M) and memory O(M^2) for both ways of mining.

    Raises:
        ValueError: If shapes do not match, features are not finite or so long that sums of their distances are not, or
            an option is unknown.

    Example:
        >>> features = torch.tensor([[0.0], [1.0], [1.5], [4.0]])  # 0 and 1 are of one class, 1.5 and 4 of another
        >>> classes = torch.tensor([7, 7, 9, 9])
        >>> triplet_loss(features, classes, margin=1.0, distance="euclidean").item()  # (0.5 + 1.5 + 3 + 0.5) / 4
        1.375
        >>> triplet_loss(features, classes, margin=1.0, distance="euclidean", mining="all").item()  # 7.5 / 5
        1.5
    """
    check_one_of("mining", mining, ("hard", "all"))
    check_one_of("distance", distance, ("squared", "euclidean"))
    if not isinstance(margin, str):
        check_not_below_0(margin=margin)
    elif margin != "soft":
        raise ValueError(f"margin must be a number or 'soft', not {margin!r}")
    elif mining == "all":
        raise ValueError("margin='soft' goes with mining='hard'; for mining='all', give a number")
    labels = as_labels(labels)
    if labels.ndim != 1:
        raise ValueError(
            f"labels of triplet_loss must be (M,), one class per item; their shape is {tuple(labels.shape)}"
        )
    features = as_tensor(features)
    with torch.autocast(features.device.type, enabled=False):
        anchors, keys, first, classes = join_processes(features, labels, gather)
        check_squares(keys)
        own = classes[first : first + len(anchors), None]
        both_known = (own != PAD) & (classes != PAD)
        positive, negative = (own == classes) & both_known, (own != classes) & both_known  # (m, M)
        positive.diagonal(first).fill_(False)  # no item is its own positive
        if isinstance(margin, str) or mining == "hard":
            gaps = _hardest_gaps(anchors, keys, positive, negative, distance)
            costs = softplus(gaps) if isinstance(margin, str) else relu(margin + gaps)
            total, count = costs.sum(), costs.new_tensor(len(costs))
        else:
            total, count = _sum_of_violated(anchors, keys, positive, negative, distance, margin)
        total, count = sum_over_processes(torch.stack([total, count]), gather)
        if not total.isfinite():
            raise_too_long(keys)
        loss: Tensor = total / count.detach().clamp(min=1)
        return loss


def _hardest_gaps(anchors: Tensor, keys: Tensor, positive: Tensor, negative: Tensor, distance: Distance) -> Tensor:
    """Returns ``d(a, p) - d(a, n)`` of each anchor's hardest triplet, for the anchors that have a triplet."""
    complete = positive.any(1) & negative.any(1)
    anchors, positive, negative = anchors[complete], positive[complete], negative[complete]
    if len(anchors) == 0:
        return (anchors @ keys.T).flatten()  # empty, and part of the graph
    with torch.no_grad():
        distances = pairwise_distances(anchors, keys, squared=True)
        furthest = distances.masked_fill(~positive, -torch.inf).argmax(1)
        nearest = distances.masked_fill(~negative, torch.inf).argmin(1)
    to_positive, to_negative = ((anchors - keys[chosen]).square().sum(1) for chosen in (furthest, nearest))
    if distance == "euclidean":
        to_positive, to_negative = square_root(to_positive), square_root(to_negative)
    return to_positive - to_negative


def _sum_of_violated(
    anchors: Tensor, keys: Tensor, positive: Tensor, negative: Tensor, distance: Distance, margin: float
) -> tuple[Tensor, Tensor]:
    """Returns the sum of the costs above 0 and how many they are.

    A pair's distance enters the sum once for every triplet of the pair that costs anything. With the distances of each
    anchor sorted, two searches per pair count these triplets, so that none of them is ever looked at by itself.
    """
    distances = pairwise_distances(anchors, keys, squared=distance == "squared")  # (m, M)
    with torch.no_grad():
        bounds = distances + margin  # a triplet costs something if d(a, n) < d(a, p) + margin
        negatives = distances.masked_fill(~negative, torch.inf).sort(1).values
        positives = bounds.masked_fill(~positive, torch.inf).sort(1).values
        negatives_of_pair = torch.searchsorted(negatives, bounds) * positive  # of each (a, p): the n it is violated by
        satisfied = torch.searchsorted(positives, distances.detach(), right=True)
        positives_of_pair = (positive.sum(1, keepdim=True) - satisfied).clamp(min=0) * negative  # of each (a, n): the p
        count = negatives_of_pair.sum().to(distances.dtype)
    return ((negatives_of_pair - positives_of_pair) * distances).sum() + margin * count, count
