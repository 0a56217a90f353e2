"""Checkpoints that are whole whenever they are there."""

from __future__ import annotations

import re
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from hierpretrain.files import write_whole


class AtomicLocalBackend(LocalBackend):
    """MMEngine's local files, but a file is replaced whole or not at all, on ``kill -9`` and a full disk as well.

    In a config: ``checkpoint=dict(type='CheckpointHook', backend_args=dict(backend='AtomicLocalBackend'))``.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Writes bytes to a file."""
        write_whole(filepath, obj)


register_backend("AtomicLocalBackend", backend=AtomicLocalBackend, force=True)


def newest_checkpoint(work_dir: str | Path) -> str | None:
    """Returns the checkpoint of a work directory to go on from; ``None`` if there is none.

    It is the one of the highest epoch, or of the highest iteration if that one was written later. It goes by the files,
    not by MMEngine's note ``last_checkpoint``, which a kill can leave empty or behind.

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
