"""Compares runs: tables as Markdown and CSV, and one page with the curves beside them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from hierpretrain._names import did_you_mean
from hierpretrain.files import write_whole
from hierpretrain.report import markup
from hierpretrain.report.embed_data import as_json
from hierpretrain.report.history import panels
from hierpretrain.report.page import plotly_source
from hierpretrain.report.page_data import PALETTE_OF_PAGE
from hierpretrain.report.run_table import markdown_table, mean_and_deviation, metrics_csv, paired_differences
from hierpretrain.report.runs import Row, Run, differing_settings, matches, read_run, rows_of

_MOST_POINTS = 500  # of a curve on the page
_NONE = "-"
_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Table:
    """A table: its title, its header and its lines, all of plain text."""

    title: str
    header: Sequence[str]
    lines: Sequence[Sequence[str]]
    note: str = ""


def compare_runs(
    folders: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    metrics: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
    names: Sequence[str] | None = None,
    baseline: str | None = None,
    title: str = "Comparison of runs",
) -> str:
    """Writes the metrics of runs side by side, as ``<out>.md``, ``<out>.csv`` and ``<out>.html``.

    Runs whose settings differ in the seed alone are one row. Of each row there are the mean and the standard deviation
    (N - 1) of every metric over its runs, and how far it is from the baseline: the mean and the deviation of the
    differences between runs with equal seeds. Below are the settings in which the rows differ; the page also has the
    curves of all that was logged, and the CSV every metric of every run.

    Args:
        folders: The work directories, wherever they are.
        out: Where the files go, without a suffix.
        metrics: Patterns, as a shell's, of the names of metrics. ``None``: all but counts (``num_...``).
        ignore: Patterns of settings that may differ within a row, such as ``*.data_root``.
        names: The names of the rows; see :func:`~hierpretrain.report.runs.rows_of`.
        baseline: The name of the row that the others are compared with. ``None``: the first.
        title: The heading of the page.

    Returns:
        The Markdown.

    Raises:
        ValueError: If a folder is no work directory or is damaged, runs cannot be told apart, no run has a metric, or
            there is no such metric or baseline.
    """
    rows = rows_of([read_run(folder) for folder in folders], ignore=ignore, names=names)
    first = baseline or rows[0].name
    if first not in (known := [row.name for row in rows]):
        raise ValueError(f"baseline must be the name of a row: {', '.join(known)}; it is {first!r}")
    ordered = sorted(rows, key=lambda row: row.name != first)
    shown = _shown(rows, metrics)
    tables = [_means(rows, shown)]
    if len(rows) > 1:
        tables += [_differences(ordered, shown), _settings(rows, ignore)]
    tables.append(_folders(rows))
    text = "\n\n".join(_markdown(table) for table in tables) + "\n"
    runs = {(row.name, "" if run.seed is None else run.seed, str(run.folder)): run for row in rows for run in row.runs}
    numbers = metrics_csv(["row", "seed", "folder"], {key: run.metrics for key, run in runs.items()})
    write_whole(f"{os.fspath(out)}.md", text.encode(errors="replace"))
    write_whole(f"{os.fspath(out)}.csv", numbers.encode(errors="replace"))
    write_whole(f"{os.fspath(out)}.html", _page(rows, tables, title).encode(errors="replace"))
    return text


def _shown(rows: Sequence[Row], patterns: Sequence[str] | None) -> list[str]:
    """Returns the metrics that tables have, in the order in which they were measured."""
    names = list(dict.fromkeys(name for row in rows for run in row.runs for name in run.metrics))
    if not names:
        folders = ", ".join(str(run.folder) for row in rows for run in row.runs)
        raise ValueError(f"none of these runs has a metrics.json, which its first evaluation writes: {folders}")
    if patterns is None:
        return [name for name in names if not name.rpartition("/")[2].startswith("num_")]
    for pattern in patterns:
        if not any(matches(name, [pattern]) for name in names):
            some = f"there are {', '.join(names[:5])}" + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            raise ValueError(f"no run has a metric {pattern!r}; {did_you_mean(pattern, names, some)}")
    return [name for name in names if matches(name, patterns)]


# ------------------------------------------------------------------ tables
def _means(rows: Sequence[Row], metrics: Sequence[str]) -> Table:
    """Returns mean and deviation of every metric; a row's runs without it are counted."""
    lines = [["seeds", *(row.seeds for row in rows)]]
    for name in metrics:
        lines.append([name, *(_cell(row.values(name), len(row.runs)) for row in rows)])
    return Table("Metrics: mean and standard deviation over the runs", ["", *(row.name for row in rows)], lines)


