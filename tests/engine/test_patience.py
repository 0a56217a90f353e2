import os
import signal
import time
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from hierpretrain.engine import TrainingPatienceHook
from tests import distributed


def runner(timeout):
    return SimpleNamespace(cfg=dict(env_cfg=dict(dist_cfg=dict(timeout=timeout))))


def exchange():
    """Lets each process wait for the others; returns for how long."""
    begin = time.monotonic()
    dist.all_reduce(torch.ones(1))
    return time.monotonic() - begin


def hang(rank, world_size, seconds, timeout):
    """Rank 1 is late in an evaluation, then in training it is stopped, and not killed."""
    process = [None] * world_size
    dist.all_gather_object(process, os.getpid())
    hook = TrainingPatienceHook(seconds)
    hook.before_train(runner(timeout))
    exchange()
    hook.before_val(runner(timeout))
    if timeout > 3:
        if rank == 1:
            time.sleep(3)
        waited = exchange()
        assert rank == 1 or waited > 2.5
        if rank == 1:
            time.sleep(3)  # as it draws pictures after the last exchange of the evaluation
        hook.after_val(runner(timeout))
    if rank == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
        return
    try:
        begin = time.monotonic()
        with pytest.raises(RuntimeError, match="Timed out waiting"):
            exchange()
        assert 0.9 < time.monotonic() - begin < 2.9
    finally:
        os.kill(process[1], signal.SIGCONT)


@pytest.mark.parametrize(("seconds", "timeout"), [(1, 60), (60, 1)], ids=["in training", "never longer than asked for"])
def test_a_process_that_was_stopped_is_noticed_in_training_and_waited_for_in_evaluation(seconds, timeout):
    distributed.run(hang, 2, seconds, timeout)


def test_one_process_and_configs_without_a_timeout_are_left_as_they_are():
    hook = TrainingPatienceHook()
    for call in (hook.before_train, hook.before_val, hook.after_val, hook.after_train):
        call(runner(60))
    distributed.run(untouched, 2)


def untouched(rank, world_size):
    TrainingPatienceHook(1).before_train(SimpleNamespace(cfg={}))
    if rank == 1:
        time.sleep(2)
    exchange()
