"""What a trained model says about the labels: images of a wrong one, classes that are perhaps one or two."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score
from torch import Tensor

from hierpretrain._names import LabelNames
from hierpretrain.data_checks.problems import Problem
from hierpretrain.data_checks.sources import class_name
from hierpretrain.datasets import Annotations, HierarchicalDataset
from hierpretrain.datasets.annotations import NO_SPLIT
from hierpretrain.datasets.stored_images import ImageStore
from hierpretrain.evaluation import Embeddings
from hierpretrain.functional.confident_learning import label_errors, neighbour_votes
from hierpretrain.functional.search import nearest, unit_rows
from hierpretrain.taxonomy import PAD

_SAME = 1 - 1e-4  # cosine from which an image is a copy, which knows no better
_MIXED = 0.7  # of the votes that classes would give each other if they were one
_MOST = 2_000  # images of a class that are looked at, to tell whether it is two
_APART = 0.4  # silhouette from which on the halves of a class are two, -1 to 1


class CheckedImages(HierarchicalDataset):
    """Images that a check has listed, to be embedded.

    Args:
        files: N files, or paths of stored images.
        paths: The label paths of each.
        level_names: A name for each level.
        stores: What gives the images that are no files.
    """

    def __init__(
        self,
        files: Sequence[str],
        paths: Sequence[Sequence[LabelNames]],
        level_names: Sequence[str],
        stores: Sequence[ImageStore] = (),
    ) -> None:
        self.image_stores = stores
        self._files = list(files)
        self._given = Annotations(
            list(map(str, range(len(files)))),  # the files may be in folders that have nothing in common
            [one[0] if one else () for one in paths],
            [NO_SPLIT] * len(files),
            tuple(level_names),
            root="",
            more_labels={i: tuple(one[1:]) for i, one in enumerate(paths) if len(one) > 1},
            source="what is checked",
        )
        super().__init__(data_root=".", check_files=False)

    def read(self) -> Annotations:
        """Returns what was listed."""
        return self._given

    def _image_path(self, index: int) -> str:
        return self._files[index]


def label_problems(images: Embeddings, k: int = 10, *, fewest: int = 5) -> list[Problem]:
    """Finds labels that the neighbours of an image contradict, and classes that are perhaps one or two.

    Args:
        images: N embedded images with a tree. An image of several paths takes part where they name one class.
        k: How many neighbours vote.
        fewest: Images that a class must have before it is called one with another, or two.

    Returns:
        The images that are perhaps mislabelled, those first whose label is least probable; then pairs of classes, and
        classes. An image is told at the coarsest level at which its label is contradicted.

    Raises:
        ValueError: If there are no labels, or too few images.
    """
    if not images.taxonomy.num_levels or len(images.features) < 2:
        raise ValueError("labels are checked by the neighbours of labelled images; there are no two such images")
    features = unit_rows(images.features)
    similarities, indices = nearest(
        features, features, min(k, len(features) - 1), own_indices=torch.arange(len(features))
    )
    indices = indices.masked_fill(similarities >= _SAME, PAD)
    problems: list[Problem] = []
    told: set[int] = set()
    for level in range(1, images.taxonomy.num_levels + 1):
        classes = images.classes(level)
        candidates, fractions = neighbour_votes(similarities, indices, classes)
        counts = _counts(classes)
        wrong, other = label_errors(classes, candidates, fractions)
        for image, node in zip(wrong.tolist(), other.tolist(), strict=True):
            own = int(classes[image])
            if image in told or counts[own] < 2:  # nobody could vote for a class of one image
                continue
            told.add(image)
            votes = dict(zip(candidates[image].tolist(), fractions[image].tolist(), strict=True))
            why = ", ".join(f"{_name(images, level, of)} {votes.get(of, 0):.0%}" for of in (own, node))
            problems.append(Problem("perhaps mislabelled", images.paths[image], (), f"votes of its neighbours: {why}"))
    for level in range(1, images.taxonomy.num_levels + 1):
        problems += _perhaps_one(images, level, indices, fewest)
    return problems + _perhaps_two(images, features, fewest)


def _name(images: Embeddings, level: int, node: int) -> str:
    return class_name(images.taxonomy.node_path(level, node))


def _counts(classes: Tensor) -> list[int]:
    """Returns the number of images of every class."""
    return torch.bincount(classes[classes != PAD]).tolist()


def _perhaps_one(images: Embeddings, level: int, indices: Tensor, fewest: int) -> list[Problem]:
    """Finds siblings whose images vote for each other nearly as often as if they were one class.

    Of the votes that the images of two classes give the two, a fraction 2 n m / ((n + m) (n + m - 1)) goes to the other
    class if the votes know no difference.
    """
    classes = images.classes(level)
    counts = _counts(classes)
    voters = classes[:, None].expand_as(indices)
    voted = classes[indices.clamp(min=0)].masked_fill(indices == PAD, PAD)
    there = (voters != PAD) & (voted != PAD)
    width = len(counts)
    pairs, votes = (voters[there] * width + voted[there]).unique(return_counts=True)
    given = dict(zip(pairs.tolist(), votes.tolist(), strict=True))
    problems = []
    for pair in given:
        a, b = divmod(pair, width)
        n, m = counts[a], counts[b]
        if not a < b or min(n, m) < fewest or images.taxonomy.parent(level, a) != images.taxonomy.parent(level, b):
            continue
        across = given[pair] + given.get(b * width + a, 0)
        inside = given.get(a * width + a, 0) + given.get(b * width + b, 0)
        expected = 2 * n * m / ((n + m) * (n + m - 1))
        mixed = across / (across + inside) / expected
        if mixed >= _MIXED:
            why = f"they vote for each other {min(mixed, 1):.0%} as often as one class would; {n:,} and {m:,} images"
            names = (_name(images, level, b),)
            problems.append((-mixed, Problem("perhaps one class", _name(images, level, a), names, why)))
    return [problem for _, problem in sorted(problems, key=lambda found: found[0])]


def _perhaps_two(images: Embeddings, features: Tensor, fewest: int) -> list[Problem]:
    """Finds classes without children whose images fall into two halves that are far apart."""
    tree = images.taxonomy
    problems = []
    for level in range(1, tree.num_levels + 1):
        classes = images.classes(level)
        for node in (node for node in range(tree.num_nodes(level)) if not tree.children(level, node)):
            members = (classes == node).nonzero()[:, 0][:_MOST]
            if len(members) < 2 * fewest:
                continue
            some = features[members].numpy()
            halves = KMeans(2, n_init=3, random_state=0).fit_predict(some)
            sizes = sorted([int((halves == half).sum()) for half in (0, 1)])
            if sizes[0] < fewest:
                continue
            apart = float(silhouette_score(some, halves))
            if apart >= _APART:
                examples = tuple(images.paths[int(members[int((halves == half).argmax())])] for half in (0, 1))
                why = f"{sizes[1]:,} and {sizes[0]:,} images, silhouette {apart:.2f}; one of each is named"
                problems.append((-apart, Problem("perhaps two classes", _name(images, level, node), examples, why)))
    return [problem for _, problem in sorted(problems, key=lambda found: found[0])]