def _differences(rows: Sequence[Row], metrics: Sequence[str]) -> Table:
    """Returns how far each row is from the first, seed by seed."""
    first, *others = rows
    paired = [sorted(first.by_seed.keys() & row.by_seed.keys()) for row in others]
    lines = [["seeds that both have", *(", ".join(map(str, seeds)) or _NONE for seeds in paired)]]
    for name in metrics:
        values = [paired_differences(row.by_seed, first.by_seed, name) for row in others]
        lines.append([name, *(_cell(v, len(s), sign=True) for v, s in zip(values, paired, strict=True))])
    title = f"Difference from {first.name}, seed by seed: mean and standard deviation"
    return Table(title, ["", *(row.name for row in others)], lines)


def _cell(values: Sequence[float], wanted: int, *, sign: bool = False) -> str:
    if not values:
        return _NONE
    digits = 4 if max(map(abs, values)) < 10 else 2
    digits = 0 if all(isinstance(value, int) for value in values) else digits  # counts
    some = "" if len(values) == wanted else f" ({len(values)} of {wanted})"
    return mean_and_deviation(values, digits, sign=sign) + some


def _settings(rows: Sequence[Row], ignore: Sequence[str]) -> Table:
    lines = [[key, *map(_told, values)] for key, values in differing_settings(rows, ignore).items()]
    return Table("Settings that differ", ["", *(row.name for row in rows)], lines)


def _told(value: Any) -> str:
    return _NONE if value is None else str(value)


def _folders(rows: Sequence[Row]) -> Table:
    """Returns the runs, with how long each was trained and what it lacks."""
    lines = []
    for row in rows:
        for run in row.runs:
            evaluated = f"{len(run.metrics)} metrics" if run.metrics else "not evaluated yet"
            steps = max((curve[0][-1] for name, curve in run.curves.items() if name == "loss"), default=None)
            trained = _NONE if steps is None else f"{steps:,}"
            lines.append([str(run.folder), row.name, "?" if run.seed is None else str(run.seed), trained, evaluated])
    return Table("Runs", ["folder", "row", "seed", "last step of the log", ""], lines)


def _markdown(table: Table) -> str:
    def escaped(line: Sequence[str]) -> list[str]:
        return [cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ") for cell in line]

    return markdown_table(table.title, escaped(table.header), [escaped(line) for line in table.lines])


# ------------------------------------------------------------------ the page
def _page(rows: Sequence[Row], tables: Sequence[Table], title: str) -> str:
    data: dict[str, Any] = {
        "rows": [row.name for row in rows],
        "runs": [[number, run.folder.name, run.seed] for number, row in enumerate(rows) for run in row.runs],
        "curves": _curves([run for row in rows for run in row.runs]),
        "palette": PALETTE_OF_PAGE,
    }
    sections = "".join(_section(table) for table in tables)
    template = Template((_FOLDER / "comparison.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=markup.text(title),
        subtitle=markup.subtitle(f"{len(data['runs'])} runs in {len(rows)} rows"),
        style=(_FOLDER / "report.css").read_text(encoding="utf-8"),
        sections=sections,
        curves_missing="" if data["curves"] else '<p class="missing">No run has logged a curve.</p>',
        footer=markup.footer(),
        data=as_json(data),
        plotly=plotly_source(),
        common=(_FOLDER / "common.js").read_text(encoding="utf-8"),
        script=(_FOLDER / "comparison.js").read_text(encoding="utf-8"),
    )


def _section(table: Table) -> str:
    heads = "".join(f"<th>{markup.text(cell)}</th>" for cell in table.header)
    lines = "".join(
        "<tr>" + "".join(f"<td>{markup.text(cell)}</td>" for cell in line) + "</tr>" for line in table.lines
    )
    return (
        f"<section><h2>{markup.text(table.title)}</h2><div class='wide'><table><thead><tr>{heads}</tr></thead>"
        f"<tbody>{lines}</tbody></table></div></section>"
    )


def _curves(runs: Sequence[Run]) -> dict[str, dict[str, list[list[Any]]]]:
    """Returns quantity -> line -> [number of a run, steps, values] of each run that has the curve."""
    every = {name: name for run in runs for name in run.curves}

    def of_runs(name: str) -> list[list[Any]]:
        return [[number, *_thinned(*run.curves[name])] for number, run in enumerate(runs) if name in run.curves]

    return {
        quantity: {line: of_runs(name) for line, name in lines.items()} for quantity, lines in panels(every).items()
    }


def _thinned(steps: list[float], values: list[float]) -> tuple[list[float], list[float]]:
    """Returns a curve in at most ``_MOST_POINTS`` points, each the mean of as many neighbouring ones."""
    parts = min(_MOST_POINTS, len(steps))
    means = [[float(np.mean(part)) for part in np.array_split(axis, parts)] for axis in (steps, values)]
    return means[0], means[1]
