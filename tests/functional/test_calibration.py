"""Calibration error: against a loop, scikit-learn and closed forms; invariances; messages."""

import math

import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss as sklearn_log_loss

from hierpretrain.functional.calibration import calibration_noise, expected_calibration_error, log_loss, reliability


def answers(seed, number=500):
    generator = torch.Generator().manual_seed(seed)
    confidences = torch.rand(number, generator=generator, dtype=torch.float64)
    return confidences, torch.rand(number, generator=generator) < confidences**2


def by_hand(confidences, correct, num_bins):
    """The definition, bin by bin and answer by answer."""
    error = 0.0
    for m in range(1, num_bins + 1):
        inside = [
            (c, y)
            for c, y in zip(confidences.tolist(), correct.tolist(), strict=True)
            if (m - 1) / num_bins < c <= m / num_bins or (m == 1 and c == 0)
        ]
        if inside:
            accuracy = sum(y for _, y in inside) / len(inside)
            confidence = sum(c for c, _ in inside) / len(inside)
            error += len(inside) / len(confidences) * abs(accuracy - confidence)
    return error


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("num_bins", [1, 4, 15])
def test_equals_the_definition(seed, num_bins):
    confidences, correct = answers(seed)
    found = expected_calibration_error(confidences, correct, num_bins=num_bins)
    assert found == pytest.approx(by_hand(confidences, correct, num_bins), abs=1e-12)


def test_bins_are_scikit_learns():
    confidences, correct = answers(0)
    accuracy, confidence = calibration_curve(correct.numpy(), confidences.numpy(), n_bins=10)
    ours = reliability(confidences, correct, num_bins=10)
    assert ours[0].numpy() == pytest.approx(confidence)
    assert ours[1].numpy() == pytest.approx(accuracy)
    assert ours[2].sum() == 500


@pytest.mark.parametrize("said", [0.0, 0.3, 0.5, 1.0])
def test_a_coin_is_off_by_what_is_said_of_it(said):
    correct = torch.arange(1000) % 2 == 0
    assert expected_calibration_error(torch.full((1000,), said), correct) == pytest.approx(abs(said - 0.5))


def test_a_known_distribution_has_its_closed_form():
    """Confidence c uniform in 0 to 1 and right with probability c^2: in many bins the mean of c - c^2 is 1/6."""
    confidences, correct = answers(1, 400_000)
    assert expected_calibration_error(confidences, correct) == pytest.approx(1 / 6, abs=3e-3)


def test_true_probabilities_have_an_error_of_sampling_alone():
    confidences, _ = answers(2, 100_000)
    correct = torch.rand(100_000, generator=torch.Generator().manual_seed(5)) < confidences
    assert expected_calibration_error(confidences, correct) < 2 * math.sqrt(15 / 100_000)


@pytest.mark.parametrize(("number", "said"), [(100, 0.5), (1000, 0.9)])
def test_the_noise_of_one_bin_has_its_closed_form(number, said):
    expected = math.sqrt(2 / math.pi * said * (1 - said) / number)  # the mean of a normal's absolute value
    assert calibration_noise(torch.full((number,), said), draws=2000) == pytest.approx(expected, rel=0.06)


def test_the_noise_of_certain_answers_is_0():
    assert calibration_noise(torch.tensor([0.0, 1.0])) == 0


def test_edges_are_in_the_lower_bin():
    _, _, count = reliability(torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]), torch.ones(5, dtype=torch.bool), num_bins=4)
    assert count.tolist() == [2, 1, 1, 1]


def test_the_order_of_the_answers_does_not_matter():
    confidences, correct = answers(3)
    order = torch.randperm(500, generator=torch.Generator().manual_seed(0))
    assert expected_calibration_error(confidences[order], correct[order]) == pytest.approx(
        expected_calibration_error(confidences, correct), abs=1e-12
    )


def test_log_loss_is_scikit_learns():
    confidences, correct = answers(4)
    assert log_loss(confidences, correct) == pytest.approx(sklearn_log_loss(correct.numpy(), confidences.numpy()))


@pytest.mark.parametrize(
    ("confidences", "correct", "message"),
    [
        (torch.tensor([]), torch.tensor([], dtype=torch.bool), r"must both be \(N,\), one an answer, and not empty"),
        (torch.tensor([0.5]), torch.tensor([True, False]), r"their shapes are \(1,\) and \(2,\)"),
        (torch.tensor([0.5, 1.5]), torch.tensor([True, False]), "must be in 0 to 1; answer 1 has 1.5"),
        (torch.tensor([math.nan]), torch.tensor([True]), "must be in 0 to 1; answer 0 has nan"),
        (
            torch.tensor([0.5]),
            torch.tensor([1]),
            "correct must be bool, whether each answer is right; it is torch.int64",
        ),
    ],
)
def test_errors(confidences, correct, message):
    with pytest.raises(ValueError, match=message):
        expected_calibration_error(confidences, correct)


def test_the_number_of_bins_is_checked():
    with pytest.raises(ValueError, match="num_bins must be at least 1; it is 0"):
        expected_calibration_error(torch.tensor([0.5]), torch.tensor([True]), num_bins=0)
