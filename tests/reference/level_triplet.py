"""Slow oracles of paper B: the loss as a loop over triplets, and all triplets of a level by a look at the paths."""

from hierpretrain.taxonomy import PAD
from tests.reference.contrastive import shared_depth

MARGINS = {
    "quadratic": lambda level, top, least: (top - level) ** 2 + least,
    "linear": lambda level, top, least: (top - level) + least,
    "exponential": lambda level, top, least: 2 ** (top - level) - 1 + least,
    "tree_distance": lambda level, top, least: least * (2 * (top - level + 1)) / 2,  # edges between leaves, halved
    "constant": lambda level, top, least: least,
}


def level_triplet_loss(anchor, positive, negative, levels, max_levels, min_margin, margin="quadratic"):
    total = 0 * anchor.sum()
    for row, (level, top) in enumerate(zip(levels, max_levels, strict=True)):
        to_positive = sum((a - p) ** 2 for a, p in zip(anchor[row], positive[row], strict=True))
        to_negative = sum((a - n) ** 2 for a, n in zip(anchor[row], negative[row], strict=True))
        cost = to_positive - to_negative + MARGINS[margin](level, top, min_margin)
        total = total + cost.clamp(min=0)
    return total / len(levels)


def paths_of(item):
    """The paths of an item's label rows, as tuples without PAD; none for an item without a label."""
    rows = item[None] if item.ndim == 1 else item
    paths = [tuple(node for node in row.tolist() if node != PAD) for row in rows]
    return [path for path in paths if path]


def triplets_of_level(labels, level):
    """Node -> the set of its triplets; a node is a path of the level's length."""
    items = [paths_of(item) for item in labels]
    nodes = [{path[:level] for path in paths if len(path) >= level} for paths in items]
    found = {}
    for node in sorted(set().union(*nodes)):
        pool = [i for i, its in enumerate(nodes) if node in its]
        others = [i for i, its in enumerate(nodes) if any(o[:-1] == node[:-1] and o != node for o in its)]
        triplets = {(a, p, n) for a in pool for p in pool if p != a for n in others if not nodes[a] & nodes[n]}
        if triplets:
            found[node] = triplets
    return found


def triplets_of_leaves(labels):
    """Leaf -> the set of its triplets."""
    items = [paths_of(item) for item in labels]
    every = {path for paths in items for path in paths}
    inner = {path[:k] for path in every for k in range(1, len(path))}
    leaves = [{path for path in paths if path not in inner} for paths in items]
    found = {}
    for leaf in sorted(set().union(*leaves)):
        pool = [i for i, its in enumerate(leaves) if leaf in its]
        at_depth = [{path[: len(leaf)] for path in paths if len(path) >= len(leaf)} for paths in items]
        others = [i for i, its in enumerate(leaves) if its - {leaf}]
        triplets = {
            (a, p, n)
            for a in pool
            for p in pool
            if p != a
            for n in others
            if not at_depth[a] & at_depth[n] and not leaves[a] & leaves[n]
        }
        if triplets:
            found[leaf] = triplets
    return found


def most_shared(a, b):
    """The largest number of leading levels that any path of one item shares with any path of the other."""
    a, b = (item[None] if item.ndim == 1 else item for item in (a, b))
    return max(shared_depth(x, y) for x in a for y in b)
