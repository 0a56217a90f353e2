"""How far the confidences of a classifier are what they say: the fraction of the answers that is right."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy

from hierpretrain.checks import as_tensor, check_at_least_1


def reliability(confidences: Tensor, correct: Tensor, *, num_bins: int = 15) -> tuple[Tensor, Tensor, Tensor]:
    """Compares confidence and accuracy, bin by bin: the reliability diagram of Guo et al.

    Source: Guo et al., *On Calibration of Modern Neural Networks*, ICML 2017, section 2. Bin m of M holds the answers
    whose confidence is in ((m - 1) / M, m / M], and the first also those of confidence 0.

    Args:
        confidences: (N,) confidences in 0 to 1, one an answer, N at least 1.
        correct: (N,) bool, whether each answer is right.
        num_bins: M, from 1.

    Returns:
        (M,) float64 mean confidences, (M,) float64 accuracies, and (M,) int64 counts. An empty bin has 0 in each.

    Raises:
        ValueError: If there is no answer, the shapes differ, a confidence is not in 0 to 1, or ``correct`` is not bool.

    Example:
        >>> confidences, correct = torch.tensor([0.2, 0.3, 0.9, 1.0]), torch.tensor([False, True, True, True])
        >>> confidence, accuracy, count = reliability(confidences, correct, num_bins=2)
        >>> [round(value, 2) for value in confidence.tolist()], accuracy.tolist(), count.tolist()
        ([0.25, 0.95], [0.5, 1.0], [2, 2])
    """
    confidences, correct = check_answers(confidences, correct)
    check_at_least_1(num_bins=num_bins)
    # ceil, so that a confidence on the edge of two bins is in the lower one
    bins = ((confidences * num_bins).ceil().long() - 1).clamp(0, num_bins - 1)  # (N,)
    count = torch.bincount(bins, minlength=num_bins)  # (M,)
    some = count.clamp(min=1)
    confidence = torch.zeros(num_bins, dtype=torch.float64).scatter_add(0, bins, confidences) / some
    accuracy = torch.zeros(num_bins, dtype=torch.float64).scatter_add(0, bins, correct.double()) / some
    return confidence, accuracy, count


def expected_calibration_error(confidences: Tensor, correct: Tensor, *, num_bins: int = 15) -> float:
    """Computes by how much confidence and accuracy differ, in the mean over all answers.

        ECE = sum_m  N_m / N  abs(accuracy_m - confidence_m),    N_m answers in bin m

    Source: Naeini et al., *Obtaining Well Calibrated Probabilities Using Bayesian Binning*, AAAI 2015; Guo et al., ICML
    2017, equation 3. It is biased upwards where bins hold few answers: N perfectly calibrated answers have an error of
    the order of sqrt(M / N), so that numbers of sets of different size are not to be compared.

    Args:
        confidences: (N,) confidences in 0 to 1.
        correct: (N,) bool, whether each answer is right.
        num_bins: M, from 1; 15 is usual.

    Returns:
        A fraction, 0 to 1.

    Raises:
        ValueError: As :func:`reliability`.

    Example:
        A coin that is said to show heads 9 times out of 10.

        >>> round(expected_calibration_error(torch.full((1000,), 0.9), torch.arange(1000) % 2 == 0), 3)
        0.4
    """
    confidence, accuracy, count = reliability(confidences, correct, num_bins=num_bins)
    return float(((accuracy - confidence).abs() * count).sum() / count.sum())


def calibration_noise(confidences: Tensor, *, num_bins: int = 15, draws: int = 200, seed: int = 0) -> float:
    """Computes the calibration error that these confidences would show in the mean if each of them were true.

    An error of so many answers can be told from none only above this.

    Args:
        confidences: (N,) confidences in 0 to 1.
        num_bins: As for :func:`expected_calibration_error`.
        draws: How often it is drawn who is right, from 1.
        seed: Of the draws.

    Raises:
        ValueError: As :func:`reliability`, or if a number is below 1.

    Example:
        Of 100 fair coins, sqrt(2 / pi) * 0.5 / 10.

        >>> round(calibration_noise(torch.full((100,), 0.5)), 2)
        0.04
    """
    check_at_least_1(draws=draws)
    confidences, _ = check_answers(confidences, torch.ones(len(confidences), dtype=torch.bool))
    generator = torch.Generator().manual_seed(seed)
    errors = [
        expected_calibration_error(
            confidences,
            torch.rand(len(confidences), generator=generator, dtype=torch.float64) < confidences,
            num_bins=num_bins,
        )
        for _ in range(draws)
    ]
    return sum(errors) / draws


def log_loss(confidences: Tensor, correct: Tensor) -> float:
    """Computes the mean of -log of the probability that confidences give to what is the case; 0 is the best.

    Unlike the calibration error it is a proper score: in the mean over many answers, no confidences have a smaller one
    than the true probabilities.

    Args:
        confidences: (...) confidences in 0 to 1.
        correct: (...) bool, whether each answer is right.

    Example:
        >>> round(log_loss(torch.tensor([[0.5, 1.0]]), torch.tensor([[False, True]])), 4)
        0.3466
    """
    confidences, correct = check_answers(as_tensor(confidences).flatten(), as_tensor(correct).flatten())
    return float(binary_cross_entropy(confidences, correct.double()))


def check_answers(confidences: Tensor, correct: Tensor) -> tuple[Tensor, Tensor]:
    """Returns (N,) confidences as float64 and (N,) bool, both on the CPU, after checking them.

    Raises:
        ValueError: If there is no answer, the shapes differ, a confidence is not in 0 to 1, or ``correct`` is not bool.
    """
    confidences, correct = as_tensor(confidences), as_tensor(correct)
    if confidences.ndim != 1 or confidences.shape != correct.shape or len(confidences) == 0:
        raise ValueError(
            "confidences and correct must both be (N,), one an answer, and not empty; their shapes are "
            f"{tuple(confidences.shape)} and {tuple(correct.shape)}"
        )
    if correct.dtype != torch.bool:
        raise ValueError(f"correct must be bool, whether each answer is right; it is {correct.dtype}")
    confidences, correct = confidences.detach().cpu().double(), correct.cpu()
    wrong = ~((confidences >= 0) & (confidences <= 1))
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(f"confidences must be in 0 to 1; answer {row} has {confidences[row].item()}")
    return confidences, correct
