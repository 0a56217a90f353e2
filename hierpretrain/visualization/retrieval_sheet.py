"""A sheet of queries with their nearest neighbours: what the retrieval numbers look like."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import Tensor

from hierpretrain.checks import check_at_least_1
from hierpretrain.datasets.loading import UnreadableImage, open_rgb
from hierpretrain.functional.search import nearest
from hierpretrain.taxonomy import shared_depth
from hierpretrain.visualization.figure import fit_text, save_figure

RIGHT, WRONG = "#1A8A3A", "#D0342C"
_MARKS = {"right": "\N{CHECK MARK}", "wrong": "\N{MULTIPLICATION X}"}


@dataclass
class SheetRow:
    """A query and its neighbours, the nearest first.

    Args:
        query: Path of the query's image.
        caption: What to write below it.
        neighbours: (path, caption, is it right) of each neighbour; None where that is not known.
    """

    query: str
    caption: str
    neighbours: list[tuple[str, str, bool | None]] = field(default_factory=list)


def choose_rows(
    query: Tensor,
    query_labels: Tensor | ArrayLike,
    gallery: Tensor,
    gallery_labels: Tensor | ArrayLike,
    *,
    query_paths: Sequence[str],
    gallery_paths: Sequence[str],
    query_captions: Sequence[str],
    gallery_captions: Sequence[str],
    num_queries: int = 12,
    num_neighbours: int = 8,
    seed: int = 0,
    same_set: bool = False,
) -> list[SheetRow]:
    """Samples queries, uniformly among those that have a relevant gallery item, and finds their nearest neighbours.

    A gallery item is relevant, and a neighbour right, if it has the query's label, or one of them where there are
    several. ``PAD`` equals nothing.

    Args:
        query: (Q, D) embeddings.
        query_labels: (Q,) node ids at one level, as a column of ``prefix_ids``; for images of several paths (Q, P, 1).
        gallery: (G, D) embeddings.
        gallery_labels: (G,) or (G, P, 1) node ids at the same level.
        query_paths: Q paths of images.
        gallery_paths: G paths of images.
        query_captions: Q captions.
        gallery_captions: G captions.
        num_queries: The number of rows; fewer if fewer queries have a relevant item.
        num_neighbours: The number of neighbours; fewer if the gallery is smaller.
        seed: Fixes the sample, which does not depend on the embeddings: sheets of several epochs show one set of rows.
        same_set: Whether query and gallery are the same items: item i is then no neighbour of query i, while another
            item with an equal embedding is.

    Returns:
        The rows in the order of their queries.

    Raises:
        ValueError: If lengths disagree, a number is below 1, no query has a relevant gallery item, or an embedding has
            no direction (zero, NaN).

    Example:
        >>> points, labels, names = torch.eye(3)[[0, 0, 1, 2]], torch.tensor([5, 5, 6, 7]), ["a", "b", "c", "d"]
        >>> all_names = {key: names for key in ("query_paths", "gallery_paths", "query_captions", "gallery_captions")}
        >>> choose_rows(points, labels, points, labels, num_queries=1, num_neighbours=1, same_set=True, **all_names)
        [SheetRow(query='a', caption='a', neighbours=[('b', 'b', True)])]
    """
    if same_set and len(query) != len(gallery):
        raise ValueError(
            f"same_set needs query and gallery to be one set; they have {len(query)} and {len(gallery)} items"
        )
    wanted = torch.as_tensor(query_labels)
    offered = torch.as_tensor(gallery_labels)
    parts = {"query_labels": wanted, "query_paths": query_paths, "query_captions": query_captions}
    _check_lengths("query", len(query), parts)
    parts = {"gallery_labels": offered, "gallery_paths": gallery_paths, "gallery_captions": gallery_captions}
    _check_lengths("gallery", len(gallery), parts)
    check_at_least_1(num_queries=num_queries, num_neighbours=num_neighbours)

    chosen: list[int] = []
    order = np.random.default_rng(seed).permutation(len(query))
    for start in range(0, len(order), 64):  # in blocks: Q x G booleans need not exist
        block = torch.as_tensor(order[start : start + 64])
        relevant = _same_node(wanted[block], offered)  # (64, G)
        if same_set:
            relevant[torch.arange(len(block)), block] = False
        chosen += block[relevant.any(1)].tolist()
        if len(chosen) >= num_queries:
            break
    if not chosen:
        raise ValueError(
            f"none of the {len(query)} queries has a relevant item among the {len(gallery)} of the gallery; "
            "compare labels at a coarser level, or give labels other than PAD"
        )
    chosen = sorted(chosen[:num_queries])

    # Self is removed by index out of one neighbour more. Where ties push self past that one, the last goes instead.
    k = min(num_neighbours, len(gallery) - same_set)
    picked = torch.as_tensor(chosen)
    _, indices = nearest(query[picked.to(query.device)], gallery, k + same_set)
    right = _same_node(wanted[picked], offered)
    rows = []
    for i, found, is_right in zip(chosen, indices.tolist(), right, strict=True):
        kept = [j for j in found if not (same_set and j == i)][:k]
        neighbours: list[tuple[str, str, bool | None]] = [
            (str(gallery_paths[j]), str(gallery_captions[j]), bool(is_right[j])) for j in kept
        ]
        rows.append(SheetRow(str(query_paths[i]), str(query_captions[i]), neighbours))
    return rows


def _same_node(a: Tensor, b: Tensor) -> Tensor:
    """Returns which pairs have a label in common: (N,) or (N, P, 1) and (M,) or (M, P, 1) to (N, M) bool."""
    a, b = (labels.cpu() if labels.ndim == 3 else labels.cpu()[:, None] for labels in (a, b))
    return shared_depth(a, b) == 1


def _check_lengths(name: str, number: int, parts: dict[str, Sequence[str] | Tensor]) -> None:
    for part, values in parts.items():
        wrong = isinstance(values, Tensor) and values.ndim != 1 and (values.ndim != 3 or values.shape[2] != 1)
        if isinstance(values, str) or len(values) != number or wrong:
            shape = tuple(values.shape) if isinstance(values, Tensor) else (len(values),)
            raise ValueError(f"{part} must have shape ({number},), an entry per item of {name}; its shape is {shape}")


def plot_retrieval_sheet(rows: Sequence[SheetRow], path: str | os.PathLike[str], *, title: str = "") -> None:
    """Draws rows of a query and its neighbours in a PNG file about 1500 pixels wide.

    The query stands apart on the left. A right neighbour has a green frame and a check mark, a wrong one a red frame
    and a cross, and where that is not known the frame is thin and grey. The last line says what fraction of the
    neighbours is right. An image that cannot be read shows as a grey box with its file's name; transparent parts are
    white.

    Args:
        rows: One row or more; they may have different numbers of neighbours, or none.
        path: The file to write; it is replaced whole or not at all.
        title: A line above the sheet.

    Raises:
        ValueError: If there is no row.
    """
    save_figure(_sheet_figure(rows, title=title), path)


# inches
_WIDTH, _SMALLEST, _LARGEST = 15, 0.96, 1.9  # of the figure; of a picture's side at least and at most
_MARGIN, _GAP, _SPACE, _CAPTION, _TITLE, _FOOTER = 0.24, 0.12, 0.2, 0.32, 0.46, 0.44
_DPI = 100


def _sheet_figure(rows: Sequence[SheetRow], *, title: str) -> Figure:
    if not rows:
        raise ValueError("a retrieval sheet needs one row at least; choose_rows makes them")
    columns = 1 + max(len(row.neighbours) for row in rows)
    side = min(max((_WIDTH - 2 * _MARGIN - _SPACE) / columns - _GAP, _SMALLEST), _LARGEST)
    used = 2 * _MARGIN + _SPACE + columns * (side + _GAP)
    width = max(used, 7.2)  # the last line and a title need some room
    below, above = _FOOTER + _CAPTION, 0.4 + _TITLE * bool(title)
    height = above + len(rows) * (side + _CAPTION + _GAP) - _GAP + _FOOTER
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    style = {"ha": "left", "parse_math": False}
    if title:
        line = fit_text(figure, title, _DPI * (width - 2 * _MARGIN), 15)
        figure.text(_MARGIN / width, 1 - 0.16 / height, line, va="top", fontsize=15, color="#222222", **style)
    figure.text(_MARGIN / width, 0.16 / height, _footer(rows), fontsize=10.5, color="#555555", **style)

    grid = figure.add_gridspec(
        len(rows),
        columns + 1,  # the second one is for the line between the queries and their neighbours
        width_ratios=[side, _SPACE, *[side] * (columns - 1)],
        left=_MARGIN / width,
        right=(used - _MARGIN) / width,
        bottom=below / height,
        top=1 - above / height,
        wspace=_GAP * (columns + 1) / (columns * side + _SPACE),
        hspace=(_CAPTION + _GAP) / side,
    )
    for i, row in enumerate(rows):
        cells = [(row.query, row.caption, None), *row.neighbours]
        for rank in range(columns if i == 0 else len(cells)):
            axes = figure.add_subplot(grid[i, rank + bool(rank)])
            if i == 0:
                axes.set_title(rank or "query", fontsize=10.5, color="#555555", weight="bold")
            if rank < len(cells):
                path, caption, is_right = cells[rank]
                kind = {True: "right", False: "wrong", None: "unknown" if rank else "query"}[is_right]
                axes.set_xlabel(fit_text(figure, caption, _DPI * side, 8, lines=2), parse_math=False)
                _draw(axes, path, kind, _DPI * side)
            else:
                axes.set_axis_off()
    if columns > 1:
        axes = figure.add_subplot(grid[:, 1])
        axes.axvline(0.5, color="#BBBBBB", linewidth=0.7)
        axes.set_axis_off()
    return figure


def _draw(axes: Axes, path: str, kind: str, side: float) -> None:
    """Draws an image into a square of ``side`` pixels, with a frame and, where it is right or wrong, a mark."""
    colour = {"right": RIGHT, "wrong": WRONG}.get(kind, "#888888")
    axes.set_gid(kind)
    axes.set(xticks=[], yticks=[], box_aspect=1)
    axes.xaxis.label.set(fontsize=8, color="#333333", linespacing=1.15)
    axes.spines[:].set(color=colour, linewidth=2.9 if kind in _MARKS else 0.72)
    try:
        picture = open_rgb(path)
    except UnreadableImage:
        axes.set_facecolor("#E4E4E4")
        name = fit_text(axes.figure, Path(path).name, side - 16, 8, lines=4)
        axes.text(0.5, 0.5, name, fontsize=8, color="#555555", ha="center", va="center", parse_math=False)
    else:
        pixel_art = 3 * max(picture.size) <= side
        axes.imshow(picture, interpolation="nearest" if pixel_art else "hanning")
        axes.set_aspect("equal", adjustable="datalim")
    if kind in _MARKS:
        disc = {"boxstyle": "circle,pad=0.2", "facecolor": colour, "edgecolor": "white"}
        style = {"color": "white", "weight": "bold", "fontfamily": "DejaVu Sans", "fontsize": 11}
        corner = {"xy": (1, 1), "xytext": (-8, -8), "xycoords": "axes fraction", "textcoords": "offset points"}
        axes.annotate(_MARKS[kind], **corner, ha="center", va="center", bbox=disc, **style)


def _footer(rows: Sequence[SheetRow]) -> str:
    """Returns the last line: the fraction of right neighbours among those that are known to be right or wrong."""
    shown = [is_right for row in rows for _, _, is_right in row.neighbours]
    marks = [is_right for is_right in shown if is_right is not None]
    if not marks:
        return f"{len(shown):,} neighbours shown" if shown else "no neighbours shown"
    unknown = f"; of {len(shown) - len(marks):,} it is not known" if len(marks) < len(shown) else ""
    return f"{sum(marks):,} of {len(marks):,} neighbours shown are right ({sum(marks) / len(marks):.1%}){unknown}"
