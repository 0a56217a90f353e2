"""One writer to a folder: a lock that says who holds it, and that a killed holder or machine cannot leave behind.

Three things tell whether the process that a lock file names still holds the folder:

1. *The kernel.* The holder has a POSIX lock on the file, which ends with the process, however that ends. Of two
   processes on one machine and one mount it tells for certain, whatever containers they are in; on NFS and most other
   network file systems also of processes on two machines.
2. *The process's start.* Where the file system has no locks: process ids repeat, a pair of id and start time does not,
   among processes that see one another.
3. *The heartbeat.* Elsewhere, since a file system may grant one lock to two machines: the holder renews the file's
   time every few seconds. The clock is the file system's, so clocks of machines need not agree.

A holder that was stopped so long that another one took over finds that the file names another one.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hierpretrain.files import named_errors

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

NAME = ".in_use.json"
BEAT = 5.0
"""Seconds between two signs of life."""
PATIENCE = 30.0
"""Seconds without a sign of life after which a holder counts as gone, where nothing else can tell."""

_SETTLED = 0.5
"""Seconds after which a process that took a folder looks whether another one did at the same moment, without locks."""

_held: dict[str, FolderLock] = {}  # of this process, by the folder's true path
_one_thread = threading.RLock()  # looks there, and takes or gives back a folder


def hold_folder(
    folder: str | os.PathLike[str],
    activity: str,
    remedy: str = "take another folder",
    log: Callable[[str], None] = lambda line: None,
) -> FolderLock:
    """Makes this process the only one that writes to a folder, until the lock is released or the process ends.

    A process that holds the folder already gets the same lock once more, and has to release it as often.

    Args:
        folder: The folder; it is made if it is missing.
        activity: What the process does there, such as ``'training'``, for the message.
        remedy: What another process can do instead of waiting, for the message.
        log: Where to say that it waits for a sign of life of a holder on another machine.

    Raises:
        ValueError: If another process holds the folder; the message says which, where, since when and how to go on.
        OSError: If nothing can be written there.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     lock = hold_folder(folder, "training")
        ...     print(os.listdir(folder))
        ...     lock.release()
        ...     print(os.listdir(folder))
        ['.in_use.json']
        []
    """
    key = os.path.realpath(folder)
    with _one_thread:
        lock = _held.get(key)
        if lock is None or lock.owner != os.getpid():  # a forked child inherits the entry and not the lock
            path = Path(key, NAME)
            path.parent.mkdir(parents=True, exist_ok=True)
            record = _record(activity, path.parent)
            lock = _held[key] = FolderLock(path, _acquire(path, record, remedy, log), record)
        lock.handles += 1
    return lock


class FolderLock:
    """The lock of this process on a folder; :func:`hold_folder` makes it.

    Args:
        path: The lock file.
        file: It, open and locked.
        record: What it says of this process.
    """

    def __init__(self, path: Path, file: int, record: dict[str, Any]) -> None:
        self.path, self.owner, self.handles = path, os.getpid(), 0
        self._file, self._record = file, record
        self._taken_by: dict[str, Any] | None = None
        self._done, self._open = threading.Event(), threading.Lock()
        threading.Thread(target=self._beat, name="folder lock", daemon=True).start()

    def check(self) -> None:
        """Raises if another process has taken the folder, since this one gave no sign of life for too long.

        Raises:
            ValueError: That says who has it now.
        """
        if self._taken_by is not None:
            raise ValueError(
                f"{self.path.parent} was taken over by {_who(self._taken_by)}, since this process gave no sign of life "
                f"for {PATIENCE:.0f} s: it was stopped, or cut off from the file system; it writes nothing more there"
            )

    def release(self) -> None:
        """Gives the folder back; it is free when it was given back as often as it was taken."""
        if self.owner != os.getpid():  # of a fork, which may have no turn to wait for
            return
        with _one_thread:
            if not self.handles:
                return
            self.handles -= 1
            if self.handles:
                return
            self._done.set()
            _held.pop(str(self.path.parent), None)
            with suppress(OSError):
                if _read(self._file).get("token") == self._record["token"] and _is_still(self._file, self.path):
                    self.path.unlink()
            with self._open:  # or the heartbeat might find another file under the same number
                os.close(self._file)

    def _beat(self) -> None:
        while not self._done.wait(BEAT):
            with self._open, suppress(OSError):  # of a network that is away for a while
                if self._done.is_set():
                    return
                found = _read(self._file)
                if found and found.get("token") != self._record["token"]:  # and not half written
                    self._taken_by = found
                    return
                os.utime(self._file)
                _lock(self._file)  # which ends when its process opens and closes the file elsewhere


def _acquire(path: Path, record: dict[str, Any], remedy: str, log: Callable[[str], None]) -> int:
    """Returns the lock file, open, locked where the file system can, and with the record in it."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            locked = _lock(file)
            holder = _read(file)
            if locked is False or (holder and not _is_gone(path, holder, record, locked, log)):
                raise ValueError(
                    f"{path.parent} is in use: {_who(holder)} has been {holder.get('activity', 'writing')} there since "
                    f"{holder.get('since', 'just now')}; wait for it, end it, or {remedy}"
                )
            if _is_still(file, path) and _read(file).get("token") == holder.get("token"):
                try:
                    _write(file, path, record)
                except OSError:
                    with suppress(OSError):
                        path.unlink()  # a full disk made the file, and has no room for its content
                    raise
                if locked is None:
                    time.sleep(_SETTLED)  # of two processes that found it free at once, the later one has it
                if _read(file).get("token") == record["token"]:
                    return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # its holder has removed it, or another process took it meanwhile


