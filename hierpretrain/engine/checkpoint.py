"""Checkpoints: written whole or not at all, and the newest one of a work directory."""

from __future__ import annotations

import re
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from hierpretrain.files import write_whole


class AtomicLocalBackend(LocalBackend):
    """MMEngine's backend of local files, with atomic writes: a kill or a full disk leaves the old file as it was.

    In a config: ``checkpoint=dict(type='CheckpointHook', backend_args=dict(backend='AtomicLocalBackend'))``.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Writes bytes to a file."""
        write_whole(filepath, obj)


register_backend("AtomicLocalBackend", backend=AtomicLocalBackend, force=True)


def newest_checkpoint(work_dir: str | Path) -> str | None:
    """Returns the newest checkpoint of a work directory, or ``None`` if there is none.

    The newest is the checkpoint of the highest epoch, or of the highest iteration if that was written later. MMEngine's
    file ``last_checkpoint`` is not read: a kill can leave it empty or outdated.

    Example:
        >>> newest_checkpoint("no/such/directory") is None
        True
    """
    found: dict[str, tuple[int, Path]] = {}
    for path in Path(work_dir).glob("*.pth"):
        if match := re.fullmatch(r"(epoch|iter)_(\d+)\.pth", path.name):
            found[match[1]] = max(found.get(match[1], (-1, path)), (int(match[2]), path))
    newest = max((path for _, path in found.values()), key=lambda path: path.stat().st_mtime_ns, default=None)
    return None if newest is None else str(newest)
