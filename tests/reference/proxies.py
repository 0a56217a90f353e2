"""Slow oracles of the losses with proxies: a loop per item, level and proxy."""

import math

import torch

from hierpretrain.taxonomy import PAD


def parts(path, other, level):
    """Whether two paths part at a level or above it."""
    return any(a != b for a, b in zip(path[:level], other[:level], strict=False) if PAD not in (a, b))


def cross_scale_loss(*arguments, **options):
    return cross_scale_losses(*arguments, **options).sum(1)


def cross_scale_losses(cosines, class_labels, labels, *, margins, scale, known=None):
    tree, losses = class_labels.tolist(), []
    for i, classes in enumerate(labels.reshape(len(labels), -1).tolist()):
        several = sorted({k for k in classes if k != PAD})
        for level, margin in enumerate(margins, start=1):
            loss = 0
            others = [k for k, path in enumerate(tree) if all(parts(path, tree[own], level) for own in several)]
            total = sum(torch.exp(scale * cosines[i, k]) for k in others if known is None or known[k])
            for own in several:
                log = torch.log(1 + total * torch.exp(-scale * cosines[i, own]) * math.exp(scale * margin))
                loss = loss + log / len(several)
            losses.append(loss)
    return torch.stack(losses).reshape(len(labels), len(margins))


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
