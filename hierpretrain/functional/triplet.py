"""The triplet loss over one set of classes, on plain tensors.

With ``d(i, j)`` the distance of two rows, a triplet is an anchor a, a positive p != a of its class and a negative n of
another class, and costs ``max(0, margin + d(a, p) - d(a, n))``.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from hierpretrain.functional.batch import Gather, join_processes, sum_over_processes
from hierpretrain.taxonomy import PAD

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
    """Triplet loss with the triplets of a batch (Hermans et al., *In Defense of the Triplet Loss*, 2017).

    Args:
        features: (M, D) rows, all views of all images; half precision is computed in float32.
        labels: (M,) integer classes. Rows labelled ``PAD`` (-1) are left out altogether.
        margin: By how much a negative shall be further away than a positive, in the unit of the distance, at least 0;
            ``'soft'`` takes ``log(1 + exp(d(a, p) - d(a, n)))`` instead (for ``mining='hard'``).
        mining: ``'hard'``: the mean over the anchors of the one triplet of the furthest positive and the nearest
            negative (their batch hard); an anchor without either is left out. ``'all'``: the mean over the triplets
            whose cost is above 0 (their batch all, less the triplets that are satisfied).
        distance: ``'squared'`` Euclidean, 0 to 4 between unit rows, or ``'euclidean'``, 0 to 2. The latter has gradient
            0 between equal rows.
        gather: Stacks the rows of all processes, with gradient, as :func:`hierpretrain.models.gather.gather_rows`. The
            own rows are then anchors, those of all processes their positives and negatives, and the value is that of
            all rows together.

    Returns:
        0-dim tensor; 0 if there is no triplet. Time and memory are O(M^2 log M) and O(M^2) for both ways of mining.

    Raises:
        ValueError: If shapes do not match, features are not finite or an option is unknown.

    Example:
        >>> features = torch.tensor([[0.0], [1.0], [1.5], [4.0]])  # 0 and 1 are of one class, 1.5 and 4 of another
        >>> classes = torch.tensor([7, 7, 9, 9])
        >>> triplet_loss(features, classes, margin=1.0, distance="euclidean").item()  # (0.5 + 1.5 + 3 + 0.5) / 4
        1.375
        >>> triplet_loss(features, classes, margin=1.0, distance="euclidean", mining="all").item()  # 7.5 / 5
        1.5
    """
    if mining not in ("hard", "all"):
        raise ValueError(f"mining must be 'hard' or 'all', not {mining!r}")
    if distance not in ("squared", "euclidean"):
        raise ValueError(f"distance must be 'squared' or 'euclidean', not {distance!r}")
    if isinstance(margin, str) and margin != "soft":
        raise ValueError(f"margin must be a number or 'soft', not {margin!r}")
    if not isinstance(margin, str) and not 0 <= margin < float("inf"):
        raise ValueError(f"margin must be finite and not below 0; it is {margin}")
    if margin == "soft" and mining == "all":
        raise ValueError("margin='soft' goes with mining='hard'; for mining='all', give a number")
    if labels.ndim != 1:
        raise ValueError(
            f"labels of triplet_loss must be (M,), one class per row; their shape is {tuple(labels.shape)}"
        )
    with torch.autocast(features.device.type, enabled=False):
        rows, keys, first, classes = join_processes(features, labels, gather)
        own = classes[first : first + len(rows), None]
        both_known = (own != PAD) & (classes != PAD)
        positive, negative = (own == classes) & both_known, (own != classes) & both_known
        positive.diagonal(first).fill_(False)  # a row is no positive of its own
        if isinstance(margin, str) or mining == "hard":
            costs = _hardest(rows, keys, positive, negative, distance)
            costs = softplus(costs) if isinstance(margin, str) else relu(margin + costs)
            summed, count = costs.sum(), costs.new_tensor(len(costs))
        else:
            summed, count = _sum_of_violated(rows, keys, positive, negative, distance, margin)
        summed, count = sum_over_processes(torch.stack([summed, count]), gather)
        loss: Tensor = summed / count.detach().clamp(min=1)
        return loss


def _hardest(rows: Tensor, keys: Tensor, positive: Tensor, negative: Tensor, distance: Distance) -> Tensor:
    """Returns ``d(a, p) - d(a, n)`` of each anchor's hardest triplet, for the anchors that have one."""
    anchors = positive.any(1) & negative.any(1)
    rows, positive, negative = rows[anchors], positive[anchors], negative[anchors]
    if len(rows) == 0:
        return (rows @ keys.T).flatten()  # empty, and part of the graph
    with torch.no_grad():
        distances = _squared_distances(rows, keys)
        furthest = distances.masked_fill(~positive, -torch.inf).argmax(1)
        nearest = distances.masked_fill(~negative, torch.inf).argmin(1)
    to_positive, to_negative = ((rows - keys[chosen]).square().sum(1) for chosen in (furthest, nearest))
    if distance == "euclidean":
        to_positive, to_negative = root(to_positive), root(to_negative)
    return to_positive - to_negative


def _sum_of_violated(
    rows: Tensor, keys: Tensor, positive: Tensor, negative: Tensor, distance: Distance, margin: float
) -> tuple[Tensor, Tensor]:
    """Returns the sum of the costs above 0 and how many they are.

    A pair's distance enters the sum once for every triplet of it that costs anything, so with the distances of a row
    sorted, two searches per pair give all that is needed: no triplet is ever looked at.
    """
    distances = _squared_distances(rows, keys)
    if distance == "euclidean":
        distances = root(distances)
    with torch.no_grad():
        bounds = distances + margin  # a triplet costs something if d(a, n) < d(a, p) + margin
        negatives = distances.masked_fill(~negative, torch.inf).sort(1).values
        positives = bounds.masked_fill(~positive, torch.inf).sort(1).values
        violated_by = torch.searchsorted(negatives, bounds) * positive  # (m, M): of each (a, p), the n
        exceeded = torch.searchsorted(positives, distances.detach(), right=True)
        violating = (positive.sum(1, keepdim=True) - exceeded).clamp(min=0) * negative  # of each (a, n), the p
        count = violated_by.sum().to(distances.dtype)
    return ((violated_by - violating) * distances).sum() + margin * count, count


def _squared_distances(rows: Tensor, keys: Tensor) -> Tensor:
    squares = rows.square().sum(1)[:, None] + keys.square().sum(1)
    return torch.addmm(squares, rows, keys.T, alpha=-2).clamp(min=0)


def root(squares: Tensor) -> Tensor:
    """Returns the square root with gradient 0 at 0, where that of ``sqrt`` is infinite.

    Example:
        >>> root(torch.tensor([4.0, 0.0])).tolist()
        [2.0, 0.0]
    """
    above = squares > 0
    return torch.where(above, squares, 1.0).sqrt() * above
