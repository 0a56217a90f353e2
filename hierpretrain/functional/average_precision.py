"""Average precision of the scores that a classifier gives every class: per class, over classes and over images."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpretrain.checks import as_tensor, check_finite, check_flat, check_floating
from hierpretrain.taxonomy import PAD, as_labels

_BLOCK = 1 << 22  # scores at a time


def average_precision_metrics(
    scores: Tensor, targets: Tensor, classes: Tensor | None = None
) -> tuple[dict[str, float], dict[int, float]]:
    """Measures how far each class, by its scores, ranks its own images before all others.

    Images stand in the order of a class's score. With P_n and R_n the precision and recall of the images that score at
    least the n-th highest of the different scores, AP = sum_n (R_n - R_{n-1}) P_n: a threshold takes equal scores all
    or none, so nothing depends on the order of images. It is scikit-learn's ``average_precision_score``. Then, over
    the classes that have an image (the others have no AP, and are counted),

    - ``map`` is the mean over classes;
    - ``map_images`` the mean over images of the AP of the image's class, the mAP* of Bhalla et al., *Exploiting Data
      Hierarchy as a New Modality for Contrastive Learning*, 2022: classes weighted by their numbers of images;
    - ``map_micro`` the AP of all decisions, an image and a class each, in one ranking;
    - ``precision`` the mean over classes of the fraction of the images whose highest score is that class's that are of
      it; a class that no image has as its highest counts 0;
    - ``accuracy`` the fraction of images whose highest score, the first of equal ones, is the score of their class.

    A class of an image that has no column (no training item had it) is ranked as if its scores were all the same and
    below all others: it counts in every number, with its fraction of the images as its AP, and in
    ``num_unscored_classes``.

    Args:
        scores: (Q, C) finite floating-point scores, higher for likelier; only ``map_micro`` compares the
            scores of different classes, and only ``precision`` and ``accuracy`` the scores of one image.
        targets: (Q,) class ids, or ``PAD`` for images to leave out. Or, where images may have several classes, (Q, C)
            booleans or integers 0 and 1; then images without any are left out. An image of several classes counts once
            for each in ``map_images``, and any of them is right in ``precision`` and ``accuracy``.
        classes: (C,) different class ids of the columns; by default 0..C-1.

    Returns:
        The named metrics as fractions in [0, 1], with the integers ``num_classes`` (that have an image),
        ``num_empty_classes`` (columns that have none), ``num_unscored_classes``, ``num_items`` (evaluated) and
        ``num_left_out``; and the AP of each class that has an image, by its id, ascending.

    Raises:
        ValueError: If an argument is malformed, or no image has a class.

    Example:
        Class 7 ranks its two images first and third: AP = (1/1 + 2/3) / 2.

        >>> scores = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.5, 0.5], [0.2, 0.8]])
        >>> metrics, by_class = average_precision_metrics(scores, torch.tensor([7, 3, 7, 3]), torch.tensor([7, 3]))
        >>> {number: round(value, 4) for number, value in by_class.items()}
        {3: 0.8333, 7: 0.8333}
        >>> {name: round(value, 4) for name, value in metrics.items()}  # doctest: +NORMALIZE_WHITESPACE
        {'map': 0.8333, 'map_images': 0.8333, 'map_micro': 0.8167, 'precision': 0.8333, 'accuracy': 0.75,
         'num_classes': 2, 'num_empty_classes': 0, 'num_unscored_classes': 0, 'num_items': 4, 'num_left_out': 0}
    """
    scores = _checked_scores(scores)
    classes = _checked_classes(classes, scores.shape[1])
    images, ids = _positives(targets, scores, classes)  # (P,) each: an image and a class of it
    if len(images) == 0:
        raise ValueError(f"at least one image must have a class; none of {len(scores)} has")
    evaluated, images = torch.unique(images, return_inverse=True)
    num_left_out = len(scores) - len(evaluated)
    scores = scores[evaluated] if num_left_out else scores

    num_empty = int((~torch.isin(classes, ids)).sum())
    unscored = torch.unique(ids[~torch.isin(ids, classes)])
    if len(unscored):
        below = scores.new_full((len(scores), len(unscored)), -torch.inf)
        scores, classes = torch.cat([scores, below], 1), torch.cat([classes, unscored])
    present, numbers, sizes = torch.unique(ids, return_inverse=True, return_counts=True)
    by_id = classes.argsort()
    columns = by_id[torch.searchsorted(classes[by_id], present)]  # of the classes that have an image
    own_images = torch.split(images[numbers.argsort()], sizes.tolist())

    by_class = torch.zeros(len(present), dtype=torch.float64)
    for number, (column, own) in enumerate(zip(columns, own_images, strict=True)):
        of_class = scores[:, column].contiguous()
        by_class[number] = _average_precision(of_class, of_class[own])
    predicted = scores.argmax(1)
    is_right = predicted[images] == columns[numbers]  # at most one of an image's classes is the predicted one
    times_predicted = torch.bincount(predicted, minlength=len(classes))[columns]
    times_right = torch.bincount(numbers[is_right], minlength=len(present))
    metrics: dict[str, float] = {
        "map": by_class.mean().item(),
        "map_images": (by_class * sizes).sum().item() / len(images),
        "map_micro": _average_precision(scores.flatten(), scores[images, columns[numbers]]),
        "precision": (times_right.double() / times_predicted.clamp(min=1)).mean().item(),
        "accuracy": int(is_right.sum()) / len(scores),
        "num_classes": len(present),
        "num_empty_classes": num_empty,
        "num_unscored_classes": len(unscored),
        "num_items": len(scores),
        "num_left_out": num_left_out,
    }
    return metrics, dict(zip(present.tolist(), by_class.tolist(), strict=True))


def _average_precision(scores: Tensor, positive: Tensor) -> float:
    """Returns AP of (M,) scores, of which the (P,) scores of the positives are given once more.

    Only where a positive one stands does recall grow, so no score but theirs is a threshold: the others are counted,
    not sorted.
    """
    thresholds, steps = torch.unique(positive, return_counts=True)  # ascending
    counts = torch.zeros(len(thresholds) + 1, dtype=torch.int64)
    for block in torch.split(scores, _BLOCK):
        reached = torch.searchsorted(thresholds, block, right=True)  # how many thresholds each score reaches
        counts += torch.bincount(reached, minlength=len(counts))
    num_at_least = counts[1:].flip(0).cumsum(0)  # scores at or above each threshold, the highest first
    steps = steps.flip(0)
    return float(((steps * steps.cumsum(0)).double() / num_at_least).sum()) / len(positive)


def _checked_scores(scores: Tensor) -> Tensor:
    scores = as_tensor(scores)
    if scores.ndim != 2 or 0 in scores.shape:
        raise ValueError(
            f"scores must be (Q, C), a row per image and a column per class; their shape is {tuple(scores.shape)}"
        )
    check_floating(scores, "scores")
    scores = scores.detach().cpu()
    scores = scores if scores.dtype == torch.float64 else scores.float()
    check_finite(scores, "scores")
    return scores


def _checked_classes(classes: Tensor | None, num_columns: int) -> Tensor:
    if classes is None:
        return torch.arange(num_columns)
    classes = as_tensor(classes)
    if classes.shape != (num_columns,) or classes.is_floating_point():
        raise ValueError(
            f"classes must be ({num_columns},) integers, the id of each column of the scores; they are "
            f"{tuple(classes.shape)} {classes.dtype}"
        )
    classes = as_labels(classes, "classes").cpu()
    ids, times = torch.unique(classes, return_counts=True)
    if ids[0] < 0 or times.max() > 1:
        raise ValueError(f"classes must be different ids from 0; id {int(ids[(ids < 0) | (times > 1)][0])} is not")
    return classes


def _positives(targets: Tensor, scores: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the image and the class id of every pair that is right: (P,) each."""
    targets = as_tensor(targets)
    if targets.ndim != 2:
        targets = check_flat(targets, len(scores), "targets")
        images = (targets != PAD).nonzero()[:, 0]
        return images, targets[images]
    targets = targets.detach().cpu()
    if targets.shape != scores.shape:
        raise ValueError(
            f"targets of several classes must be {tuple(scores.shape)}, as the scores; their shape is "
            f"{tuple(targets.shape)}"
        )
    if targets.is_floating_point() or targets.is_complex() or ((targets != 0) & (targets != 1)).any():
        raise ValueError("targets of several classes must be booleans, or integers 0 and 1; pass (targets > 0)")
    images, columns = targets.nonzero(as_tuple=True)
    return images, classes[columns]
