import json
import multiprocessing
import os
import time

import pytest

from hierpretrain import folder_lock
from hierpretrain.commands import train as train_command
from hierpretrain.engine.work_dir_lock import hold_work_dir
from hierpretrain.folder_lock import NAME, hold_folder
from tests import distributed
from tests.commands.test_train import _own_globals, fails, run  # noqa: F401  its fixtures

FORK = multiprocessing.get_context("fork")


def hold(folder, told):
    hold_folder(folder, "running")
    told.send(None)
    time.sleep(60)


@pytest.fixture
def held(tmp_path):
    """Starts a process that runs in a work directory."""
    here, there = FORK.Pipe()
    process = FORK.Process(target=hold, args=(tmp_path / "work", there))
    process.start()
    assert here.poll(30)
    yield process
    process.kill()
    process.join()


def test_two_trainings_do_not_share_a_work_directory(run, tmp_path, held, capsys):  # noqa: F811
    (line,) = fails(run, train_command, "--work-dir", "work", capsys=capsys)
    assert f"is in use: process {held.pid} on " in line
    assert line.endswith("wait for it, end it, or give another --work-dir")
    assert [path.name for path in (tmp_path / "work").iterdir()] == [NAME]  # and nothing of the second
    held.kill()
    held.join()
    run(train_command, "--work-dir", "work", "--resume")
    assert (tmp_path / "work/epoch_1.pth").exists()
    assert not (tmp_path / "work" / NAME).exists()


def test_a_run_that_was_taken_over_ends_before_it_writes(run, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(folder_lock, "BEAT", 0.01)
    build = train_command._build

    def taken_over(parser, args):
        runner = build(parser, args)
        record = json.loads((tmp_path / "work" / NAME).read_text())
        (tmp_path / "work" / NAME).write_text(json.dumps(record | {"token": "another", "host": "node7"}))
        time.sleep(0.5)
        return runner

    monkeypatch.setattr(train_command, "_build", taken_over)
    with pytest.raises(ValueError, match=r"was taken over by process .* on node7"):
        run(train_command, "--work-dir", "work")
    assert not (tmp_path / "work/epoch_1.pth").exists()


def refused(rank, world_size, folder):
    with pytest.raises(ValueError, match="is in use: process"):
        hold_work_dir(folder)
    lock = hold_work_dir(f"{folder}/other")
    assert (lock is not None) == (rank == 0)


def test_all_ranks_learn_that_a_work_directory_is_in_use(tmp_path, held):
    distributed.run(refused, 2, str(tmp_path / "work"))


def test_a_runner_that_cannot_be_built_leaves_the_directory_free(run, tmp_path, capsys):  # noqa: F811
    fails(run, train_command, "--work-dir", "work", "--cfg-options", "model.loss.type=HiMulConLos", capsys=capsys)
    assert NAME not in os.listdir(tmp_path / "work")
