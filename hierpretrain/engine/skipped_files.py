"""The hook that lists what could not be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from hierpretrain._json import parse_object
from hierpretrain.datasets.joined import seeded_sets
from hierpretrain.datasets.on_error import SKIPPED, write_skipped
from hierpretrain.registry import HOOKS


@HOOKS.register_module()
class SkippedFilesHook(Hook):
    """Lists the files and links that data sets skipped as unreadable, in ``skipped.json`` in the work directory.

    The file holds path -> reason, and is there only if a data set with ``on_error='skip'`` skipped something. It is
    written when training begins and ends, after every epoch and every evaluation, for all processes together. A resumed
    run adds to it.

    Args:
        filename: The name of the file.
    """

    def __init__(self, filename: str = SKIPPED) -> None:
        self.filename = filename
        self._listed: dict[str, str] | None = None

    def before_train(self, runner: Runner) -> None:
        """Lists what was skipped when the data sets were opened; of a new run, an older list goes."""
        if not runner._resume and is_main_process():
            (Path(runner.work_dir) / self.filename).unlink(missing_ok=True)
            self._listed = {}
        self._list(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Lists what was skipped so far."""
        self._list(runner)

    def after_train(self, runner: Runner) -> None:
        """Lists what was skipped so far."""
        self._list(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Lists what was skipped so far."""
        self._list(runner)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Lists what was skipped so far."""
        self._list(runner)

    def _list(self, runner: Runner) -> None:
        skipped: dict[str, str] = {}
        for part in all_gather_object(_skipped(runner)):
            skipped = {**part, **skipped}
        if not is_main_process():
            return
        path = Path(runner.work_dir) / self.filename
        if self._listed is None:
            self._listed = _read(path) if path.exists() else {}
        if skipped.keys() - self._listed.keys():
            self._listed = {**skipped, **self._listed}
            write_skipped(path, self._listed)
            runner.logger.warning(f"{len(self._listed)} files and links could not be read and are listed in {path}")


def _skipped(runner: Runner) -> dict[str, str]:
    """Returns what the data sets of this process skipped so far, of those that are made by now."""
    skipped: dict[str, str] = {}
    for name in ("_train_loop", "_val_loop", "_test_loop"):
        loader: Any = getattr(getattr(runner, name), "dataloader", None)
        for data in seeded_sets(getattr(loader, "dataset", None)):  # also within wrappers of other libraries
            skipped.update(getattr(data, "skipped", {}))
    return skipped


def _read(path: Path) -> dict[str, str]:
    listed = parse_object(path.read_bytes(), path, "delete it", any_text=True)
    if not all(isinstance(reason, str) for reason in listed.values()):
        raise ValueError(f"{path} is damaged: it must hold an object, path -> reason; delete it")
    return listed
