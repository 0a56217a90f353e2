import multiprocessing
import os
import signal
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hierpretrain import files
from hierpretrain.files import (
    as_called,
    check_writable,
    in_turn,
    remove_leftovers,
    whole_file,
    whole_folder,
    write_whole,
)


def test_a_path_is_found_in_any_unicode_form(tmp_path, monkeypatch):
    one, two = "caf\u00e9", "cafe\u0301"
    for name in (f"{two}/{one}", f"bar/{one}", f"bar/{two}"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert as_called(f"{one}/{two}") == as_called(f"{two}/{one}") == f"{two}/{one}"
    assert as_called(f"{tmp_path}/{one}/{one}") == f"{tmp_path}/{two}/{one}"
    assert as_called(f"bar/{one}") == f"bar/{one}"  # as it is written
    for path in (f"{one}/pub", f"bar/{one}\u0302", f"pub/{one}"):  # none is called so
        assert as_called(path) == path


def test_a_file_is_replaced_whole(tmp_path):
    write_whole(tmp_path / "a.txt", b"old")
    write_whole(tmp_path / "a.txt", b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_or_not_at_all(tmp_path, monkeypatch, call):
    write_whole(tmp_path / "a.txt", b"old")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.txt'"):
        write_whole(tmp_path / "a.txt", b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def write_folder(path, content, *, replace=False):
    with whole_folder(path, replace=replace) as folder:
        for i in range(100):
            (folder / f"{i}.txt").write_text(content)


def test_a_folder_appears_whole(tmp_path):
    path = tmp_path / "deep/folder"
    with whole_folder(path) as folder:
        (folder / "a.txt").write_text("a")
        assert not path.exists()
    assert os.listdir(path) == ["a.txt"]
    assert os.listdir(tmp_path / "deep") == ["folder"]
    (tmp_path / "plain").mkdir()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_that_is_there_stays_or_is_replaced(tmp_path):
    write_folder(tmp_path / "a", "old")
    write_folder(tmp_path / "a", "new")
    assert (tmp_path / "a/7.txt").read_text() == "old"
    (tmp_path / "a/more").touch()
    write_folder(tmp_path / "a", "new", replace=True)
    assert (tmp_path / "a/7.txt").read_text() == "new"
    assert len(os.listdir(tmp_path / "a")) == 100
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("replace", [False, True])
def test_an_error_leaves_the_older_folder_or_none(tmp_path, replace):
    def fail(path):
        with whole_folder(path, replace=replace) as folder:
            (folder / "a.txt").write_text("new")
            raise OSError(28, "No space left on device")

    write_folder(tmp_path / "a", "old")
    for name in "ab":
        with pytest.raises(OSError, match="No space left"):
            fail(tmp_path / name)
    assert os.listdir(tmp_path) == ["a"]
    assert len(os.listdir(tmp_path / "a")) == 100
    with pytest.raises(ValueError, match=r"7\.txt is a file, where a folder shall be written; move it away"):
        fail(tmp_path / "a/7.txt")


@pytest.mark.parametrize("failing", [1, 2])
def test_an_error_between_the_two_renames_brings_the_older_folder_back(tmp_path, monkeypatch, failing):
    monkeypatch.setattr(files, "_exchange", lambda a, b: False)  # as on systems that cannot
    write_folder(tmp_path / "a", "old")
    rename, calls = os.rename, []

    def fail(*paths):
        calls.append(paths)
        if len(calls) == failing:
            raise OSError(5, "Input/output error")
        rename(*paths)

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="Input/output error"):
        write_folder(tmp_path / "a", "new", replace=True)
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a/7.txt").read_text() == "old"


FORK = multiprocessing.get_context("fork")


def test_of_two_processes_at_once_the_first_one_wins(tmp_path):
    barrier = FORK.Barrier(2)

    def write(content):
        barrier.wait()
        write_folder(tmp_path / "a", content)

    processes = [FORK.Process(target=write, args=(content,)) for content in ("one", "two")]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
        assert process.exitcode == 0
    assert os.listdir(tmp_path) == ["a"]
    assert {path.read_text() for path in (tmp_path / "a").iterdir()} in ({"one"}, {"two"})


def test_a_killed_process_leaves_no_half_folder(tmp_path):
    def write_for_ever():
        with whole_folder(tmp_path / "a") as folder:
            (folder / "half.txt").touch()
            time.sleep(600)

    process = FORK.Process(target=write_for_ever)
    process.start()
    deadline = time.monotonic() + 60
    while not any(tmp_path.glob(".a.*/a/half.txt")):
        assert time.monotonic() < deadline
    process.kill()
    process.join(timeout=60)
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "a").exists()
    write_folder(Path(tmp_path, "a"), "whole")
    assert len(os.listdir(tmp_path / "a")) == 100
    assert os.listdir(tmp_path) == ["a"]  # what it left is gone


def test_what_a_living_writer_writes_is_no_leftover(tmp_path):
    with whole_file(tmp_path / "a") as one, whole_file(tmp_path / "a") as other:
        one.write_text("one")
        other.write_text("other")
        remove_leftovers(tmp_path / "a")
    assert (tmp_path / "a").read_text() == "one"  # the last that was done
    (tmp_path / ".a.new.0000000000000000").touch()
    (tmp_path / ".a.b.new.0000000000000000").touch()  # of another file
    with whole_folder(tmp_path / "a.b"):
        pass
    assert sorted(os.listdir(tmp_path)) == [".a.new.0000000000000000", "a", "a.b"]
    write_whole(tmp_path / "a", b"new")
    assert sorted(os.listdir(tmp_path)) == ["a", "a.b"]


def test_a_folder_is_exchanged_at_once(tmp_path):
    (tmp_path / "a").mkdir()
    stop = threading.Event()

    def read():
        while not stop.is_set():
            assert os.path.isdir(tmp_path / "a")
        return True

    with ThreadPoolExecutor() as pool:
        reading = pool.submit(read)
        for i in range(20):
            with whole_folder(tmp_path / "a", replace=True) as folder:
                (folder / "a.txt").write_text(str(i))
        stop.set()
        assert reading.result()


def test_a_path_is_checked_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for place in ("new", "new/deep/er", "file"):
        check_writable(tmp_path / place)
    for place in ("file/x", "file/x/y"):
        with pytest.raises(ValueError, match=f"{place} cannot be written: .*/file is a file; give another path"):
            check_writable(tmp_path / place)
    with pytest.raises(ValueError, match="cannot be written: it is a folder; give the name of a file"):
        check_writable(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ValueError, match=f"cannot be written: {tmp_path} is not yours to write to"):
        check_writable(tmp_path / "a/b/c")


def test_who_wants_the_same_file_waits_and_a_killed_one_frees_it(tmp_path):
    path, order = tmp_path / "a", []

    def write(name):
        with in_turn(path):
            order.append(f"{name} begins")
            time.sleep(0.1)
            order.append(f"{name} ends")

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order == [f"{line[0]} {what}" for line in order[::2] for what in ("begins", "ends")]
    assert sorted(line[0] for line in order[::2]) == list("abcd")
    assert os.listdir(tmp_path) == []
    process = multiprocessing.get_context("fork").Process(target=_die_in_turn, args=(path,))
    process.start()
    process.join(60)
    write("c")
    assert order[-1] == "c ends"


def _die_in_turn(path):
    with in_turn(path):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_file_of_somebody_is_no_leftover(tmp_path):
    for name in (".a.new.txt", ".a.new.0123456789abcdef0", ".a.new.0123456789abcdeg"):
        (tmp_path / name).touch()
    there = set(os.listdir(tmp_path))
    (tmp_path / ".a.new.0123456789abcdef").touch()
    write_whole(tmp_path / "a", b"new")
    assert set(os.listdir(tmp_path)) == there | {"a"}


@pytest.mark.parametrize("replace", [False, True])
def test_the_disk_has_the_files_of_a_folder_before_it_appears(tmp_path, monkeypatch, replace):
    flushed = []
    monkeypatch.setattr(files, "flush", lambda path: flushed.append((path.name, (tmp_path / "folder").exists())))
    with whole_folder(tmp_path / "folder", replace=replace) as new:
        (new / "inner").mkdir()
        (new / "inner/a").touch()
        (new / "b").touch()
    assert sorted(flushed) == [("a", False), ("b", False)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_users_who_may_not_write_each_other_s_files_wait_for_each_other():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        path = Path(folder, "a")
        with in_turn(path):
            process = multiprocessing.get_context("fork").Process(target=_in_turn_as_nobody, args=(path,))
            process.start()
            process.join(0.3)
            assert process.is_alive()
        process.join(60)
        assert process.exitcode == 0


def _in_turn_as_nobody(path):
    os.seteuid(65534)
    with in_turn(path):
        pass
