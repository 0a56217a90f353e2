"""Slow oracles of the metrics: Python loops over the formulas, in float64."""

import math

import torch

from hierpretrain.taxonomy import PAD


def similarity(a, b):
    a, b = a.tolist(), b.tolist()
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


def ranking(query, gallery, left_out=None):
    """Gallery rows by falling similarity, equal ones in their order; the row ``left_out`` is not among them."""
    rows = [j for j in range(len(gallery)) if j != left_out]
    return sorted(rows, key=lambda j: (-similarity(query, gallery[j]), j))


def relevance(query, query_label, gallery, gallery_labels, left_out=None):
    order = ranking(query, gallery, left_out)
    return [int(query_label != PAD and query_label == gallery_labels[j]) for j in order]


def query_score(query, query_labels, gallery, gallery_labels, i, *, ks, same_set=False):
    """The scores of query ``i``; nothing if it has no relevant item."""
    query_label, gallery_labels = int(query_labels[i]), gallery_labels.tolist()
    rel = relevance(query[i].double(), query_label, gallery.double(), gallery_labels, i if same_set else None)
    r = sum(rel)
    if r == 0:
        return {}
    precision_at = [sum(rel[: rank + 1]) / (rank + 1) for rank in range(len(rel))]
    score = {}
    for k in ks:
        score[f"recall@{k}"] = float(any(rel[:k]))
        score[f"precision@{k}"] = sum(rel[:k]) / k
    score["r_precision"] = sum(rel[:r]) / r
    score["map@r"] = sum(rel[rank] * precision_at[rank] for rank in range(r)) / r
    score["map"] = sum(rel[rank] * precision_at[rank] for rank in range(len(rel))) / r
    return score | {"num_relevant": r, "first_rank": rel.index(1) + 1}


def retrieval_metrics(query, query_labels, gallery, gallery_labels, *, ks=(1, 10), same_set=False):
    sides = query, query_labels, gallery, gallery_labels
    scores = [query_score(*sides, i, ks=ks, same_set=same_set) for i in range(len(query))]
    scores, lone = [score for score in scores if score], scores.count({})
    names = [name for name in scores[0] if name not in ("num_relevant", "first_rank")]
    means = {name: sum(score[name] for score in scores) / len(scores) for name in names}
    numbers = {"num_queries": len(scores), "num_queries_without_positives": lone, "num_lone_queries": lone}
    return means | numbers


def nmi(a, b):
    """Mutual information over the mean of the two entropies, from counts."""
    n = len(a)
    a, b = [int(x) for x in a], [int(x) for x in b]

    def p(values, value):
        return sum(v == value for v in values) / n

    pairs = list(zip(a, b, strict=True))
    mutual = sum(p(pairs, (x, y)) * math.log(p(pairs, (x, y)) / (p(a, x) * p(b, y))) for x, y in set(pairs))
    entropy_a, entropy_b = (-sum(p(c, x) * math.log(p(c, x)) for x in set(c)) for c in (a, b))
    return mutual / ((entropy_a + entropy_b) / 2)


def nearest(query, gallery, k, *, exclude_self=False):
    indices = [ranking(row, gallery.double(), i if exclude_self else None)[:k] for i, row in enumerate(query.double())]
    values = [[similarity(query[i].double(), gallery[j].double()) for j in found] for i, found in enumerate(indices)]
    return torch.tensor(values), torch.tensor(indices)
