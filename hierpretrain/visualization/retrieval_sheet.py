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
from hierpretrain.datasets.copies import fold_copies
from hierpretrain.datasets.loading import UnreadableImage, open_small
from hierpretrain.functional.sampling import over_branches
from hierpretrain.functional.search import nearest
from hierpretrain.taxonomy import PAD, as_paths, depth, shared_depth
from hierpretrain.visualization.figure import fit_path, fit_text, save_figure, text_measure
from hierpretrain.visualization.grades import UNKNOWN, grade_colours, grade_mark

_SPARE = 4  # so many times the neighbours are searched for, since copies of one image take one place


@dataclass(frozen=True)
class SheetNeighbour:
    """A neighbour of a query.

    Args:
        path: Path of the image.
        caption: The names to write below it: a path in the tree, or one text.
        shared: How many levels of the tree it shares with the query; ``None`` if that is not known.
        whole: Whether these are a whole path of the query.
        copies: How many files of the same bytes and labels were found; it stands for all of them.
    """

    path: str
    caption: tuple[str, ...]
    shared: int | None = None
    whole: bool = False
    copies: int = 1


@dataclass(frozen=True)
class SheetRow:
    """A query and its neighbours, the nearest first.

    Args:
        query: Path of the query's image.
        caption: The names to write below it: a path in the tree, or one text.
        neighbours: What was found.
    """

    query: str
    caption: tuple[str, ...]
    neighbours: list[SheetNeighbour] = field(default_factory=list)


def choose_rows(
    query: Tensor,
    query_labels: Tensor | ArrayLike,
    gallery: Tensor,
    gallery_labels: Tensor | ArrayLike,
    *,
    query_paths: Sequence[str],
    gallery_paths: Sequence[str],
    query_captions: Sequence[tuple[str, ...]],
    gallery_captions: Sequence[tuple[str, ...]],
    num_queries: int = 12,
    num_neighbours: int = 8,
    seed: int = 0,
    same_set: bool = False,
) -> list[SheetRow]:
    """Draws queries over the branches of a tree and finds their nearest neighbours.

    A query is drawn if it shares a node of the first level with something in the gallery. The drawn ones are spread
    over the nodes of the first level, those of a node over its children, and so on; see
    :func:`~hierpretrain.functional.sampling.over_branches`. Files of the same bytes and the same labels are one query,
    and one neighbour.

    Args:
        query: (Q, D) embeddings.
        query_labels: (Q, L) label matrix, or (Q, P, L) if images have several paths; (Q,) ids are a tree of one level.
        gallery: (G, D) embeddings.
        gallery_labels: Likewise, of the gallery.
        query_paths: Q paths of images.
        gallery_paths: G paths of images.
        query_captions: Q captions, see :class:`SheetRow`.
        gallery_captions: G captions.
        num_queries: The number of rows; fewer if fewer queries can be drawn.
        num_neighbours: The number of neighbours; fewer if the gallery is smaller.
        seed: Fixes the sample, which does not depend on the embeddings: sheets of several epochs show one set of rows.
        same_set: Whether query and gallery are the same items: item i is then no neighbour of query i, while another
            item with an equal embedding is.

    Returns:
        The rows in the order of their queries.

    Raises:
        ValueError: If lengths disagree, a number is below 1, no query shares a node with the gallery, or an embedding
            has no direction (zero, NaN).

    Example:
        >>> points, labels = torch.eye(3)[[0, 0, 1, 2]], torch.tensor([[0, 5], [0, 6], [1, 7], [1, 8]])
        >>> names = {key: ["a", "b", "c", "d"] for key in ("query_paths", "gallery_paths")}
        >>> names |= {key: [("a",), ("b",), ("c",), ("d",)] for key in ("query_captions", "gallery_captions")}
        >>> row, = choose_rows(points, labels, points, labels, num_queries=1, num_neighbours=1, same_set=True, **names)
        >>> row.query, row.neighbours[0].shared
        ('c', 0)
    """
    if same_set and len(query) != len(gallery):
        raise ValueError(
            f"same_set needs query and gallery to be one set; they have {len(query)} and {len(gallery)} items"
        )
    wanted, offered = _paths(query_labels, "query_labels"), _paths(gallery_labels, "gallery_labels")
    parts = {"query_labels": wanted, "query_paths": query_paths, "query_captions": query_captions}
    _check_lengths("query", len(query), parts)
    parts = {"gallery_labels": offered, "gallery_paths": gallery_paths, "gallery_captions": gallery_captions}
    _check_lengths("gallery", len(gallery), parts)
    check_at_least_1(num_queries=num_queries, num_neighbours=num_neighbours)

    able = _with_a_relative(wanted, offered, same_set).nonzero()[:, 0]
    if not len(able):
        raise ValueError(
            f"none of the {len(query)} queries shares a node of the first level with any of the {len(gallery)} items "
            "of the gallery; give labels other than PAD, or another gallery"
        )
    shuffled = torch.from_numpy(np.random.default_rng(seed).permutation(len(able)))
    ordered = able[over_branches(wanted[able], shuffled)][: _SPARE * num_queries].tolist()
    drawn = fold_copies([str(query_paths[i]) for i in ordered], wanted[ordered].tolist())
    chosen = sorted(ordered[copies[0]] for copies in drawn[:num_queries])

    picked = torch.as_tensor(chosen)
    available = len(gallery) - same_set
    own = picked if same_set else None
    _, indices = nearest(
        query[picked.to(query.device)], gallery, min(_SPARE * num_neighbours, available), own_indices=own
    )
    rows = []
    for i, found in zip(chosen, indices, strict=True):
        shared = shared_depth(wanted[i][:, None], offered[found])  # (P, k): of each of the query's paths
        whole = (shared == depth(wanted[i])[:, None]) & (shared > 0)
        most, is_whole = shared.amax(0).tolist(), whole.any(0).tolist()
        columns = found.tolist()
        groups = fold_copies([str(gallery_paths[j]) for j in columns], offered[found].tolist())
        neighbours = [
            SheetNeighbour(
                str(gallery_paths[columns[first]]),
                gallery_captions[columns[first]],
                most[first],
                is_whole[first],
                1 + len(copies),
            )
            for first, *copies in groups[:num_neighbours]
        ]
        rows.append(SheetRow(str(query_paths[i]), query_captions[i], neighbours))
    return rows


