"""Level-by-level triplets as a user trains them, on a small tree in openclipart96's format: resume, two processes."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests import processes
from tests.config_trees import write_openclipart
from tests.processes import ROOT
from tests.test_tools import assert_same_bits, weights

CONFIG = "configs/leveltriplet_openclipart.py"
EPOCHS, STEPS = 6, 6  # two epochs for each of three levels; steps of an epoch
SMALL = [
    "model.backbone.base_channels=8",
    "model.backbone.stem_channels=8",
    "train_dataloader.batch_size=4",
    f"train_dataloader.batch_sampler.triplets_per_epoch={4 * STEPS}",
    "val_dataloader.num_workers=0",
    f"train_cfg.max_epochs={EPOCHS}",
    f"train_cfg.val_interval={EPOCHS}",
    "default_hooks.logger.interval=1",
    "default_hooks.checkpoint.by_epoch=False",
    "default_hooks.checkpoint.interval=5",  # in the middle of an epoch
]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def openclipart(tmp_path_factory):
    root = tmp_path_factory.mktemp("openclipart") / "openclipart96"
    write_openclipart(root)
    return root


def command(openclipart, work_dir, *arguments, options=()):
    words = [CONFIG, "--data-root", openclipart, "--work-dir", work_dir, *arguments]
    return [ROOT / "tools/train.py", *words, "--cfg-options", *SMALL, *options]


def logged(work_dir):
    """What the newest log says of each training step: its number -> (stage, level, loss)."""
    newest = max(work_dir.glob("*/vis_data/scalars.json"))
    lines = [line for line in map(json.loads, newest.read_text().splitlines()) if "loss" in line]
    return {line["step"]: (line["stage_level"], line["level"], line["loss"]) for line in lines}


def metrics(work_dir):
    return json.loads((work_dir / "metrics.json").read_text())["metrics"]


@pytest.fixture(scope="module")
def whole(openclipart, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp("whole")
    processes.run(work_dir / "log.txt", *command(openclipart, work_dir))
    return work_dir


def test_levels_come_one_after_the_other_with_earlier_ones_among_them(whole):
    steps = logged(whole)
    assert list(steps) == list(range(1, EPOCHS * STEPS + 1))
    for stage in (1, 2, 3):
        of_stage = [steps[1 + 2 * STEPS * (stage - 1) + i] for i in range(2 * STEPS)]
        assert {present for present, _, _ in of_stage} == {stage}
        assert {level for _, level, _ in of_stage} == set(range(1, stage + 1))
    for picture in ("tsne.png", "retrieval.png"):
        assert (whole / picture).read_bytes().startswith(b"\x89PNG")


def test_a_run_that_is_killed_in_the_middle_of_a_stage_resumes_to_the_same_bits(whole, openclipart, tmp_path):
    log = tmp_path / "log.txt"
    process = processes.start(log, *command(openclipart, tmp_path))
    processes.kill_when(process, log, "Epoch(train) [4][3/")  # the second epoch of the second level
    output = processes.run(log, *command(openclipart, tmp_path, "--resume"))
    resumed_at = int(re.search(r"resuming from .*/iter_(\d+)\.pth", output)[1])
    assert resumed_at in (20, 25, 30)  # the first unless the kill took long
    last = f"iter_{EPOCHS * STEPS}.pth"
    assert_same_bits(weights(tmp_path / last), weights(whole / last))
    expected = logged(whole)
    assert logged(tmp_path) == {step: expected[step] for step in range(resumed_at + 1, EPOCHS * STEPS + 1)}
    assert metrics(tmp_path) == metrics(whole)


@pytest.mark.ddp
def test_two_processes_take_the_steps_of_one_with_twice_the_batch(openclipart, tmp_path):
    options = [
        "model.backbone.norm_eval=True",  # statistics of half a batch would be others
        *(
            "optim_wrapper.optimizer._delete_=True",
            "optim_wrapper.optimizer.type=SGD",
            "optim_wrapper.optimizer.lr=0.01",
        ),
        *("train_cfg.max_epochs=1", "default_hooks.curriculum.levels=[2]"),
        *("default_hooks.checkpoint.interval=1", "default_hooks.checkpoint.max_keep_ckpts=-1"),
    ]
    one, two = tmp_path / "one", tmp_path / "two"
    words = command(openclipart, one, "--no-validate", options=[*options, "train_dataloader.batch_size=8"])
    processes.run(tmp_path / "log.txt", *words)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PORT": port, "PATH": path}
    _, config, *words = map(str, command(openclipart, two, "--no-validate", options=options))
    words = ["bash", f"{ROOT}/tools/dist_train.sh", config, "2", *words]
    done = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    levels = {step: levels for step, (*levels, _) in logged(one).items()}
    assert levels == {step: levels for step, (*levels, _) in logged(two).items()}
    assert len(levels) == STEPS // 2
    before = None
    for step in levels:
        expected = weights(one / f"iter_{step}.pth")
        torch.testing.assert_close(weights(two / f"iter_{step}.pth"), expected, rtol=0, atol=1e-6)
        if before is not None:  # the difference of a step is far above that
            assert max((weight - before[name]).abs().max() for name, weight in expected.items()) > 1e-3
        before = expected
