"""The hook that leaves the metrics where a script finds them."""

from __future__ import annotations

import json
import os
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from hierpretrain.registry import HOOKS


@HOOKS.register_module()
class MetricsFileHook(Hook):
    """Writes the metrics of every evaluation to ``metrics.json`` in the work directory, replacing the file whole.

    Args:
        filename: Of the file.
    """

    def __init__(self, filename: str = "metrics.json") -> None:
        self.filename = filename

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Writes the metrics of a validation."""
        self._write(runner, metrics, epoch=runner.epoch, iteration=runner.iter)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Writes the metrics of a test."""
        self._write(runner, metrics, checkpoint=runner._load_from)

    def _write(self, runner: Runner, metrics: dict[str, float] | None, **origin: str | int | None) -> None:
        if is_main_process():
            path = Path(runner.work_dir) / self.filename
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            temporary.write_text(json.dumps({**origin, "metrics": metrics}, indent=2) + "\n", encoding="utf-8")
            os.replace(temporary, path)
