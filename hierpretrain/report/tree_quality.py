"""The quality of each node of the tree in the embedding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hierpretrain.evaluation import Embeddings
from hierpretrain.report.image_nodes import image_nodes
from hierpretrain.taxonomy import PAD


@dataclass(frozen=True)
class LevelQuality:
    """The quality of the n nodes of a level, by the nearest neighbours of the queries on them.

    Attributes:
        num_images: (n,) queries on the node or below it.
        num_offered: (n,) images of the gallery on the node or below it, queries too where these are the gallery.
        num_right: (n,) of these, those whose nearest neighbour is on the node or below it, too.
        mixed_with: (n,) the other node of the level that the nearest neighbours of most of the rest are on, the first
            of several; ``PAD`` if none is.
        num_mixed: (n,) how many that are.
    """

    num_images: Tensor
    num_offered: Tensor
    num_right: Tensor
    mixed_with: Tensor
    num_mixed: Tensor


def tree_quality(query: Embeddings, gallery: Embeddings, nearest: Tensor) -> list[LevelQuality]:
    """Measures every node of the tree by the nearest neighbours of the queries on it.

    An image of several paths counts on each of its nodes, and its neighbour is right where it shares the node by any
    of its own paths. A wrong neighbour of several nodes counts as mixed up with its first; one whose paths end above
    the level is wrong, and mixes the node up with none.

    Args:
        query: Q images, with a tree of L levels.
        gallery: G images of the same tree; they may be the queries themselves.
        nearest: (Q,) the index of each query's nearest neighbour in the gallery, which is not itself.

    Returns:
        L levels, the coarsest first.

    Example:
        >>> from hierpretrain.taxonomy import Taxonomy
        >>> tree = Taxonomy([("cat",), ("dog",)], ("kind",))
        >>> labels = tree.encode([("cat",), ("cat",), ("dog",)])
        >>> pets = Embeddings(torch.eye(3), labels, labels[:, :0], ["all"] * 3, ["a", "b", "c"], tree, ())
        >>> quality, = tree_quality(pets, pets, torch.tensor([1, 2, 1]))
        >>> quality.num_images.tolist(), quality.num_right.tolist(), quality.mixed_with.tolist()
        ([2, 1], [1, 0], [1, 0])
    """
    return [_level_quality(query, gallery, nearest, level) for level in range(1, query.taxonomy.num_levels + 1)]


def _level_quality(query: Embeddings, gallery: Embeddings, nearest: Tensor, level: int) -> LevelQuality:
    num_nodes = query.taxonomy.num_nodes(level)
    indices, nodes = image_nodes(query, level)
    found = gallery.nodes(level).reshape(len(gallery.labels), -1)[nearest[indices]]  # (M, P)
    right = (found == nodes[:, None]).any(1)
    other = first_node(found)
    mixed_with = torch.full((num_nodes,), PAD)
    num_mixed = torch.zeros(num_nodes, dtype=torch.int64)
    wrong = ~right & (other != PAD)
    pairs, counts = torch.stack([nodes[wrong], other[wrong]], 1).unique(dim=0, return_counts=True)
    order = counts.argsort(stable=True, descending=True).flip(0)  # what is assigned last stays: the first of the most
    mixed_with[pairs[order, 0]] = pairs[order, 1]
    num_mixed[pairs[order, 0]] = counts[order]
    counts = [of.bincount(minlength=num_nodes) for of in (nodes, image_nodes(gallery, level)[1], nodes[right])]
    return LevelQuality(*counts, mixed_with, num_mixed)


def first_node(nodes: Tensor) -> Tensor:
    """Returns the first of the (N, P) nodes in each row that is not ``PAD``, and ``PAD`` where all are.

    Example:
        >>> first_node(torch.tensor([[PAD, 4, 2], [PAD, PAD, PAD]])).tolist()
        [4, -1]
    """
    return nodes.gather(1, (nodes != PAD).int().argmax(1, keepdim=True))[:, 0]
