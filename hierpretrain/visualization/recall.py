"""Curves of recall@k, as a picture and as data."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import Tensor

from hierpretrain.files import write_whole
from hierpretrain.visualization.figure import TEXT, add_title, plain_label, save_figure
from hierpretrain.visualization.tsne import PALETTE


def plot_recall_curves(
    curves: Mapping[str, Tensor | ArrayLike],
    path: str | os.PathLike[str],
    *,
    title: str = "",
    spreads: Mapping[str, Tensor | ArrayLike] | None = None,
) -> None:
    """Writes a picture of recall@k against k, which counts logarithmically.

    Args:
        curves: Name -> (K,) recall for k = 1..K, as fractions in [0, 1]; up to 20 curves, which may differ in K.
        path: The PNG file to write; it is replaced whole or not at all.
        title: A line above the curves.
        spreads: Name -> (K,) half width of a band around the curve, where there is one.

    Raises:
        ValueError: If there is no curve or more than 20, or one is not (K,) of fractions.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     plot_recall_curves({"emoji": [0.5, 0.75, 1.0]}, f"{folder}/recall.png")
        ...     os.path.getsize(f"{folder}/recall.png") > 1000
        True
    """
    if not 1 <= len(curves) <= len(PALETTE):
        raise ValueError(f"a picture holds 1 to {len(PALETTE)} curves; there are {len(curves)}")
    arrays = {name: _checked(name, curve) for name, curve in curves.items()}
    figure = Figure(figsize=(10, 6.5), dpi=100, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    for colour, (name, recall) in zip(PALETTE, arrays.items(), strict=False):
        k = np.arange(1, len(recall) + 1)
        marker = "o" if len(recall) == 1 else ""
        axes.plot(k, 100 * recall, color=colour, linewidth=2, marker=marker, label=plain_label(name))
        if spreads and name in spreads:
            spread = _checked(name, spreads[name])
            axes.fill_between(k, 100 * (recall - spread), 100 * (recall + spread), color=colour, alpha=0.15, lw=0)
    longest = max(map(len, arrays.values()))
    axes.set_xscale("log")
    axes.set_xlim(1, max(longest, 2))
    ticks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000, 100_000) if k <= max(longest, 2)]
    axes.set_xticks(ticks, [f"{k:,}" for k in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("k", fontsize=13, color=TEXT)
    axes.set_ylabel("recall@k, %", fontsize=13, color=TEXT)
    axes.tick_params(labelsize=12, colors=TEXT)
    axes.grid(color="#E5E5E5", linewidth=0.8)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set(color="#CCCCCC", linewidth=0.8)
    axes.legend(loc="lower right", fontsize=12, frameon=False, labelcolor=TEXT)
    add_title(figure, title, 960)
    save_figure(figure, path)


def write_curves(curves: Mapping[str, Tensor | ArrayLike], path: str | os.PathLike[str]) -> None:
    """Writes curves as CSV: a column ``k`` from 1, and one column a curve; a shorter curve ends in empty fields.

    Args:
        curves: Name -> (K,) fractions for k = 1..K.
        path: The file to write; it is replaced whole or not at all.

    Raises:
        ValueError: If a curve is not (K,) of fractions.
    """
    arrays = {name: _checked(name, curve) for name, curve in curves.items()}
    longest = max(map(len, arrays.values()), default=0)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["k", *arrays])
    for i in range(longest):
        row: Sequence[str] = [f"{curve[i]:.6g}" if i < len(curve) else "" for curve in arrays.values()]
        writer.writerow([i + 1, *row])
    write_whole(path, text.getvalue().encode())


def _checked(name: str, curve: Tensor | ArrayLike) -> np.ndarray:
    values = np.asarray(curve.detach().cpu() if isinstance(curve, Tensor) else curve, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(
            f"the curve {name!r} must be (K,) fractions in [0, 1] for k = 1..K; its shape is {values.shape}"
        )
    return values
