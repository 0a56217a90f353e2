"""What a run writes to the terminal: lines that are short enough to be read while it goes on."""

from __future__ import annotations

import logging
import re
from typing import Any

from mmengine.runner import LogProcessor, Runner

from hierpretrain.registry import LOG_PROCESSORS

# what is a mean over the last iterations; the rest is as it was last, as all that an evaluation measures
_OF_TRAINING, _OF_EVALUATION = re.compile(r"^(loss|time$|data_time$|grad_norm)"), re.compile(r"^(data_)?time$")


@LOG_PROCESSORS.register_module()
class ShortLogProcessor(LogProcessor):
    """MMEngine's log lines, with what belongs together side by side.

    While a model trains, the parts of a number stand in brackets behind it: ``loss: 11.5  loss/category: 5.1`` reads
    ``loss: 11.5 (category 5.1)``. Of an evaluation, the metrics of each level have a line. Losses and times are means
    over the last ``window_size`` iterations, all else is of the last one that measured it. The times of a validation
    are in the line alone: among the scalars they would run into those of the training, which have their names.

    Args:
        window_size: Iterations that losses and times are averaged over.
        by_epoch: Whether lines count epochs, or iterations alone.
        num_digits: Decimal places.
    """

    def __init__(self, window_size: int = 10, by_epoch: bool = True, num_digits: int = 3) -> None:
        super().__init__(window_size=window_size, by_epoch=by_epoch, num_digits=num_digits)

    def get_log_after_iter(self, runner: Runner, batch_idx: int, mode: str) -> tuple[dict[str, Any], str]:
        """Returns the numbers by name, and the line."""
        self.mean_pattern = _OF_TRAINING if mode == "train" else _OF_EVALUATION
        tag, line = super().get_log_after_iter(runner, batch_idx, mode)
        return tag, parts_in_brackets(line)

    def get_log_after_epoch(
        self, runner: Runner, batch_idx: int, mode: str, with_non_scalar: bool = False
    ) -> tuple[dict[str, Any], str]:
        """Returns the numbers by name, and the lines."""
        self.mean_pattern = _OF_EVALUATION
        tag, line = super().get_log_after_epoch(runner, batch_idx, mode, with_non_scalar)
        if mode == "val":
            tag = {name: value for name, value in tag.items() if name not in ("time", "data_time")}
        return tag, groups_in_lines(line)


def parts_in_brackets(line: str) -> str:
    """Puts the parts of a number, whose names begin with its own and a slash, behind it.

    Args:
        line: Entries ``name: value`` with two blanks between them.

    Example:
        >>> parts_in_brackets("Epoch [1]  loss: 3.5  time: 0.2  loss/kind: 2.0  loss/crop: 1.5")
        'Epoch [1]  loss: 3.5 (kind 2.0, crop 1.5)  time: 0.2'
    """
    whole, groups = _grouped(line, of_a_number=True)
    return "  ".join(f"{entry} ({groups[name]})" if name in groups else entry for name, entry in whole)


def groups_in_lines(line: str) -> str:
    """Puts the numbers whose names have a slash on lines of their own, one line for all that is before the slash.

    Args:
        line: As for :func:`parts_in_brackets`.

    Example:
        >>> print(groups_in_lines("Epoch [1]  kind/nmi: 0.3  crop/nmi: 0.2  kind/ami: 0.1  time: 0.2"))
        Epoch [1]  time: 0.2
            kind: nmi 0.3, ami 0.1
            crop: nmi 0.2
    """
    whole, groups = _grouped(line, of_a_number=False)
    lines = ["  ".join(entry for _, entry in whole)]
    return "\n".join(lines + [f"    {name}: {group}" for name, group in groups.items()])


def _grouped(line: str, *, of_a_number: bool) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Returns (name, entry) of what is no part of anything, and by name what is."""
    entries = [entry.rpartition(": ") for entry in line.split("  ")]
    numbers = {name for name, _, _ in entries}
    whole: list[tuple[str, str]] = []
    groups: dict[str, list[str]] = {}
    for name, separator, value in entries:
        of, slash, part = name.partition("/")
        if slash and (of in numbers or not of_a_number):
            groups.setdefault(of, []).append(f"{part} {value}")
        else:
            whole.append((name, f"{name}{separator}{value}"))
    return whole, {name: ", ".join(parts) for name, parts in groups.items()}


class TerminalFormatter(logging.Formatter):
    r"""The time and the message, and of a message of many lines, as the dump of a config, the first one.

    What is no mere information says so. The log file has all lines.

    Args:
        max_lines: The longest message that is shown whole.

    Example:
        >>> record = logging.makeLogRecord(dict(msg="Config:\na = 1\nb = 2", levelno=logging.INFO, created=0.0))
        >>> TerminalFormatter(max_lines=2).format(record)[8:]
        '  Config: ... (2 more lines in the log file)'
    """

    def __init__(self, max_lines: int = 20) -> None:
        super().__init__()
        self.max_lines = max_lines

    def format(self, record: logging.LogRecord) -> str:
        """Returns the text of a record."""
        lines = [line for line in super().format(record).splitlines() if line.strip(" -")]  # with a traceback
        if len(lines) > self.max_lines and record.levelno < logging.WARNING:
            lines = [f"{lines[0]} ... ({len(lines) - 1} more lines in the log file)"]
        level = "" if record.levelno == logging.INFO else f"{record.levelname}: "
        return f"{self.formatTime(record, '%H:%M:%S')}  {level}" + "\n".join(lines)


def shorten_terminal(logger: logging.Logger) -> None:
    """Has a logger write short lines to the terminal; its file keeps what MMEngine writes.

    Args:
        logger: Of a run.
    """
    for handler in logger.handlers:
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            handler.setFormatter(TerminalFormatter())
