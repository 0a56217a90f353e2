"""The lines that a run writes to the terminal, short enough to be read while it goes on."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from mmengine.runner import LogProcessor, Runner

from hierpretrain._endings import say
from hierpretrain.registry import LOG_PROCESSORS


@LOG_PROCESSORS.register_module()
class ShortLogProcessor(LogProcessor):
    """MMEngine's log lines, with the metrics of an evaluation grouped: one line for each level.

    Losses and times are means over the last ``window_size`` iterations, all else is of the last one that measured it.
    The times of a validation are in the line alone: among the scalars they would run into the times of the training.

    Args:
        window_size: Iterations that losses and times are averaged over.
        by_epoch: Whether lines count epochs, or iterations alone.
        num_digits: Decimal places.
    """

    def __init__(self, window_size: int = 10, by_epoch: bool = True, num_digits: int = 3) -> None:
        super().__init__(window_size=window_size, by_epoch=by_epoch, num_digits=num_digits)

    def _collect_scalars(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Returns the numbers by name, the components of a loss right behind it; the model logs them before it."""
        numbers = super()._collect_scalars(*args, **kwargs)
        ordered: dict[str, Any] = {}
        for name, value in numbers.items():
            if not name.removeprefix("train/").startswith("loss/"):
                ordered[name] = value
            if name in ("loss", "train/loss"):
                ordered |= {part: numbers[part] for part in numbers if part.startswith(f"{name}/")}
        return ordered | numbers

    def get_log_after_iter(self, runner: Runner, batch_idx: int, mode: str) -> tuple[dict[str, Any], str]:
        """Returns the numbers by name, and the line."""
        self.mean_pattern = re.compile(r"^(loss|time$|data_time$|grad_norm)" if mode == "train" else r"^(data_)?time$")
        return super().get_log_after_iter(runner, batch_idx, mode)

    def get_log_after_epoch(
        self, runner: Runner, batch_idx: int, mode: str, with_non_scalar: bool = False
    ) -> tuple[dict[str, Any], str]:
        """Returns the numbers by name, and the lines."""
        self.mean_pattern = re.compile(r"^(data_)?time$")  # a metric may have a level's name, such as lossy/nmi
        numbers, line = super().get_log_after_epoch(runner, batch_idx, mode, with_non_scalar)
        plain, groups = [line.partition("    ")[0] + "  "], {}
        for name, value in numbers.items():
            group, slash, metric = name.partition("/")
            shown = f"{value:.{self.num_digits}f}" if isinstance(value, float) else value
            if slash:
                groups.setdefault(group, []).append(f"{metric} {shown}")
            else:
                plain.append(f"{name}: {shown}")
        lines = ["  ".join(plain), *(f"    {group}: {', '.join(entries)}" for group, entries in groups.items())]
        if mode == "val":
            numbers = {name: value for name, value in numbers.items() if name not in ("time", "data_time")}
        return numbers, "\n".join(lines)


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
    """Has a run's logger write short lines to the terminal; its file keeps what MMEngine writes.

    A terminal that is gone, or a pipe whose reader is, gets no more lines, and the run goes on.
    """
    for handler in logger.handlers:
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            handler.setFormatter(TerminalFormatter())
            handler.handleError = partial(_handle_error, handler, handler.handleError)  # type: ignore[method-assign]


def _handle_error(
    handler: logging.StreamHandler[Any], otherwise: Callable[[logging.LogRecord], None], record: logging.LogRecord
) -> None:
    error = sys.exc_info()[1]
    if not isinstance(error, OSError):
        otherwise(record)  # a mistake of ours, which Python prints
        return
    handler.stream = open(os.devnull, "w")  # it stays open
    if not isinstance(error, BrokenPipeError):
        say(f"warning: the lines of the log cannot be written here ({error}); its file has them")
