"""Slow oracles of the numbers of a report: Python loops over images."""

from hierpretrain.taxonomy import PAD
from tests.reference.metrics import ranking


def nodes_of(images, row, level):
    """The nodes of a level on the paths of an image, in the order of its paths."""
    label = images.labels[row]
    paths = label.tolist() if label.ndim == 2 else [label.tolist()]
    return [path[level - 1] for path in paths if path[level - 1] != PAD]


def nearest_among(images, row, rows):
    """The most similar of some rows, without the image itself."""
    return next(j for j in ranking(images.features[row].double(), images.features.double(), row) if j in rows)


def tree_quality(images, queries=None, gallery=None):
    """(level, node) -> queries, gallery images, right ones, {other node: how often taken for}; by default of all."""
    queries, gallery = (range(len(images.features)) if rows is None else rows for rows in (queries, gallery))
    nearest = {i: nearest_among(images, i, gallery) for i in queries}
    found = {}
    for level in range(1, images.taxonomy.num_levels + 1):
        for node in range(images.taxonomy.num_nodes(level)):
            members = [i for i in queries if node in nodes_of(images, i, level)]
            offered = [i for i in gallery if node in nodes_of(images, i, level)]
            right, mixed = 0, {}
            for i in members:
                others = nodes_of(images, nearest[i], level)
                if node in others:
                    right += 1
                elif others:
                    mixed[others[0]] = mixed.get(others[0], 0) + 1
            found[level, node] = len(members), len(offered), right, mixed
    return found


def sibling_confusion(images, queries=None, gallery=None):
    """(level, parent) -> {(child, child of the nearest neighbour): queries}; (0, PAD) is the root."""
    tree = images.taxonomy
    queries, gallery = (range(len(images.features)) if rows is None else rows for rows in (queries, gallery))
    parents = [(0, PAD)]
    parents += [(level, node) for level in range(1, tree.num_levels) for node in range(tree.num_nodes(level))]
    found = {}
    for level, parent in parents:

        def children(i, level=level, parent=parent):
            below = sorted(set(nodes_of(images, i, level + 1)))
            return [node for node in below if tree.parent(level + 1, node) == parent]

        asked, offered = [i for i in queries if children(i)], [i for i in gallery if children(i)]
        if len({child for i in [*asked, *offered] for child in children(i)}) < 2:
            continue
        counts = {}
        for i in asked:
            if not set(offered) - {i}:
                continue
            nearest = children(nearest_among(images, i, offered))
            for child in children(i):
                other = child if child in nearest else nearest[0]
                counts[child, other] = counts.get((child, other), 0) + 1
        if counts:
            found[level, parent] = counts
    return found


def query_score(images, row, rows, level):
    """(relevant items, rank of the first or 0, MAP@R, average precision) of a query among some rows.

    Images of several nodes of the level are left out.
    """
    rows = [j for j in rows if len(set(nodes_of(images, j, level))) < 2]
    order = [j for j in ranking(images.features[row].double(), images.features.double(), row) if j in rows]
    own = set(nodes_of(images, row, level))
    relevant = [bool(own & set(nodes_of(images, j, level))) for j in order]
    number = sum(relevant) if len(own) < 2 else 0
    if not number:
        return 0, 0, 0.0, 0.0
    precision = [sum(relevant[: rank + 1]) / (rank + 1) * relevant[rank] for rank in range(len(order))]
    return number, relevant.index(True) + 1, sum(precision[:number]) / number, sum(precision) / number
