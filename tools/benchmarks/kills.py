"""Kills train, index, embed and the unpacking of a data set while they write: is anything there but whole files?

A process runs the command again and again. It is killed (SIGKILL) in the middle of a write, which a temporary file
tells, or at a random moment, in turn. Each time what lies under the final names must be whole and of one writing. What
else was left is counted. Of that, nothing may be there once the command has run to its end; `train` goes on from what
the kill before left. With `--own-ids` each process has id 1, as in a container. The index that lives has kills of its
own: index_kills.py.

Examples:
    python tools/benchmarks/kills.py --kills 100
    python tools/benchmarks/kills.py --kills 100 --own-ids
    python tools/benchmarks/kills.py train embed --kills 500 --seed 1
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

import numpy as np
import torch
from index_kills import leftovers as unnamed
from mmengine.runner import CheckpointLoader
from own_process_ids import mount_own_proc, own_process_ids
from PIL import Image

from hierpretrain.apis import EmbeddingIndex, read_embeddings
from hierpretrain.commands import embed as embed_command
from hierpretrain.commands import index as index_command
from hierpretrain.commands import train as train_command
from hierpretrain.datasets.archive import unpack_own
from hierpretrain.engine import newest_checkpoint
from hierpretrain.files import SHIPPED

CONFIG = """
_base_ = "hierpretrain::_base_/default_runtime.py"
_pack = dict(type="PackInputs", algorithm_keys=("extra_labels",), meta_keys=("sample_idx", "img_path", "split"))
_view = [dict(type="torchvision/RandomResizedCrop", size=24)]
_train = [dict(type="LoadRGB"), dict(type="Views", transforms=_view, num_views=2), _pack]
_test = [dict(type="LoadRGB"), dict(type="torchvision/Resize", size=(24, 24)), _pack]
_photos = dict(type="FolderDataset", data_root="PHOTOS")
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(**_photos, pipeline=_train),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(**_photos, pipeline=_test),
)
test_dataloader = val_dataloader
val_evaluator = [dict(type="RetrievalMetric", levels=["level1"])]
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
model = dict(
    type="HierarchicalContrastive",
    backbone=dict(type="ResNet", depth=18, base_channels=8, stem_channels=8),
    loss=dict(type="HiMulConLoss"),
)
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.01))
train_cfg = dict(by_epoch=True, max_epochs=1_000_000, val_interval=1)
default_hooks = dict(tsne=None, retrieval_sheet=None)
log_level = "ERROR"
"""
_FORK = multiprocessing.get_context("fork")
_TEMPORARY = re.compile(r"\..*\.(new|old)\.|\.in_use\.json|\..*\.lock$|.*\.tmp")


class Task:
    """A command that is run in a folder."""

    place: Path

    def left(self) -> set[str]:
        """Returns the temporary files and folders, and locks, that are there."""
        found = set()
        for folder, folders, files in os.walk(self.place):
            names = {name for name in (*folders, *files) if _TEMPORARY.match(name)}
            found |= {os.path.relpath(os.path.join(folder, name), self.place) for name in names}
            folders[:] = [name for name in folders if name not in names]
        return found


class Train(Task):
    """A training that goes on from its newest checkpoint."""

    def __init__(self, place: Path) -> None:
        self.place, self.epochs = place, 0

    def run(self, seed: int) -> None:
        """Trains without end."""
        self._train("default_hooks.logger.interval=1")

    def finish(self) -> None:
        """Trains two epochs more."""
        self._train(f"train_cfg.max_epochs={self.epochs + 2}")

    def _train(self, option: str) -> None:
        work = str(self.place / "work")
        call(train_command.main, self.place / "mine.py", "--work-dir", work, "--resume", "--cfg-options", option)

    def check(self) -> str:
        """Reads the newest checkpoint, which checks its digest."""
        newest = newest_checkpoint(self.place / "work")
        if newest is None:
            assert not self.epochs, "all checkpoints are gone"
            return "no checkpoint yet"
        found = CheckpointLoader.load_checkpoint(newest, map_location="cpu")["meta"]["epoch"]
        assert Path(newest).name == f"epoch_{found}.pth", f"{newest} is of epoch {found}"
        assert found >= self.epochs, f"epoch {self.epochs} was there, and the newest is {found}"
        self.epochs = found
        return f"epoch {found}"


class Embed(Task):
    """A folder of embeddings that is replaced by others."""

    command = staticmethod(embed_command.main)
    paths = staticmethod(lambda folder: read_embeddings(folder).paths)
    manifest = "manifest.json"

    def __init__(self, place: Path) -> None:
        self.out, self.place = place / "out", place

    def run(self, seed: int) -> None:
        """Embeds one folder of photos and the other, in turn."""
        for number in itertools.count(seed):
            self._write(f"photos{number % 2}")

    def finish(self) -> None:
        """Embeds once more."""
        self._write("photos0")

    def _write(self, photos: str) -> None:
        model = self.place / "mine.py", self.place / "trained/epoch_1.pth"
        call(type(self).command, *model, self.place / photos, "--out", self.out, "--workers", "0")

    def check(self) -> str:
        """Reads what is there, and compares it with the two sets of photos."""
        if not (self.out / self.manifest).exists():
            return "nothing yet"
        found = self.paths(self.out)
        folder = Path(found[0]).relative_to(self.place).parts[0]
        assert sorted(found) == sorted(map(str, (self.place / folder).glob("*/*.png"))), f"of {folder}: {found}"
        return f"{len(found)} images"


class Index(Embed):
    """An index that is replaced by another one."""

    command = staticmethod(index_command.main)
    paths = staticmethod(lambda folder: EmbeddingIndex.open(folder).paths)
    manifest = "index.json"

    def left(self) -> set[str]:
        """Returns the files that the index does not name."""
        if not self.out.exists():
            return super().left()
        named = self.out / self.manifest
        return super().left() | {
            f"out/{name}" for name in (unnamed(self.out) if named.exists() else os.listdir(self.out))
        }


class Unpack(Task):
    """The data set emoji64, which is unpacked where it is missing."""

    def __init__(self, place: Path) -> None:
        self.place, self.root, self.away = place, place / "emoji64", place / "away"
        self.away.mkdir()
        with zipfile.ZipFile(SHIPPED / "data/emoji64.zip") as archive:
            self.files = sum(not name.endswith("/") for name in archive.namelist())

    def run(self, seed: int) -> None:
        """Moves the folder away and unpacks it again, without end."""
        for number in itertools.count():
            with suppress(FileNotFoundError):
                self.root.rename(self.away / f"{os.getpid()}-{number}")
            unpack_own(str(self.root), "emoji64")

    def finish(self) -> None:
        """Unpacks it once more."""
        with suppress(FileNotFoundError):
            self.root.rename(self.away / "last")
        unpack_own(str(self.root), "emoji64")

    def check(self) -> str:
        """Counts the files."""
        shutil.rmtree(self.away)
        self.away.mkdir()
        if not self.root.exists():
            return "not there"
        found = sum(len(files) for _, _, files in os.walk(self.root))
        assert found == self.files, f"{found} of {self.files} files"
        return "whole"


TASKS = dict(train=Train, embed=Embed, index=Index, unpack=Unpack)


def call(command: Callable[[], None], *words: object) -> None:
    """Runs a command in this process."""
    sys.argv = ["hierpretrain", *map(str, words)]
    command()


def in_child(
    work: Callable[..., None], log: Path, *arguments: object, own_ids: bool = False
) -> multiprocessing.process.BaseProcess:
    """Starts a process that does the work and writes what it says to a log."""

    def begin() -> None:
        with open(log, "w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        if own_ids:
            mount_own_proc()
            assert os.getpid() == int(os.readlink("/proc/self")) == 1
        work(*arguments)

    process = _FORK.Process(target=begin)
    with own_process_ids() if own_ids else nullcontext():
        process.start()
    return process


def ended_well(process: multiprocessing.process.BaseProcess, log: Path) -> None:
    """Waits for a process, whose work must come to an end without an error."""
    process.join()
    assert process.exitcode == 0, log.read_text()[-3000:]


def prepare(place: Path) -> None:
    """Makes photos, a config and a checkpoint."""
    generator = np.random.default_rng(0)
    for folder, number in (("photos0", 2), ("photos1", 5)):
        for colour, i in itertools.product(("red", "blue"), range(number)):
            path = place / folder / colour / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (32, 32, 3), np.uint8)).save(path)
    (place / "mine.py").write_text(CONFIG.replace("PHOTOS", str(place / "photos0")))
    options = ["--cfg-options", "train_cfg.max_epochs=1"]
    log, words = place / "log.txt", [place / "mine.py", "--work-dir", place / "trained", *options]
    ended_well(in_child(call, log, train_command.main, *words), log)


def kill(
    name: str, place: Path, kills: int, seed: int, log: Callable[[str], None] = print, *, own_ids: bool = False
) -> dict[str, int]:
    """Runs a command and kills it, so many times; then once more to its end.

    Args:
        name: The command.
        place: What :func:`prepare` filled.
        kills: How many.
        seed: Of the moments.
        log: Where to say what each kill left.
        own_ids: Whether each process has id 1.

    Returns:
        How many kills there were, how many struck inside a write, how many left something, and the most things that
        were left at once.

    Raises:
        AssertionError: If something is not whole, or something is left after the next write.
    """
    generator = np.random.default_rng(seed)
    task, file = TASKS[name](place), place / "log.txt"
    counts = dict(kills=0, inside=0, left=0, most=0)
    for number in range(kills):
        before = task.left()
        process = in_child(task.run, file, number, own_ids=own_ids)
        inside = number % 2 == 0
        if inside:
            stop_inside_write(process, task, before, generator.uniform(0, 0.005))
        else:
            time.sleep(generator.uniform(0, 3))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, f"ended by itself: {file.read_text()[-3000:]}"
        found, left = task.check(), task.left()
        counts["kills"] += 1
        counts["inside"] += bool({path for path in left - before if ".new." in path})
        counts["left"] += bool(left)
        counts["most"] = max(counts["most"], len(left))
        log(f"{name} {number + 1}: {found}; left: {', '.join(sorted(left)) or 'nothing'}")
    ended_well(in_child(task.finish, file, own_ids=own_ids), file)
    task.check()
    assert not task.left(), f"left after the next write: {task.left()}"
    return counts


def stop_inside_write(process: multiprocessing.process.BaseProcess, task: Task, before: set[str], delay: float) -> None:
    """Stops a process in the middle of a write, so many seconds after it began where the write takes as long.

    A write that ends before the process stands still does not count: the process goes on to its next one.
    """

    def writes() -> bool:
        return any(".new." in path for path in task.left() - before)

    end = time.monotonic() + 120
    while process.is_alive():
        assert time.monotonic() < end, "no write was met in two minutes"
        if not writes():
            time.sleep(0.0005)
            continue
        time.sleep(delay)
        os.kill(process.pid, signal.SIGSTOP)
        while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] not in "TZ":
            time.sleep(0.0005)
        if writes():
            return
        os.kill(process.pid, signal.SIGCONT)
        delay /= 2


def rounds(names: list[str], kills: int, seed: int, own_ids: bool) -> Iterator[str]:
    """Yields a line for each command that was killed so often."""
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder).resolve()
            prepare(place)
            counts = kill(name, place, kills, seed, own_ids=own_ids)
            whose = " of processes with id 1" if own_ids else ""
            yield (
                f"{name}: {counts['kills']} kills{whose}, {counts['inside']} of them inside a write: whole each time; "
                f"{counts['left']} left something, at most {counts['most']} at once; nothing after the next write"
            )


def main() -> None:
    """Kills as often as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="*", choices=[*TASKS, []], help="which; all by default")
    parser.add_argument("--kills", type=int, default=100, help="of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--own-ids", action="store_true", help="each process has id 1")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = list(rounds(args.commands or list(TASKS), args.kills, args.seed, args.own_ids))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