def _paths(labels: Tensor | ArrayLike, name: str) -> Tensor:
    """Returns (N, P, L) labels."""
    labels = torch.as_tensor(labels).cpu()
    if labels.ndim not in (1, 2, 3):
        raise ValueError(f"{name} must be (N,), (N, L) or (N, P, L); their shape is {tuple(labels.shape)}")
    return as_paths(labels[:, None] if labels.ndim == 1 else labels)


def _with_a_relative(wanted: Tensor, offered: Tensor, same_set: bool) -> Tensor:
    """Returns whether each query shares a node of the first level with an item of the gallery, other than itself."""
    if not wanted.shape[2]:
        return torch.zeros(len(wanted), dtype=torch.bool)
    items, at = (offered[..., 0] != PAD).nonzero().unbind(1)
    pairs = torch.stack([items, offered[items, at, 0]], 1).unique(dim=0)  # an item counts once at a node
    asked = wanted[..., 0]
    counts = pairs[:, 1].bincount(minlength=int(asked.amax().clamp(min=0)) + 1)
    return ((asked != PAD) & (counts[asked.clamp(min=0)] > int(same_set))).any(1)


def _check_lengths(name: str, number: int, parts: dict[str, Sequence[object] | Tensor]) -> None:
    for part, values in parts.items():
        if isinstance(values, str) or len(values) != number:
            raise ValueError(f"{part} must have {number} entries, one for each item of {name}; it has {len(values)}")


def plot_retrieval_sheet(
    rows: Sequence[SheetRow], path: str | os.PathLike[str], *, title: str = "", levels: Sequence[str] = ("label",)
) -> None:
    """Draws rows of a query and its neighbours in a PNG file about 1500 pixels wide.

    The query stands apart on the left. The frame of a neighbour has the colour of the deepest level that it shares with
    the query, see :func:`~hierpretrain.visualization.grades.grade_colours`. In its corner is a check mark if that is
    the query's whole path, a cross if nothing is shared, and otherwise the number of shared levels; where that is not
    known, the frame is thin and grey. The last line explains the colours and says how many neighbours have each. An
    image that cannot be read shows as a grey box with its file's name; transparent parts are white.

    Args:
        rows: One row or more; they may have different numbers of neighbours, or none.
        path: The file to write; it is replaced whole or not at all.
        title: A line above the sheet.
        levels: The names of the levels, the coarsest first.

    Raises:
        ValueError: If there is no row.
    """
    save_figure(_sheet_figure(rows, title=title, levels=levels), path)


# inches
_WIDTH, _SMALLEST, _LARGEST = 15, 0.96, 1.9  # of the figure; of a picture's side at least and at most
_MARGIN, _GAP, _SPACE, _CAPTION, _TITLE, _FOOTER = 0.24, 0.12, 0.2, 0.46, 0.46, 0.44
_DPI = 100


