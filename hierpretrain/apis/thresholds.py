"""What an index has learned of its answers from held-out images: the file of it beside the index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hierpretrain._texts import short
from hierpretrain.functional.chain_rule import NUM_EVIDENCE
from hierpretrain.functional.path_calibration import PathCalibration

_FORMAT = "hierpretrain.calibration.v1"
_REMEDY = "calibrate the index anew (hierpretrain calibrate)"
_LARGEST = 1e9  # of anything that was fitted, and of counts
_GOALS = ("precision", "false_alarms")


@dataclass(frozen=True)
class Calibration:
    """How sure an index is of its answers, how sure it must be to give them, and what that was learned from.

    Attributes:
        paths: The confidences and thresholds of the L levels.
        k: How many neighbours vote.
        goal: ``'precision'`` or ``'false_alarms'``, which the thresholds are for.
        rate: The precision or the rate of false alarms that was stated.
        num_images: How many held-out images there were.
        level_names: The levels of the index's tree.
        fingerprint: Of the model that embedded the images.
    """

    paths: PathCalibration
    k: int
    goal: str
    rate: float
    num_images: int
    level_names: tuple[str, ...]
    fingerprint: str

    def to_dict(self) -> dict[str, Any]:
        """Returns the calibration as JSON has it."""
        return {"format": _FORMAT, **asdict(self)}

    @classmethod
    def of(cls, data: Any, place: str, *, fingerprint: str, level_names: Sequence[str]) -> Calibration:
        """Makes the calibration of an index of what :meth:`to_dict` returned.

        Args:
            data: The data.
            place: Where it is from, for messages.
            fingerprint: Of the model that made the index.
            level_names: The levels of its tree.

        Raises:
            ValueError: If it is damaged, or is of another model or tree.
        """
        try:
            found = cls.from_dict(data)
        except ValueError as error:
            raise ValueError(f"{place} is damaged: {error}; {_REMEDY}") from error
        for name, its, needed in (
            ("model", found.fingerprint, fingerprint),
            ("levels", found.level_names, tuple(level_names)),
        ):
            if its != needed:
                raise ValueError(f"{place} is of another index: its {name} must be {needed!r}, not {its!r}; {_REMEDY}")
        return found

    @classmethod
    def from_dict(cls, data: Any) -> Calibration:
        """Makes a calibration of what :meth:`to_dict` returned.

        Raises:
            ValueError: If something is missing, of another type or out of range.
        """
        data = _object(data, {*cls.__dataclass_fields__, "format"})
        if data["format"] != _FORMAT:
            raise ValueError(f"its format must be {_FORMAT!r}; it is {short(data['format'])}")
        paths = _object(data["paths"], set(PathCalibration.__dataclass_fields__))
        names, rows, thresholds = data["level_names"], paths["coefficients"], paths["thresholds"]
        lists = [len(values) for values in (names, rows, thresholds) if isinstance(values, list)]
        if len(lists) < 3 or len(set(lists)) > 1:
            raise ValueError("level_names, coefficients and thresholds must be lists of one length")
        _check("rows of coefficients", rows, lambda row: isinstance(row, list) and len(row) == NUM_EVIDENCE + 1)
        _check("coefficients", [value for row in rows for value in row], _is_number)
        _check("thresholds", thresholds, lambda value: value is None or (_is_number(value) and 0 <= value <= 1))
        _check("texts", [*names, data["fingerprint"]], lambda value: isinstance(value, str))
        _check("goal", [data["goal"]], lambda value: value in _GOALS)
        _check("counts", [data["k"], data["num_images"]], lambda value: type(value) is int and 1 <= value < _LARGEST)
        _check("rate", [data["rate"]], lambda value: _is_number(value) and 0 < value < 1)
        _check("temperature", [paths["temperature"]], lambda value: _is_number(value) and value > 0)
        fitted = PathCalibration(paths["temperature"], tuple(map(tuple, rows)), tuple(thresholds))
        del data["format"]
        return cls(**{**data, "paths": fitted, "level_names": tuple(names)})


def _object(data: Any, names: set[str]) -> dict[str, Any]:
    if not isinstance(data, Mapping) or set(data) != names:
        raise ValueError(f"it must be an object of {', '.join(sorted(names))}")
    return dict(data)


def _check(name: str, values: Sequence[Any], is_right: Any) -> None:
    if wrong := [value for value in values if not is_right(value)]:
        raise ValueError(f"{name} must be of another form or range; one is {short(wrong[0])}")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -_LARGEST < value < _LARGEST
