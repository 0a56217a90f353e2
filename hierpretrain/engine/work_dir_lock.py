"""One run in a work directory: rank 0 holds it for all processes."""

from __future__ import annotations

import os
from typing import Any

from mmengine.dist import broadcast_object_list, is_distributed, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from hierpretrain.engine.checkpoint import note_start
from hierpretrain.folder_lock import FolderLock, hold_folder


def hold_work_dir(work_dir: str) -> FolderLock | None:
    """Makes this run the only one that writes to its work directory; rank 0 holds it, and all learn if it cannot.

    Args:
        work_dir: The work directory; it is made if it is missing.

    Returns:
        The lock on rank 0, and nothing on the others.

    Raises:
        ValueError: On all processes, if another run holds the directory.
    """
    together = is_distributed()
    lock, refusal = None, None
    if is_main_process() if together else _rank_to_be() == 0:
        try:
            lock = hold_folder(work_dir, "running", "give another --work-dir", print_log)
        except (ValueError, OSError) as error:
            if not together:
                raise
            refusal = error
    if together:
        told = [None if refusal is None else str(refusal)]
        broadcast_object_list(told)
        if refusal is not None:
            raise refusal
        if told[0] is not None:
            raise ValueError(told[0])
    return lock


def _rank_to_be() -> int:
    """Returns the rank that a launcher gave this process, which MMEngine takes over when it builds the runner."""
    return int(os.environ.get("RANK") or os.environ.get("OMPI_COMM_WORLD_RANK") or 0)


class WorkDirLockHook(Hook):
    """Ends a run whose work directory was taken over, and gives the directory back when the run has ended.

    In the directory it notes the start of a training that resumes none.

    :func:`~hierpretrain.apis.build_runner` adds it.

    Args:
        lock: What :func:`hold_work_dir` returned.
    """

    priority = "HIGHEST"

    def __init__(self, lock: FolderLock | None) -> None:
        self._lock, self._held = lock, True

    def __del__(self) -> None:
        """Gives the directory back if its runner never ran to the end."""
        self.after_run(None)

    def before_run(self, runner: Runner) -> None:
        """Takes the directory again, if this is not the first run of the runner."""
        if not self._held:
            self._lock, self._held = hold_work_dir(runner.work_dir), True

    def before_train(self, runner: Runner) -> None:
        """Notes the start, so that a later ``--resume`` does not take an older training's checkpoint."""
        if not runner._resume and is_main_process():
            note_start(runner.work_dir)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Raises if another run has taken the directory over."""
        if self._lock is not None:
            self._lock.check()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Raises if another run has taken the directory over."""
        if self._lock is not None:
            self._lock.check()

    def after_run(self, runner: Runner | None) -> None:
        """Gives the directory back."""
        lock, self._lock, self._held = self._lock, None, False
        if lock is not None:
            lock.release()
