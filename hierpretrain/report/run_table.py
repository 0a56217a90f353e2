"""Numbers of several runs in tables: means and deviations over seeds, and differences of runs with equal seeds."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Metrics = Mapping[str, float]


def mean_and_deviation(values: Sequence[float], digits: int, *, sign: bool = False) -> str:
    """Returns the mean of values, and of two or more their standard deviation with N - 1 in the denominator.

    Where a value is infinite or no number, both are ``nan``.

    Args:
        values: One value at least.
        digits: Digits after the point.
        sign: Whether a mean above 0 has a plus sign.

    Example:
        >>> mean_and_deviation([1.25, 1.75], 2), mean_and_deviation([0.5], 1, sign=True)
        ('1.50 ± 0.35', '+0.5')
    """
    if not all(map(math.isfinite, values)):
        return "nan"
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{'+' if sign else ''}.{digits}f}{spread}"


def paired_differences(first: Mapping[int, Metrics], second: Mapping[int, Metrics], name: str) -> list[float]:
    """Returns by how much a metric of each run of the first group is above the run of the second with its seed.

    Args:
        first: Seed -> metrics.
        second: Seed -> metrics.
        name: The metric. Seeds for which a group has no run, or whose run lacks the metric, are left out.

    Returns:
        The differences, by ascending seed.

    Example:
        >>> paired_differences({0: {"map": 0.75}, 1: {"map": 0.5}}, {0: {"map": 0.5}, 2: {"map": 0.25}}, "map")
        [0.25]
    """
    seeds = sorted(seed for seed in first.keys() & second.keys() if name in first[seed] and name in second[seed])
    return [first[seed][name] - second[seed][name] for seed in seeds]


def markdown_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table with its title; the first column is of names, the others of numbers.

    Example:
        >>> print(markdown_table("Pets", ["", "R@1"], [["cats", "50.0"]]))
        **Pets**
        <BLANKLINE>
        |  | R@1 |
        | --- | ---: |
        | cats | 50.0 |
    """
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return f"**{title}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def metrics_csv(key: Sequence[str], runs: Mapping[tuple[Any, ...], Metrics]) -> str:
    r"""Returns every metric of every run as CSV, a line for each.

    Args:
        key: The names of the columns of a run's key.
        runs: Metrics of each run, by its key.

    Example:
        >>> metrics_csv(["row", "seed"], {("cats", 0): {"map": 0.5}})
        'row,seed,metric,value\ncats,0,map,0.5\n'
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*key, "metric", "value"])
    for run_key, metrics in runs.items():
        writer.writerows([*run_key, name, value] for name, value in metrics.items())
    return text.getvalue()
