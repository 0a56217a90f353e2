"""Slow oracle of RINCE: the probabilities of the paper, with a loop per anchor, rank and pair."""

import torch

from tests.reference.contrastive import shared_depth


def rince_level_losses(features, labels, *, temperatures, variant):
    rows, levels, losses = len(labels), labels.shape[-1], []
    for level in range(1, levels + 1):
        anchor_losses = []
        for i in range(rows):
            exps = [torch.exp(features[i] @ features[j] / temperatures[level - 1]) for j in range(rows)]
            depth = [shared_depth(labels[i], labels[j]) for j in range(rows)]
            positives = [exps[j] for j in range(rows) if j != i and depth[j] == level]
            negatives = sum(exps[j] for j in range(rows) if j != i and depth[j] < level)
            if not positives:
                continue
            if variant == "out" or (variant == "out-in" and level == levels):
                pairs = [-torch.log(p / (p + negatives)) for p in positives]
                anchor_losses.append(sum(pairs) / len(pairs))
            else:
                anchor_losses.append(-torch.log(sum(positives) / (sum(positives) + negatives)))
        losses.append(sum(anchor_losses) / len(anchor_losses) if anchor_losses else 0 * features.sum())
    return torch.stack(losses)
