"""Means, deviations and paired differences against closed forms."""

import math
import statistics

import pytest

from hierpretrain.report.run_table import markdown_table, mean_and_deviation, metrics_csv, paired_differences


@pytest.mark.parametrize("number", [2, 3, 10])
def test_the_deviation_of_consecutive_numbers_is_known(number):
    # of 0 .. n - 1 the variance with n - 1 in the denominator is n (n + 1) / 12
    deviation = math.sqrt(number * (number + 1) / 12)
    assert mean_and_deviation(range(number), 6) == f"{(number - 1) / 2:.6f} ± {deviation:.6f}"


def test_one_value_has_no_deviation_and_equal_values_have_0():
    assert mean_and_deviation([0.25], 2) == "0.25"
    assert mean_and_deviation([0.25, 0.25], 2, sign=True) == "+0.25 ± 0.00"
    assert mean_and_deviation([-0.25], 1, sign=True) == "-0.2"
    for wrong in (math.nan, math.inf):
        assert mean_and_deviation([0.25, wrong], 2) == mean_and_deviation([wrong], 2, sign=True) == "nan"
    with pytest.raises(statistics.StatisticsError):
        mean_and_deviation([], 2)


def test_differences_are_paired_by_seed():
    first = {2: {"map": 0.75}, 0: {"map": 0.5, "nmi": 1.0}, 1: {"map": 0.625}, 3: {"map": 1.0}}
    second = {0: {"map": 0.25}, 1: {"map": 0.5}, 2: {"map": 0.25}, 4: {"map": 0.0}}
    assert paired_differences(first, second, "map") == [0.25, 0.125, 0.5]
    assert paired_differences(second, first, "map") == [-0.25, -0.125, -0.5]
    assert paired_differences(first, second, "nmi") == []
    shifted = {seed: {"map": metrics["map"] + 8} for seed, metrics in first.items()}
    assert mean_and_deviation(paired_differences(shifted, first, "map"), 3) == "8.000 ± 0.000"


def test_csv_quotes_and_keeps_every_digit():
    text = metrics_csv(["row", "seed"], {('a, "b"', 0): {"map": 0.1 + 0.2}, ("c", ""): {}})
    assert text == 'row,seed,metric,value\n"a, ""b""",0,map,0.30000000000000004\n'


def test_markdown_of_no_line():
    assert markdown_table("T", ["", "a"], []) == "**T**\n\n|  | a |\n| --- | ---: |"
