"""Times how long people wait, in fresh processes: for the help, for a search's answer, for the first training step.

The first step is that of the emoji config, once with the data set unpacked and once with nothing but its archive. Its
limit is a process that imports torch, torchvision, mmengine and mmpretrain, and does nothing. What is printed below is
where the time goes, in seconds.

The search is of one image in an index of 1,254, which carries its encoder in ONNX, and once more by torch. Its limit is
a process that imports numpy, Pillow, faiss and onnxruntime; that of the help starts Python.

Example:
    python tools/benchmarks/startup.py
"""

import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from measure import ROOT, Report, command, parse

Timed = TypeVar("Timed")
BAR, HELP_BAR, SEARCH_BAR = 6.0, 0.3, 2.0  # seconds
PYTHON, LIBRARIES = "limit: starts Python", "limit: imports of a search"
QUICK, FULL = "ours", "ours, by torch"
UNPACKED, PACKED, LIMIT = "ours", "ours, archive not yet unpacked", "limit: imports of the hosts"

# What the processes run. Each stamp is a name and the time at which what it names is over.
_HEAD = """
import json, sys, time
stamps = [("interpreter", time.perf_counter())]
def stamp(name):
    stamps.append((name, time.perf_counter()))
import torch, torchvision
stamp("torch and torchvision")
import mmengine.runner, mmpretrain.models, mmpretrain.datasets
stamp("mmengine and mmpretrain")
"""
_TAIL = """
print(json.dumps(stamps), flush=True)
"""
IMPORTS = _HEAD + _TAIL
FIRST_STEP = (
    _HEAD
    + """
from mmengine.hooks import Hook
import hierpretrain.datasets, hierpretrain.engine, hierpretrain.evaluation, hierpretrain.models
from hierpretrain.apis import build_runner, load_config
stamp("hierpretrain")

class Done(Exception):
    pass

class Stamps(Hook):
    priority = "VERY_LOW"
    def before_train_epoch(self, runner):
        stamp("data set, sampler and hooks")
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        stamp("first batch")
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        outputs["loss"].item()
        stamp("first step")
        raise Done

config, data_root, work_dir = sys.argv[1:]
config = load_config(config, data_root=data_root)
config.work_dir, config.log_level = work_dir, "ERROR"
runner = build_runner(config)
runner.register_hook(Stamps())
stamp("model and runner")
try:
    runner.train()
except Done:
    pass
"""
    + _TAIL
)


def run(code: str, arguments: Sequence[str] = ()) -> tuple[float, dict[str, float]]:
    """Runs code in a fresh process.

    Returns:
        Seconds until it printed its stamps, and the seconds of each of its parts.

    Raises:
        RuntimeError: If it printed none, with what it said instead.
    """
    start = time.perf_counter()  # of the machine, not of the process
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith('[["interpreter"'):
            seconds = time.perf_counter() - start
            break
    _, errors = process.communicate()
    if process.returncode or not lines:
        raise RuntimeError(f"the process failed:\n{errors}")
    parts, since = {}, start
    for name, moment in json.loads(lines[-1]):
        parts[name], since = moment - since, moment
    return seconds, parts


def first_step(unpacked: bool) -> tuple[float, dict[str, float]]:
    """Trains for one step; see :func:`run`."""
    with tempfile.TemporaryDirectory() as folder:
        data_root = ROOT / "data/emoji64"
        if not unpacked:
            data_root = Path(folder) / "emoji64"
            shutil.copy(ROOT / "data/emoji64.zip", folder)
        return run(FIRST_STEP, [str(ROOT / "configs/himulcone_emoji.py"), str(data_root), f"{folder}/work"])


def whole(*words: str) -> tuple[float, float]:
    """Returns how many seconds a process of Python takes from its start to its end, and how many of processors.

    Raises:
        RuntimeError: If it fails, with what it said.
    """
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    ran = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if ran.returncode:
        raise RuntimeError(f"the process failed:\n{ran.stderr}")
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def search_contenders(folder: Path) -> dict[str, Callable[[], tuple[float, float]]]:
    """Makes an index of the 1,254 unseen emoji of the gallery in a folder, and returns what is timed on it."""
    module, photo = ("-m", "hierpretrain"), "data/emoji64/food-drink/food-fruit/lemon/emojione.webp"
    config = str(ROOT / "configs/himulcone_emoji.py")
    whole(*module, "index", config, "", "--splits", "gallery", "--out", str(folder / "emoji.index"), "--device", "cpu")
    words = [*module, "search", str(folder / "emoji.index"), photo]
    return {
        QUICK: lambda: whole(*words),
        FULL: lambda: whole(*words, "--device", "cpu"),
        LIBRARIES: lambda: whole("-c", "import numpy, PIL.Image, faiss, onnxruntime"),
    }


def in_turn(contenders: Mapping[str, Callable[[], Timed]], rounds: int) -> dict[str, list[Timed]]:
    """Returns what each contender returned in each round, each round in the opposite order of the one before."""
    runs: dict[str, list[Timed]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name in list(contenders)[:: 1 if number % 2 else -1]:
            runs[name].append(contenders[name]())
    return runs


def compare(
    report: Report,
    what: str,
    contenders: Mapping[str, Callable[[], tuple[float, float]]],
    rounds: int,
    against: str,
    bar: float,
) -> None:
    """Times whole processes; the bar is for seconds of processors, which what else the machine does changes little."""
    runs = in_turn(contenders, rounds)
    work = {
        name: statistics.median(of_processors for _, of_processors in of_rounds) for name, of_rounds in runs.items()
    }
    seconds = {name: [of_run for of_run, _ in of_rounds] for name, of_rounds in runs.items()}
    report.add({"what": what}, seconds, against=against, processor_seconds=work)
    report.bar(f"processor seconds, {what}", work[QUICK], bar)


def main() -> None:
    """Prints the comparison, where the time goes, and whether the bar is met."""
    parser = command(__doc__)
    parser.set_defaults(rounds=3)
    args = parse(parser)
    report = Report("startup", "How long a start takes", "images")
    starts = {UNPACKED: lambda: first_step(True), PACKED: lambda: first_step(False), LIMIT: lambda: run(IMPORTS)}
    starts[UNPACKED]()  # unpacks the archive if need be, and brings the files into memory
    helps = {QUICK: lambda: whole("-m", "hierpretrain", "--help"), PYTHON: lambda: whole("-c", "")}
    compare(report, "hierpretrain --help", helps, 3 * args.rounds, PYTHON, HELP_BAR)
    with tempfile.TemporaryDirectory() as folder:
        contenders = search_contenders(Path(folder))
        compare(report, "search of one image among 1,254", contenders, args.rounds, LIBRARIES, SEARCH_BAR)
    runs = in_turn(starts, args.rounds)
    seconds = {name: [of_run for of_run, _ in of_rounds] for name, of_rounds in runs.items()}
    report.add({"what": "first step, himulcone_emoji.py"}, seconds, against=LIMIT)
    for name, of_rounds in runs.items():
        parts = {part: statistics.median(laps[part] for _, laps in of_rounds) for part in of_rounds[0][1]}
        print(f"{name}: " + ", ".join(f"{part} {value:.2f}" for part, value in parts.items()))
        next(row for row in report.rows if row["name"] == name)["parts"] = parts
    for name in (UNPACKED, PACKED):
        report.bar(f"seconds to the first step, {name}", statistics.median(seconds[name]), BAR)
    report.save(args.save)


if __name__ == "__main__":
    main()
