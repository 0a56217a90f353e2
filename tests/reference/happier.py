"""Slow oracles of HAPPIER's loss: H-AP of a ranking, and its smooth form with a loop per item and per pair."""

import torch

from tests.reference.contrastive import shared_depth


def relevances(shared, levels, alpha):
    return [0.0 if x == 0 else (x / levels) ** alpha / shared.count(x) for x in shared]


def h_ap(scores, rel):
    """Exact hierarchical average precision of scores without ties."""
    order = sorted(range(len(scores)), key=lambda k: -scores[k])
    total = 0.0
    for rank, k in enumerate(order, start=1):
        total += (rel[k] + sum(min(rel[k], rel[j]) for j in order[: rank - 1])) / rank
    return total / sum(rel)


def smooth_h_ap(scores, shared, rel, *, temperature=0.01, slope=100.0, delta=0.05, start=0.5, offset=1.44):
    def u(t):
        if t <= 0:
            return torch.sigmoid(t / temperature)
        return start + torch.sigmoid(t / temperature) if t <= delta else offset + slope * (t - delta)

    total = 0.0
    for k in range(len(scores)):
        h_rank, rank = rel[k], 1.0
        for j in range(len(scores)):
            if j != k:
                t = scores[j] - scores[k]
                h_rank += min(rel[k], rel[j]) if t >= 0 else 0
                rank = rank + ((1 if t >= 0 else 0) if shared[j] >= shared[k] else u(t))
        total = total + h_rank / rank
    return total / sum(rel)


def happier_loss(features, labels, *, alpha=1.0, **options):
    losses = []
    for q in range(len(labels)):
        items = [k for k in range(len(labels)) if k != q]
        shared = [shared_depth(labels[q], labels[k]) for k in items]
        if any(shared):
            rel = relevances(shared, labels.shape[-1], alpha)
            losses.append(1 - smooth_h_ap([features[q] @ features[k] for k in items], shared, rel, **options))
    return sum(losses) / len(losses) if losses else 0 * features.sum()
