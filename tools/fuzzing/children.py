"""Runs a reader in a forked process with limits on memory and time, and says what came of it."""

from __future__ import annotations

import hashlib
import os
import pickle
import resource
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

MEMORY = 1 << 30  # bytes that a reader may take beyond what the process had
SECONDS = 20  # of a processor
_ROOM = 3 << 30  # bytes of addresses: what is only reserved is no memory
_END = b"\nend of an answer\n"
_WAIT = 180  # seconds of the clock, on a busy machine


@dataclass
class Ended:
    """How a reader ended.

    Attributes:
        how: ``'read'``, ``'message'``, ``'traceback'``, ``'crash'``, ``'hang'`` or ``'memory'``.
        text: The message, or the last line of the traceback and where it began.
        digest: Of what was read.
        warned: What it logged.
        peak: Bytes of memory that it took.
    """

    how: str
    text: str = ""
    digest: str = ""
    warned: str = ""
    peak: int = 0


class Child:
    """A child of this process, which has all modules at hand and reads as often as it is asked; a new one if it ends.

    Args:
        read: The reader.
    """

    def __init__(self, read: Callable[[], Any]) -> None:
        self._read, self._process = read, 0

    def ask(self) -> Ended:
        """Has the child read once."""
        if not self._process:
            self._start()
        os.write(self._send, b"?")
        data, deadline = b"", time.monotonic() + _WAIT
        while not data.endswith(_END) and (left := deadline - time.monotonic()) > 0:
            ready, _, _ = select.select([self._receive], [], [], left)
            part = os.read(self._receive, 1 << 16) if ready else b""
            if not part:
                break
            data += part
        if data.endswith(_END):
            ended = Ended(**pickle.loads(data))
            if ended.how in ("memory", "traceback"):
                self.close()  # the next one is to begin as this one did
            return ended
        number = self.close()
        if number in (signal.SIGXCPU, signal.SIGKILL):
            return Ended("hang", f"more than {SECONDS} s")
        return Ended("crash", f"signal {number}")

    def close(self) -> int:
        """Ends the child, and returns the signal that it ended by."""
        if not self._process:
            return 0
        os.close(self._send)
        os.close(self._receive)
        time.sleep(0.01)
        done, status = os.waitpid(self._process, os.WNOHANG)
        if not done:
            os.kill(self._process, signal.SIGKILL)
            _, status = os.waitpid(self._process, 0)
        self._process = 0
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0

    def _start(self) -> None:
        self._receive, send = os.pipe()
        receive, self._send = os.pipe()
        sys.stdout.flush()
        self._process = os.fork()
        if self._process == 0:
            os.close(self._receive)
            os.close(self._send)
            try:
                _serve(self._read, receive, send)
            finally:
                os._exit(0)
        os.close(receive)
        os.close(send)


def _serve(read: Callable[[], Any], receive: int, send: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    logged = _log()
    while os.read(receive, 1):
        logged.clear()
        os.write(send, pickle.dumps(asdict(_ended(read, logged))) + _END)


def _ended(read: Callable[[], Any], logged: list[str]) -> Ended:
    """Reads, and returns how it ended; more than a time of the processor ends the process."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak begins anew
    before = _memory("VmRSS")
    used = resource.getrusage(resource.RUSAGE_SELF)
    addresses = _memory("VmSize") + _ROOM
    resource.setrlimit(resource.RLIMIT_AS, (addresses, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + SECONDS, resource.RLIM_INFINITY))
    try:
        ended = Ended("read", digest=digest_of(read()))
    except MemoryError as error:
        ended = Ended("memory", f"MemoryError: {error}")
    except (ValueError, OSError, ImportError, SystemExit) as error:
        ended = Ended("message", str(error))
        if isinstance(error, UnicodeError):  # a ValueError of Python's own
            ended.text = f"{type(error).__name__}: {error}"
    except BaseException as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        ours = [one for one in traceback.extract_tb(error.__traceback__) if "hierpretrain" in one.filename]
        where = f"{ours[-1].filename.rpartition('hierpretrain/')[2]}:{ours[-1].lineno} " if ours else ""
        ended = Ended("traceback", f"{type(error).__name__}: {error} ({where}{frame.name})")
    ended.peak = max(0, _memory("VmHWM") - before)
    if ended.peak > MEMORY:
        ended.how = "memory"
    ended.text, ended.warned = ended.text[:2000], "\n".join(logged)[:2000]
    return ended


def _memory(name: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{name}:"))


def _log() -> list[str]:
    """Returns a list to which goes, from now on, what data sets and their readers log."""
    from hierpretrain.datasets import messages

    logged: list[str] = []

    def keep(text: str, *args: Any, level: int = 0, **options: Any) -> None:
        if level >= 30:
            logged.append(text)

    messages.print_log = keep
    return logged


def digest_of(value: Any) -> str:
    """Returns a digest of nested values; equal ones have the same, whatever order their dicts are in."""
    digest = hashlib.sha256()
    _add(value, digest)
    return digest.hexdigest()


def _add(value: Any, digest: Any) -> None:
    digest.update(type(value).__name__.encode() if not isinstance(value, list | tuple | Mapping) else b"many")
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value.float().numpy() if value.dtype == torch.bfloat16 else value.numpy()
    if isinstance(value, np.ndarray):
        digest.update(repr((value.dtype.str, value.shape)).encode() + np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Image.Image):
        digest.update(repr((value.mode, value.size)).encode() + value.tobytes())
    elif isinstance(value, Mapping):
        for key in sorted(value, key=repr):
            _add(key, digest)
            _add(value[key], digest)
    elif isinstance(value, set | frozenset):
        _add(sorted(value, key=repr), digest)
    elif isinstance(value, list | tuple):
        digest.update(str(len(value)).encode())
        for item in value:
            _add(item, digest)
    elif is_dataclass(value):
        _add({field.name: getattr(value, field.name) for field in fields(value)}, digest)
    elif hasattr(value, "to_dict"):
        _add(value.to_dict(), digest)
    elif isinstance(value, Path):
        digest.update(str(value).encode(errors="surrogateescape"))
    else:
        digest.update(repr(value).encode(errors="surrogatepass"))
