"""Selective classification: curves against loops, bounds against scipy, rates on fresh images; messages."""

import math

import pytest
import torch
from scipy.stats import binomtest

from hierpretrain.functional.selective import (
    area_under_risk_coverage,
    coverage_curve,
    false_alarm_threshold,
    precision_threshold,
)


def answers(seed, number=300, steps=40):
    """Answers of confidences that repeat, of which the surer are more often right."""
    generator = torch.Generator().manual_seed(seed)
    confidences = (torch.rand(number, generator=generator, dtype=torch.float64) * steps).round() / steps
    return confidences, torch.rand(number, generator=generator) < confidences.sqrt()


@pytest.mark.parametrize("seed", range(3))
def test_the_curve_equals_the_definition(seed):
    confidences, correct = answers(seed)
    pairs = list(zip(confidences.tolist(), correct.tolist(), strict=True))
    expected = []
    for threshold in sorted({c for c, _ in pairs}, reverse=True):
        given = [y for c, y in pairs if c >= threshold]
        expected.append((threshold, len(given) / len(pairs), sum(given) / len(given)))
    assert torch.stack(coverage_curve(confidences, correct), 1).tolist() == [pytest.approx(row) for row in expected]


def test_the_area_of_distinct_confidences_is_the_mean_risk():
    confidences = torch.tensor([0.9, 0.7, 0.5, 0.3])
    correct = torch.tensor([True, False, True, False])
    assert area_under_risk_coverage(confidences, correct) == pytest.approx((0 + 1 / 2 + 1 / 3 + 2 / 4) / 4)


def test_the_area_of_one_confidence_is_the_share_of_mistakes():
    assert area_under_risk_coverage(torch.full((8,), 0.5), torch.arange(8) < 6) == pytest.approx(0.25)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("precision", [0.6, 0.8, 0.9])
@pytest.mark.parametrize("certainty", [0.5, 0.9])
def test_the_threshold_is_the_lowest_whose_bound_reaches_the_precision(seed, precision, certainty):
    confidences, correct = answers(seed)
    reached = []
    for threshold in confidences.unique().tolist():
        given = correct[confidences >= threshold]
        test = binomtest(int(given.sum()), len(given), alternative="greater")
        lower = test.proportion_ci(certainty, "exact").low
        if lower >= precision:
            reached.append(threshold)
    found = precision_threshold(confidences, correct, precision, certainty=certainty)
    assert found == (pytest.approx(min(reached)) if reached else math.inf)


@pytest.mark.parametrize(("number", "enough"), [(44, False), (45, True)])
def test_a_precision_of_95_percent_takes_45_right_answers(number, enough):
    found = precision_threshold(torch.full((number,), 0.8), torch.ones(number, dtype=torch.bool), 0.95)
    assert found == (pytest.approx(0.8) if enough else math.inf)


def test_no_right_answer_gives_no_threshold():
    assert precision_threshold(torch.rand(100), torch.zeros(100, dtype=torch.bool), 0.1) == math.inf


def test_fresh_answers_have_the_precision():
    missed = 0
    for seed in range(60):
        found = precision_threshold(*answers(seed, 1000, 10_000), 0.85)
        confidences, correct = answers(1000 + seed, 20_000, 10_000)
        missed += bool(correct[confidences >= found].double().mean() < 0.85)
    assert missed <= 15  # of 60, at a certainty of 90 %, and a little more for choosing among thresholds


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.5])
def test_so_few_fall_below_the_threshold(rate):
    confidences = torch.rand(999, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    threshold = false_alarm_threshold(confidences, rate)
    assert int((confidences < threshold).sum()) == math.floor(rate * 1000) - 1
    assert threshold in confidences


def test_the_rate_of_false_alarms_holds_in_the_mean():
    """Split conformal: of a further image the probability to fall below it is at most the rate, and nearly that."""
    generator = torch.Generator().manual_seed(0)
    confidences = torch.rand(4000, 40, generator=generator, dtype=torch.float64)
    fell = [float(row[39] < false_alarm_threshold(row[:39], 0.1)) for row in confidences]
    assert 0.08 < sum(fell) / len(fell) < 0.115


def test_equal_confidences_cause_no_false_alarm():
    confidences = torch.full((100,), 0.7)
    assert not (confidences < false_alarm_threshold(confidences, 0.2)).any()


@pytest.mark.parametrize("value", [0, 1, 1.5, -0.1, math.nan])
def test_rates_are_checked(value):
    with pytest.raises(ValueError, match=f"precision must be above 0 and below 1; it is {value}"):
        precision_threshold(torch.rand(4), torch.ones(4, dtype=torch.bool), value)
    with pytest.raises(ValueError, match=f"rate must be above 0 and below 1; it is {value}"):
        false_alarm_threshold(torch.rand(4), value)


def test_the_certainty_is_checked():
    with pytest.raises(ValueError, match="certainty must be from 0 to below 1; it is 1"):
        precision_threshold(torch.rand(4), torch.ones(4, dtype=torch.bool), 0.5, certainty=1)
