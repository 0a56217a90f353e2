"""The confusion between the children of a node in the embedding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hierpretrain.evaluation import Embeddings
from hierpretrain.report.image_nodes import image_nodes
from hierpretrain.report.nearest_images import nearest_inside
from hierpretrain.taxonomy import PAD

MOST_CHILDREN = 30
"""The most children of a node that are shown; of more, the most confused ones."""


@dataclass(frozen=True)
class Confusion:
    """The confusion between the children of one node, by the nearest neighbours inside it.

    Attributes:
        level: The parent's level; 0 for the root.
        node: The parent's id at that level; ``PAD`` for the root.
        children: C ids, one level down, of children with images.
        counts: (C, C + 1) int64: of the images of child a, those whose nearest neighbour inside the parent is of child
            b; the last column is of children that are not among the C.
        num_children: How many children have images.
        num_images: How many images have a neighbour inside the parent.
        num_wrong: Of these, those whose neighbour is of another child.
    """

    level: int
    node: int
    children: list[int]
    counts: Tensor
    num_children: int
    num_images: int
    num_wrong: int


def sibling_confusion(images: Embeddings, neighbours: Tensor, *, most_children: int = MOST_CHILDREN) -> list[Confusion]:
    """Counts, for each node with several children, which child the nearest neighbour of each image is of.

    Only images on the children or below them take part, and the neighbour is searched for among these. An image of
    several children counts at each; its neighbour is of the same child if it hangs there too, and of its own first
    child otherwise.

    Args:
        images: N images.
        neighbours: (N, K) indices of the nearest other images of each image, the nearest first.
        most_children: Of more children, those are shown that most errors are of or lead to.

    Returns:
        One for each node of which at least two children have images, by level and then id, the root's first.

    Example:
        >>> from hierpretrain.report.nearest_images import nearest_others
        >>> from hierpretrain.taxonomy import Taxonomy
        >>> tree = Taxonomy([("cat",), ("dog",)], ("kind",))
        >>> labels = tree.encode([("cat",), ("cat",), ("dog",)])
        >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.5], [1.0, 0.6]])
        >>> pets = Embeddings(features, labels, labels[:, :0], ["all"] * 3, ["a", "b", "c"], tree, ())
        >>> confusion, = sibling_confusion(pets, nearest_others(features, 1)[1])
        >>> confusion.children, confusion.counts.tolist(), confusion.num_wrong
        ([0, 1], [[1, 1, 0], [1, 0, 0]], 2)
    """
    found = []
    for level in range(images.taxonomy.num_levels):
        indices, children = image_nodes(images, level + 1)
        table = images.taxonomy.node_labels(level + 1)
        parents = table[children, level - 1] if level else torch.zeros_like(children)
        for parent, at in _groups(parents):
            confusion = _confusion(images, neighbours, indices[at], children[at], most_children)
            if confusion is not None:
                found.append(Confusion(level, parent if level else PAD, *confusion))
    return found


def _groups(ids: Tensor) -> list[tuple[int, Tensor]]:
    """Returns each id with the positions where it stands, both ascending."""
    order = ids.argsort(stable=True)
    values, counts = ids[order].unique_consecutive(return_counts=True)
    return list(zip(values.tolist(), order.split(counts.tolist()), strict=True))


def _confusion(
    images: Embeddings, neighbours: Tensor, indices: Tensor, children: Tensor, most_children: int
) -> tuple[list[int], Tensor, int, int, int] | None:
    """Counts for one parent, whose (M,) pairs of image and child these are; nothing if there is one child alone."""
    ids, child = children.unique(return_inverse=True)
    if len(ids) < 2:
        return None
    members, member = indices.unique(return_inverse=True)
    nearest = nearest_inside(images.features, members, neighbours)[member]  # (M,)
    some = nearest != PAD  # one image may hang on both of two children
    if not some.any():
        return None
    first = torch.full((len(images.features),), PAD)
    first[indices.flip(0)] = child.flip(0)  # what is assigned last stays: the first child
    width = len(ids)
    there = torch.isin(nearest * width + child, indices * width + child)
    other = torch.where(there, child, first[nearest])
    counts = (child[some] * width + other[some]).bincount(minlength=width * width).view(width, width)
    right, total = int(counts.diagonal().sum()), int(counts.sum())
    wrong = counts - counts.diagonal().diag()
    errors = wrong.sum(0) + wrong.sum(1)
    shown = errors.argsort(descending=True, stable=True)[:most_children].sort().values
    rest = counts[shown].sum(1, keepdim=True) - counts[shown][:, shown].sum(1, keepdim=True)
    return ids[shown].tolist(), torch.cat([counts[shown][:, shown], rest], 1), width, total, total - right
