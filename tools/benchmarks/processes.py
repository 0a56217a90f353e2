"""Calls functions in processes of their own: in a worker that may die or hang, or in several that form a group.

All are spawned, since a forked process cannot use a GPU that its parent has touched. They end with their parent, even
if the parent is killed.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import tempfile
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
import torch.distributed as dist

CONTEXT = multiprocessing.get_context("spawn")


class CallFailed(RuntimeError):
    """A call in another process raised, took too long, or took its process with it; the text says which."""


class CallTimedOut(CallFailed):
    """A call in another process took too long."""


class Worker:
    """A process that calls one function after the other, so that it imports and starts a GPU once.

    After a call that failed comes a new process: an error of a GPU makes all later calls fail too.
    """

    def __init__(self) -> None:
        self._process: Any = None
        self._pipe: Connection | None = None

    def call(self, function: Callable[..., Any], *args: Any, seconds: float) -> Any:
        """Returns ``function(*args)``, for both of which pickle must know a name.

        Args:
            function: A function of a module.
            args: Its arguments.
            seconds: How long it may take; the first call starts the process, which counts.

        Raises:
            CallTimedOut: If it took longer.
            CallFailed: If it raised, or its process ended.
        """
        if self._process is None:
            self._pipe, far_end = CONTEXT.Pipe()
            self._process = CONTEXT.Process(target=_serve, args=(far_end,))
            self._process.start()
            far_end.close()
        assert self._pipe is not None
        try:
            self._pipe.send((function, args))
            if not self._pipe.poll(max(0.0, seconds)):
                raise CallTimedOut(f"it took more than {seconds:.0f} s")
            good, result = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(5)
            code = self._process.exitcode
            self.close()
            raise CallFailed(f"its process ended with {code}") from None
        except BaseException:
            self.close()
            raise
        if not good:
            self.close()
            raise CallFailed(result)
        return result

    def close(self) -> None:
        """Ends the process, if there is one."""
        if self._process is not None and self._pipe is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
        self._process = self._pipe = None


def run_ranks(function: Callable[..., Any], world_size: int, backend: str, *args: Any) -> list[Any]:
    """Calls ``function(*args)`` in each of several processes, which are joined in a group of ``torch.distributed``.

    Args:
        function: A function of a module. With NCCL, the process of a rank has the GPU of that number.
        world_size: Number of processes.
        backend: ``'gloo'`` or ``'nccl'``.
        args: Its arguments, the same for all.

    Returns:
        What it returned in each process, rank 0's first.

    Raises:
        CallFailed: If it raised on a rank, or a rank's process ended; the others are then ended too.
    """
    results: dict[int, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        pipes, processes = {}, []
        try:
            for rank in range(world_size):
                pipe, far_end = CONTEXT.Pipe()
                group = (backend, f"file://{folder}/store", rank, world_size)
                process = CONTEXT.Process(target=_run_rank, args=(far_end, group, function, args))
                process.start()
                far_end.close()
                pipes[pipe] = rank
                processes.append(process)
            while pipes:
                for pipe in wait(list(pipes)):
                    rank = pipes.pop(pipe)
                    try:
                        good, results[rank] = pipe.recv()
                    except EOFError:
                        processes[rank].join(5)
                        raise CallFailed(f"rank {rank} ended with {processes[rank].exitcode}") from None
                    if not good:
                        raise CallFailed(f"on rank {rank}:\n{results[rank]}")
        finally:
            if pipes:  # of ranks that wait for one that is gone
                for process in processes:
                    process.kill()
            for process in processes:
                process.join()
    return [results[rank] for rank in range(world_size)]


def _run_rank(
    pipe: Connection, group: tuple[str, str, int, int], function: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    _end_with_parent()
    backend, address, rank, world_size = group
    try:
        if backend == "nccl":
            torch.cuda.set_device(rank)
        dist.init_process_group(backend, init_method=address, rank=rank, world_size=world_size)
        result = (True, function(*args))
        dist.barrier()  # nobody leaves while another still sends
    except BaseException:
        result = (False, traceback.format_exc())
    pipe.send(result)
    if result[0]:
        dist.destroy_process_group()


def _serve(pipe: Connection) -> None:
    _end_with_parent()
    with suppress(EOFError):
        while True:
            function, args = pipe.recv()
            try:
                result = (True, function(*args))
            except Exception:
                result = (False, traceback.format_exc())
            pipe.send(result)
            del result
            if torch.cuda.is_initialized():  # what one call held is not the next one's
                gc.collect()
                torch.cuda.empty_cache()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    if parent is not None:
        threading.Thread(target=watch, daemon=True).start()
