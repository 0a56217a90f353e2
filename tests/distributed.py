"""Runs a function on several gloo processes, for tests that compare them with one."""

import socket

import torch.distributed as dist
import torch.multiprocessing as mp


def run(function, world_size, *args):
    """Calls ``function(rank, world_size, *args)`` in each of several processes; an error in one is raised here."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    mp.spawn(_start, (world_size, address, function, args), nprocs=world_size)


def _start(rank, world_size, address, function, args):
    import torch

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=world_size)
    try:
        function(rank, world_size, *args)
    finally:
        dist.destroy_process_group()