def _lock(file: int) -> bool | None:
    """Locks a file; returns ``False`` if another process has the lock, and ``None`` if the file system has no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True


def _is_gone(
    path: Path, holder: dict[str, Any], record: dict[str, Any], locked: bool | None, log: Callable[[str], None]
) -> bool:
    """Tells whether the holder that a file names has ended, though no lock kept this process from the file."""
    if locked and holder.get("mount") == record["mount"]:
        return True  # its lock would have kept this process away
    if record["namespace"] and holder.get("namespace") == record["namespace"]:  # it is among the processes seen here
        return _start_time(holder.get("process")) != holder.get("started")
    log(f"{path.parent} is in use by {_who(holder)}: waiting up to {PATIENCE:.0f} s for a sign of life")
    try:
        first = path.stat().st_mtime_ns
        while _clock(path.parent) - first <= PATIENCE * 1e9:
            if path.stat().st_mtime_ns != first:
                return False
            time.sleep(BEAT / 5)
    except FileNotFoundError:
        pass  # it has just ended
    return True


def _is_still(file: int, path: Path) -> bool:
    """Tells whether an open file is still the one of its path."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _write(file: int, path: Path, record: dict[str, Any]) -> None:
    data = json.dumps(record).encode()
    with named_errors(path):
        os.pwrite(file, data, 0)
        os.ftruncate(file, len(data))
        os.fsync(file)


def _read(file: int) -> dict[str, Any]:
    """Returns what a lock file says of its holder; nothing, if a kill or a full disk left it unwritten."""
    try:
        found = json.loads(os.pread(file, 1 << 16, 0))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _clock(folder: Path) -> int:
    """Returns the time by the clock of the file system, in nanoseconds."""
    file = folder / f"{NAME}.{secrets.token_hex(8)}"
    try:
        file.touch()
        return file.stat().st_mtime_ns
    finally:
        file.unlink(missing_ok=True)


def _record(activity: str, folder: Path) -> dict[str, Any]:
    """Returns what tells this process from all others, for people and for other processes."""
    boot = _text("/proc/sys/kernel/random/boot_id") or f"{socket.gethostname()} {os.name}"
    namespace = ""
    with suppress(OSError):  # of systems without /proc, and of a /proc of others
        namespace = f"{boot} {os.readlink('/proc/self/ns/pid')}" if _start_time(os.getpid()) else ""
    return {
        "token": secrets.token_hex(16),
        "activity": activity,
        "host": socket.gethostname(),
        "process": os.getpid(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]])[:2000],
        "started": _start_time(os.getpid()),
        "mount": f"{boot} {folder.stat().st_dev}",
        "namespace": namespace,
    }


def _start_time(process: Any) -> str | None:
    """Returns when a process started, in ticks since the machine did; ``None`` if it has ended."""
    fields = _text(f"/proc/{process}/stat").rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 and fields[0] not in "ZX" else None


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _who(holder: dict[str, Any]) -> str:
    if not holder:
        return "another process"
    return f"process {holder.get('process')} on {holder.get('host')} ({holder.get('command')})"