def _sheet_figure(rows: Sequence[SheetRow], *, title: str, levels: Sequence[str] = ("label",)) -> Figure:
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
    _write_legend(figure, rows, levels, _MARGIN, 0.16)

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
        for rank in range(columns if i == 0 else 1 + len(row.neighbours)):
            axes = figure.add_subplot(grid[i, rank + bool(rank)])
            if i == 0:
                axes.set_title(rank or "query", fontsize=10.5, color="#555555", weight="bold")
            if rank > len(row.neighbours):
                axes.set_axis_off()
                continue
            found = row.neighbours[rank - 1] if rank else None
            names = found.caption if found else row.caption
            axes.set_xlabel(fit_path(figure, names, _DPI * side, 8, lines=3), parse_math=False)
            _draw(axes, found.path if found else row.query, _DPI * side)
            if found:
                _grade(axes, found, len(levels))
            else:
                axes.set_gid("query")
    if columns > 1:
        axes = figure.add_subplot(grid[:, 1])
        axes.axvline(0.5, color="#BBBBBB", linewidth=0.7)
        axes.set_axis_off()
    return figure


_DECODED = 1024  # pixels: a JPEG of a larger side may be decoded at a fraction of it


def _draw(axes: Axes, path: str, side: float) -> None:
    """Draws an image into a square of ``side`` pixels, with a thin frame."""
    axes.set(xticks=[], yticks=[], box_aspect=1)
    axes.xaxis.label.set(fontsize=8, color="#333333", linespacing=1.15)
    axes.spines[:].set(color=UNKNOWN, linewidth=0.72)
    try:
        picture = open_small(path, _DECODED)
    except UnreadableImage:
        axes.set_facecolor("#E4E4E4")
        name = fit_text(axes.figure, Path(path).name, side - 16, 8, lines=4)
        axes.text(0.5, 0.5, name, fontsize=8, color="#555555", ha="center", va="center", parse_math=False)
    else:
        pixel_art = 3 * max(picture.size) <= side
        axes.imshow(picture, interpolation="nearest" if pixel_art else "hanning")
        axes.set_aspect("equal", adjustable="datalim")


def _grade(axes: Axes, found: SheetNeighbour, num_levels: int) -> None:
    """Gives a neighbour the frame and the mark of what it shares with the query, and says how many copies it has."""
    axes.set_gid("unknown" if found.shared is None else f"shared {found.shared}")
    style = {"color": "white", "weight": "bold", "fontfamily": "DejaVu Sans", "ha": "center", "va": "center"}
    if found.shared is not None:
        colour = grade_colours(num_levels)[found.shared]
        axes.spines[:].set(color=colour, linewidth=2.9)
        disc = {"boxstyle": "circle,pad=0.2", "facecolor": colour, "edgecolor": "white"}
        corner = {"xy": (1, 1), "xytext": (-8, -8), "xycoords": "axes fraction", "textcoords": "offset points"}
        axes.annotate(grade_mark(found.shared, found.whole), **corner, fontsize=11, bbox=disc, **style)
    if found.copies > 1:
        box = {"boxstyle": "round,pad=0.25", "facecolor": "#555555", "edgecolor": "white"}
        corner = {"xy": (0, 1), "xytext": (14, -8), "xycoords": "axes fraction", "textcoords": "offset points"}
        axes.annotate(f"\N{MULTIPLICATION SIGN}{found.copies}", **corner, fontsize=9, bbox=box, **style)


def _write_legend(figure: Figure, rows: Sequence[SheetRow], levels: Sequence[str], left: float, bottom: float) -> None:
    """Writes the last line, in inches from the corner: each colour, its level, and how many neighbours have it."""
    shown = [found for row in rows for found in row.neighbours]
    graded = [found.shared for found in shown if found.shared is not None]
    style = {"fontsize": 10.5, "va": "baseline", "ha": "left", "parse_math": False}
    width, height = figure.get_size_inches()
    entries = []
    if graded:
        words = f"In common with the query, of {len(graded):,} neighbours:"
        names = ["nothing", *levels]
        colours = grade_colours(len(levels))
        entries = [(colours[at], f"{names[at]} {graded.count(at):,}") for at in reversed(range(len(names)))]
    else:
        words = f"{len(shown):,} neighbours shown" if shown else "no neighbours shown"
    if unknown := len(shown) - len(graded) if graded else 0:
        entries.append((UNKNOWN, f"not known {unknown:,}"))
    texts = [words, *(text for _, text in entries)]
    gap, key = 0.17, 0.17  # after each text, and of each colour's square
    available = width - 2 * left - (gap + key) * len(entries)
    needed = [text_measure(figure, text, 10.5)(text) / _DPI for text in texts]
    if sum(needed) > available:
        texts = [fit_text(figure, text, _DPI * available / len(texts), 10.5) for text in texts]
        needed = [text_measure(figure, text, 10.5)(text) / _DPI for text in texts]
    for (colour, _), text, wide in zip([("", ""), *entries], texts, needed, strict=True):
        if colour:
            figure.text(left / width, bottom / height, "\N{BLACK SQUARE}", color=colour, **style)
            left += key
        figure.text(left / width, bottom / height, text, color="#555555", **style)
        left += wide + gap
