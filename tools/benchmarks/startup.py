"""Times the start of a training: from nothing to the first step of the emoji config, in fresh processes.

Once with the data set unpacked and once with nothing but its archive. The limit is a process that imports torch,
torchvision, mmengine and mmpretrain, and does nothing. What is printed below is where the time goes, in seconds.

Example:
    python tools/benchmarks/startup.py
"""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from measure import ROOT, Report, command, parse

BAR = 15.0  # seconds
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


def main() -> None:
    """Prints the comparison, where the time goes, and whether the bar is met."""
    parser = command(__doc__)
    parser.set_defaults(rounds=3)
    args = parse(parser)
    report = Report("startup", "From nothing to the first training step", "images")
    starts = {UNPACKED: lambda: first_step(True), PACKED: lambda: first_step(False), LIMIT: lambda: run(IMPORTS)}
    starts[UNPACKED]()  # unpacks the archive if need be, and brings the files into memory
    runs = {name: [] for name in starts}
    for number in range(args.rounds):
        for name in list(starts)[:: 1 if number % 2 else -1]:
            runs[name].append(starts[name]())
    seconds = {name: [of_run for of_run, _ in of_rounds] for name, of_rounds in runs.items()}
    report.add({"config": "himulcone_emoji.py"}, seconds, against=LIMIT)
    for name, of_rounds in runs.items():
        parts = {part: statistics.median(laps[part] for _, laps in of_rounds) for part in of_rounds[0][1]}
        print(f"{name}: " + ", ".join(f"{part} {value:.2f}" for part, value in parts.items()))
        next(row for row in report.rows if row["name"] == name)["parts"] = parts
    for name in (UNPACKED, PACKED):
        report.bar(f"seconds to the first step, {name}", statistics.median(seconds[name]), BAR)
    report.save(args.save)


if __name__ == "__main__":
    main()
