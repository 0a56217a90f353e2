"""The hook that leaves the metrics where a script finds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from hierpretrain._json import parse_object
from hierpretrain.files import write_json
from hierpretrain.registry import HOOKS


@HOOKS.register_module()
class MetricsFileHook(Hook):
    """Writes the metrics of every evaluation to ``metrics.json`` in the work directory, replacing the file whole.

    Args:
        filename: The name of the file.
    """

    # The last of all: an evaluation that it makes up for finds what other hooks prepare, and the file stands for an
    # evaluation whose pictures and best checkpoint are written.
    priority = "LOWEST"

    def __init__(self, filename: str = "metrics.json") -> None:
        self.filename = filename
        self._trained: dict[str, int] = {}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Notes for how many epochs and iterations the loaded weights have been trained."""
        self._trained = {key: checkpoint.get("meta", {}).get(key) for key in ("epoch", "iter")}

    def before_train(self, runner: Runner) -> None:
        """Makes up for the evaluation that was due after a checkpoint's epoch, if a kill cut it off.

        A training that resumes none removes the file of an older one.
        """
        if not runner._resume and is_main_process():
            (Path(runner.work_dir) / self.filename).unlink(missing_ok=True)
        if runner._resume and isinstance(runner.train_loop, EpochBasedTrainLoop) and runner.val_loop is not None:
            last = runner.epoch == runner.max_epochs
            due = runner.epoch and (last or runner.epoch % runner.val_interval == 0)
            if due and self._trained["iter"] == runner.epoch * len(runner.train_dataloader):
                path = Path(runner.work_dir) / self.filename
                if not path.exists() or _epoch(path) != runner.epoch:
                    runner.val_loop.run()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Writes the metrics of a validation."""
        self._write(runner, metrics, {"epoch": runner.epoch, "iter": runner.iter})

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Writes the metrics of a test."""
        trained = {"epoch": runner.epoch, "iter": runner.iter} if runner.iter else self._trained  # in this run or not
        self._write(runner, metrics, trained)

    def _write(self, runner: Runner, metrics: dict[str, float] | None, trained: dict[str, int]) -> None:
        if is_main_process():
            write_json(Path(runner.work_dir) / self.filename, {**trained, "metrics": metrics})


def _epoch(path: Path) -> object:
    """Returns the epoch of the newest evaluation that was written."""
    return parse_object(path.read_bytes(), path, "delete it", any_number=True).get("epoch")
