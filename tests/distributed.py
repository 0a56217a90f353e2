"""Runs a function on several gloo processes, for tests that compare them with one."""

import pickle
import socket
import time
import traceback
from multiprocessing.connection import wait

import torch.distributed as dist

from tests.processes import CONTEXT, PATIENCE


def run(function, world_size, *args):
    """Calls ``function(rank, world_size, *args)`` in each of several processes; the first error is raised here."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    call = pickle.dumps((function, args))  # tensors too, of which multiprocessing itself would share the memory
    errors = CONTEXT.SimpleQueue()
    processes = [
        CONTEXT.Process(target=_start, args=(rank, world_size, address, call, errors)) for rank in range(world_size)
    ]
    deadline = time.monotonic() + PATIENCE
    try:
        for process in processes:
            process.start()
        running = processes
        while running:
            wait([process.sentinel for process in running], timeout=1)
            running = [process for process in processes if process.exitcode is None]
            lost = [rank for rank, process in enumerate(processes) if (process.exitcode or 0) < 0]
            if lost:  # before the errors, which those have that lost it
                raise RuntimeError(f"rank {lost[0]} ended by signal {-processes[lost[0]].exitcode}")
            if not errors.empty():
                raise AssertionError(errors.get())
            if running and time.monotonic() > deadline:
                raise TimeoutError(f"{function.__name__} on {world_size} processes took more than {PATIENCE} s")
    finally:
        for process in processes:
            if process.pid is not None:
                process.kill()
                process.join()


def _start(rank, world_size, address, call, errors):
    try:
        function, args = pickle.loads(call)
        dist.init_process_group("gloo", init_method=address, rank=rank, world_size=world_size)
        function(rank, world_size, *args)
    except BaseException:
        errors.put(f"on rank {rank}:\n{traceback.format_exc()}")  # before the others see that this one is gone
        raise SystemExit(1) from None
    dist.destroy_process_group()
