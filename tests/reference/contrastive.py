"""Slow oracles of the contrastive losses: one Python loop per sum or maximum of the formulas in DESIGN section 4."""

import math

import torch

from hierpretrain.taxonomy import PAD


def shared_depth(a, b):
    """Leading levels that two label rows have in common; of items with several, the most that any two have."""
    if a.ndim == 2 or b.ndim == 2:
        return max(shared_depth(x, y) for x in a.reshape(-1, a.shape[-1]) for y in b.reshape(-1, b.shape[-1]))
    depth = 0
    for x, y in zip(a.tolist(), b.tolist(), strict=True):
        if x != y or x == PAD:
            break
        depth += 1
    return depth


def lambdas(level_weights, levels):
    k = [levels - level for level in range(levels)]  # 1 at the finest level
    return {
        "exp": [math.e ** (1 / x) for x in k],
        "pow2": [2 ** (1 / x) for x in k],
        "linear": [(level + 1) / levels for level in range(levels)],
        "uniform": [1.0] * levels,
    }.get(level_weights) or level_weights


def hierarchical_contrastive_loss(features, labels, *, level_weights="exp", **options):
    losses = level_losses(features, labels, **options)
    weights = lambdas(level_weights, len(losses))
    return sum((weight * loss for weight, loss in zip(weights, losses, strict=True)), 0 * features.sum()) / len(losses)


def level_losses(features, labels, *, temperature=0.1, positives="share", constraint=None, constraint_grad=False):
    """The losses of the levels, the coarsest first, clamped as the constraint says; 0 of a level without positives."""
    rows, levels = len(labels), labels.shape[-1]
    s = [[features[i] @ features[j] / temperature for j in range(rows)] for i in range(rows)]
    nll = {}
    for i in range(rows):
        others = [s[i][a] for a in range(rows) if a != i]
        for j in range(rows):
            if j != i:
                nll[i, j] = torch.logsumexp(torch.stack(others), 0) - s[i][j]

    def pairs(level, i):
        for j in range(rows):
            if j != i:
                depth = shared_depth(labels[i], labels[j])
                if depth >= level if positives == "share" else depth == level:
                    yield j

    def clamp(value, bound):
        if bound is None or value >= bound:
            return value
        return bound if constraint_grad else bound.detach()

    losses = []
    batch_bound, anchor_bound, level_bound = None, [None] * rows, None
    for level in range(levels, 0, -1):
        anchor_losses, clamped_of = [], {}
        for i in range(rows):
            bound = {"pair": batch_bound, "anchor": anchor_bound[i]}.get(constraint)
            clamped_of[i] = [clamp(nll[i, j], bound) for j in pairs(level, i)]
            if clamped_of[i]:
                anchor_losses.append(sum(clamped_of[i]) / len(clamped_of[i]))
        for i, clamped in clamped_of.items():
            for value in clamped:
                if anchor_bound[i] is None or value >= anchor_bound[i]:
                    anchor_bound[i] = value
                if batch_bound is None or value >= batch_bound:
                    batch_bound = value
        loss = 0 * features.sum()
        if anchor_losses:
            loss = sum(anchor_losses) / len(anchor_losses)
            if constraint == "level":
                loss = level_bound = clamp(loss, level_bound)
        losses.insert(0, loss)
    return losses


def supcon_loss(features, labels, *, temperature=0.1):
    losses = []
    for i in range(len(labels)):
        same = [j for j in range(len(labels)) if j != i and labels[j] == labels[i] != PAD]
        if same:
            all_others = sum(torch.exp(features[i] @ features[a] / temperature) for a in range(len(labels)) if a != i)
            terms = [-torch.log(torch.exp(features[i] @ features[j] / temperature) / all_others) for j in same]
            losses.append(sum(terms) / len(terms))
    return sum(losses) / len(losses)


def simclr_loss(view_0, view_1, *, temperature=0.1):
    """NT-Xent: each row against its other view, all other rows being negatives (Chen et al., 2020, eq. 1)."""
    rows, images = torch.cat([view_0, view_1]), len(view_0)
    losses = []
    for i in range(2 * images):
        partner = (i + images) % (2 * images)
        logits = torch.stack([rows[i] @ rows[a] / temperature for a in range(2 * images) if a != i])
        losses.append(torch.logsumexp(logits, 0) - rows[i] @ rows[partner] / temperature)
    return sum(losses) / len(losses)


def released_hmlc_loss(features, labels, *, num_views, temperature, base_temperature, loss_type, level_weights):
    """What PEERS.md section c.1 says of the released code, step by step, with lists of image numbers."""
    images = len(features) // num_views
    alive, columns = list(range(images)), labels.shape[1]
    total, largest = 0, None
    for k in range(1, columns):
        prefix = {i: tuple(labels[i, : columns - k].tolist()) for i in alive}
        rows = [(view * images + i, prefix[i]) for view in range(num_views) for i in alive]
        losses = []
        for i, p in rows:
            logits = torch.stack([features[i] @ features[a] / temperature for a, _ in rows if a != i])
            same = [j for j, q in rows if j != i and q == p]
            log_p = [features[i] @ features[j] / temperature - torch.logsumexp(logits, 0) for j in same]
            losses.append(-temperature / base_temperature * sum(log_p) / len(same))
        loss = sum(losses) / len(losses)
        if loss_type != "hmc":
            loss = largest = loss if largest is None or loss >= largest else largest
        penalty = {"exp": math.e ** (1 / k), "pow2": 2 ** (1 / k)}[level_weights]
        total = total + (1 if loss_type == "hce" else penalty) * loss
        first = {}
        for i in alive:
            first.setdefault(prefix[i], i)
        alive = [first[p] for p in sorted(first)]
    return total / columns
