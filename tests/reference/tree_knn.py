"""Slow oracles of the index: votes down the tree and the nearest groups, in Python loops."""

import math

from hierpretrain.taxonomy import PAD
from tests.reference.metrics import similarity


def paths_of(label):
    """The non-empty prefixes of each path of one item, as tuples of ids."""
    rows = label if label and isinstance(label[0], list) else [label]
    return [tuple(node for node in row if node != PAD) for row in rows if row and row[0] != PAD]


def tree_knn(similarities, rows, labels, temperature):
    """The greedy path of every query with the confidence of each node on it."""
    answers = []
    for values, found in zip(similarities.tolist(), rows.tolist(), strict=True):
        voters = [(math.exp(s / temperature), paths_of(labels[j].tolist())) for s, j in zip(values, found, strict=True)]
        total = sum(weight for weight, _ in voters)
        here, shares = (), []
        while True:
            votes = {}
            for weight, paths in voters:
                below = {path[: len(here) + 1] for path in paths if len(path) > len(here) and path[: len(here)] == here}
                for child in below:
                    votes[child] = votes.get(child, 0.0) + weight
            if not votes:
                break
            here = min(votes, key=lambda child: (-votes[child], child[-1]))
            shares.append(votes[here] / total)
        answers.append((list(here), shares))
    return answers


def nearest_groups(query, gallery, k, groups):
    """Of each of the k nearest groups (score, row, group); ``groups`` holds the groups of each row."""
    answers = []
    for one in query.double():
        scored = [(-similarity(one, row), j) for j, row in enumerate(gallery.double())]
        entries = sorted((score, j, group) for score, j in scored for group in set(groups[j]) if group != PAD)
        seen, answer = set(), []
        for score, j, group in entries:
            if group not in seen:
                seen.add(group)
                answer.append((-score, j, group))
        answers.append(answer[:k])
    return answers
