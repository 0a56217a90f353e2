"""Processes for tests, forked from one that has imported what they need: each starts at once, not after five seconds.

The one that forks them (``multiprocessing``'s fork server) computes nothing, so it has no threads, no open files and no
results that they could inherit; nothing but imported modules tells them from processes that were started anew.
"""

import contextlib
import multiprocessing
import os
import runpy
import signal
import socket
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
PATIENCE = 150  # seconds that any process of a test may take
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["pytest", "torch.utils.cpp_extension", "mmpretrain.engine", "hierpretrain.commands.train", "hierpretrain.models"]
)


def start(log, script, *arguments, cwd=ROOT, **environment):
    """Starts a Python script, or ``-m`` and a module, in a process group of its own; what it writes goes to a log."""
    Path(log).write_bytes(b"")
    words = list(map(str, (script, *arguments)))
    process = CONTEXT.Process(target=_main, args=(str(log), words, str(cwd), {**os.environ, **environment}))
    process.start()
    return process


def run(log, script, *arguments, fails=False, **options):
    """Runs a Python script as `start` does; returns what it wrote, once it has ended well, or badly if it ``fails``."""
    return _finish(start(log, script, *arguments, **options), log, fails)


def _finish(process, log, fails):
    process.join(PATIENCE)
    ended = process.exitcode
    if ended is None:
        kill(process)
    output = Path(log).read_text()
    assert ended is not None, f"a process took more than {PATIENCE} s: {output[-6000:]}"
    assert (ended != 0) == fails, f"a process ended with {ended}: {output[-6000:]}"
    return output


def run_ranks(folder, commands, fails=False):
    """Runs a command for each rank, with the variables that torchrun sets; returns what each wrote, as `run` does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = dict(WORLD_SIZE=str(len(commands)), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free.getsockname()[1]))
    logs = [Path(folder, f"log{rank}.txt") for rank in range(len(commands))]
    started = [
        start(log, *words, RANK=str(rank), LOCAL_RANK=str(rank), **address)
        for rank, (log, words) in enumerate(zip(logs, commands, strict=True))
    ]
    try:
        return [_finish(process, log, fails) for process, log in zip(started, logs, strict=True)]
    finally:
        for process in started:
            if process.is_alive():
                kill(process)


def kill(process):
    """Sends SIGKILL to a process and all that it has started."""
    with contextlib.suppress(ProcessLookupError):  # where there is nobody left in the group
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()  # who may not have come to make itself a group
    process.join()


def kill_when(process, log, text):
    """Kills a process, with all that it has started, as soon as its log has a text."""
    deadline = time.monotonic() + PATIENCE
    try:
        while text not in (written := Path(log).read_text()):
            assert process.is_alive(), written[-6000:]
            assert time.monotonic() < deadline, f"{text!r} not seen in {written[-6000:]}"
            time.sleep(0.01)
    finally:
        kill(process)


def _main(log, words, cwd, environment):
    """What a process does: all that an interpreter would have done before the script, then the script."""
    os.setsid()
    with open(log, "a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    if words[0] == "-m":
        sys.argv = words[1:]
        sys.path.insert(0, cwd)
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        sys.path.insert(0, str(Path(words[0]).parent))
        runpy.run_path(words[0], run_name="__main__")
