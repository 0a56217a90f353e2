"""The ranking loss of HAPPIER, on plain tensors.

Ramzi et al., *Hierarchical Average Precision Training for Pertinent Image Retrieval*, ECCV 2022. For a query, with
``s_k`` the similarity of item k, ``l_k`` the number of levels that the two share, ``n_l`` the number of items that
share exactly l levels, and ``t = s_j - s_k``::

    rel(k)    = (l_k / L)^alpha / n_{l_k}, 0 where l_k = 0
    H-rank(k) = rel(k) + sum over j != k with s_j >= s_k of min(rel(k), rel(j))
    rank(k)   = 1 + sum over j != k with l_j >= l_k of 1[t >= 0] + sum over j with l_j < l_k of U(t)
    H-AP      = sum over k of H-rank(k) / rank(k), divided by the sum over k of rel(k)

    U(t) = sigmoid(t / temperature)             if t <= 0
           start + sigmoid(t / temperature)     if 0 < t <= delta
           offset + slope (t - delta)           if t > delta

With the step 1[t >= 0] in the place of U this is exact H-AP. Only U has a gradient: it pushes items that share less
behind those that share more. (It is written out below, since the loss has as many terms as there are triples.)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hierpretrain.functional.batch import Gather, join_processes, sum_over_processes
from hierpretrain.taxonomy import shared_depth

_BLOCK = 1 << 20  # triples (query, k, j) held at a time
_ITSELF = -1  # in place of the number of levels that a query shares with itself


def happier_loss(
    features: Tensor,
    labels: Tensor,
    *,
    alpha: float = 1.0,
    temperature: float = 0.01,
    slope: float = 100.0,
    delta: float = 0.05,
    start: float = 0.5,
    offset: float = 1.44,
    gather: Gather | None = None,
) -> Tensor:
    """One minus the smooth H-AP of a batch, each row being a query of all others.

    It differs from the released code in that a query is no item of its own ranking, and that levels are those of the
    lowest common ancestor.

    Args:
        features: (M, D) unit rows, all views of all images; half precision is computed in float32.
        labels: (M, L) label matrix, coarsest level first, ``PAD`` (-1) only on the right, or (M, P, L) for items with
            several paths.
        alpha: How much more the finer levels count; from 0.
        temperature: Of the sigmoid, in units of similarity; above 0. So is ``delta``, from 0.
        slope: Of U beyond ``delta``, from 0.
        delta: Up to where an item that is wrongly in front is close.
        start: What U adds on the wrong side; 0 or 0.5 in the paper's experiments.
        offset: U right behind ``delta``; 1.44 or 1.0 there.
        gather: Stacks the rows of all processes, with gradient, as :func:`hierpretrain.models.gather.gather_rows`. The
            own rows are then queries of those of all processes, and the value is that of all rows together.

    Returns:
        0-dim tensor in [0, 1] as far as U is not below 1[t >= 0]: the mean over the queries that share a level with
        another row; 0 if none does. Memory is O(M^2), time O(M) for each pair
        that shares a level.

    Raises:
        ValueError: If shapes do not match, labels are malformed, features are not finite or an option is out of range.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.96, 0.28]])  # the third is nearest to both others
        >>> loss = happier_loss(features, torch.tensor([[0, 0], [0, 0], [1, 1]]))
        >>> round(loss.item(), 4)  # 1 - (1 / 13.44 + 1 / 11.04) / 2, since 13.44 = 1 + 1.44 + 100 (0.96 - 0.8 - 0.05)
        0.9175
    """
    if not 0 <= alpha < float("inf"):
        raise ValueError(f"alpha must be finite and not below 0; it is {alpha}")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0; it is {temperature}")
    for name, value in (("slope", slope), ("delta", delta), ("start", start), ("offset", offset)):
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name} must be finite and not below 0; it is {value}")
    with torch.autocast(features.device.type, enabled=False):
        rows, keys, first, key_labels = join_processes(features, labels, gather)
        scores = rows @ keys.T  # (m, M)
        shared = shared_depth(key_labels[first : first + len(rows)], key_labels)
        shared.diagonal(first).fill_(_ITSELF)
        relevances = relevance(shared.clamp(min=0), labels.shape[-1], alpha).to(scores)
        shape = _Shape(temperature, slope, delta, start, offset)
        precisions, slopes = _smooth_h_ap(scores.detach(), shared, relevances, shape)
        queries = (shared > 0).any(1).to(scores)
        # the slopes are those of H-AP in the scores; what is taken off leaves its value
        losses = queries - precisions - ((scores - scores.detach()) * slopes).sum(1)
        summed, count = sum_over_processes(torch.stack([losses.sum(), queries.sum()]), gather)
        loss: Tensor = summed / count.detach().clamp(min=1)
        return loss


def relevance(shared: Tensor, levels: int, alpha: float) -> Tensor:
    """Returns how relevant each item is to its query: ``(l / L)^alpha`` shared by the items of its level.

    Args:
        shared: (Q, N) levels in common, 0 to L; 0 for the query itself.
        levels: L.
        alpha: Exponent, from 0.

    Returns:
        (Q, N) float64, 0 where nothing is shared. An item of a crowded fine level may have less than one of a sparse
        coarse one.

    Example:
        >>> relevance(torch.tensor([[2, 1, 1, 0]]), 2, 1.0).tolist()
        [[1.0, 0.25, 0.25, 0.0]]
    """
    counts = torch.zeros(len(shared), levels + 1, dtype=torch.int64, device=shared.device)
    counts = counts.scatter_add(1, shared, torch.ones_like(shared))
    share = (shared.double() / max(levels, 1)) ** alpha / counts.gather(1, shared)
    return torch.where(shared > 0, share, 0.0)


class _Shape(NamedTuple):
    """The step that counts an item in front, made smooth: U of this module's head."""

    temperature: float
    slope: float
    delta: float
    start: float
    offset: float

    def value_and_slope(self, gaps: Tensor) -> tuple[Tensor, Tensor]:
        sigmoid = torch.sigmoid(gaps / self.temperature)
        near = torch.where(gaps > 0, sigmoid + self.start, sigmoid)
        value = torch.where(gaps > self.delta, self.offset + self.slope * (gaps - self.delta), near)
        return value, torch.where(gaps > self.delta, self.slope, sigmoid * (1 - sigmoid) / self.temperature)


