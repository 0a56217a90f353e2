"""Runs as their work directories tell of them: metrics, settings, seed and curves."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from hierpretrain._json import is_number, parse_object
from hierpretrain.report.history import Curves, read_history
from hierpretrain.report.run_settings import read_config, settings_of


@dataclass(frozen=True)
class Run:
    """A run and what it left.

    Attributes:
        folder: Its work directory.
        name: The name of its config.
        seed: The seed of its training; ``None`` if its config does not say it.
        settings: Dotted key -> value, see :func:`~hierpretrain.report.run_settings.settings_of`.
        metrics: What its newest evaluation measured; nothing before the first one.
        curves: Name -> (steps, values) of what it logged.
    """

    folder: Path
    name: str
    seed: int | None
    settings: Mapping[str, Any]
    metrics: Mapping[str, float]
    curves: Curves


@dataclass(frozen=True)
class Row:
    """Runs whose settings differ in the seed alone.

    Attributes:
        name: What tables call it.
        runs: One run at least, by ascending seed; runs without a seed come last.
    """

    name: str
    runs: Sequence[Run]

    @property
    def by_seed(self) -> dict[int, Mapping[str, float]]:
        """The metrics of the runs whose seed is known."""
        return {run.seed: run.metrics for run in self.runs if run.seed is not None}

    @property
    def seeds(self) -> str:
        """The seeds in words, a question mark for each that is unknown."""
        return ", ".join("?" if run.seed is None else str(run.seed) for run in self.runs)

    def values(self, metric: str) -> list[float]:
        """Returns the values of a metric, of the runs that have it."""
        return [run.metrics[metric] for run in self.runs if metric in run.metrics]


# ------------------------------------------------------------------ reading
@dataclass(frozen=True)
class _Start:
    """A start of a run: the config that it had, and whether it has trained since."""

    config: Mapping[str, Any]
    trained: bool


def read_run(folder: str | os.PathLike[str]) -> Run:
    """Reads a work directory.

    The settings are the config's that MMEngine wrote beside the log of the newest start. A start that evaluates a
    checkpoint has the settings, the seed and the curves of the run that trained it, and of its own config what begins
    with ``test_``. That run's work directory is looked for where ``load_from`` says, and in the folder above.

    Args:
        folder: A work directory, wherever it is now.

    Raises:
        ValueError: If the folder is no work directory of a run, or one of its files is damaged.
    """
    folder = Path(folder)
    starts = _starts(folder)
    curves = read_history(folder) if folder.is_dir() else {}
    metrics = _metrics(folder)
    if not starts or not (metrics or curves):
        raise ValueError(_no_run(folder, bool(starts)))
    newest = starts[-1]
    settings = settings_of(newest.config)
    if newest.trained or not newest.config.get("load_from"):
        return Run(folder, _name(folder), _seed(newest.config), _from_the_beginning(settings, starts), metrics, curves)
    place = _place_of(newest.config["load_from"], folder)
    training = [start for start in _starts(place) if start.trained] if place else []
    if not training or place is None:
        return Run(folder, _name(folder), None, settings, metrics, curves)
    tested = {key: value for key, value in settings.items() if key.startswith("test_")}
    trained = _from_the_beginning(settings_of(training[-1].config), training)
    trained = {key: value for key, value in trained.items() if not key.startswith("test_")}
    seed, curves = _seed(training[-1].config), {**read_history(place), **curves}
    return Run(folder, _name(place), seed, trained | tested, metrics, curves)


def _starts(folder: Path) -> list[_Start]:
    """Returns the starts of a run, the newest last."""
    files = sorted(folder.glob("*/vis_data/config.py"))
    if files:
        return [_Start(read_config(file), "loss" in read_history(file.parents[1])) for file in files]
    files = sorted(folder.glob("*.py"))
    if len(files) > 1:
        raise ValueError(
            f"{folder} has the configs {', '.join(file.name for file in files)}, and no <date>/vis_data/config.py says "
            "which one the run had; remove the others"
        )
    configs = map(read_config, files)
    return [_Start(config, bool(config.get("train_cfg"))) for config in configs]  # a run without a log


def _from_the_beginning(settings: dict[str, Any], starts: Sequence[_Start]) -> dict[str, Any]:
    """Returns the settings of the newest start, with the ``load_from`` of the start that it resumed, if it did."""
    if not starts[-1].config.get("resume"):
        return settings
    begun = next((start.config for start in reversed(starts) if not start.config.get("resume")), {})
    others = {key: value for key, value in settings.items() if key != "load_from"}
    return others | ({"load_from": begun["load_from"]} if begun.get("load_from") else {})


def _place_of(checkpoint: str, folder: Path) -> Path | None:
    """Returns the work directory in which a checkpoint lies, if it is there."""
    file = Path(checkpoint)
    places = (file.parent, folder, folder.resolve().parent)
    return next((place for place in places if (place / file.name).is_file()), None)


def _seed(config: Mapping[str, Any]) -> int | None:
    randomness = config.get("randomness")
    seed = randomness.get("seed") if isinstance(randomness, Mapping) else None
    return seed if isinstance(seed, int) else None


def _name(folder: Path) -> str:
    """Returns the name of the config, of which MMEngine writes a copy into the work directory."""
    copies = [*folder.glob("*.py")]
    return copies[0].stem if len(copies) == 1 else folder.resolve().name


def _metrics(folder: Path) -> dict[str, float]:
    """Returns the numbers of ``metrics.json``; none before the first evaluation."""
    path = folder / "metrics.json"
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    remedy = "evaluate the checkpoint again: hierpretrain test"
    metrics = parse_object(data, path, remedy, any_number=True).get("metrics")
    if not isinstance(metrics, dict):
        raise ValueError(f"{path} is damaged: it must hold an object 'metrics'; {remedy}")
    return {name: value for name, value in metrics.items() if is_number(value)}


def _no_run(folder: Path, has_config: bool) -> str:
    if not folder.is_dir():
        return f"{folder} is no folder; give the work directory of a run"
    inner = sorted(path.parent for path in folder.glob("*/metrics.json"))
    if inner:
        names = ", ".join(path.name for path in inner[:3]) + (", ..." if len(inner) > 3 else "")
        return f"{folder} is no work directory, but holds some ({names}); give these: {folder}/*"
    lacking = "no metrics.json and no <date>/vis_data/scalars.json" if has_config else "no config of a run"
    return f"{folder} is no work directory of a run: it has {lacking}"


# ------------------------------------------------------------------ rows
def rows_of(runs: Sequence[Run], *, ignore: Sequence[str] = (), names: Sequence[str] | None = None) -> list[Row]:
    """Puts runs that differ in the seed alone into one row.

    Args:
        runs: The runs.
        ignore: Patterns, as a shell's, of keys of settings that may differ in a row, such as ``*.num_workers``.
        names: The names of the rows, in the order in which they first appear. ``None``: the names of their configs, and
            of their first folders where several rows have one config.

    Raises:
        ValueError: If a folder is given twice, two runs of a row have one seed, or there are not as many names as rows.
    """
    twice = [str(folder) for folder, times in Counter(run.folder.resolve() for run in runs).items() if times > 1]
    if twice:
        raise ValueError(f"{twice[0]} is given twice; leave one out")
    grouped: dict[str, list[Run]] = {}
    for run in runs:
        settings = {key: value for key, value in run.settings.items() if not matches(key, ignore)}
        grouped.setdefault(json.dumps(settings, sort_keys=True, default=str), []).append(run)
    for alike in grouped.values():
        folders: dict[int | None, Path] = {}
        for run in alike:
            if run.seed is not None and run.seed in folders:
                raise ValueError(
                    f"{folders[run.seed]} and {run.folder} have the same settings and the same seed, {run.seed}; leave "
                    "one out, or train it with another randomness.seed"
                )
            folders[run.seed] = run.folder
    if names is None:
        configs = Counter(alike[0].name for alike in grouped.values())
        names = [a[0].name if configs[a[0].name] == 1 else a[0].folder.resolve().name for a in grouped.values()]
        if len(set(names)) < len(names):
            names = [str(alike[0].folder) for alike in grouped.values()]
    if len(names) != len(grouped) or len(set(names)) < len(names):
        firsts = ", ".join(str(alike[0].folder) for alike in grouped.values())
        raise ValueError(
            f"names must be {len(grouped)}, all different, one for each row; the rows begin with {firsts}; they are "
            f"{', '.join(names)}"
        )
    known = [sorted(alike, key=lambda run: (run.seed is None, run.seed or 0)) for alike in grouped.values()]
    return [Row(name, alike) for name, alike in zip(names, known, strict=True)]


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Returns whether a name is like one of some patterns, as a shell's.

    Example:
        >>> matches("emoji/recall@1", ["*/recall@*"]), matches("emoji/map", ["map"])
        (True, False)
    """
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def differing_settings(rows: Sequence[Row], ignore: Sequence[str] = ()) -> dict[str, list[Any]]:
    """Returns the settings in which rows differ: dotted key -> the value of each row, ``None`` where a row lacks it.

    Args:
        rows: The rows.
        ignore: Patterns of keys that are left out.
    """
    keys = sorted({key for row in rows for key in row.runs[0].settings})
    found = {key: [row.runs[0].settings.get(key) for row in rows] for key in keys if not matches(key, ignore)}
    return {key: values for key, values in found.items() if any(repr(value) != repr(values[0]) for value in values)}
