"""The ranking loss of HAPPIER, on plain tensors.

Ramzi et al., *Hierarchical Average Precision Training for Pertinent Image Retrieval*, ECCV 2022. For a query, with
``s_k`` the similarity of item k, ``l_k`` the number of levels that the query and item k share, ``n_l`` the number of
items that share exactly l levels with the query, and ``t = s_j - s_k``::

    rel(k)    = (l_k / L)^alpha / n_{l_k}, 0 where l_k = 0
    H-rank(k) = rel(k) + sum over j != k with s_j >= s_k of min(rel(k), rel(j))
    rank(k)   = 1 + sum over j != k with l_j >= l_k of 1[t >= 0] + sum over j with l_j < l_k of U(t)
    H-AP      = sum over k of H-rank(k) / rank(k), divided by the sum over k of rel(k)

    U(t) = sigmoid(t / temperature)             if t <= 0
           start + sigmoid(t / temperature)     if 0 < t <= delta
           offset + slope (t - delta)           if t > delta

With the step 1[t >= 0] instead of U this is exact H-AP. Only U has a gradient: it pushes items that share fewer
levels behind items that share more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hierpretrain.checks import as_tensor, check_above_0, check_not_below_0
from hierpretrain.functional.batch import Gather, join_processes, sum_over_processes
from hierpretrain.functional.contrastive import check_range
from hierpretrain.taxonomy import shared_depth

_BLOCK = 1 << 20  # triples (query, k, j) held at a time
_ITSELF = -1  # instead of the number of levels that a query shares with itself


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
    """Computes one minus the smooth H-AP of a batch, each item being a query of all others.

    It differs from the released code in two things: a query is no item of its own ranking, and two items share the
    levels down to their lowest common ancestor, not all levels at which their labels are equal.

    Args:
        features: (M, D) unit features, all views of all images; half precision is computed in float32.
        labels: (M, L) label matrix, coarsest level first, ``PAD`` (-1) only on the right, or (M, P, L) for items with
            several paths.
        alpha: How much more the finer levels count, at least 0; 0 makes all levels equal.
        temperature: Temperature of the sigmoid, in units of similarity, above 0.
        slope: Slope of U beyond ``delta``, at least 0.
        delta: By how much an item that is wrongly in front may be more similar before U grows linearly; at least 0.
        start: What U adds to the sigmoid for an item that is wrongly in front; 0 or 0.5 in the paper's experiments.
        offset: Value of U right behind ``delta``; 1.0 or 1.44 in the paper's experiments.
        gather: Stacks the features of all processes, with gradient, as :func:`hierpretrain.models.gather.gather_rows`.
            The items of this process are then queries among the items of all processes, and the loss is the one of all
            items together. ``None``: there is one process.

    Returns:
        0-dim tensor: the mean over the queries that share a level with another item; 0 if none does. It is in [0, 1] as
        long as U is not below 1[t >= 0]. Memory is O(M^2), and time O(M) for each pair that shares a level.

    Raises:
        ValueError: If shapes do not match, labels are malformed, features are not finite or so long that their
            products are not, or an option is out of range.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.96, 0.28]])  # the third is nearest to both others
        >>> loss = happier_loss(features, torch.tensor([[0, 0], [0, 0], [1, 1]]))
        >>> round(loss.item(), 4)  # 1 - (1 / 13.44 + 1 / 11.04) / 2, since 13.44 = 1 + 1.44 + 100 (0.96 - 0.8 - 0.05)
        0.9175
    """
    check_not_below_0(alpha=alpha, slope=slope, delta=delta, start=start, offset=offset)
    check_above_0(temperature=temperature)
    step = partial(smooth_step, temperature=temperature, slope=slope, delta=delta, start=start, offset=offset)
    features = as_tensor(features)
    with torch.autocast(features.device.type, enabled=False):
        queries, items, first, item_labels = join_processes(features, labels, gather)
        shared = shared_depth(item_labels[first : first + len(queries)], item_labels)  # (m, M)
        shared.diagonal(first).fill_(_ITSELF)
        relevances = relevance(shared.clamp(min=0), item_labels.shape[-1], alpha)
        # H-AP is of any scale. That of a query is a power of two, so that a great alpha does not make all of them 0
        scale = torch.frexp(relevances.sum(1, keepdim=True)).exponent.double().exp2()
        relevances = (relevances / scale).to(queries)
        check_range(items.detach(), min(temperature, 1 / max(slope, 1.0)))
        similarities = queries @ items.T
        # of no query there is nothing to rank, but the zeros are of the graph
        precisions = smooth_h_ap(similarities, shared, relevances, step) if len(queries) else similarities.sum(1)
        counted = (shared > 0).any(1).to(precisions)
        total, count = sum_over_processes(torch.stack([(counted - precisions).sum(), counted.sum()]), gather)
        loss: Tensor = total / count.detach().clamp(min=1)
        return loss


def relevance(shared: Tensor, levels: int, alpha: float) -> Tensor:
    """Computes how relevant each item is to its query: ``rel(k) = (l_k / L)^alpha / n_{l_k}``.

    Args:
        shared: (Q, N) numbers of levels in common, 0 to L; 0 for the query itself.
        levels: L.
        alpha: Exponent, at least 0.

    Returns:
        (Q, N) float64, 0 where nothing is shared. An item of a crowded fine level may be less relevant than one of a
        sparse coarse level.

    Example:
        >>> relevance(torch.tensor([[2, 1, 1, 0]]), 2, 1.0).tolist()
        [[1.0, 0.25, 0.25, 0.0]]
    """
    counts = torch.zeros(len(shared), levels + 1, dtype=torch.int64, device=shared.device)
    counts = counts.scatter_add(1, shared, torch.ones_like(shared))
    relevances = (shared.double() / max(levels, 1)) ** alpha / counts.gather(1, shared)
    return torch.where(shared > 0, relevances, 0.0)


def smooth_step(gaps: Tensor, *, temperature: float, slope: float, delta: float, start: float, offset: float) -> Tensor:
    """Computes U, the step 1[t >= 0] made smooth, of ``t`` of any shape; the options are as for :func:`happier_loss`.

    Example:
        >>> gaps = torch.tensor([-1.0, 0.0, 0.03, 0.15])
        >>> smooth_step(gaps, temperature=0.01, slope=100.0, delta=0.05, start=0.5, offset=1.44)
        tensor([ 0.0000,  0.5000,  1.4526, 11.4400])
    """
    sigmoid = torch.sigmoid(gaps / temperature)
    near = torch.where(gaps > 0, start + sigmoid, sigmoid)
    return torch.where(gaps > delta, offset + slope * (gaps - delta), near)


def smooth_h_ap(scores: Tensor, shared: Tensor, relevances: Tensor, step: Callable[[Tensor], Tensor]) -> Tensor:
    """Computes the smooth H-AP of each query.

    Every pair of a query and an item that share a level is compared with all other items. Queries are taken some at a
    time, and what they take is computed anew for the gradient, so that never more triples are held than a block has.

    Args:
        scores: (Q, N) similarities.
        shared: (Q, N) numbers of levels in common; -1 where the item is the query itself.
        relevances: (Q, N) relevances, as :func:`relevance` returns them.
        step: U.

    Returns:
        (Q,) H-AP; 0 where nothing is shared.
    """
    most = int((shared > 0).sum(1).max()) * shared.shape[1] if shared.numel() else 1  # triples of a query
    size = max(1, _BLOCK // max(most, 1))
    blocks = zip(*(torch.split(tensor, size) for tensor in (scores, shared, relevances)), strict=True)
    return torch.cat(
        [checkpoint(_h_ap_of_block, *block, step, use_reentrant=False, preserve_rng_state=False) for block in blocks]
    )


def _h_ap_of_block(scores: Tensor, shared: Tensor, relevances: Tensor, step: Callable[[Tensor], Tensor]) -> Tensor:
    query, k = (shared > 0).nonzero().unbind(1)
    scores = scores.masked_fill(shared == _ITSELF, -torch.inf)  # the query is never in front
    gaps = scores[query] - scores[query, k, None]  # (pairs, N): t of each j
    gaps = gaps.scatter(1, k[:, None], -torch.inf)  # nor is k in front of itself
    in_front, shares_less = gaps >= 0, shared[query] < shared[query, k, None]
    rank = 1 + torch.where(shares_less, step(gaps), in_front.to(gaps)).sum(1)
    h_rank = relevances[query, k] + (torch.minimum(relevances[query], relevances[query, k, None]) * in_front).sum(1)
    sums = torch.zeros_like(relevances[:, 0]).index_add(0, query, h_rank / rank)
    return sums / relevances.sum(1).clamp(min=torch.finfo(relevances.dtype).tiny)
