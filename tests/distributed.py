"""Runs a function on several gloo processes, for tests that compare them with one."""

import pickle
import socket
import time

import torch.distributed as dist
import torch.multiprocessing as mp

from tests.processes import CONTEXT, PATIENCE


def run(function, world_size, *args):
    """Calls ``function(rank, world_size, *args)`` in each of several processes; an error in one is raised here."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    call = pickle.dumps((function, args))  # tensors too, of which multiprocessing itself would share the memory
    arguments = (world_size, address, call)
    method = CONTEXT.get_start_method()
    started = mp.start_processes(_start, arguments, world_size, join=False, start_method=method)
    deadline = time.monotonic() + PATIENCE
    while not started.join(timeout=1):  # which raises what a process raised, and ends the others
        if time.monotonic() > deadline:
            for process in started.processes:
                process.kill()
                process.join()
            raise TimeoutError(f"{function.__name__} on {world_size} processes took more than {PATIENCE} s")


def _start(rank, world_size, address, call):
    function, args = pickle.loads(call)
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=world_size)
    try:
        function(rank, world_size, *args)
    finally:
        dist.destroy_process_group()
