"""Slow oracles of the losses with proxies: a loop per item, level and proxy."""

import math

import torch

from hierpretrain.taxonomy import PAD
from tests.reference.contrastive import shared_depth


def cross_scale_loss(cosines, class_labels, labels, *, margins, scale):
    losses = []
    for i, own in enumerate(labels.tolist()):
        loss = 0
        for level, margin in enumerate(margins, start=1):
            others = [k for k in range(len(class_labels)) if shared_depth(class_labels[k], class_labels[own]) < level]
            total = sum(torch.exp(scale * cosines[i, k]) for k in others)
            loss = loss + torch.log(1 + total * torch.exp(-scale * cosines[i, own]) * math.exp(scale * margin))
        losses.append(loss)
    return torch.stack(losses)


def relation(paths, node):
    """What an item with some paths is to a node, which is the path down to it: 1 of it, 0 elsewhere, None unknown."""
    paths = [[i for i in path if i != PAD] for path in paths]
    paths = [path for path in paths if path]
    if any(path[: len(node)] == node for path in paths):
        return 1
    if not paths or any(node[: len(path)] == path for path in paths):
        return None
    return 0


def proxy_anchor_losses(features, labels, proxies, nodes, *, margin, scale):
    paths = labels[:, None].tolist() if labels.ndim == 2 else labels.tolist()
    losses = []
    for of_level, tree in zip(proxies, nodes, strict=True):
        pulls, pushes = [], []
        for proxy, node in zip(of_level, tree.tolist(), strict=True):
            cosines = [feature @ proxy / proxy.norm() for feature in features]
            relations = [relation(item, node) for item in paths]
            pull = [torch.exp(-scale * (c - margin)) for c, r in zip(cosines, relations, strict=True) if r == 1]
            push = [torch.exp(scale * (c + margin)) for c, r in zip(cosines, relations, strict=True) if r == 0]
            if pull:
                pulls.append(torch.log(1 + sum(pull)))
            pushes.append(torch.log(1 + sum(push)) if push else 0 * proxy.sum())
        losses.append((sum(pulls) / len(pulls) if pulls else 0) + sum(pushes) / len(pushes))
    return torch.stack(losses)
