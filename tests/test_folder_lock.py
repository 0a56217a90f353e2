import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from hierpretrain import folder_lock
from hierpretrain.folder_lock import NAME, hold_folder
from tests.processes import ROOT

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(folder_lock, "BEAT", 0.05)
    monkeypatch.setattr(folder_lock, "PATIENCE", 0.5)


def record_of(folder, **changes):
    """Writes what a holder leaves, with changes, as another machine would."""
    record = folder_lock._record("training", folder) | changes
    (folder / NAME).write_text(json.dumps(record))
    return record


def hold_and_wait(folder, told):
    hold_folder(folder, "training")
    if os.fork() == 0:  # as the workers of a data loader are: they outlive their parent for a while
        time.sleep(60)
        os._exit(0)
    told.send(None)
    time.sleep(60)


@pytest.fixture
def holder(tmp_path):
    """Starts a process that holds a folder and has a child."""
    here, there = FORK.Pipe()
    process = FORK.Process(target=lambda: (os.setsid(), hold_and_wait(tmp_path, there)))
    process.start()
    assert here.poll(30)
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.join()


def test_a_second_process_is_told_who_holds_a_folder_and_a_kill_frees_it_at_once(tmp_path, holder):
    with pytest.raises(ValueError, match="is in use") as refused:
        hold_folder(tmp_path, "training", "give another --work-dir")
    message = str(refused.value)
    assert message.startswith(f"{tmp_path} is in use: process {holder.pid} on {os.uname().nodename} (")
    assert "has been training there since 2" in message
    assert message.endswith("; wait for it, end it, or give another --work-dir")
    holder.kill()  # and not its child
    holder.join()
    begin = time.monotonic()
    hold_folder(tmp_path, "training").release()
    assert time.monotonic() - begin < 1
    assert os.listdir(tmp_path) == []


def test_a_process_may_hold_a_folder_twice_and_its_children_have_no_part_in_it(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    first, second = hold_folder(tmp_path, "training"), hold_folder(tmp_path / "link", "testing")
    assert first is second
    child = FORK.Process(target=first.release)
    child.start()
    child.join()
    child = FORK.Process(target=refused_in_child, args=(tmp_path,))
    child.start()
    child.join()
    assert child.exitcode == 0
    first.release()
    assert (tmp_path / NAME).exists()
    second.release()
    second.release()
    assert not (tmp_path / NAME).exists()


def refused_in_child(folder):
    with pytest.raises(ValueError, match="is in use"):
        hold_folder(folder, "training")


def test_a_holder_on_another_machine_is_known_by_its_heartbeat(tmp_path, quick):
    record_of(tmp_path, mount="another", namespace="another", host="node7", process=1)
    lines, done = [], threading.Event()

    def beat():
        while not done.wait(0.05):
            os.utime(tmp_path / NAME)

    thread = threading.Thread(target=beat)
    thread.start()
    with pytest.raises(ValueError, match=r"is in use: process 1 on node7"):
        hold_folder(tmp_path, "training", log=lines.append)
    done.set()
    thread.join()
    assert "waiting up to 0 s for a sign of life" in lines[0]
    begin = time.monotonic()
    lock = hold_folder(tmp_path, "training")  # once it has been still for long enough
    assert 0.1 < time.monotonic() - begin < 5
    lock.release()
    record_of(tmp_path, mount="another", namespace="another")
    os.utime(tmp_path / NAME, (1, 1))
    begin = time.monotonic()
    hold_folder(tmp_path, "training").release()
    assert time.monotonic() - begin < 0.1


def test_a_holder_that_was_taken_over_writes_nothing_more(tmp_path, quick):
    lock = hold_folder(tmp_path, "training")
    lock.check()
    record_of(tmp_path, token="another", host="node7", process=1)
    deadline = time.monotonic() + 10
    while lock._taken_by is None and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(ValueError, match=r"was taken over by process 1 on node7 .* it writes nothing more there"):
        lock.check()
    lock.release()
    assert (tmp_path / NAME).exists()  # it is the other's


def test_it_beats(tmp_path, quick):
    lock = hold_folder(tmp_path, "training")
    os.utime(tmp_path / NAME, (1, 1))
    deadline = time.monotonic() + 10
    while (tmp_path / NAME).stat().st_mtime < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    lock.release()


@pytest.mark.parametrize("missing", ["on this system", "in this file system"])
def test_without_locks_the_start_of_a_process_tells(tmp_path, monkeypatch, missing):
    if missing == "on this system":
        monkeypatch.setattr(folder_lock, "fcntl", None)
    else:

        def lockf(*arguments):
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr(folder_lock.fcntl, "lockf", lockf)
    parent = os.getppid()
    record_of(tmp_path, process=parent, started=folder_lock._start_time(parent))
    with pytest.raises(ValueError, match=f"process {parent} on"):
        hold_folder(tmp_path, "training")
    record_of(tmp_path, process=parent, started="0")  # the id was given again
    hold_folder(tmp_path, "training").release()
    child = FORK.Process(target=int)
    child.start()
    started = folder_lock._start_time(child.pid)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has asked for its status
    record_of(tmp_path, process=child.pid, started=started)
    hold_folder(tmp_path, "training").release()
    child.join()


def test_without_locks_one_of_two_that_come_at_once_has_it(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_lock, "_lock", lambda file: None)
    parent = os.getppid()
    settled = []

    def sleep(seconds):
        settled.append(seconds)
        record_of(tmp_path, process=parent, started=folder_lock._start_time(parent))  # which was as fast

    monkeypatch.setattr(folder_lock.time, "sleep", sleep)
    with pytest.raises(ValueError, match=f"is in use: process {parent} on"):
        hold_folder(tmp_path, "training")
    assert settled == [folder_lock._SETTLED]


def test_threads_share_a_lock(tmp_path, monkeypatch):
    acquire = folder_lock._acquire
    monkeypatch.setattr(folder_lock, "_acquire", lambda *arguments: (time.sleep(0.1), acquire(*arguments))[1])
    with ThreadPoolExecutor(4) as pool:
        locks = list(pool.map(lambda _: hold_folder(tmp_path, "training"), range(4)))
    assert len(set(locks)) == 1
    for lock in locks:
        assert (tmp_path / NAME).exists()
        lock.release()
    assert not (tmp_path / NAME).exists()


@pytest.mark.parametrize("left", ["", "{", "[]", "null", '{"token": "a"'])
def test_what_a_kill_left_unwritten_holds_nobody(tmp_path, left):
    (tmp_path / NAME).write_text(left)
    hold_folder(tmp_path, "training").release()


AS_PROCESS_1 = """
import os, sys, time
from hierpretrain.folder_lock import hold_folder
assert os.getpid() == 1
try:
    hold_folder(sys.argv[1], "running")
except ValueError as error:
    print(error, flush=True)
else:
    print("held", flush=True)
    time.sleep(60)
"""


def test_processes_that_all_have_the_id_1(tmp_path):
    """As in containers, of which each has its own ids."""
    words = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", AS_PROCESS_1, str(tmp_path)]

    def start():
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
        return process, process.stdout.readline()

    try:
        first, told = start()
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    if told.startswith("unshare"):
        pytest.skip(told)
    assert told == "held\n"
    second, told = start()
    second.wait()
    assert "is in use: process 1 on" in told
    first.kill()
    first.communicate()  # until the process in it, which has the other end of the pipe, is gone too
    third, told = start()
    third.kill()
    third.wait()
    assert told == "held\n"


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        hold_folder(tmp_path / "file", "training")
