from collections import Counter

import numpy as np
import pytest
import torch

from hierpretrain.functional.sampling import over_branches
from hierpretrain.taxonomy import PAD


def ragged(seed, number=200):
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(rng.integers(0, 3, (number, 3)))
    for i, depth in enumerate(rng.integers(0, 4, number)):
        labels[i, depth:] = PAD
    labels[:, 1] += 3 * labels[:, 0] * (labels[:, 1] != PAD)
    labels[:, 2] += 3 * labels[:, 1] * (labels[:, 2] != PAD)
    return labels


@pytest.mark.parametrize("seed", range(4))
def test_any_number_of_first_items_is_spread_as_evenly_as_the_nodes_have_items(seed):
    labels = ragged(seed)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(200))
    found = over_branches(labels, order)
    assert sorted(found.tolist()) == list(range(200))
    for level in range(3):
        available = Counter(labels[:, level].tolist())
        # of the first level, over the whole set; of the others, inside each parent
        parents = set(labels[:, level - 1].tolist()) - {PAD} if level else {None}
        for parent in parents:
            inside = [i for i in found.tolist() if parent is None or labels[i, level - 1] == parent]
            for most in (1, 2, 5, 11, 40):
                taken = Counter(labels[inside[:most], level].tolist())
                there = {node: sum(labels[i, level] == node for i in inside) for node in available}
                for node, number in there.items():
                    if taken[node] < number:  # it has more to give, so no other got two more
                        assert max(taken.values()) <= taken[node] + 1


def test_items_of_one_node_keep_their_order():
    labels = ragged(0)
    order = torch.from_numpy(np.random.default_rng(1).permutation(200))
    found, rank = over_branches(labels, order).tolist(), {item: i for i, item in enumerate(order.tolist())}
    for row in labels.unique(dim=0):
        of_node = [rank[i] for i in found if torch.equal(labels[i], row)]
        assert of_node == sorted(of_node)


def test_without_levels_or_items_nothing_changes():
    order = torch.tensor([2, 0, 1])
    assert over_branches(torch.empty(3, 0, dtype=torch.int64), order).tolist() == [2, 0, 1]
    assert over_branches(torch.empty(0, 2, dtype=torch.int64), order[:0]).tolist() == []


def test_of_several_paths_the_first_counts():
    labels = ragged(2)
    several = torch.stack([labels, labels.flip(0)], 1)
    order = torch.arange(200)
    assert over_branches(several, order).tolist() == over_branches(labels, order).tolist()
