"""Selective classification: to answer only where the confidence is high enough, and where that is."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from hierpretrain.checks import check_number
from hierpretrain.functional.calibration import check_answers


def coverage_curve(confidences: Tensor, correct: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Computes how many answers are right if only the surest are given: accuracy against coverage.

    Source: El-Yaniv and Wiener, *On the Foundations of Noise-free Selective Classification*, JMLR 2010; the risk of
    Geifman and El-Yaniv, *Selective Classification for Deep Neural Networks*, NeurIPS 2017, is 1 - accuracy.

    Args:
        confidences: (N,) confidences in 0 to 1.
        correct: (N,) bool, whether each answer is right.

    Returns:
        Three (K,) float64, for the K different confidences, the highest first: the threshold, the fraction of the
        answers whose confidence is not below it (coverage), and the fraction of these that is right. Answers of equal
        confidence are given or kept together.

    Raises:
        ValueError: As :func:`~hierpretrain.functional.calibration.reliability`.

    Example:
        >>> confidences, correct = torch.tensor([0.5, 0.9, 0.9, 0.8]), torch.tensor([False, True, False, True])
        >>> [[round(value, 2) for value in values.tolist()] for values in coverage_curve(confidences, correct)]
        [[0.9, 0.8, 0.5], [0.5, 0.75, 1.0], [0.5, 0.67, 0.5]]
    """
    confidences, correct = check_answers(confidences, correct)
    confidences, order = confidences.sort(descending=True, stable=True)
    right = correct[order].double().cumsum(0)
    last = torch.cat([confidences.diff() != 0, torch.ones(1, dtype=torch.bool)])  # of answers of equal confidence
    number = torch.arange(1, len(confidences) + 1, dtype=torch.float64)
    return confidences[last], (number / len(confidences))[last], (right / number)[last]


def area_under_risk_coverage(confidences: Tensor, correct: Tensor) -> float:
    """Computes the mean fraction of wrong answers over all coverages; 0 is the best.

    Source: Geifman, Uziel and El-Yaniv, *Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers*, ICLR 2019.
    Answers of equal confidence have the risk that giving all of them has, so their order does not matter.

    Args:
        confidences: (N,) confidences in 0 to 1.
        correct: (N,) bool, whether each answer is right.

    Raises:
        ValueError: As :func:`~hierpretrain.functional.calibration.reliability`.

    Example:
        >>> round(area_under_risk_coverage(torch.tensor([0.9, 0.8, 0.1]), torch.tensor([True, True, False])), 3)
        0.111
    """
    _, coverage, accuracy = coverage_curve(confidences, correct)
    width = torch.cat([coverage[:1], coverage.diff()])
    return float((width * (1 - accuracy)).sum())


def precision_threshold(confidences: Tensor, correct: Tensor, precision: float, *, certainty: float = 0.9) -> float:
    """Finds the lowest confidence from which on answers are right often enough, and surely so.

    Of the n answers that are at least as confident, r are right. The precision that they will have on other images
    is at least the lower bound of Clopper and Pearson, with a probability of ``certainty``; the threshold is the lowest
    for which this bound reaches the precision. So a precision of 95 % takes at least 45 answers, all of them right.

    Source: Geifman and El-Yaniv, *Selective Classification for Deep Neural Networks*, NeurIPS 2017, section 3. They
    correct the bound for the thresholds that were tried, which is not done here: neighbouring thresholds share nearly
    all of their answers.

    Args:
        confidences: (N,) confidences in 0 to 1, of held-out images.
        correct: (N,) bool, whether each answer is right.
        precision: The fraction of given answers that shall be right, above 0 and below 1.
        certainty: The probability of it, from 0 to below 1. With 0.5 the held-out images' own precision about decides.

    Returns:
        The threshold, one of the confidences; infinity if the answers are too few or too often wrong for any.

    Raises:
        ValueError: As :func:`~hierpretrain.functional.calibration.reliability`, or if a number is out of range.

    Example:
        The surer half of 200 answers are right, and of the others every second.

        >>> confidences = torch.linspace(1, 0, 200, dtype=torch.float64)
        >>> correct = (torch.arange(200) < 100) | (torch.arange(200) % 2 == 0)
        >>> round(precision_threshold(confidences, correct, 0.95), 2)
        0.48
        >>> precision_threshold(confidences[:20], correct[:20], 0.95)
        inf
    """
    from scipy.stats import beta  # slow to import, and answers do without

    check_between(precision=precision)
    if not 0 <= certainty < 1:
        raise ValueError(f"certainty must be from 0 to below 1; it is {certainty}")
    thresholds, coverage, accuracy = coverage_curve(confidences, correct)
    given = (coverage * len(confidences)).round().numpy()
    right = (accuracy.numpy() * given).round()
    # Clopper and Pearson: the lower bound of a fraction of which r of n were seen
    with np.errstate(invalid="ignore"):
        bound = np.where(right > 0, beta.ppf(1 - certainty, right, given - right + 1), 0.0)
    reached = torch.from_numpy(bound >= precision).nonzero()
    return float(thresholds[reached[-1, 0]]) if len(reached) else math.inf


def false_alarm_threshold(confidences: Tensor, rate: float) -> float:
    """Finds the highest confidence below which at most a fraction of images fall that should not.

    With n held-out images it is the ``floor(rate (n + 1))``-th smallest of their confidences, and an image of the same
    kind falls below it with a probability of at most ``rate``.

    Source: split conformal prediction; Bates et al., *Testing for Outliers with Conformal p-values*, Annals of
    Statistics 2023, section 2.

    Args:
        confidences: (N,) confidences in 0 to 1 of held-out images whose class is known.
        rate: The fraction of such images that may be called unknown, above 0 and below 1.

    Returns:
        The threshold, one of the confidences; 0 if there are too few images for the rate, and so none may be called
        unknown.

    Raises:
        ValueError: If confidences are malformed or the rate is out of range.

    Example:
        >>> false_alarm_threshold(torch.linspace(0, 1, 101, dtype=torch.float64), 0.05)
        0.04
        >>> false_alarm_threshold(torch.tensor([0.5, 0.7]), 0.05)
        0.0
    """
    check_between(rate=rate)
    confidences, _ = check_answers(confidences, torch.ones(len(confidences), dtype=torch.bool))
    rank = math.floor(rate * (len(confidences) + 1) + 1e-9)  # 0.05 * 20 is a little below 1
    return float(confidences.sort().values[rank - 1]) if rank else 0.0


def check_between(**options: float) -> None:
    """Raises a ValueError unless options are above 0 and below 1.

    Example:
        >>> check_between(precision=95)
        Traceback (most recent call last):
        ValueError: precision must be above 0 and below 1; it is 95
    """
    check_number(**options)
    for name, value in options.items():
        if not 0 < value < 1:
            raise ValueError(f"{name} must be above 0 and below 1; it is {value}")
