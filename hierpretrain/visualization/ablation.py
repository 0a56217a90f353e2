"""Metrics against what an ablation varies: a panel an ablation, with a line a metric."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hierpretrain.visualization.figure import TEXT, add_title, fit_text, plain_label, save_figure
from hierpretrain.visualization.tsne import PALETTE

_MARKERS = "osD^v"  # lines are told apart without their colours, too
_DODGE = 0.06  # between the lines, so that one's error bars do not hide another's

Runs = Mapping[str, Sequence[float]]  # metric -> its value in each run, as fractions


def plot_ablations(
    panels: Mapping[str, Mapping[str, Runs]],
    path: str | os.PathLike[str],
    *,
    ylabel: str = "%",
    title: str = "",
    reference: Runs | None = None,
    reference_name: str = "no training",
) -> None:
    """Plots metrics against what is varied, a panel for each thing that is varied.

    The settings of a panel stand side by side, evenly spaced, in their order. A point is the mean over the runs, its
    bar one standard deviation (of a sample) to either side, where there are two runs or more. All panels have one
    scale.

    Args:
        panels: What is varied -> {setting: {metric: values of the runs}}, the values as fractions in [0, 1]; 1 to 5
            metrics, the same ones everywhere.
        path: The PNG file to write; it is replaced whole or not at all.
        ylabel: What the metrics are; they are drawn in percent.
        title: A line above the panels.
        reference: Metric -> values of the runs of a baseline; a dashed line at their mean.
        reference_name: The name of the baseline in the legend.

    Raises:
        ValueError: If there is no panel or setting, metrics differ or are too many, or values are no fractions.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     plot_ablations({"levels": {"1": {"mAP": [0.5, 0.6]}, "2": {"mAP": [0.7]}}}, f"{folder}/a.png")
        ...     os.path.getsize(f"{folder}/a.png") > 1000
        True
    """
    save_figure(_figure(panels, ylabel, title, reference or {}, reference_name), path)


def _figure(
    panels: Mapping[str, Mapping[str, Runs]], ylabel: str, title: str, reference: Runs, reference_name: str
) -> Figure:
    metrics = _check(panels, reference)
    width = 4.4 * max(len(panels), 2)
    figure = Figure(figsize=(width, 5), dpi=100, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08)
    points, lines = {}, {}  # of one panel: they are the legend's
    for axes, (varied, settings) in zip(
        figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels.items(), strict=True
    ):
        for i, metric in enumerate(metrics):
            positions = np.arange(len(settings)) + (i - (len(metrics) - 1) / 2) * _DODGE
            means, spreads = _percentages([runs[metric] for runs in settings.values()])
            points[metric] = axes.errorbar(
                positions,
                means,
                yerr=spreads if spreads.any() else None,
                color=PALETTE[i],
                marker=_MARKERS[i],
                markersize=7,
                markeredgecolor="white",
                linewidth=2,
                elinewidth=1.2,
                capsize=3,
                label=plain_label(metric),
            )
            if metric in reference:
                mean = _percentages([reference[metric]])[0].item()
                label = plain_label(f"{metric}, {reference_name}")
                style = dict(linewidth=1.5, linestyle=(0, (5, 3)), zorder=1)
                lines[metric] = axes.axhline(mean, color=PALETTE[i], label=label, **style)
        axes.set_xlim(-0.4, len(settings) - 0.6)
        room = 100 * width / len(panels) - 80  # pixels, about the width of the axes
        names = [fit_text(figure, setting, 0.9 * room / len(settings), 12) for setting in settings]
        axes.set_xticks(range(len(settings)), names, parse_math=False)
        axes.set_xlabel(fit_text(figure, varied, room, 13), fontsize=13, color=TEXT, parse_math=False)
        _style(axes)
    figure.axes[0].set_ylabel(ylabel, fontsize=13, color=TEXT, parse_math=False)
    handles = [*points.values(), *lines.values()]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(4, len(handles)),
        fontsize=12,
        frameon=False,
        labelcolor=TEXT,
        handlelength=2.6,
    )
    add_title(figure, title, 100 * width - 40)
    return figure


def _check(panels: Mapping[str, Mapping[str, Runs]], reference: Runs) -> list[str]:
    """Returns the metrics."""
    settings = [(varied, setting, runs) for varied, found in panels.items() for setting, runs in found.items()]
    if not settings or not all(panels.values()):
        raise ValueError(f"there must be a panel, and in each a setting; they are {[*panels]}")
    metrics = list(settings[0][2])
    if not 1 <= len(metrics) <= len(_MARKERS):
        raise ValueError(f"a picture holds 1 to {len(_MARKERS)} metrics; there are {len(metrics)}")
    for varied, setting, runs in settings:
        if set(runs) != set(metrics):
            raise ValueError(
                f"all settings must have the same metrics, {metrics}; {setting!r} of {varied!r} has {list(runs)}"
            )
    if unknown := set(reference) - set(metrics):
        raise ValueError(f"the reference's metrics must be of those drawn, {metrics}; it has {sorted(unknown)}")
    for runs in [*(runs for _, _, runs in settings), reference]:
        for metric, values in runs.items():
            if not len(values) or not all(0 <= value <= 1 for value in values):
                raise ValueError(f"{metric!r} must be one fraction in [0, 1] or more, of each run one; it is {values}")
    return metrics


def _percentages(of_settings: Sequence[Sequence[float]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns mean and standard deviation of each setting's runs; the deviation of a single run is 0."""
    means = [100 * np.mean(values) for values in of_settings]
    spreads = [100 * np.std(values, ddof=1) if len(values) > 1 else 0.0 for values in of_settings]
    return np.array(means), np.array(spreads)


def _style(axes: Axes) -> None:
    axes.margins(y=0.12)
    axes.tick_params(labelsize=12, colors=TEXT)
    axes.grid(axis="y", color="#E5E5E5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color="#CCCCCC", linewidth=0.8)
