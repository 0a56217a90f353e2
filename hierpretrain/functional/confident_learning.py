"""Which labels are probably wrong, by the votes of the nearest neighbours: confident learning."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpretrain.checks import as_tensor, check_above_0, check_finite, check_flat, check_ids, check_neighbours
from hierpretrain.functional.votes import added_up
from hierpretrain.taxonomy import PAD, as_labels


def neighbour_votes(
    similarities: Tensor, indices: Tensor, classes: Tensor, *, temperature: float = 0.07
) -> tuple[Tensor, Tensor]:
    """Counts the votes of each item's neighbours for classes, with the weight ``exp(cosine / temperature)``.

    Args:
        similarities: (N, K) cosines.
        indices: (N, K) int64, the neighbours of each item, which itself is none of them; ``PAD`` for none.
        classes: (N,) int64 class of each item, ``PAD`` for none. A neighbour without a class does not vote.
        temperature: Above 0; a small one leaves the vote to the nearest.

    Returns:
        (N, K) int64 classes that get votes, each once, ``PAD`` in the rest of a row; and (N, K) float64, the fraction
        of the votes that each gets, 0 in the rest.

    Raises:
        ValueError: If the classes are no (N,) ids, or neighbours are malformed, see
            :func:`~hierpretrain.checks.check_neighbours`.

    Example:
        >>> found, fractions = neighbour_votes(torch.ones(1, 3), torch.tensor([[0, 1, 2]]), torch.tensor([5, 7, 5]))
        >>> found.tolist(), fractions.round(decimals=2).tolist()
        ([[5, 7, -1]], [[0.67, 0.33, 0.0]])
    """
    check_above_0(temperature=temperature)
    classes = check_flat(classes, len(classes), "classes")
    similarities, indices = check_neighbours(similarities, indices, len(classes))
    candidates = classes[indices.clamp(min=0)].masked_fill(indices == PAD, PAD)
    scores = (similarities.double() / temperature).masked_fill(candidates == PAD, -torch.inf)
    return added_up(candidates, scores.softmax(1))  # of a row without a vote it is NaN, and counts nothing


def label_errors(classes: Tensor, candidates: Tensor, fractions: Tensor) -> tuple[Tensor, Tensor]:
    """Finds the items whose label is probably wrong, by confident learning.

    A class's threshold is the mean probability that items labelled with it have for it. An item counts for the most
    probable of the classes whose threshold it reaches; where that is another than its label, the label is probably
    wrong (Northcutt, Jiang and Chuang, *Confident Learning*, JAIR 2021, eq. 1 and 2), unless its own is as probable.
    Here an item's probability for a class is the fraction of its neighbours' votes, so memory is O(N K), whatever the
    number of classes.

    Args:
        classes: (N,) int64 labels, ``PAD`` for none; an item without a label is no error.
        candidates: (N, K) int64 classes with votes, see :func:`neighbour_votes`.
        fractions: (N, K) their probabilities.

    Returns:
        (M,) int64 indices of the items, those first whose own label is least probable beside the other (normalized
        margin), and (M,) int64 the classes that they probably have.

    Raises:
        ValueError: If the classes are no (N,) ids, candidates no (N, K) ids, or fractions are not finite.

    Example:
        Of two items of class 0 and two of class 1, the last has all votes for class 0.

        >>> classes, candidates = torch.tensor([0, 0, 1, 1]), torch.tensor([[0, 1]] * 4)
        >>> fractions = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [1.0, 0.0]])
        >>> [found.tolist() for found in label_errors(classes, candidates, fractions)]
        [[3], [0]]
    """
    classes, candidates = check_flat(classes, len(candidates), "classes"), as_labels(candidates, "candidates")
    fractions = as_tensor(fractions)
    if candidates.ndim != 2 or fractions.shape != candidates.shape:
        raise ValueError(
            "candidates and fractions must both be (N, K); their shapes are "
            f"{tuple(candidates.shape)} and {tuple(fractions.shape)}"
        )
    check_ids(candidates.flatten(), "candidates")
    check_finite(fractions, "fractions")
    own = torch.where((candidates == classes[:, None]) & (candidates != PAD), fractions, 0.0).sum(1)  # (N,)
    labelled = classes != PAD
    number = 1 + int(torch.cat([torch.zeros(1, dtype=torch.int64), classes, candidates.flatten()]).max())
    members = torch.zeros(number, dtype=torch.float64).index_add_(
        0, classes[labelled], torch.ones(int(labelled.sum()), dtype=torch.float64)
    )
    sums = torch.zeros(number, dtype=torch.float64).index_add_(0, classes[labelled], own[labelled].double())
    thresholds = torch.where(members > 0, sums / members, torch.inf)  # a class that no item is labelled with: never
    reached = (candidates != PAD) & (fractions > 0) & (fractions >= thresholds[candidates.clamp(min=0)] - 1e-6)
    confident = torch.where(reached, fractions, -1.0)
    best, column = confident.max(1)
    other = candidates.gather(1, column[:, None])[:, 0]
    wrong = (labelled & (best > own)).nonzero()[:, 0]
    rest = torch.where(candidates == classes[:, None], -1.0, fractions).max(1).values
    order = (own - rest)[wrong].argsort(stable=True)
    return wrong[order], other[wrong[order]]
