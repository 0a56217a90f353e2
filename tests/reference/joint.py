"""Slow oracle of the cross entropies of all levels: a loop over levels, items and classes."""

import math

from hierpretrain.taxonomy import PAD


def targets(label, level, known):
    """Class -> weight of one item at a level, 0-based, spread evenly over its different nodes that are known."""
    paths = label if isinstance(label[0], list) else [label]
    nodes = {path[level] for path in paths} - {PAD}
    nodes = {node for node in nodes if known[node]}
    return {node: 1 / len(nodes) for node in nodes}


def node_counts(labels, sizes):
    counts = [[0.0] * size for size in sizes]
    for label in labels:
        for level, size in enumerate(sizes):
            for node, weight in targets(label, level, [True] * size).items():
                counts[level][node] += weight
    return counts


def level_cross_entropies(logits, labels, counts=None, balance=0.0, label_smoothing=0.0):
    losses = []
    for level, rows in enumerate(logits):
        size = len(rows[0])
        numbers = counts[level] if counts is not None else [1] * size
        known = [number > 0 for number in numbers]
        of_items = []
        for scores, label in zip(rows, labels, strict=True):
            target = targets(label, level, known)
            if not target:
                continue
            adjusted = {
                c: scores[c] + (balance * math.log(numbers[c] / sum(numbers)) if balance else 0.0)
                for c in range(size)
                if known[c]
            }
            log_sum = math.log(sum(math.exp(score) for score in adjusted.values()))
            smooth = {c: (1 - label_smoothing) * target.get(c, 0.0) + label_smoothing / len(adjusted) for c in adjusted}
            of_items.append(sum(weight * (log_sum - adjusted[c]) for c, weight in smooth.items()))
        losses.append(sum(of_items) / len(of_items) if of_items else 0.0)
    return losses
