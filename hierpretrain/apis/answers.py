"""The answers of an index for many images at once, and the right answers for images with labels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hierpretrain.apis.branches import label_paths
from hierpretrain.functional.open_set import known_part
from hierpretrain.taxonomy import PAD, Taxonomy, depth


@dataclass(frozen=True)
class Answers:
    """The path that is most likely for each of Q images, and how far down it is named.

    Attributes:
        nodes: (Q, L) int64, the nodes of the path, in ``taxonomy``; ``PAD`` where it has ended.
        confidences: (Q, L) float64, how sure each of them is, 0 to 1, never rising on the way down.
        num_named: (Q,) int64, how many of them are sure enough.
        taxonomy: The index's tree when it answered. A tree that grows gives its nodes other numbers.
    """

    nodes: Tensor
    confidences: Tensor
    num_named: Tensor
    taxonomy: Taxonomy

    def named(self) -> Tensor:
        """Returns the (Q, L) nodes that are named, with ``PAD`` from the first that is not."""
        return self.nodes.masked_fill(torch.arange(self.nodes.shape[1]) >= self.num_named[:, None], PAD)


def right_answers(
    taxonomy: Taxonomy, labels: Tensor, known_by: Taxonomy, known_labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns the right answers for labelled images: their paths, as far down as an index knows them.

    Nodes are the same if the names on the path to them are. A node of the index's tree that none of its images is at or
    below is not known.

    Args:
        taxonomy: The tree of the images.
        labels: (N, L) or (N, P, L) labels of the images.
        known_by: The tree of the index.
        known_labels: (M, K) or (M, Q, K) labels of the index's images.

    Returns:
        (N, P, K) int64 in the tree of the index, and (N,) int64, the depth of the whole label of each image; 0 for an
        image without a label.

    Example:
        >>> index = Taxonomy([("animal", "cat"), ("animal", "dog")], ("kingdom", "kind"))
        >>> other = Taxonomy([("animal", "cow"), ("animal", "dog"), ("tool",)], ("level1", "level2"))
        >>> labels = other.encode([("animal", "dog"), ("animal", "cow"), ("tool",)])
        >>> truth, depths = right_answers(other, labels, index, index.node_labels(2))
        >>> truth.tolist(), depths.tolist()
        ([[[0, 1]], [[0, -1]], [[-1, -1]]], [2, 2, 1])
    """
    known = known_by.encode_known(label_paths(taxonomy, row) for row in labels)
    return known_part(known, known_labels), depth(labels)
