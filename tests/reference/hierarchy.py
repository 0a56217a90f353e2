"""Slow oracles of the metrics over the whole tree: Python loops over their definitions, in float64."""

import math

from hierpretrain.taxonomy import PAD
from tests.reference.contrastive import shared_depth
from tests.reference.metrics import ranking, similarity


def path(row):
    return tuple(entry for entry in row.tolist() if entry != PAD)


def all_paths(item):
    """The paths of an item: one, that may be empty, or several."""
    paths = [path(row) for row in item.reshape(-1, item.shape[-1])]
    return [p for p in paths if p] or paths[:1]


def height(node, paths):
    """The longest way down from a node, given as a prefix, to the end of one of the paths below it."""
    return max(len(p) for p in paths if p[: len(node)] == node) - len(node)


def lca_height(a, b, paths):
    shared = []
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        shared.append(x)
    return height(tuple(shared), paths)


def least_lca_height(a, b, paths):
    """That of the deepest common ancestor of two items; of several at that depth, the least."""
    pairs = [(x, y) for x in all_paths(a) for y in all_paths(b)]
    depths = [
        next((i for i, (p, q) in enumerate(zip(x, y, strict=False)) if p != q), min(len(x), len(y))) for x, y in pairs
    ]
    return min(lca_height(x, y, paths) for (x, y), d in zip(pairs, depths, strict=True) if d == max(depths))


def relevance(kind, alpha, levels, num_levels):
    """The relevance of each of one query's items, from their match levels."""
    weights = {"map": [1.0] * num_levels}.get(kind, kind)

    def of(level):
        if level == 0:
            return 0.0
        if kind == "pop":
            return (level / num_levels) ** alpha / levels.count(level)
        if kind == "depth":
            return (level / num_levels) ** alpha
        return sum(weights[p - 1] / sum(other >= p for other in levels) for p in range(1, level + 1))

    return [of(level) for level in levels]


def h_ap(rel):
    total = 0.0
    for i, own in enumerate(rel):
        if own > 0:
            total += sum(min(own, rel[j]) for j in range(i + 1)) / (i + 1)
    return total / sum(rel)


def asi(levels):
    best = sorted(levels, reverse=True)
    num_relevant = sum(level >= 1 for level in levels)
    total = 0.0
    for k in range(1, num_relevant + 1):
        total += sum(min(levels[:k].count(m), best[:k].count(m)) for m in range(1, max(levels) + 1)) / k
    return total / num_relevant


def dcg(levels):
    return sum((2**level - 1) / math.log2(1 + rank) for rank, level in enumerate(levels, start=1))


def ndcg(levels, k=None):
    return dcg(levels[:k]) / dcg(sorted(levels, reverse=True)[:k])


def hierarchical_retrieval_metrics(
    query, query_labels, gallery, gallery_labels, *, ks=(1, 10), same_set=False, relevance_kind="pop", alpha=1.0
):
    query, gallery = query.double(), gallery.double()
    paths = [p for item in [*query_labels, *gallery_labels] for p in all_paths(item)]
    scores, lone = [], 0
    for i, label in enumerate(query_labels):
        order = ranking(query[i], gallery, i if same_set else None)
        levels = [shared_depth(label, gallery_labels[j]) for j in order]
        if max(levels, default=0) == 0:
            lone += 1
            continue
        score = {"h_ap": h_ap(relevance(relevance_kind, alpha, levels, label.shape[-1])), "asi": asi(levels)}
        score |= {"ndcg": ndcg(levels)} | {f"ndcg@{k}": ndcg(levels, k) for k in ks}
        score["lca_height@1"] = least_lca_height(label, gallery_labels[order[0]], paths)
        scores.append(score)
    means = {name: sum(score[name] for score in scores) / len(scores) for name in scores[0]}
    numbers = {"num_queries": len(scores), "num_queries_without_positives": lone, "num_lone_queries": lone}
    return means | numbers


def mistake_metrics(predicted, labels, distances, *, ks):
    items = [(row, y) for row, y in zip(predicted.tolist(), labels.tolist(), strict=True) if y != PAD]
    d = distances.tolist()
    largest = max(map(max, d))

    def hier_precision(k):
        scored = sum(1 - d[y][p] / largest for row, y in items for p in row[:k])
        return scored / sum(1 - best / largest for _, y in items for best in sorted(d[y])[:k])

    metrics = {}
    for k in ks:
        metrics[f"hier_dist@{k}"] = sum(sum(d[y][p] for p in row[:k]) / k for row, y in items) / len(items)
        metrics[f"best_hier_dist@{k}"] = sum(min(d[y][p] for p in row[:k]) for row, y in items) / len(items)
        metrics[f"hier_precision@{k}"] = hier_precision(k)
        metrics[f"hmap@{k}"] = sum(hier_precision(j) for j in range(1, k + 1)) / k
    mistakes = [d[y][row[0]] for row, y in items if d[y][row[0]] != 0]
    metrics["mistake_severity"] = sum(mistakes) / len(mistakes) if mistakes else 0.0
    return metrics | {"num_mistakes": len(mistakes), "num_items": len(items)}


def hierarchy_violations(embeddings, labels, anchors=None):
    """The shares over explicit triples (i, j, k); every item with a label is an anchor unless some are given."""
    embeddings, n, num_levels = embeddings.double(), len(labels), labels.shape[-1]
    anchors = [i for i in range(n) if any(all_paths(labels[i]))] if anchors is None else anchors
    shares = {"violations": []} | {f"violations@{m}": [] for m in range(1, num_levels + 1)}
    for i in anchors:
        others = [j for j in range(n) if j != i]
        level = {j: shared_depth(labels[i], labels[j]) for j in others}
        sim = {j: similarity(embeddings[i], embeddings[j]) for j in others}
        for j in others:
            for k in others:
                if level[j] <= level[k]:
                    continue
                bad = 1.0 if sim[j] < sim[k] else 0.5 if sim[j] == sim[k] else 0.0
                if level[k] >= 1:
                    shares["violations"].append(bad)
                for m in range(level[k] + 1, level[j] + 1):
                    shares[f"violations@{m}"].append(bad)
    metrics = {name: sum(bad) / len(bad) for name, bad in shares.items() if bad}
    return metrics | {"num_triples": len(shares["violations"]), "num_anchors": len(anchors)}
