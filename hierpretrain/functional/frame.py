"""HAFrame: fixed directions of the classes whose cosines follow the tree, on plain tensors.

Liang and Davis, *Inducing Neural Collapse to a Fixed Hierarchy-Aware Frame for Reducing Mistake Severity*, ICCV 2023.
With ``d`` the distances of the classes in the tree, ``E = exp(-gamma d / max d)``, and w_i the direction of class i::

    cos(w_i, w_j) = (1 - m) E_ij + m

``m`` is the smallest number for which such directions exist. The released code looks for it on a grid from -1 up. It
has a closed form, which may lie below -1: ``(1 - m) E + m 1 1^T`` is positive semi-definite as long as
``m >= -1 / (t - 1)`` with ``t = 1^T E^-1 1``. There the directions are ``u_i`` without their part
along z, where the rows u_i of a Cholesky factor have the products E, and z is the vector that has the product 1 with
all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from hierpretrain.checks import as_tensor, check_above_0, check_classes, check_finite, check_floating, check_losses
from hierpretrain.functional.unit_length import unit_length
from hierpretrain.taxonomy import as_labels


def hierarchy_aware_frame(distances: Tensor, *, gamma: float = 5.0) -> Tensor:
    """Computes unit directions of the classes, as far apart as the cosines of the paper allow.

    Args:
        distances: (C, C) distances of the classes in the tree, 0 on the diagonal and above 0 elsewhere, as
            :func:`hierpretrain.functional.class_distances` returns them.
        gamma: How fast cosines fall with the distance, above 0. The larger, the more alike are all cosines of different
            classes: towards -1 / (C - 1), a simplex, which knows no tree.

    Returns:
        (C, C) float64 on the device of the distances, the direction of each class. They span C - 1 dimensions. Any
        rotation of them would do as well; this one is the same on every machine. Time is that of a Cholesky
        decomposition.

    Raises:
        ValueError: If distances are malformed, or no directions have such cosines, which happens to no tree.

    Example:
        >>> frame = hierarchy_aware_frame(torch.tensor([[0, 1, 2], [1, 0, 2], [2, 2, 0]]), gamma=2.0)
        >>> cosines = frame @ frame.T
        >>> [round(value, 4) for value in cosines[0].tolist()]  # itself, its sibling, the other
        [1.0, -0.1949, -0.6345]
    """
    check_above_0(gamma=gamma)
    distances = as_tensor(distances)
    size = len(distances)
    different = ~torch.eye(size, dtype=torch.bool, device=distances.device)
    if distances.shape != (size, size) or size == 0 or not ((distances > 0) == different).all():
        raise ValueError(
            "distances must be (C, C), 0 on the diagonal and above 0 between different classes; their shape is "
            f"{tuple(distances.shape)}. Are two classes one?"
        )
    if size == 1:
        return torch.ones(1, 1, dtype=torch.float64, device=distances.device)
    distances = distances.double()
    factor, failed = torch.linalg.cholesky_ex(torch.exp(-gamma * distances / distances.max()))
    if failed:
        raise ValueError(
            f"with gamma {gamma} there are no directions whose cosines follow these distances; take the distances of "
            "a tree, class_distances(taxonomy, level), or a larger gamma"
        )
    z = torch.linalg.solve_triangular(factor, torch.ones_like(factor[:, :1]), upper=False)[:, 0]
    return normalize(factor - z / z.square().sum(), dim=1)


def haframe_losses(transformed: Tensor, labels: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
    """Computes the two losses of the paper, of which it trains a weighted sum: cross entropy, and one of cosines.

    The cosine loss of an item is the sum, over all classes, of the squared difference of its cosine with the direction
    of the class and the cosine that its own class has with it.

    Args:
        transformed: (N, C) items, in the space of the frame, of any length.
        labels: (N,) classes of the items, 0 to C - 1.
        frame: (C, C) directions, as :func:`hierarchy_aware_frame` returns them.

    Returns:
        (N,) cross entropies, whose logits are the products of item and directions, and (N,) cosine losses.

    Raises:
        ValueError: If shapes do not match, a class does not exist, or items are not finite or so long that their
            squares are not.

    Example:
        >>> frame = hierarchy_aware_frame(torch.tensor([[0, 1], [1, 0]]))  # two opposite directions
        >>> entropy, cosine = haframe_losses(3 * frame[:1], torch.tensor([1]), frame)
        >>> round(entropy.item(), 4), round(cosine.item(), 4)  # log(1 + e^6), and twice 2^2
        (6.0025, 8.0)
    """
    transformed, frame = as_tensor(transformed), as_tensor(frame)
    labels = as_labels(labels).to(transformed.device)
    if transformed.ndim != 2 or transformed.shape[1:] != frame.shape[1:] or labels.shape != transformed.shape[:1]:
        raise ValueError(
            f"transformed must be (N, C), labels (N,) and frame (C, C); they are {tuple(transformed.shape)}, "
            f"{tuple(labels.shape)} and {tuple(frame.shape)}"
        )
    check_classes(labels, len(frame))
    check_floating(transformed, "transformed")
    check_finite(transformed.detach(), "transformed")
    entropies = cross_entropy(transformed @ frame.T, labels, reduction="none")
    check_losses(entropies)
    gaps = unit_length(transformed) - frame[labels]
    return entropies, (gaps @ frame.T).square().sum(1)
