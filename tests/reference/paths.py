"""Random items that hang in several places of a tree, for comparisons with the slow oracles."""

import numpy as np
import torch

from hierpretrain.taxonomy import PAD, longest_paths
from tests.conftest import random_labels


def random_paths(seed, rows=12, most=3, **tree):
    """(rows, most, L) random labels: up to ``most`` paths of an item, none of which goes on from another one.

    The tree is as that of ``random_labels``, and some items have no path at all.
    """
    drawn = random_labels(seed, rows=rows * most, **tree)
    labels = torch.full_like(drawn, PAD).view(rows, most, -1)
    numbers = np.random.default_rng(seed).integers(1, most + 1, rows)
    for item, (start, number) in enumerate(zip(range(0, rows * most, most), numbers, strict=True)):
        paths = [tuple(i for i in row if i != PAD) for row in drawn[start : start + number].tolist()]
        for place, path in enumerate(longest_paths(paths)):
            labels[item, place, : len(path)] = torch.tensor(path, dtype=torch.int64)
    return labels


def other_order(labels, seed=0):
    """The same items with their paths, absent ones among them, in another order and one more absent path."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.cat([labels, torch.full_like(labels[:, :1], PAD)], 1)
    order = torch.rand(labels.shape[:2], generator=generator).argsort(1)
    return labels.gather(1, order[..., None].expand_as(labels))
