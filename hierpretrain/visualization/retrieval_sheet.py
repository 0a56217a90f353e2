"""A sheet of queries with their nearest neighbours: what the retrieval numbers look like."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Rectangle
from matplotlib.transforms import IdentityTransform
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor

from hierpretrain.functional.search import nearest
from hierpretrain.taxonomy import shared_depth
from hierpretrain.visualization.figure import fit_text, save_figure

RIGHT, WRONG = "#1A8A3A", "#D0342C"


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
        same_set: Whether query and gallery are the same rows: item i is then no neighbour of query i, while another
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
            f"same_set needs query and gallery to be one set; they have {len(query)} and {len(gallery)} rows"
        )
    wanted = torch.as_tensor(query_labels)
    offered = torch.as_tensor(gallery_labels)
    parts = {"query_labels": wanted, "query_paths": query_paths, "query_captions": query_captions}
    _check_lengths("query", len(query), parts)
    parts = {"gallery_labels": offered, "gallery_paths": gallery_paths, "gallery_captions": gallery_captions}
    _check_lengths("gallery", len(gallery), parts)
    for name, number in (("num_queries", num_queries), ("num_neighbours", num_neighbours)):
        if number < 1:
            raise ValueError(f"{name} must be 1 or more; it is {number}")

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
            raise ValueError(f"{part} must have shape ({number},), an entry per row of {name}; its shape is {shape}")


def plot_retrieval_sheet(rows: Sequence[SheetRow], path: str | os.PathLike[str], *, title: str = "") -> None:
    """Draws rows of a query and its neighbours in a PNG file about 1500 pixels wide.

    The query stands apart on the left. A right neighbour has a green frame and a check mark, a wrong one a red frame
    and a cross, one of which that is not known a thin grey one and no mark. The last line says what share of the
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


# All places are pixels. Pictures go in by figimage, which does not resample: they stay as sharp as _picture made them.
_WIDTH, _MARGIN, _GUTTER, _GAP, _FRAME = 1500, 24, 12, 32, 4
_TITLE, _HEADER, _CAPTION, _FOOTER = 46, 32, 42, 44
_SMALLEST, _LARGEST = 96, 190
_CAPTION_SIZE = 8.0  # points


