"""The severity of a classifier's mistakes, by the distances between classes in the label tree."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hierpretrain.checks import as_tensor, check_flat, check_ks
from hierpretrain.taxonomy import PAD, Taxonomy, shared_depth

_BLOCK = 1 << 20  # pairs of classes at a time


def class_distances(taxonomy: Taxonomy, level: int | str) -> Tensor:
    """Returns the distances between the classes of a level: the height of their lowest common ancestor.

    It is the distance of Bertinetto et al., *Making Better Mistakes*, CVPR 2020, in the tree cut off below the level,
    where every class of level l is a leaf of depth l. For leaves of different depth use
    :meth:`hierpretrain.taxonomy.Taxonomy.lca_heights` on their labels.

    Args:
        taxonomy: The label tree.
        level: The level whose nodes are the classes, a number from 1, the coarsest, or a name.

    Returns:
        (C, C) int16 for the level's C nodes: l - ``shared_depth``; 0 on the diagonal only, l at most. 10,000 nodes take
        200 MB, and little more while they are made.

    Raises:
        ValueError: If there is no such level.

    Example:
        >>> tree = Taxonomy([("animal", "cat"), ("animal", "dog"), ("tool", "saw")], ("kingdom", "kind"))
        >>> class_distances(tree, "kind").tolist()
        [[0, 1, 2], [1, 0, 2], [2, 2, 0]]
    """
    labels = taxonomy.node_labels(level)
    distances = torch.empty(len(labels), len(labels), dtype=torch.int16)
    step = max(1, _BLOCK // len(labels))
    for some, block in zip(torch.split(labels, step), torch.split(distances, step), strict=True):
        block.copy_(labels.shape[1] - shared_depth(some, labels))
    return distances


def mistake_metrics(
    predicted: Tensor, labels: Tensor, distances: Tensor, *, ks: Sequence[int] = (1, 5, 20)
) -> dict[str, float]:
    """Measures how far from the true class the predicted ones are (Bertinetto et al., CVPR 2020, section 4).

    With y_i the class of item i, p_ij its j-th prediction, d the distances, d_max the largest of them, and d*_cj the
    j-th smallest distance of class c, its own 0 included:

    - ``hier_dist@k``: mean_i 1/k sum_{j <= k} d(y_i, p_ij);
    - ``best_hier_dist@k``: mean_i min_{j <= k} d(y_i, p_ij);
    - ``mistake_severity``: the mean of d(y_i, p_i1) over the mistakes, the items for which it is not 0. Read it with
      their number: it also falls if mild mistakes are added;
    - ``hier_precision@k``: sum_i sum_{j <= k} (1 - d(y_i, p_ij) / d_max) / sum_i sum_{j <= k} (1 - d*_{y_i j} / d_max),
      1 if and only if every item's k predictions are k of the nearest classes;
    - ``hmap@k``: mean_{k' <= k} ``hier_precision@k'``.

    Both sums of ``hier_precision`` run over the items given. The authors' released code has all classes in the lower
    one, and so depends on the size of its batches.

    The distances are read as they are, of any type and without a copy; what is computed of them takes memory in
    proportion to N K and to K times the number of classes that occur.

    Args:
        predicted: (N, K) integers: different class ids 0..C-1, the most likely first.
        labels: (N,) class ids, or ``PAD``: such an item is left out.
        distances: (C, C) finite numbers from 0, 0 on the diagonal; row c holds the distances from true class c.
        ks: The k, each 1..K.

    Returns:
        The named metrics, ``hier_dist@k`` in the unit of the distances, precisions in [0, 1], and the integers
        ``num_mistakes`` and ``num_items``. Without any mistake ``mistake_severity`` is 0 and so is ``num_mistakes``.

    Raises:
        ValueError: If an argument is malformed, a k is not 1..K, or no item has a label.

    Example:
        Two cats, taken for a dog first and for a saw first.

        >>> distances = torch.tensor([[0.0, 1.0, 2.0], [1.0, 0.0, 2.0], [2.0, 2.0, 0.0]])  # cat, dog, saw
        >>> metrics = mistake_metrics(torch.tensor([[1, 0], [2, 1]]), torch.tensor([0, 0]), distances, ks=[1, 2])
        >>> {name: round(value, 4) for name, value in metrics.items()}  # doctest: +NORMALIZE_WHITESPACE
        {'hier_dist@1': 1.5, 'best_hier_dist@1': 1.5, 'hier_precision@1': 0.25, 'hmap@1': 0.25,
         'hier_dist@2': 1.0, 'best_hier_dist@2': 0.5, 'hier_precision@2': 0.6667, 'hmap@2': 0.4583,
         'mistake_severity': 1.5, 'num_mistakes': 2, 'num_items': 2}
    """
    distances = _checked_distances(as_tensor(distances))
    predicted, labels = _checked_predictions(as_tensor(predicted), labels, len(distances))
    check_ks(ks)
    if wrong := [k for k in ks if not 1 <= k <= predicted.shape[1]]:
        raise ValueError(
            f"every k of ks must be 1 to {predicted.shape[1]}, the predictions per item; {wrong[0]} is not; pass more "
            "predictions or other ks"
        )
    known = labels != PAD
    if not known.any():
        raise ValueError(f"at least one item must have a label; none of {len(labels)} has")
    predicted, labels = predicted[known], labels[known]

    distance = distances[labels[:, None], predicted].double()  # (N, K)
    nearest = _nearest(distances, labels, predicted.shape[1])
    # 0 if there is one class: nothing is wrong
    largest = distances.max().double().clamp(min=torch.finfo(torch.float64).tiny)
    # summed over the items first: (K,), and then over j <= k
    precision = (1 - distance / largest).sum(0).cumsum(0) / (1 - nearest / largest).sum(0).cumsum(0)
    metrics: dict[str, float] = {}
    for k in ks:
        metrics[f"hier_dist@{k}"] = distance[:, :k].mean().item()
        metrics[f"best_hier_dist@{k}"] = distance[:, :k].amin(1).mean().item()
        metrics[f"hier_precision@{k}"] = precision[k - 1].item()
        metrics[f"hmap@{k}"] = precision[:k].mean().item()
    mistakes = distance[:, 0] > 0
    num_mistakes = int(mistakes.sum())
    metrics["mistake_severity"] = distance[mistakes, 0].mean().item() if num_mistakes else 0.0
    return metrics | {"num_mistakes": num_mistakes, "num_items": len(labels)}


def _nearest(distances: Tensor, labels: Tensor, k: int) -> Tensor:
    """Returns (N, k) float64: the smallest distances of each item's class, the smallest first."""
    classes, which = torch.unique(labels, return_inverse=True)
    parts = torch.split(classes, max(1, _BLOCK // len(distances)))
    return torch.cat([distances[part].topk(k, largest=False).values for part in parts])[which].double()


def _checked_distances(distances: Tensor) -> Tensor:
    if distances.ndim != 2 or distances.shape[0] != distances.shape[1] or len(distances) == 0:
        raise ValueError(
            f"distances must be (C, C), from each class to each class; their shape is {tuple(distances.shape)}"
        )
    distances = distances.detach().cpu()
    distances = distances.byte() if distances.dtype == torch.bool else distances
    lowest, highest = distances.aminmax()  # NaN shows in both; a mask of all pairs is only made for the message
    if not (lowest >= 0 and highest.isfinite()):
        i, j = (~(distances.isfinite() & (distances >= 0))).nonzero()[0].tolist()
        raise ValueError(f"distances must be finite and from 0; from class {i} to {j} it is {distances[i, j].item()}")
    if (own := distances.diagonal()).any():
        i = int(own.nonzero()[0])
        raise ValueError(f"distances must be 0 from a class to itself; for class {i} it is {own[i].item()}")
    return distances


def _checked_predictions(predicted: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    if predicted.ndim != 2 or 0 in predicted.shape:
        raise ValueError(
            f"predicted must be (N, K), the K best classes of each item; its shape is {tuple(predicted.shape)}"
        )
    if predicted.is_floating_point() or predicted.is_complex() or predicted.dtype == torch.bool:
        raise ValueError(f"predicted must be class ids, integers; it is {predicted.dtype}; pass scores.topk(k).indices")
    predicted = predicted.detach().cpu().long()
    labels = check_flat(labels, len(predicted))
    for name, ids in (("predicted", predicted), ("labels", labels[:, None])):
        outside = (ids >= num_classes) | (ids < (PAD if name == "labels" else 0))
        if outside.any():
            row, column = outside.nonzero()[0].tolist()
            found = int(ids[row, column])
            raise ValueError(f"{name} must be classes of the distances, 0 to {num_classes - 1}; row {row} has {found}")
    ordered = predicted.sort(1).values
    if (twice := ordered[:, 1:] == ordered[:, :-1]).any():
        row, column = twice.nonzero()[0].tolist()
        raise ValueError(
            f"predicted must name a class once per item; row {row} has class {int(ordered[row, column])} twice"
        )
    return predicted, labels
