"""The hook that leaves the metrics where a script finds them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from hierpretrain.files import write_whole
from hierpretrain.registry import HOOKS


@HOOKS.register_module()
class MetricsFileHook(Hook):
    """Writes the metrics of every evaluation to ``metrics.json`` in the work directory, replacing the file whole.

    Args:
        filename: Of the file.
    """

    def __init__(self, filename: str = "metrics.json") -> None:
        self.filename = filename
        self._trained: dict[str, int] = {}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Notes how long what was loaded had been trained."""
        self._trained = {key: checkpoint.get("meta", {}).get(key) for key in ("epoch", "iter")}

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Writes the metrics of a validation."""
        self._write(runner, metrics, {"epoch": runner.epoch, "iter": runner.iter})

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Writes the metrics of a test."""
        self._write(runner, metrics, self._trained)

    def _write(self, runner: Runner, metrics: dict[str, float] | None, trained: dict[str, int]) -> None:
        if is_main_process():
            text = json.dumps({**trained, "metrics": metrics}, indent=2) + "\n"
            write_whole(Path(runner.work_dir) / self.filename, text.encode())
