"""A map of an embedding: t-SNE to two dimensions, coloured by group."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from hierpretrain.functional.sampling import sample_indices
from hierpretrain.visualization.figure import TEXT, add_title, save_figure

# Okabe and Ito's colours (no black or yellow), then ones picked by greatest distance in CIELAB from the others and the
# grey, as seen with full, protanope and deuteranope vision. No twenty colours are easy to tell apart, so each line
# below is a shape, and the lines are split so that the colours of one shape differ most.
PALETTE = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#773311"),
    *("#0000FF", "#771177", "#88CC99", "#7766FF", "#881133", "#DD7744", "#5500BB"),
    *("#EE0055", "#AACC77", "#3344AA", "#663355", "#6699FF", "#5544FF"),
)
_OTHER = "#BEBEBE"
_MARKERS = ("o",) * 7 + ("^",) * 7 + ("s",) * 6
_PCA_DIMS = 50


def tsne_map(
    embeddings: Tensor | ArrayLike,
    *,
    seed: int = 0,
    perplexity: float = 30.0,
    max_points: int = 5000,
    start: ArrayLike | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Lays embeddings out in the plane by t-SNE of their directions.

    Embeddings are scaled to length 1, so that Euclidean neighbours are cosine neighbours, and reduced to 50 dimensions
    by PCA. t-SNE keeps neighbourhoods: the distance between far clusters and the size of a cluster mean nothing.

    Args:
        embeddings: (N, D) numbers, N >= 3, of any float dtype and on any device.
        seed: Fixes the subsample and the layout.
        perplexity: About how many neighbours count; (M - 1) / 3 at most, and lowered to that for few points.
        max_points: The most points shown; of more, a uniform subsample is.
        start: (M, 2) positions to start from: a map of the same items at another time, so that the two look alike.
            ``None``, or positions that are all equal: the first principal components.

    Returns:
        The (M, 2) float32 positions, M = min(N, max_points), and the (M,) int64 indices of the embeddings that they
        stand for, ascending. Embeddings that all are equal (a collapsed model) all lie at the origin.

    Raises:
        ValueError: If the embeddings are not (N, D) with N >= 3 and D >= 1, are complex or not finite, ``start`` is
            not (M, 2) and finite, or an option is out of range.

    Example:
        >>> import torch
        >>> points, indices = tsne_map(torch.eye(4), max_points=3)
        >>> points.shape, indices.tolist()
        ((3, 2), [1, 2, 3])
    """
    if isinstance(embeddings, Tensor):
        embeddings = embeddings.detach().cpu()
        embeddings = (embeddings.float() if embeddings.is_floating_point() else embeddings).numpy()
    if np.iscomplexobj(embeddings):
        raise ValueError("embeddings must be real numbers; they are complex: take .abs(), or real and imaginary parts")
    data = np.asarray(embeddings, dtype=np.float32)
    if data.ndim != 2 or data.shape[0] < 3 or data.shape[1] < 1:
        raise ValueError(f"embeddings must be (N, D), of 3 at least, to be a map; their shape is {data.shape}")
    if not np.isfinite(data).all():
        row = int(np.argmin(np.isfinite(data).all(1)))
        raise ValueError(f"embeddings must be finite; row {row} is not: leave it out, or see why training diverged")
    if max_points < 3:
        raise ValueError(f"max_points must be 3 or more; it is {max_points}")
    if not perplexity > 0:
        raise ValueError(f"perplexity must be above 0, usually 5 to 50; it is {perplexity}")

    indices = sample_indices(len(data), max_points, seed=seed).numpy()
    init = "pca" if start is None else _checked_start(start, len(indices))
    data = data[indices].astype(np.float64)  # (M, D)
    data /= np.maximum(np.abs(data).max(1, keepdims=True), np.finfo(np.float64).tiny)  # squares cannot underflow
    data /= np.maximum(np.linalg.norm(data, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    if np.ptp(data, axis=0).max() < 1e-7:  # float32 noise around one point; t-SNE would divide by its spread
        return np.zeros((len(indices), 2), np.float32), indices
    if data.shape[1] == 1:  # the start of t-SNE needs two dimensions
        data = np.pad(data, ((0, 0), (0, 1)))
    from sklearn.decomposition import PCA  # a second; every command would wait for it
    from sklearn.manifold import TSNE

    if data.shape[1] > _PCA_DIMS and len(data) > _PCA_DIMS:
        data = PCA(_PCA_DIMS, random_state=seed).fit_transform(data)  # (M, 50)
    options = dict(max_iter=1000, random_state=seed)
    if not isinstance(init, str):
        options["early_exaggeration"] = 1.0  # it is to find where clusters belong, and would toss these about
    tsne = TSNE(2, perplexity=min(perplexity, (len(indices) - 1) / 3), init=init, **options)
    return tsne.fit_transform(data).astype(np.float32), indices


def _checked_start(start: ArrayLike, points: int) -> NDArray[np.float32] | str:
    positions = np.asarray(start, dtype=np.float32)
    if positions.shape != (points, 2) or not np.isfinite(positions).all():
        raise ValueError(
            f"start must be finite and ({points}, 2), a position for each point that is shown; its shape is "
            f"{positions.shape}. Leave it out where the items are others"
        )
    return positions if np.ptp(positions, axis=0).max() > 0 else "pca"


def plot_tsne(
    points: Tensor | ArrayLike,
    groups: Sequence[str],
    path: str | os.PathLike[str],
    *,
    title: str = "",
    max_groups: int = 20,
) -> None:
    """Draws a map as a scatter plot, a colour and shape per group, in a PNG file of 1400 x 1000 pixels.

    The legend lists the groups, the most frequent first (equals by name), with their numbers of points. Groups past
    ``max_groups`` are grey, drawn below the others. Names are drawn as they are: ``$`` and a leading ``_`` are nothing
    special, and Chinese names, say, need nothing but an installed font that has their characters.

    Args:
        points: (M, 2) positions, M >= 1.
        groups: The group's name of each of the M points.
        path: The file to write; it is replaced whole or not at all.
        title: A line above the map.
        max_groups: The most groups with a colour of their own, 1 to 20.

    Raises:
        ValueError: If the points are not finite (M, 2), ``groups`` has another length or ``max_groups`` is out of
            range.
    """
    save_figure(_tsne_figure(points, groups, title=title, max_groups=max_groups), path)


def _tsne_figure(points: Tensor | ArrayLike, groups: Sequence[str], *, title: str, max_groups: int) -> Figure:
    if isinstance(points, Tensor):
        points = points.detach().float().cpu().numpy()
    xy = np.asarray(points, dtype=np.float64)
    if xy.ndim != 2 or xy.shape[1] != 2 or not len(xy):
        raise ValueError(f"points must be (M, 2), with a row at least, as tsne_map returns; their shape is {xy.shape}")
    if not np.isfinite(xy).all():
        raise ValueError(f"points must be finite; row {int(np.argmin(np.isfinite(xy).all(1)))} is not")
    if isinstance(groups, str) or len(groups) != len(xy):
        raise ValueError(f"groups must name the group of each of the {len(xy)} points; it has {len(groups)} entries")
    if not 1 <= max_groups <= len(PALETTE):
        raise ValueError(f"max_groups must be 1 to {len(PALETTE)}, the number of colours; it is {max_groups}")

    names = np.asarray([str(group) for group in groups], dtype=object)
    ranked = sorted(Counter(names.tolist()).items(), key=lambda item: (-item[1], item[0]))
    shown, other = ranked[:max_groups], ranked[max_groups:]

    figure = Figure(figsize=(14, 10), dpi=100, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.15)
    axes = figure.add_subplot(facecolor="white")
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.03)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color="#CCCCCC", linewidth=0.8)
    add_title(figure, title, 1340, 17)

    area = float(np.clip(60_000 / len(xy), 14, 70))  # points^2: thousands of points must not become one blot
    entries = []
    for i, (name, count) in enumerate(shown):
        entries.append((PALETTE[i], _MARKERS[i], f"{_shortened(name)} ({count:,})", names == name))
    if other:
        count, kinds = sum(count for _, count in other), len(other)
        label = f"other ({kinds:,} group{'s' * (kinds > 1)}, {count:,})"
        entries.append((_OTHER, "o", label, np.isin(names, [name for name, _ in other])))
    for i, (colour, marker, _, mask) in enumerate(entries):
        last = other and i == len(entries) - 1
        style = {"linewidths": 0.35, "edgecolors": "white", "alpha": 0.9, "zorder": 1 if last else 2 + i}
        axes.scatter(*xy[mask].T, s=area * (0.6 if last else 1), c=colour, marker=marker, **style)

    handles = [
        Line2D([], [], linestyle="", marker=marker, color=colour, markersize=9, markeredgecolor="white")
        for colour, marker, _, _ in entries
    ]
    # Legend drops labels with a leading "_" and typesets "$": set the true texts afterwards, as plain ones
    legend = figure.legend(
        handles,
        ["-"] * len(handles),
        loc="outside right center",
        frameon=False,
        fontsize=12,
        labelcolor=TEXT,
        handletextpad=0.3,
    )
    for text, (_, _, label, _) in zip(legend.get_texts(), entries, strict=True):
        text.set_parse_math(False)
        text.set_text(label)
    return figure


def _shortened(name: str, most: int = 32) -> str:
    """Returns a name on one line of at most ``most`` characters; the middle is cut, for paths differ at both ends."""
    name = " ".join(name.split()) or "(no name)"
    return name if len(name) <= most else f"{name[: most // 2]}…{name[most // 2 + 1 - most :]}"
