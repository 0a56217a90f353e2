"""A disk that is full and one that is read-only: a message with the path, the older file whole, nothing left over."""

import errno
import os
import subprocess

import pytest
import torch

from hierpretrain.apis import EmbeddingIndex, read_embeddings
from hierpretrain.apis.embedding_files import write_embeddings
from hierpretrain.commands import errors_in_one_line
from hierpretrain.commands._index_changes import CHANGES
from hierpretrain.datasets.archive import unpack_own
from hierpretrain.engine.checkpoint import AtomicLocalBackend
from hierpretrain.evaluation import Embeddings
from hierpretrain.files import write_whole
from hierpretrain.folder_lock import hold_folder
from hierpretrain.taxonomy import Taxonomy

SIZE = 512 * 1024


@pytest.fixture
def disk(tmp_path):
    """A disk of half a mebibyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mount("-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", place)
    yield place
    subprocess.run(["umount", place], check=True)


def mount(*words):
    try:
        done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip(f"mount is not permitted: {done.stderr.strip()}")


def embedded(number, name="{}.jpg"):
    tree = Taxonomy([("cat",)], ["kind"])
    return Embeddings(
        torch.ones(number, 64),
        torch.zeros(number, 1, dtype=torch.int64),
        torch.empty(number, 0, dtype=torch.int64),
        ["all"] * number,
        [name.format(i) for i in range(number)],
        tree,
        (),
    )


def save_index(images, folder):
    EmbeddingIndex.build(images, model="m", fingerprint="0", log=lambda line: None).save(folder)


def fill(place):
    free = os.statvfs(place)
    (place / "fill").write_bytes(bytes(free.f_bavail * free.f_frsize))


def add(place, large):
    if not large:
        save_index(embedded(3), place / "out")
        return
    vectors = torch.ones(9000, 64)
    EmbeddingIndex.open(place / "out").add(
        embeddings=vectors, keys=list(map(str, range(9000))), paths=[("cat",)] * 9000
    )


def calibrate(place, large):
    if not large:
        save_index(embedded(3), place / "out")
    index = EmbeddingIndex.open(place / "out")
    try:
        if large:
            fill(place)
        index.calibrate(embedded(9, "held_out/{}.jpg"), precision=0.9 if large else 0.5, k=1)
    finally:
        (place / "fill").unlink(missing_ok=True)


def save_tree(place, large):
    Taxonomy([(f"{i:0100d}",) for i in range(9000 if large else 2)], ["kind"]).save(place / "tree.json")


WRITERS = {
    "file": (
        lambda place, large: write_whole(place / "out.bin", bytes(SIZE * 2 if large else 9)),
        lambda place: len((place / "out.bin").read_bytes()) == 9,
    ),
    "checkpoint": (
        lambda place, large: AtomicLocalBackend().put(bytes(SIZE * 2 if large else 9), str(place / "epoch_1.pth")),
        lambda place: len((place / "epoch_1.pth").read_bytes()) == 9,
    ),
    "embeddings": (
        lambda place, large: write_embeddings(embedded(9000 if large else 3), place / "out"),
        lambda place: len(read_embeddings(place / "out").paths) == 3,
    ),
    "index": (
        lambda place, large: save_index(embedded(9000 if large else 3), place / "out"),
        lambda place: len(EmbeddingIndex.open(place / "out")) == 3,
    ),
    "index add": (add, lambda place: len(EmbeddingIndex.open(place / "out")) == 3),
    "calibration": (calibrate, lambda place: EmbeddingIndex.open(place / "out").calibration.rate == 0.5),
    "tree": (save_tree, lambda place: Taxonomy.load(place / "tree.json").num_nodes(1) == 2),
}


def names(place):
    return {os.path.relpath(os.path.join(top, name), place) for top, _, files in os.walk(place) for name in files}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_keeps_the_older_files_and_nothing_else(disk, kind):
    write, is_old = WRITERS[kind]
    write(disk, False)
    before = names(disk)
    with pytest.raises(
        (OSError, ValueError), match=rf"No space left on device.*{disk}|{disk}.*(No space left|room on its disk)"
    ):
        write(disk, True)
    assert is_old(disk)
    assert names(disk) == before
    write(disk, False)
    assert names(disk) == before


@pytest.mark.parametrize("kind", WRITERS)
def test_a_read_only_disk_is_named_and_stays_as_it_was(disk, kind):
    write, is_old = WRITERS[kind]
    write(disk, False)
    mount("-o", "remount,ro", disk)
    before = names(disk)
    with pytest.raises((OSError, ValueError), match=f"{disk}"):
        write(disk, True)
    assert is_old(disk)
    assert names(disk) == before


def test_an_archive_that_does_not_fit_is_not_there(disk):
    with pytest.raises((OSError, ValueError), match=rf"No space left on device.*{disk}"):
        unpack_own(str(disk / "emoji64"), "emoji64")
    assert os.listdir(disk) == []


def test_a_work_directory_on_such_disks_is_named(disk):
    fill(disk)
    with pytest.raises(OSError, match=rf"No space left on device.*{disk}"):
        hold_folder(disk / "work", "running")
    assert os.listdir(disk / "work") == []
    (disk / "fill").unlink()
    hold_folder(disk / "work", "running").release()
    mount("-o", "remount,ro", disk)
    with pytest.raises(OSError, match=rf"Read-only file system.*{disk}"):
        hold_folder(disk / "work", "running")


def test_what_changes_an_index_looks_at_its_folder_before_the_work(disk, monkeypatch, capsys):
    save_index(embedded(3), disk / "out")
    mount("-o", "remount,ro", disk)
    for words in (["add", disk / "out", "photos"], ["remove", disk / "out", "1.jpg"], ["merge", disk / "out", "other"]):
        with pytest.raises(SystemExit):
            CHANGES[words[0]](list(map(str, words[1:])))
        (line,) = capsys.readouterr().err.splitlines()
        assert line.endswith(
            f"out/index.json cannot be written: {disk}/out is not yours to write to; give another path"
        )


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.ENOSPC, "make room on its disk, or give"), (errno.EROFS, "give a path on a disk that can be written to")],
)
def test_a_command_that_a_disk_stops_says_what_to_do(number, remedy, capsys):
    with pytest.raises(SystemExit), errors_in_one_line():
        raise OSError(number, "why", "results.csv")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: [Errno {number}] why: 'results.csv'; {remedy}")
