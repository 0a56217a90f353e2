"""Slow oracle of the triplet loss: loops over anchors, positives and negatives."""

import torch

from hierpretrain.taxonomy import PAD


def triplet_loss(features, labels, *, margin=0.2, mining="hard", distance="squared"):
    def d(i, j):
        square = sum((x - y) ** 2 for x, y in zip(features[i], features[j], strict=True))
        return square if distance == "squared" else square.sqrt()

    rows = [i for i in range(len(labels)) if labels[i] != PAD]
    costs = []
    for a in rows:
        gaps = [
            (d(a, p), d(a, n))
            for p in rows
            if p != a and labels[p] == labels[a]
            for n in rows
            if labels[n] != labels[a]
        ]
        if gaps and mining == "hard":
            gaps = [(max(p for p, _ in gaps), min(n for _, n in gaps))]
        for to_positive, to_negative in gaps:
            gap = to_positive - to_negative
            costs.append(torch.log(1 + torch.exp(gap)) if margin == "soft" else (margin + gap).clamp(min=0))
    if mining == "all":
        costs = [cost for cost in costs if cost > 0]
    return sum(costs) / len(costs) if costs else 0 * features.sum()
