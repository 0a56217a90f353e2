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
        counts: (C, C + 1) int64: of the queries of child a, those whose nearest neighbour inside the parent is of child
            b; the last column is of children that are not among the C.
        num_children: How many children have images.
        num_images: How many queries have a neighbour inside the parent.
        num_wrong: Of these, those whose neighbour is of another child.
    """

    level: int
    node: int
    children: list[int]
    counts: Tensor
    num_children: int
    num_images: int
    num_wrong: int


def sibling_confusion(
    query: Embeddings,
    gallery: Embeddings,
    neighbours: Tensor,
    *,
    same_set: bool,
    most_children: int = MOST_CHILDREN,
) -> list[Confusion]:
    """Counts, for each node with several children, which child the nearest neighbour of each query is of.

    Only images on the children or below them take part, and the neighbour is searched for among these. A query of
    several children counts at each; its neighbour is of the same child if it hangs there too, and of the first child of
    its own otherwise.

    Args:
        query: Q images.
        gallery: G images of the same tree.
        neighbours: (Q, K) indices of the nearest gallery images of each query, the nearest first, never itself.
        same_set: Query and gallery are the same images.
        most_children: Of more children, those are shown that most errors are of or lead to.

    Returns:
        One for each node of which at least two children have images, by level and then id, the root's first; none of a
        node without a query that has something to find.

    Example:
        >>> from hierpretrain.report.nearest_images import nearest_others
        >>> from hierpretrain.taxonomy import Taxonomy
        >>> tree = Taxonomy([("cat",), ("dog",)], ("kind",))
        >>> labels = tree.encode([("cat",), ("cat",), ("dog",)])
        >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.5], [1.0, 0.6]])
        >>> pets = Embeddings(features, labels, labels[:, :0], ["all"] * 3, ["a", "b", "c"], tree, ())
        >>> confusion, = sibling_confusion(pets, pets, nearest_others(features, 1)[1], same_set=True)
        >>> confusion.children, confusion.counts.tolist(), confusion.num_wrong
        ([0, 1], [[1, 1, 0], [1, 0, 0]], 2)
    """
    found = []
    for level in range(query.taxonomy.num_levels):
        parts = [_children(images, level) for images in (query, gallery)]
        for parent in sorted(parts[0].keys() & parts[1].keys()):
            confusion = _confusion(
                query, gallery, parts[0][parent], parts[1][parent], neighbours, same_set, most_children
            )
            if confusion is not None:
                found.append(Confusion(level, parent if level else PAD, *confusion))
    return found


def _children(images: Embeddings, level: int) -> dict[int, tuple[Tensor, Tensor]]:
    """Returns, for each node of a level (0 for the root, whose id is 0), its (M,) pairs of image and child."""
    indices, children = image_nodes(images, level + 1)
    table = images.taxonomy.node_labels(level + 1)
    parents = table[children, level - 1] if level else torch.zeros_like(children)
    return {parent: (indices[at], children[at]) for parent, at in _groups(parents)}


def _groups(ids: Tensor) -> list[tuple[int, Tensor]]:
    """Returns each id with the positions where it stands, both ascending."""
    order = ids.argsort(stable=True)
    values, counts = ids[order].unique_consecutive(return_counts=True)
    return list(zip(values.tolist(), order.split(counts.tolist()), strict=True))


def _confusion(
    query: Embeddings,
    gallery: Embeddings,
    asked: tuple[Tensor, Tensor],
    offered: tuple[Tensor, Tensor],
    neighbours: Tensor,
    same_set: bool,
    most_children: int,
) -> tuple[list[int], Tensor, int, int, int] | None:
    """Counts for one parent, whose pairs of image and child these are; nothing if there is one child alone."""
    indices, children = asked
    ids = torch.cat([children, offered[1]]).unique()
    if len(ids) < 2:
        return None
    width, child, child_offered = len(ids), torch.searchsorted(ids, children), torch.searchsorted(ids, offered[1])
    members, member = indices.unique(return_inverse=True)
    sides = query.features, gallery.features, members, offered[0].unique()
    nearest = nearest_inside(*sides, neighbours, same_set=same_set)[member]  # (M,)
    some = nearest != PAD  # one image may hang on both of two children
    if not some.any():
        return None
    first = torch.full((len(gallery.features),), PAD)
    first[offered[0].flip(0)] = child_offered.flip(0)  # what is assigned last stays: the first child
    there = torch.isin(nearest * width + child, offered[0] * width + child_offered)
    other = torch.where(there, child, first[nearest])
    counts = (child[some] * width + other[some]).bincount(minlength=width * width).view(width, width)
    right, total = int(counts.diagonal().sum()), int(counts.sum())
    wrong = counts - counts.diagonal().diag()
    errors = wrong.sum(0) + wrong.sum(1)
    shown = errors.argsort(descending=True, stable=True)[:most_children].sort().values
    rest = counts[shown].sum(1, keepdim=True) - counts[shown][:, shown].sum(1, keepdim=True)
    return ids[shown].tolist(), torch.cat([counts[shown][:, shown], rest], 1), width, total, total - right
