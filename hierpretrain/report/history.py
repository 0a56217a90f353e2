"""The curves of a training, from what MMEngine logged."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from hierpretrain._json import is_number, parse_json_bytes

Curves = Mapping[str, tuple[list[float], list[float]]]
"""Name -> steps, ascending, and the value at each."""

_Curve = TypeVar("_Curve")
_CONTROLS = re.compile(rb"[\x00-\x1f\x7f]")
_NOT_DRAWN = {"time", "data_time", "memory", "epoch", "iter", "step"}


def read_history(folder: str | os.PathLike[str]) -> Curves:
    r"""Reads the scalars that MMEngine's ``LocalVisBackend`` wrote in a work directory.

    Each start of a run has a folder of its own, ``<timestamp>/vis_data/scalars.json``. A later one, which resumed from
    a checkpoint or began anew, takes over each curve from its own first step on.

    Args:
        folder: The work directory, or one folder of a start in it.

    Returns:
        Name -> (steps, values). The step is the iteration of a value that is logged in training, and in a run by epochs
        the epoch of a value that is measured by validation. What is not finite is left out.
        Nothing, if there is no such file.

    Raises:
        ValueError: If a line of a file is no JSON object; the last line may be cut off, as a kill leaves it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     data = Path(folder, "20260101_000000", "vis_data")
        ...     data.mkdir(parents=True)
        ...     _ = (data / "scalars.json").write_text('{"loss": 2.5, "step": 10}\n{"loss": 1.5, "step": 20}\n')
        ...     read_history(folder)
        {'loss': ([10, 20], [2.5, 1.5])}
    """
    folder = Path(folder)
    curves: dict[str, dict[float, float]] = {}
    for path in sorted([*folder.glob("*/vis_data/scalars.json"), *folder.glob("vis_data/scalars.json")]):
        started: set[str] = set()
        for values in _lines(path):
            step = values.get("step")
            if not _is_finite(step):
                continue
            for name, value in values.items():
                if name in _NOT_DRAWN or not _is_finite(value):
                    continue
                curve = curves.setdefault(name, {})
                if name not in started:
                    started.add(name)
                    curves[name] = curve = {at: known for at, known in curve.items() if at < step}
                curve[step] = value
    return {name: ([*sorted(curve)], [curve[step] for step in sorted(curve)]) for name, curve in curves.items()}


def _lines(path: Path) -> list[dict[str, object]]:
    found = []
    lines = path.read_bytes().splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            values = parse_json_bytes(
                line, f"{path}:{number}", "a line must be a JSON object: remove it", any_number=True
            )
        except ValueError:
            if number == len(lines) and line.isascii() and not _CONTROLS.search(line):
                continue  # the run was killed while it wrote
            raise
        if not isinstance(values, dict):
            raise ValueError(f"{path}:{number}: a line must be a JSON object; it is a {type(values).__name__}")
        found.append(values)
    return found


def _is_finite(value: object) -> bool:
    return is_number(value) and -math.inf < value < math.inf  # type: ignore[operator]


def panels(curves: Mapping[str, _Curve]) -> dict[str, dict[str, _Curve]]:
    """Sorts curves into panels of one quantity each, so that losses and fractions never share an axis.

    What a training logs stands below the name of its total: ``loss/category`` is the line ``category`` of the quantity
    ``loss``, and ``loss/unclamped/category`` a line of ``loss/unclamped``. What a validation measures has the level in
    front: the quantity of ``category/recall@1`` is ``recall@1`` and its line ``category``, if another level has a
    ``recall@1``, too. The quantity of ``stage/category`` is ``stage``, unless ``stage`` is such a line. Panels stand in
    the order losses, lr, others by name; counts (``num_...``) are left out.

    Args:
        curves: Name -> curve, such as (steps, values), which is only passed on.

    Returns:
        Quantity -> line -> curve.

    Example:
        >>> names = ["a/map", "loss", "loss/a", "b/map", "a/nmi", "stage/a", "stage/b", "loss/unclamped/a"]
        >>> {name: list(lines) for name, lines in panels(dict.fromkeys(names, ([1], [0.5]))).items()}
        {'loss': ['loss', 'a'], 'loss/unclamped': ['a'], 'a/nmi': ['a/nmi'], 'map': ['a', 'b'], 'stage': ['a', 'b']}
    """
    parts = {name: name.rpartition("/")[::2] for name in curves if not name.rpartition("/")[2].startswith("num_")}
    totals = {name: part for name, part in parts.items() if name.partition("/")[0] in parts}
    measured = {name: part for name, part in parts.items() if name not in totals}
    starts = Counter(start for start, _ in measured.values() if start)
    ends = Counter(end for start, end in measured.values() if start)
    lines = {start for start, end in measured.values() if start and ends[end] > 1}
    grouped: dict[str, dict[str, _Curve]] = {}
    for name, (start, end) in parts.items():
        quantity, line = name, name
        if start and name in totals:
            quantity, line = start, end
        elif start and ends[end] > 1:
            quantity, line = end, start
        elif start not in lines and starts[start] > 1:
            quantity, line = start, end
        grouped.setdefault(quantity, {})[line] = curves[name]
    order = sorted(grouped, key=lambda name: (not name.startswith("loss"), name not in ("lr", "base_lr"), name))
    return {name: grouped[name] for name in order}
