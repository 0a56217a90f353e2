"""The nodes of the tree that the images of a report hang on."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpretrain.evaluation import Embeddings
from hierpretrain.taxonomy import PAD, Taxonomy, as_paths, depth


def image_nodes(images: Embeddings, level: int) -> tuple[Tensor, Tensor]:
    """Lists the nodes of a level (from 1, the coarsest) that images hang on; one of several paths hangs on several.

    Returns:
        (M,) int64 indices of images and (M,) int64 nodes, every pair once, ascending by image and then by node. An
        image whose paths all end above the level has no pair.

    Example:
        >>> tree = Taxonomy([("fruit", "tomato"), ("vegetable", "tomato")], ("kind", "crop"))
        >>> labels = tree.encode([[("fruit", "tomato"), ("vegetable", "tomato")], ("fruit",)])
        >>> tomatoes = Embeddings(torch.eye(2), labels, labels[:, 0, :0], ["all"] * 2, ["a", "b"], tree, ())
        >>> [pairs.tolist() for pairs in image_nodes(tomatoes, 1)]
        [[0, 0, 1], [0, 1, 0]]
    """
    nodes = images.nodes(level).reshape(len(images.labels), -1)  # (N, P)
    indices, columns = (nodes != PAD).nonzero().unbind(1)
    pairs = torch.stack([indices, nodes[indices, columns]], 1).unique(dim=0)
    return pairs[:, 0], pairs[:, 1]


def node_numbers(tree: Taxonomy) -> list[int]:
    """Returns what to add to a node's id for a number that no node of another level has: (L + 1,), the last is the sum.

    Example:
        >>> node_numbers(Taxonomy([("animal", "cat"), ("animal", "dog")], ("kingdom", "kind")))
        [0, 1, 3]
    """
    offsets = [0]
    for level in range(1, tree.num_levels + 1):
        offsets.append(offsets[-1] + tree.num_nodes(level))
    return offsets


def deepest_nodes(labels: Tensor, tree: Taxonomy) -> Tensor:
    """Returns the number (see :func:`node_numbers`) of the node that each path of each image ends at: (N, P) int64.

    It is ``PAD`` for a path of no node. Labels are (N, L) or (N, P, L).

    Example:
        >>> tree = Taxonomy([("animal", "cat"), ("tool",)], ("kingdom", "kind"))
        >>> deepest_nodes(tree.encode([("animal", "cat"), ("tool",), ()]), tree).tolist()
        [[2], [1], [-1]]
    """
    paths = as_paths(labels)  # (N, P, L)
    depths = depth(paths.flatten(0, 1)).view(paths.shape[:2])
    numbers = torch.full(depths.shape, PAD)
    for level, first in enumerate(node_numbers(tree)[:-1], start=1):
        at_level = depths == level
        numbers[at_level] = paths[at_level][:, level - 1] + first
    return numbers
