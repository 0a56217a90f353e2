"""Processes that each have id 1, as in containers: on Linux, for a user who may make namespaces."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

_NEW_MOUNTS, _NEW_IDS = 0x00020000, 0x20000000  # CLONE_NEWNS, CLONE_NEWPID
_RECURSIVE_PRIVATE = 0x4000 | 0x40000  # MS_REC | MS_PRIVATE


@contextmanager
def own_process_ids() -> Iterator[None]:
    """Gives the next process that is forked in the block a namespace of process ids, in which it is number 1.

    Its parent knows it by an ordinary id, by which it can be stopped and killed. Fork one process a block: a second one
    would be number 2 of the same namespace.

    Raises:
        OSError: Where the system does not allow it.
    """
    _call("unshare", _NEW_IDS)
    try:
        yield
    finally:
        own = os.open("/proc/self/ns/pid", os.O_RDONLY)
        _call("setns", own, _NEW_IDS)
        os.close(own)


def mount_own_proc() -> None:
    """Lets this process see its own namespace under ``/proc``, as in a container; no other process notices.

    Raises:
        OSError: Where the system does not allow it.
    """
    _call("unshare", _NEW_MOUNTS)
    _call("mount", b"none", b"/", None, _RECURSIVE_PRIVATE, None)
    _call("mount", b"proc", b"/proc", b"proc", 0, None)


def _call(name: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