def _sheet_figure(rows: Sequence[SheetRow], *, title: str) -> Figure:
    if not rows:
        raise ValueError("a retrieval sheet needs one row at least; choose_rows makes them")
    columns = max(len(row.neighbours) for row in rows)
    cell = (_WIDTH - 2 * _MARGIN - _GAP - columns * _GUTTER) // (columns + 1)
    cell = min(max(cell, _SMALLEST), _LARGEST)
    pitch = cell + _GUTTER
    used = 2 * _MARGIN + cell + (_GAP + columns * pitch if columns else 0)
    width = max(used, 720)  # the footer and a title need some room
    top = _TITLE * bool(title) + _HEADER + 8
    height = top + len(rows) * (cell + _CAPTION) + _FOOTER

    # half a pixel more, because matplotlib rounds down and 29 / 100 * 100 is below 29
    figure = Figure(figsize=((width + 0.5) / 100, (height + 0.5) / 100), dpi=100, facecolor="white")
    pixels = IdentityTransform()

    def write(x: float, down: float, text: str, size: float, **style: object) -> None:
        style = {"color": "#222222", "va": "top", **style}
        figure.text(x, height - down, text, transform=pixels, fontsize=size, parse_math=False, **style)

    def line(xs: Sequence[float], downs: Sequence[float], **style: object) -> None:
        figure.add_artist(Line2D(xs, [height - down for down in downs], transform=pixels, **style))

    def box(x: float, down: float, size: float, **style: object) -> None:
        place = (x, height - down - size)
        figure.add_artist(Rectangle(place, size, size, transform=pixels, linewidth=0, antialiased=False, **style))

    def left(column: int) -> int:
        return _MARGIN + (cell + _GAP + _GUTTER + (column - 1) * pitch if column else 0)

    def show(column: int, down: int, path: str, caption: str, is_right: bool | None) -> None:
        x = left(column)
        colour = "#888888" if is_right is None else RIGHT if is_right else WRONG
        unmarked = "unknown" if column else "query"
        kind = unmarked if is_right is None else "right" if is_right else "wrong"
        line_width = 1 if is_right is None else _FRAME
        inner = cell - 2 * _FRAME
        picture = _picture(path, inner)
        # frames are filled squares below the picture, for strokes would be snapped to other pixels
        box(x, down, cell, facecolor=colour, gid=kind)
        back = "white" if picture is not None else "#E4E4E4"
        box(x + line_width, down + line_width, cell - 2 * line_width, facecolor=back)
        if picture is None:
            name = fit_text(figure, Path(path).name, inner - 8, 8, lines=4)
            middle = {"ha": "center", "va": "center", "color": "#555555", "linespacing": 1.3}
            write(x + cell / 2, down + cell / 2, name, 8, **middle)
        else:
            high, wide = picture.shape[:2]
            x0, y0 = x + (cell - wide) // 2, height - down - cell + (cell - high) // 2
            figure.figimage(picture, x0, y0, origin="upper", zorder=2)
        if is_right is not None:
            radius = 11
            x_mark, y_mark = x + cell - radius - 1, down + radius + 1
            disc = {"facecolor": colour, "edgecolor": "white", "linewidth": 1.1, "zorder": 4}
            figure.add_artist(Circle((x_mark, height - y_mark), radius, transform=pixels, **disc))
            stroke = {"color": "white", "linewidth": 1.9, "solid_capstyle": "round", "zorder": 5}
            if is_right:
                line([x_mark - 5, x_mark - 1.5, x_mark + 5], [y_mark + 0.5, y_mark + 4, y_mark - 4], **stroke)
            else:
                line([x_mark - 4, x_mark + 4], [y_mark - 4, y_mark + 4], **stroke)
                line([x_mark - 4, x_mark + 4], [y_mark + 4, y_mark - 4], **stroke)
        text = fit_text(figure, caption, cell, _CAPTION_SIZE, lines=2)
        write(x + cell / 2, down + cell + 5, text, _CAPTION_SIZE, ha="center", color="#333333", linespacing=1.15)

    if title:
        write(_MARGIN, 16, fit_text(figure, title, width - 2 * _MARGIN, 15), 15)
    down = _TITLE * bool(title) + 14
    for column in range(columns + 1):
        name = str(column) if column else "query"
        write(left(column) + cell / 2, down, name, 10.5, ha="center", color="#555555", weight="bold")
    for i, row in enumerate(rows):
        down = top + i * (cell + _CAPTION)
        show(0, down, row.query, row.caption, None)
        for rank, (path, caption, is_right) in enumerate(row.neighbours, start=1):
            show(rank, down, path, caption, is_right)
    if columns:
        x = _MARGIN + cell + (_GAP + _GUTTER) / 2
        line([x, x], [top - _HEADER + 6, height - _FOOTER - 6], color="#BBBBBB", linewidth=1)
    write(_MARGIN, height - _FOOTER + 10, _footer(rows), 10.5, color="#555555")
    return figure


def _footer(rows: Sequence[SheetRow]) -> str:
    """Returns the last line: the share of right neighbours among those shown of which it is known."""
    shown = [is_right for row in rows for _, _, is_right in row.neighbours]
    marks = [is_right for is_right in shown if is_right is not None]
    if not marks:
        return f"{len(shown):,} neighbours shown" if shown else "no neighbours shown"
    unknown = f"; of {len(shown) - len(marks):,} it is not known" if len(marks) < len(shown) else ""
    return f"{sum(marks):,} of {len(marks):,} neighbours shown are right ({sum(marks) / len(marks):.1%}){unknown}"


def _picture(path: str, size: int) -> NDArray[np.uint8] | None:
    """Reads an image as (H, W, 3) that fits a square of ``size`` pixels, or None where it cannot be read.

    Pixel art (up to a third of the square) grows by a whole factor and keeps its hard edges; all else is resampled.
    """
    try:
        with Image.open(path) as image:
            rgba = image.convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # PIL's ways to say: no image
        return None
    white = Image.new("RGBA", rgba.size, "white")
    rgb = Image.alpha_composite(white, rgba).convert("RGB")
    factor = size / max(rgb.size)
    if factor >= 3:
        factor, method = int(factor), Image.Resampling.NEAREST
    else:
        method = Image.Resampling.LANCZOS
    target = [max(1, round(side * factor)) for side in rgb.size]
    return np.asarray(rgb.resize((target[0], target[1]), method))
