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
def read_run(folder: str | os.PathLike[str]) -> Run:
    """Reads a work directory.

    The settings are the config's that MMEngine wrote beside the log of the newest start. A run that evaluates the
    checkpoint of another work directory has the settings, the seed and the curves of that one, and of its own config
    what begins with ``test_``. It is looked for where ``load_from`` says, and in the folder above.

    Args:
        folder: A work directory, wherever it is now.

    Raises:
        ValueError: If the folder is no work directory of a run, or one of its files is damaged.
    """
    folder = Path(folder)
    configs = _configs(folder)
    curves = read_history(folder) if folder.is_dir() else {}
    metrics = _metrics(folder)
    if not configs or not (metrics or curves):
        raise ValueError(_no_run(folder, bool(configs)))
    config = configs[-1]
    settings, seed, name = settings_of(config), _seed(config), _name(folder)
    if config.get("resume"):
        begun = next((earlier for earlier in reversed(configs) if not earlier.get("resume")), {})
        settings.pop("load_from", None)
        settings |= {"load_from": begun["load_from"]} if begun.get("load_from") else {}
    elif config.get("load_from") and "loss" not in curves:
        if trained := _training_of(config["load_from"], folder):
            tested = {key: value for key, value in settings.items() if key.startswith("test_")}
            others = {key: value for key, value in trained.settings.items() if not key.startswith("test_")}
            return Run(folder, trained.name, trained.seed, others | tested, metrics, {**trained.curves, **curves})
        seed = None
    return Run(folder, name, seed, settings, metrics, curves)


def _configs(folder: Path) -> list[dict[str, Any]]:
    """Returns the configs of the starts of a run, the newest last."""
    files = sorted(folder.glob("*/vis_data/config.py")) or sorted(folder.glob("*.py"))
    if len(files) > 1 and files[0].parent == folder:
        raise ValueError(
            f"{folder} has the configs {', '.join(file.name for file in files)}, and no <date>/vis_data/config.py says "
            "which one the run had; remove the others"
        )
    return [read_config(file) for file in files]


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
        metrics = json.loads(path.read_text(encoding="utf-8"))["metrics"]
        numbers = {name: value for name, value in metrics.items() if _is_number(value)}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged ({type(error).__name__}: {error}); evaluate the checkpoint again: hierpretrain test"
        ) from error
    return numbers


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _training_of(checkpoint: str, folder: Path) -> Run | None:
    """Returns the run that trained a checkpoint, if its work directory is there."""
    file = Path(checkpoint)
    for place in (file.parent, folder.resolve().parent):
        if (place / file.name).is_file() and _configs(place) and place.resolve() != folder.resolve():
            return read_run(place)
    return None


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
