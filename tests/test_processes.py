"""What the processes of tests do where something goes wrong in them."""

import os
import signal
import time
from multiprocessing import active_children

import pytest
import torch
import torch.distributed as dist

from tests import distributed, processes


def add_ranks(rank, world_size, start):
    total = start + rank
    dist.all_reduce(total)
    assert total.tolist() == [2 * 10 + 0 + 1]


def fail_on_one(rank, world_size):
    assert rank != 1, "rank 1 is wrong"
    dist.barrier()  # where rank 0 would wait for ever


def die_on_one(rank, world_size):
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    dist.barrier()


def hang(rank, world_size):
    time.sleep(100)


def test_processes_find_each_other():
    distributed.run(add_ranks, 2, torch.tensor([10]))


def test_an_error_on_one_is_raised_with_its_traceback_and_ends_the_others():
    with pytest.raises(AssertionError, match=r"(?s)on rank 1:.*in fail_on_one.*AssertionError: rank 1 is wrong"):
        distributed.run(fail_on_one, 2)
    assert active_children() == []


def test_one_that_dies_is_named_or_missed():
    with pytest.raises((RuntimeError, AssertionError), match=r"rank 1 ended by signal 9|on rank 0:[\s\S]*by peer"):
        distributed.run(die_on_one, 2)


def test_ones_that_hang_are_ended(monkeypatch):
    monkeypatch.setattr(distributed, "PATIENCE", 0)
    with pytest.raises(TimeoutError, match="hang on 2 processes took more than 0 s"):
        distributed.run(hang, 2)
    assert active_children() == []


@pytest.fixture
def script(tmp_path):
    """Returns a function that writes a script."""

    def write(text):
        (tmp_path / "script.py").write_text(text)
        return tmp_path / "log.txt", tmp_path / "script.py"

    return write


def test_a_script_has_its_arguments_variables_and_folder(script, tmp_path):
    log, path = script("import os, sys; print(sys.argv[1:], os.environ['ONE'], os.getcwd(), file=sys.stderr)")
    assert processes.run(log, path, "a", 2, cwd=tmp_path, ONE="1") == f"['a', '2'] 1 {tmp_path}\n"


def test_how_a_script_ends_is_looked_at(script):
    words = script("raise ValueError('so it is')")
    assert "ValueError: so it is" in processes.run(*words, fails=True)
    with pytest.raises(AssertionError, match=r"(?s)a process ended with 1: .*ValueError: so it is"):
        processes.run(*words)
    with pytest.raises(AssertionError, match="a process ended with 0"):
        processes.run(*script("pass"), fails=True)


def test_a_script_that_hangs_is_ended(script, monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE", 1)
    with pytest.raises(AssertionError, match=r"(?s)a process took more than 1 s: here"):
        processes.run(*script("import time; print('here', flush=True); time.sleep(100)"))
    assert active_children() == []
