"""What a query's ranking scores over all levels of the tree."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hierpretrain.functional.quick_ranks import Ranked
from hierpretrain.taxonomy import paired_depth, path_heights


class TreeScores:
    """What :func:`hierpretrain.functional.hierarchical_retrieval.hierarchical_retrieval_scores` finds.

    Args:
        query_labels: (Q, L) or (Q, P, L) int64 labels.
        gallery_labels: (G, L) or (G, P, L) labels.
        queries: (S,) indices of the queries that are scored.
        ks: The k of ``ndcg@k``, each once.
        relevances_of: Turns (B, L + 1) counts per level into (B, L + 1) relevances, see :func:`relevance_of`.

    Attributes:
        scores: (S,) scores by name; 0 for a query until it is added.
    """

    def __init__(
        self,
        query_labels: Tensor,
        gallery_labels: Tensor,
        queries: Tensor,
        ks: Sequence[int],
        relevances_of: Callable[[Tensor], Tensor],
    ) -> None:
        self.ks, self.relevances_of = ks, relevances_of
        num_levels, num_items = query_labels.shape[-1], len(gallery_labels)
        query_paths = query_labels.reshape(len(query_labels), -1, num_levels)  # (Q, P, L)
        self._gallery_paths = gallery_labels.reshape(num_items, -1, num_levels)
        heights = path_heights(torch.cat([query_paths.flatten(0, 1), self._gallery_paths.flatten(0, 1)]))
        heights = heights[: query_paths.shape[:2].numel()].view(*query_paths.shape[:2], -1)  # (Q, P, L + 1)
        self._query_paths, self._heights = query_paths[queries], heights[queries]
        ranks = np.arange(1, num_items + 1)
        self._harmonic = np.concatenate([np.zeros(1), np.cumsum(1 / ranks)])  # H_0 = 0, H_1, ...
        self._discount = np.concatenate([np.zeros(1), 1 / np.log2(ranks + 1)])  # of rank 0, which is none, and so on
        self._discounts = self._discount.cumsum()
        self._gains = 2.0 ** np.arange(num_levels + 1) - 1
        names = ["h_ap", "asi", "ndcg", *(f"ndcg@{k}" for k in ks), "lca_height@1"]
        self.scores = {name: torch.zeros(len(queries), dtype=torch.float64) for name in names}
        self.scores["num_relevant"] = torch.zeros(len(queries), dtype=torch.int64)

    def add(self, ranked: Ranked) -> None:
        """Scores the queries of a block."""
        block = torch.from_numpy(ranked.queries)
        for name, values in self._by_ranks(ranked).items():
            self.scores[name][block] = torch.from_numpy(values)
        if ranked.nearest is None:
            first = ranked.counts.cumsum() - ranked.counts
            shared = np.where(ranked.ranks[first] == 1, ranked.levels[first], 0)
            at_first = self._heights[block, 0, torch.from_numpy(shared)]
        else:
            nearest = self._gallery_paths[torch.from_numpy(ranked.nearest)]
            at_first = _lca_heights(self._query_paths[block], self._heights[block], nearest)
        self.scores["lca_height@1"][block] = at_first.double()

    def _by_ranks(self, ranked: Ranked) -> dict[str, NDArray[Any]]:
        """Returns (B,) ``h_ap``, ``asi``, ``ndcg``, ``ndcg@k`` and ``num_relevant`` of the B queries of a block."""
        counts, rank, level = ranked.counts, ranked.ranks, ranked.levels
        first, so_far = counts.cumsum() - counts, []  # of each query's items
        numbers = np.zeros((len(counts), len(self._gains)), np.int64)
        for m in range(1, len(self._gains)):
            up_to = np.concatenate([np.zeros(1, np.int64), np.cumsum(level == m)])
            numbers[:, m] = up_to[first + counts] - up_to[first]
            so_far.append(up_to[1:] - np.repeat(up_to[first], counts))
        relevances = self.relevances_of(torch.from_numpy(numbers)).numpy()
        at_level = np.repeat(np.arange(len(counts)) * len(self._gains), counts) + level  # of flat (B, L + 1) arrays

        own = relevances.reshape(-1)[at_level]
        h_rank = np.zeros(len(rank))
        for m, of_level in enumerate(so_far, 1):
            h_rank += np.minimum(own, np.repeat(relevances[:, m], counts)) * of_level
        h_ap = _fraction(np.add.reduceat(h_rank / rank, first), (relevances * numbers).sum(1))
        scores = {"h_ap": h_ap, "num_relevant": counts}

        # min(c_l(k), c*_l(k)) counts the m whose m-th item of level l is among the first k in both orders
        begin = np.flip(np.flip(numbers, 1).cumsum(1), 1) - numbers  # items of each level's finer ones
        best_rank = begin.reshape(-1)[at_level]
        for m, of_level in enumerate(so_far, 1):
            best_rank += np.where(level == m, of_level, 0)  # items of one level keep their order
        in_both = np.repeat(self._harmonic[counts], counts) - self._harmonic[np.maximum(rank, best_rank) - 1]
        scores["asi"] = _fraction(np.add.reduceat(np.maximum(in_both, 0, out=in_both), first), counts)

        gain = self._gains[level] * self._discount[rank]
        for name, k in {"ndcg": len(self._discount) - 1, **{f"ndcg@{k}": k for k in self.ks}}.items():
            ends = np.minimum([begin, begin + numbers], min(k, len(self._discount) - 1))
            best = ((self._discounts[ends[1]] - self._discounts[ends[0]]) * self._gains).sum(1)
            scores[name] = _fraction(np.add.reduceat(gain * (rank <= k), first), best)
        return scores


def _fraction(part: NDArray[np.float64], whole: NDArray[Any]) -> NDArray[np.float64]:
    """Divides each query's sum by its largest possible value, which a sum of rounded numbers may exceed by a bit."""
    found: NDArray[np.float64] = np.minimum(part / whole, 1)
    return found


