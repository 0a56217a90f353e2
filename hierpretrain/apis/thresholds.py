"""What an index has learned from held-out images: calibrated confidences, and the thresholds of its answers."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hierpretrain.files import write_json
from hierpretrain.functional.path_confidence import NUM_EVIDENCE, path_confidence
from hierpretrain.functional.path_thresholds import num_named

FILE = "calibration.json"
"""The file beside an index."""
_FORMAT = "hierpretrain.calibration.v1"
_REMEDY = "calibrate the index anew (hierpretrain calibrate)"


@dataclass(frozen=True)
class Calibration:
    """How sure an index is of its answers, and how sure it must be to give them.

    Attributes:
        level_names: The L levels of the index's tree.
        k: How many neighbours vote.
        temperature: Of their votes.
        coefficients: L rows of three numbers, of :func:`~hierpretrain.functional.path_confidence.fit_path_confidence`.
        thresholds: The confidence that a node of each level needs to be named; ``None``: none is enough.
        goal: ``'precision'`` or ``'false_alarms'``, which the thresholds are for.
        rate: The precision or the rate of false alarms that was stated.
        num_images: How many held-out images there were.
        fingerprint: Of the model that embedded them.
    """

    level_names: tuple[str, ...]
    k: int
    temperature: float
    coefficients: tuple[tuple[float, ...], ...]
    thresholds: tuple[float | None, ...]
    goal: str
    rate: float
    num_images: int
    fingerprint: str

    def confidences(self, evidence: Tensor, nodes: Tensor) -> Tensor:
        """Returns the (Q, L) confidence in each node of (Q, L) paths, of (Q, L, 2) evidence."""
        return path_confidence(evidence, nodes, torch.tensor(self.coefficients, dtype=torch.float64))

    def num_named(self, confidences: Tensor, nodes: Tensor) -> Tensor:
        """Returns how many nodes of each path are named, (Q,) int64, of (Q, L) confidences and nodes."""
        return num_named(confidences, nodes, self.thresholds)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the calibration beside an index, whole or not at all; an older one is replaced."""
        write_json(Path(folder, FILE), {"format": _FORMAT, **asdict(self)})

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, fingerprint: str, level_names: Sequence[str]) -> Calibration:
        """Reads the calibration beside an index.

        Args:
            folder: The index's.
            fingerprint: Of the model that made the index.
            level_names: The levels of its tree.

        Raises:
            ValueError: If the file is damaged, or is of another model or tree.
        """
        path = Path(folder, FILE)
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            calibration = cls.from_dict(data)
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"{path} is damaged: {error}; {_REMEDY}") from error
        for name, ours, theirs in (
            ("model", calibration.fingerprint, fingerprint),
            ("levels", calibration.level_names, tuple(level_names)),
        ):
            if ours != theirs:
                raise ValueError(f"{path} is of another index: its {name} must be {theirs!r}; it is {ours!r}; {_REMEDY}")
        return calibration

    @classmethod
    def from_dict(cls, data: Any) -> Calibration:
        """Makes a calibration of what :meth:`save` writes.

        Raises:
            ValueError: If something is missing or out of range.
        """
        if not isinstance(data, Mapping) or data.get("format") != _FORMAT:
            raise ValueError(f"it must be an object of the format {_FORMAT!r}")
        fields = {name: value for name, value in data.items() if name != "format"}
        if set(fields) != set(cls.__dataclass_fields__):
            raise ValueError(f"it must have {', '.join(cls.__dataclass_fields__)}; it has {', '.join(fields)}")
        names, rows, thresholds = fields["level_names"], fields["coefficients"], fields["thresholds"]
        if not all(isinstance(of, list) and len(of) == len(names) for of in (names, rows, thresholds)):
            raise ValueError("level_names, coefficients and thresholds must be lists of one length")
        if not all(isinstance(name, str) for name in [*names, fields["fingerprint"], fields["goal"]]):
            raise ValueError("level_names, fingerprint and goal must be texts")
        for row in rows:
            if not isinstance(row, list) or len(row) != NUM_EVIDENCE + 1 or not all(map(_is_number, row)):
                raise ValueError(f"coefficients must be rows of {NUM_EVIDENCE + 1} finite numbers; one is {row!r}")
        for threshold in thresholds:
            if threshold is not None and not (_is_number(threshold) and 0 <= threshold <= 1):
                raise ValueError(f"thresholds must be in 0 to 1, or null; one is {threshold!r}")
        for name in ("k", "num_images"):
            if type(fields[name]) is not int or fields[name] < 1:
                raise ValueError(f"{name} must be a whole number from 1; it is {fields[name]!r}")
        for name in ("temperature", "rate"):
            if not _is_number(fields[name]) or fields[name] <= 0:
                raise ValueError(f"{name} must be a number above 0; it is {fields[name]!r}")
        tuples = {"level_names": tuple(names), "coefficients": tuple(map(tuple, rows)), "thresholds": tuple(thresholds)}
        return cls(**{**fields, **tuples})


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