@torch.no_grad()
def _smooth_h_ap(scores: Tensor, shared: Tensor, relevances: Tensor, shape: _Shape) -> tuple[Tensor, Tensor]:
    """Returns (Q,) H-AP, 0 where nothing is shared, and its (Q, N) derivatives in the scores.

    Args:
        scores: (Q, N).
        shared: (Q, N) levels in common, ``_ITSELF`` for the query.
        relevances: (Q, N).
        shape: Of U.
    """
    precisions, slopes = torch.zeros_like(scores[:, 0]), torch.zeros_like(scores)
    weights = relevances / relevances.sum(1, keepdim=True).clamp(min=torch.finfo(relevances.dtype).tiny)
    pairs = (shared > 0).nonzero()
    for chunk in torch.split(pairs, max(1, _BLOCK // max(scores.shape[1], 1))):
        query, item = chunk.unbind(1)
        gaps = scores[query] - scores[query, item, None]  # (pairs, N): t
        gaps[shared[query] == _ITSELF] = -torch.inf  # never in front
        gaps.scatter_(1, item[:, None], -torch.inf)  # nor is the item before itself
        in_front, lesser = gaps >= 0, shared[query] < shared[query, item, None]
        value, slope = shape.value_and_slope(gaps)
        rank = 1 + torch.where(lesser, value, in_front.to(value)).sum(1)
        h_rank = weights[query, item] + (torch.minimum(weights[query], weights[query, item, None]) * in_front).sum(1)
        precisions.index_add_(0, query, h_rank / rank)
        change = slope * lesser * (-h_rank / rank**2)[:, None]  # of h_rank / rank, with each gap
        slopes.index_add_(0, query, change)
        slopes.index_put_((query, item), -change.sum(1), accumulate=True)
    return precisions, slopes
