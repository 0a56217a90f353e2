"""Small sets of embedded images."""

import numpy as np
import torch

from hierpretrain.evaluation import Embeddings
from hierpretrain.taxonomy import Taxonomy

LEVELS = ("kingdom", "kind", "breed")


def embedded(features, paths, *, levels=LEVELS, files=None, splits=None, skipped=None):
    """Images on given paths; the tree is that of all of them."""
    tree = Taxonomy(paths, levels)
    labels = tree.encode(paths)
    number = len(paths)
    features = torch.nn.functional.normalize(torch.as_tensor(features, dtype=torch.float32), dim=1)
    return Embeddings(
        features,
        labels,
        torch.zeros(number, 0, dtype=torch.int64),
        list(splits or ["all"] * number),
        list(files or (f"<image {i}>" for i in range(number))),
        tree,
        (),
        skipped=skipped or {},
    )


def random_set(seed, number=40, dim=4, *, places=1, branching=3, **options):
    """Images anywhere in a ragged tree, each in up to so many places; the first three make sure of every level."""
    rng = np.random.default_rng(seed)

    def path():
        return tuple(f"n{rng.integers(branching)}" for _ in range(rng.integers(0, len(LEVELS) + 1)))

    paths = [[path() for _ in range(rng.integers(1, places + 1))] for _ in range(number)]
    paths[:3] = [[("n0", "n0", "n0")], [("n0", "n0", "n1")], [("n0", "n1")]]
    features = rng.normal(size=(number, dim))
    for i, of_image in enumerate(paths):  # nearer to those of the same kingdom
        features[i] += 1.5 * np.eye(dim)[int(of_image[0][0][1]) % dim if of_image[0] else 0]
    return embedded(features, paths if places > 1 else [path for (path,) in paths], **options)


def unlabelled(number, dim=4, seed=0, **options):
    return embedded(np.random.default_rng(seed).normal(size=(number, dim)), [()] * number, levels=(), **options)
