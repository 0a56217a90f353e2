"""Checkpoints: written whole or not at all, and the newest one of a training."""

from __future__ import annotations

import re
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from hierpretrain._json import parse_object
from hierpretrain.files import write_json, write_whole

_STARTED = "started.json"


class AtomicLocalBackend(LocalBackend):
    """MMEngine's backend of local files, with atomic writes: a kill or a full disk leaves the old file as it was.

    In a config: ``checkpoint=dict(type='CheckpointHook', backend_args=dict(backend='AtomicLocalBackend'))``.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Writes bytes to a file."""
        write_whole(filepath, obj)


register_backend("AtomicLocalBackend", backend=AtomicLocalBackend, force=True)


def note_start(work_dir: str | Path) -> None:
    """Notes in a work directory that a training begins from nothing: what lies there is of older ones.

    The time is by the clock of the file system, as that of the checkpoints.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, "epoch_9.pth").touch()
        ...     note_start(folder)
        ...     newest_checkpoint(folder) is None
        True
    """
    path = Path(work_dir, _STARTED)
    write_json(path, {})
    write_json(path, {"nanoseconds": path.stat().st_mtime_ns})


def newest_checkpoint(work_dir: str | Path) -> str | None:
    """Returns the newest checkpoint of the last training in a work directory, or ``None`` if there is none.

    The newest is the checkpoint of the highest epoch, or of the highest iteration if that was written later. Those that
    an older training left (:func:`note_start`) do not count, however many epochs it had. MMEngine's file
    ``last_checkpoint`` is not read: a kill can leave it empty or outdated.

    Raises:
        ValueError: If the note of the start is damaged.

    Example:
        >>> newest_checkpoint("no/such/directory") is None
        True
    """
    found: dict[str, tuple[int, Path]] = {}
    started = _started(Path(work_dir, _STARTED))
    for path in Path(work_dir).glob("*.pth"):
        if (match := re.fullmatch(r"(epoch|iter)_(\d+)\.pth", path.name)) and path.stat().st_mtime_ns >= started:
            found[match[1]] = max(found.get(match[1], (-1, path)), (int(match[2]), path))
    newest = max((path for _, path in found.values()), key=lambda path: path.stat().st_mtime_ns, default=None)
    return None if newest is None else str(newest)


def _started(path: Path) -> int:
    """Returns when the last training began, 0 if nobody noted it."""
    if not path.exists():
        return 0
    found = parse_object(path.read_bytes(), path, "delete it")
    if type(time := found.get("nanoseconds", 0)) is not int:
        raise ValueError(f"{path} must hold the integer 'nanoseconds'; delete it")
    return time
