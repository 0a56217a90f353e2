import multiprocessing
import os
import re
import signal
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from hierpretrain.datasets.archive import unpack


def write(path, names, text="x"):
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, text)
    return path


def test_top_folder_becomes_the_target(tmp_path):
    write(tmp_path / "a.zip", ["top/", "top/b/", "top/b/c.txt", "top/d.txt"])
    unpack(tmp_path / "a.zip", tmp_path / "deep" / "target")
    assert (tmp_path / "deep/target/b/c.txt").read_text() == "x"
    assert os.listdir(tmp_path / "deep") == ["target"]


def test_an_existing_folder_is_left_alone(tmp_path):
    (tmp_path / "target").mkdir()
    unpack(tmp_path / "none.zip", tmp_path / "target")
    assert os.listdir(tmp_path / "target") == []


def test_missing_archive(tmp_path):
    with pytest.raises(ValueError, match=r"no archive .*none\.zip to unpack to .*put it there"):
        unpack(tmp_path / "none.zip", tmp_path / "target")


def test_target_is_a_file(tmp_path):
    (tmp_path / "target").touch()
    with pytest.raises(ValueError, match=r"target is a file.*move it away"):
        unpack(write(tmp_path / "a.zip", ["top/a"]), tmp_path / "target")


@pytest.mark.parametrize("name", ["../evil", "top/../../evil", "/evil", "top//evil", "top/./evil", "C:/evil"])
def test_names_that_leave_the_target(tmp_path, name):
    write(tmp_path / "a.zip", ["top/a", name])
    with pytest.raises(ValueError, match=rf"holds the name {re.escape(repr(name))}, which must .*do not use it"):
        unpack(tmp_path / "a.zip", tmp_path / "deep/target")
    assert os.listdir(tmp_path / "deep") == []
    assert not (tmp_path / "evil").exists()


def test_backslash(tmp_path):
    info = zipfile.ZipInfo("top/evil")
    info.filename = "top\\..\\evil"
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(info, "x")
    with pytest.raises(ValueError, match="backslash"):
        unpack(tmp_path / "a.zip", tmp_path / "target")


def test_link(tmp_path):
    info = zipfile.ZipInfo("top/link")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(info, "/etc")
        file.writestr("top/link/passwd", "x")
    with pytest.raises(ValueError, match="a link or device, 'top/link'"):
        unpack(tmp_path / "a.zip", tmp_path / "target")
    assert os.listdir(tmp_path) == ["a.zip"]


@pytest.mark.parametrize("names", [["a/x", "b/x"], ["a/x", "y"], []])
def test_one_top_folder(tmp_path, names):
    with pytest.raises(ValueError, match="must hold one top folder and nothing beside it"):
        unpack(write(tmp_path / "a.zip", names), tmp_path / "target")


def test_size(tmp_path):
    with pytest.raises(ValueError, match="unpacks to 2 bytes, more than max_bytes=1"):
        unpack(write(tmp_path / "a.zip", ["a/x", "a/y"]), tmp_path / "target", max_bytes=1)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [["a/x", "a/x"], ["a/x", "a/x/y"]])
def test_one_name_twice(tmp_path, names):
    with pytest.raises(ValueError, match=r"holds one name twice: .*x"):
        unpack(write(tmp_path / "a.zip", names), tmp_path / "target")


@pytest.mark.parametrize("way", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_in_any_way_of_compression(tmp_path, way):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", way) as file:
        file.writestr("top/a", np.random.default_rng(0).bytes(5000))
    data = bytearray(path.read_bytes())
    data[2500:2530] = b"\xff" * 30
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"cannot be unpacked: .*get it anew"):
        unpack(path, tmp_path / "target")
    assert os.listdir(tmp_path) == ["a.zip"]


def test_damaged(tmp_path):
    path = write(tmp_path / "a.zip", ["top/a", "top/b"], text="meow" * 100)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"meow", b"woof", 1))
    with pytest.raises(ValueError, match=r"cannot be unpacked: Bad CRC.*get it anew"):
        unpack(path, tmp_path / "target")
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="cannot be unpacked: File is not a zip file"):
        unpack(path, tmp_path / "target")
    assert os.listdir(tmp_path) == ["a.zip"]


FORK = multiprocessing.get_context("fork")


def test_two_processes_at_once(tmp_path):
    write(tmp_path / "a.zip", [f"top/{i}" for i in range(3000)])
    barrier = FORK.Barrier(2)

    def first_use():
        barrier.wait()
        unpack(tmp_path / "a.zip", tmp_path / "target")
        assert len(os.listdir(tmp_path / "target")) == 3000

    processes = [FORK.Process(target=first_use) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
        assert process.exitcode == 0
    assert sorted(os.listdir(tmp_path)) == ["a.zip", "target"]


def test_losing_the_race(tmp_path, monkeypatch):
    write(tmp_path / "a.zip", ["top/a"])
    rename = os.rename

    def late(source, target):
        Path(target).mkdir()
        (Path(target) / "theirs").touch()
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    unpack(tmp_path / "a.zip", tmp_path / "target")
    assert os.listdir(tmp_path / "target") == ["theirs"]
    assert sorted(os.listdir(tmp_path)) == ["a.zip", "target"]


def test_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(source, sink):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(OSError, match="No space left"):
        unpack(write(tmp_path / "a.zip", ["top/a"]), tmp_path / "target")
    assert os.listdir(tmp_path) == ["a.zip"]


def test_killed_process_leaves_no_half_folder(tmp_path):
    write(tmp_path / "a.zip", [f"top/{i}" for i in range(30000)])
    process = FORK.Process(target=unpack, args=(tmp_path / "a.zip", tmp_path / "target"))
    process.start()
    deadline = time.monotonic() + 60
    while not any(tmp_path.glob(".target.*/top/*")):
        assert time.monotonic() < deadline
    process.kill()
    process.join(timeout=60)
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "target").exists()
    unpack(tmp_path / "a.zip", tmp_path / "target")
    assert len(os.listdir(tmp_path / "target")) == 30000