def _lca_heights(query_paths: Tensor, heights: Tensor, item_paths: Tensor) -> Tensor:
    """Returns the (B,) heights of the lowest common ancestors of (B, P, L) queries and one (B, P', L) item of each.

    ``heights`` are (B, P, L + 1), of the nodes on the queries' paths, the root's first.
    """
    shared = torch.stack([paired_depth(path, item_paths) for path in query_paths.unbind(1)], 1)  # (B, P)
    found = heights.gather(2, shared[..., None])[..., 0]
    return found.masked_fill(shared < shared.amax(1, keepdim=True), heights.shape[-1]).amin(1)


def relevance_of(relevance: str | Sequence[float], alpha: float, num_levels: int) -> Callable[[Tensor], Tensor]:
    """Returns the function from each query's (B, L + 1) counts per level to (B, L + 1) relevances; 0 where none is.

    Args:
        relevance: See :func:`hierpretrain.functional.hierarchical_retrieval_metrics`.
        alpha: How much more a finer level counts.
        num_levels: L.

    Raises:
        ValueError: If ``relevance`` or ``alpha`` is out of range.

    Example:
        >>> relevance_of("depth", 1.0, 2)(torch.tensor([[0, 3, 1]])).tolist()
        [[0.0, 0.5, 1.0]]
    """
    if not (math.isfinite(alpha) and alpha >= 0):
        raise ValueError(f"alpha must be a finite number from 0; it is {alpha}")
    if isinstance(relevance, str) and relevance not in ("pop", "depth", "map"):
        raise ValueError(f"relevance must be 'pop', 'depth', 'map' or one number per level; it is {relevance!r}")

    def by_level(counts: Tensor) -> Tensor:
        level = torch.arange(num_levels + 1, dtype=torch.float64)
        deepest = (level * (counts > 0)).amax(1, keepdim=True)
        # of the query's deepest match instead of L: the scale cancels, and no alpha makes all of them underflow
        value = (level / deepest.clamp(min=1)).clamp(max=1) ** alpha * (counts > 0)
        return value / counts.clamp(min=1) if relevance == "pop" else value

    if relevance in ("pop", "depth"):
        return by_level
    weights = torch.tensor([1.0] * num_levels if relevance == "map" else list(relevance), dtype=torch.float64)
    if len(weights) != num_levels or not weights.isfinite().all() or (weights < 0).any() or weights[0] == 0:
        raise ValueError(
            f"relevance must have one finite weight from 0 for each of {num_levels} levels, and the first, the "
            f"coarsest level's, above 0, as some queries match at no other; it is {weights.tolist()}"
        )

    def by_weight(counts: Tensor) -> Tensor:
        at_least = counts.flip(1).cumsum(1).flip(1)[:, 1:]  # (B, L): N_p
        gained = weights / at_least.clamp(min=1) * (at_least > 0)
        return torch.nn.functional.pad(gained.cumsum(1), (1, 0))

    return by_weight
