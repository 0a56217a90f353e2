"""Training, evaluation and resuming on several processes, started as on several machines, against one process.

The model has no batch normalisation and the batches are shuffled ones, so that steps of two processes with 6 images
each have the very images, views and gradient of one process's steps with 12.
"""

import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from PIL import Image

import hierpretrain.registry  # noqa: F401  lets torch load our checkpoints
from hierpretrain.engine import newest_checkpoint
from hierpretrain.models import HiMulConLoss, LevelCrossEntropyLoss
from hierpretrain.registry import HOOKS
from tests.processes import PATIENCE, ROOT, run, run_ranks

CONFIG = """
_base_ = "ROOT/configs/_base_/default_runtime.py"
custom_imports = dict(imports=["tests.test_many_machines"], allow_failed_imports=False)

_pack = dict(type="PackInputs", algorithm_keys=("extra_labels",), meta_keys=("sample_idx", "img_path", "split"))
_view = [dict(type="torchvision/RandomResizedCrop", size=24), dict(type="torchvision/RandomHorizontalFlip")]
_train_pipeline = [dict(type="LoadRGB"), dict(type="Views", transforms=_view, num_views=2), _pack]
train_dataloader = dict(
    batch_size=12,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(type="FolderDataset", data_root="PLACE/train", pipeline=_train_pipeline),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="FolderDataset", data_root="PLACE/val", pipeline=[dict(type="LoadRGB"), _pack]),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type="RetrievalMetric", levels=[1, 2]),
    dict(type="HierarchicalRetrievalMetric"),
    dict(type="ClusteringMetric", levels=[1]),
]
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()

model = dict(
    type="HierarchicalContrastive",
    backbone=dict(type="ResNet", depth=18, base_channels=8, stem_channels=8, norm_cfg=dict(type="GN", num_groups=4)),
    projection=dict(type="ProjectionHead", in_channels=64, out_channels=16),
    loss=dict(type="HiMulConLoss"),
)
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.02, momentum=0.9))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", eta_min=0, by_epoch=True, begin=1, end=4, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=4, val_interval=4)
auto_scale_lr = dict(base_batch_size=12, enable=False)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(max_keep_ckpts=9))
custom_hooks = [
    dict(type="ExactResumeHook"),
    dict(type="SyncBuffersHook"),
    dict(type="MetricsFileHook"),
    dict(type="DiaryHook"),
]
"""
SRUN = """#!/usr/bin/env bash
# As Slurm's: starts the tasks, each as on a machine of its own, and fails if one fails.
set -euo pipefail
echo "srun $*"
for word in "$@"; do case $word in --ntasks=*) tasks=${word#*=} ;; esac; done
while [ "$1" != python ]; do shift; done
for ((task = 0; task < tasks; task++)); do
  SLURM_PROCID=$task SLURM_LOCALID=0 SLURM_NTASKS=$tasks SLURM_NODELIST="node[1-2]" "$@" &
done
for job in $(jobs -p); do wait "$job"; done
"""
SCONTROL = """#!/usr/bin/env bash
[ "$*" = "show hostname node[1-2]" ] && printf '127.0.0.1\\nnode2\\n'
"""
ITERATIONS = """
_base_ = "tiny.py"
param_scheduler = []
train_cfg = dict(_delete_=True, by_epoch=False, max_iters=7, val_interval=7)
log_processor = dict(by_epoch=False)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=5))
"""
IMAGES, BATCHES, EPOCHS = 48, 4, 4  # of the data set, an epoch and a run; one process has 12 images a batch

pytestmark = [pytest.mark.slow, pytest.mark.ddp]


@HOOKS.register_module()
class DiaryHook(Hook):
    """Writes what each process did, and the weights that it ended with; slows the run down if it is to be killed."""

    def __init__(self, pause=0.0):
        self.pause, self.steps = pause, []

    def before_train(self, runner):
        Path(runner.work_dir, f"pid{get_rank()}").write_text(str(os.getpid()))

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        time.sleep(self.pause)
        images = [sample.sample_idx for sample in data_batch["data_samples"]]
        self.steps.append((runner.epoch, runner.iter, runner.optim_wrapper.get_lr()["lr"][0], images))

    def after_train(self, runner):
        weights = {name.removeprefix("module."): tensor for name, tensor in runner.model.state_dict().items()}
        torch.save({"steps": self.steps, "weights": weights}, Path(runner.work_dir, f"rank{get_rank()}.pt"))


# ------------------------------------------------------------------ starting processes
@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the images, the config, and what stands in for Slurm."""
    place = tmp_path_factory.mktemp("many_machines")
    rng = np.random.default_rng(0)
    for split, images in (("train", IMAGES), ("val", 13)):  # 13 do not divide by the number of processes
        for i in range(images):
            path = place / f"{split}/kind{i % 2}/breed{i % 6}/{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8)).save(path)
    (place / "tiny.py").write_text(CONFIG.replace("ROOT", str(ROOT)).replace("PLACE", str(place)))
    (place / "iterations.py").write_text(ITERATIONS)
    (place / "bin").mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (place / "bin" / name).write_text(text)
        (place / "bin" / name).chmod(0o755)
    return place


def start(place, *words, **variables):
    """Starts a command in a process group of its own; returns it and the file that takes what it writes."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "MASTER_"))}
    path = os.pathsep.join([str(place / "bin"), str(Path(sys.executable).parent), environment["PATH"]])
    environment |= {"PATH": path, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **variables}
    log = tempfile.TemporaryFile("w+")
    words = list(map(str, words))
    return subprocess.Popen(words, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True), log


def finish(started, fails=False):
    """Waits for processes to end, all well or all not, and returns what each of them wrote."""
    try:
        deadline = time.time() + PATIENCE
        for process, _ in started:
            process.wait(deadline - time.time())
    finally:
        for process, _ in started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    texts = []
    for process, log in started:
        log.seek(0)
        texts.append(log.read())
        assert (process.returncode != 0) == fails, texts[-1][-5000:]
    return texts


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def launch_on_two_machines(place, script, *words, work_dir, processes=1, options=()):
    """Starts a script of tools/ as on two machines."""
    address = dict(NNODES="2", MASTER_ADDR="127.0.0.1", PORT=free_port())
    words = ("bash", ROOT / "tools" / script, place / "tiny.py", *words, processes, "--work-dir", work_dir)
    if options:
        words = (*words, "--cfg-options", *options)
    return [start(place, *words, NODE_RANK=str(rank), **address) for rank in (0, 1)]


def command(place, work_dir, *arguments, options=()):
    words = (ROOT / "tools/train.py", place / "tiny.py", "--work-dir", work_dir, *arguments)
    return (*words, "--cfg-options", *options) if options else words


def train_on_two_machines(place, work_dir, *arguments, batch_size=6, options=(), fails=False):
    """Runs what the scripts start on two machines, without the scripts and torchrun."""
    options = (f"train_dataloader.batch_size={batch_size}", *options)
    words = command(place, work_dir, *arguments, "--launcher", "pytorch", options=options)
    return run_ranks(place, [words, words], fails)


def train_on_one(place, work_dir, *arguments):
    run(place / "log.txt", *command(place, work_dir, *arguments))


@pytest.fixture(scope="module")
def one(place):
    """The work directory of one process."""
    train_on_one(place, place / "one")
    return place / "one"


@pytest.fixture(scope="module")
def two(place):
    """The work directory of two machines with a process each."""
    train_on_two_machines(place, place / "two")
    return place / "two"


def diary(work_dir, rank=0):
    return torch.load(work_dir / f"rank{rank}.pt", weights_only=True)


def metrics(work_dir):
    return json.loads((work_dir / "metrics.json").read_text())


def assert_same_bits(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def assert_trained_alike(work_dir, processes, other):
    """Checks that processes end with the same weights, to the bit, and with another run's, but for rounding."""
    weights = diary(work_dir)["weights"]
    for rank in range(1, processes):
        assert_same_bits(diary(work_dir, rank)["weights"], weights)
    expected = diary(other)["weights"]
    for name, tensor in expected.items():
        torch.testing.assert_close(weights[name], tensor, rtol=0, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")
    assert metrics(work_dir)["epoch"] == metrics(other)["epoch"] == EPOCHS
    assert metrics(work_dir)["metrics"] == pytest.approx(metrics(other)["metrics"], abs=1e-6)


# ------------------------------------------------------------------ training and evaluation
def test_two_machines_train_as_one_process(one, two):
    assert_trained_alike(two, 2, one)
    steps = zip(diary(one)["steps"], diary(two, 0)["steps"], diary(two, 1)["steps"], strict=True)
    for (*expected, images), (*first, own), (*second, others) in steps:
        assert first == second == expected  # epoch, iteration and learning rate
        assert sorted(own + others) == sorted(images)


def test_two_machines_of_two_processes_train_as_one_process(place, one, tmp_path):
    options = ("train_dataloader.batch_size=3",)
    finish(launch_on_two_machines(place, "dist_train.sh", work_dir=tmp_path, processes=2, options=options))
    assert_trained_alike(tmp_path, 4, one)


def test_slurm_trains_as_one_process(place, one, tmp_path):
    words = ("bash", ROOT / "tools/slurm_train.sh", "gpu", "job", place / "tiny.py", "--work-dir", tmp_path)
    options = ("--cfg-options", "train_dataloader.batch_size=6")
    settings = dict(GPUS="2", GPUS_PER_NODE="1", SRUN_ARGS="--exclude=node3 --time=10", MASTER_PORT=free_port())
    (text,) = finish([start(place, *words, *options, **settings)])
    assert "srun -p gpu --job-name=job --gres=gpu:1 --ntasks=2 --ntasks-per-node=1 --cpus-per-task=8" in text
    assert "--kill-on-bad-exit=1 --exclude=node3 --time=10 python -u " in text
    assert_trained_alike(tmp_path, 2, one)


def test_two_machines_and_slurm_evaluate_as_one_process(place, one, tmp_path):
    checkpoint, dirs = one / f"epoch_{EPOCHS}.pth", (tmp_path / "machines", tmp_path / "slurm")
    finish(launch_on_two_machines(place, "dist_test.sh", checkpoint, work_dir=dirs[0]))
    words = ("bash", ROOT / "tools/slurm_test.sh", "gpu", "job", place / "tiny.py", checkpoint, "--work-dir", dirs[1])
    finish([start(place, *words, GPUS="2", GPUS_PER_NODE="1", MASTER_PORT=free_port())])
    for work_dir in dirs:
        assert metrics(work_dir)["metrics"] == pytest.approx(metrics(one)["metrics"], abs=1e-6)
    assert metrics(one)["metrics"]["2/num_queries"] == 13


def test_iterations_on_two_machines_are_those_of_one_process_and_go_on_in_the_middle_of_an_epoch(place, tmp_path):
    one, two, rest = (tmp_path / name for name in ("one", "two", "rest"))
    words = (ROOT / "tools/train.py", place / "iterations.py")
    run(tmp_path / "log.txt", *words, "--work-dir", one)
    words = (*words, "--launcher", "pytorch", "--cfg-options", "train_dataloader.batch_size=6")
    run_ranks(tmp_path, [(*words, "--work-dir", two)] * 2)
    run_ranks(tmp_path, [(*words, "--work-dir", rest, "--resume", two / "iter_5.pth")] * 2)
    expected = diary(one)["weights"]
    for rank in (0, 1):
        for name, tensor in diary(two, rank)["weights"].items():
            torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-4)
        assert_same_bits(diary(rest, rank)["weights"], diary(two, rank)["weights"])
        assert diary(rest, rank)["steps"] == diary(two, rank)["steps"][5:]
    steps = zip(diary(one)["steps"], diary(two, 0)["steps"], diary(two, 1)["steps"], strict=True)
    for (*_, images), (*_, own), (*_, others) in steps:
        assert sorted(own + others) == sorted(images)
    assert metrics(two)["metrics"] == pytest.approx(metrics(one)["metrics"], abs=1e-6)


# ------------------------------------------------------------------ resuming
def test_a_run_goes_on_with_more_processes_or_fewer(place, one, two, tmp_path):
    train_on_two_machines(place, tmp_path / "more", "--resume", one / "epoch_2.pth")
    assert_trained_alike(tmp_path / "more", 2, one)
    train_on_one(place, tmp_path / "fewer", "--resume", two / "epoch_2.pth")
    assert_trained_alike(tmp_path / "fewer", 1, two)


def test_shorter_epochs_count_iterations_anew_and_come_to_the_end_of_the_schedule(place, one, tmp_path):
    options = ("train_dataloader.batch_sampler.type=HierarchicalBatchSampler",)
    arguments = ("--resume", one / "epoch_2.pth", "--auto-scale-lr")
    texts = train_on_two_machines(place, tmp_path, *arguments, batch_size=12, options=options)
    assert "the checkpoint's epochs had 4 batches, and this run's 2: iterations are counted from 4 on" in texts[0]
    first, second = diary(tmp_path, 0), diary(tmp_path, 1)
    assert_same_bits(first["weights"], second["weights"])
    assert [step[:2] for step in first["steps"]] == [(2, 4), (2, 5), (3, 6), (3, 7)]
    for epoch, iteration, rate, _ in first["steps"]:
        done = (iteration - 2) / (2 * (EPOCHS - 1))  # of the cosine, which begins behind an epoch of warm-up
        assert rate == pytest.approx(2 * 0.02 * (1 + math.cos(math.pi * done)) / 2, rel=1e-6), (epoch, iteration)
    for epoch in (2, 3):
        steps = [step for step in first["steps"] + second["steps"] if step[0] == epoch]
        assert sorted(i for *_, images in steps for i in images) == list(range(IMAGES))


def test_the_middle_of_an_epoch_is_refused_to_another_number_of_processes(place, one, tmp_path):
    checkpoint = torch.load(one / "epoch_2.pth", weights_only=True)
    checkpoint["batch_sampler"]["position"] = 1
    torch.save(checkpoint, tmp_path / "iter_9.pth")
    options = ("train_dataloader.batch_sampler.type=HierarchicalBatchSampler",)
    for text in train_on_two_machines(place, tmp_path, "--resume", options=options, fails=True):
        assert (
            "middle of an epoch; its epochs have 4 batches of 12 on 1 process(es), and this run's have 4 of 6 on 2; "
            "resume with as many, or from the end of an epoch"
        ) in text


def test_machines_that_do_not_see_the_same_checkpoint_say_so(place, one, tmp_path):
    work_dirs = (tmp_path / "first", tmp_path / "second")
    work_dirs[0].mkdir()
    (work_dirs[0] / "epoch_2.pth").write_bytes((one / "epoch_2.pth").read_bytes())
    commands = [command(place, work_dir, "--resume", "--launcher", "pytorch") for work_dir in work_dirs]
    for text in run_ranks(place, commands, fails=True):
        assert re.search(r"start from one checkpoint; rank 0 found epoch_2.pth \(sha256 \w+\) and rank 1 none\.", text)


def kill_in_the_third_epoch(work_dir, rank):
    deadline = time.time() + PATIENCE
    while not (work_dir / "epoch_2.pth").exists():
        assert time.time() < deadline
        time.sleep(0.01)
    os.kill(int((work_dir / f"pid{rank}").read_text()), signal.SIGKILL)


SLOWLY = ("train_dataloader.batch_size=6", "custom_hooks.3.pause=0.3")


def assert_went_on_to_the_same_bits(work_dir, other):
    for rank in (0, 1):
        assert [step[0] for step in diary(work_dir, rank)["steps"]] == [2] * BATCHES + [3] * BATCHES
        assert_same_bits(diary(work_dir, rank)["weights"], diary(other, rank)["weights"])
    assert metrics(work_dir) == metrics(other)


def test_a_machine_that_is_lost_ends_the_run_and_it_resumes_to_the_same_bits(place, two, tmp_path):
    started = launch_on_two_machines(place, "dist_train.sh", work_dir=tmp_path, options=SLOWLY)
    kill_in_the_third_epoch(tmp_path, rank=1)
    os.killpg(started[1][0].pid, signal.SIGKILL)  # and all else that ran on that machine
    finish(started, fails=True)
    assert newest_checkpoint(tmp_path) == str(tmp_path / "epoch_2.pth")
    train_on_two_machines(place, tmp_path, "--resume")
    assert_went_on_to_the_same_bits(tmp_path, two)


def test_one_machine_starts_its_processes_anew_when_one_is_lost(place, two, tmp_path):
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1")
    tool = (ROOT / "tools/train.py", place / "tiny.py", "--launcher", "pytorch", "--resume", "--work-dir", tmp_path)
    started = [start(place, *torchrun, *tool, "--cfg-options", *SLOWLY)]
    kill_in_the_third_epoch(tmp_path, rank=1)
    (text,) = finish(started)
    assert "nothing to resume in" in text
    assert f"resuming from {tmp_path / 'epoch_2.pth'}" in text
    assert_went_on_to_the_same_bits(tmp_path, two)


# ------------------------------------------------------------------ gradient accumulation
def images_of_two_classes():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, 5, generator=generator), torch.tensor([0, 0, 1, 1, 0, 1, 1, 0])[:, None], torch.arange(8)


def step(loss, parts):
    """Returns the gradient, as a step of plain descent at a rate of 1 shows it, of a batch that comes in parts."""
    torch.manual_seed(0)
    net = torch.nn.Linear(5, 3)
    wrapper = OptimWrapper(torch.optim.SGD(net.parameters(), lr=1.0), accumulative_counts=parts)
    wrapper.initialize_count_status(net, 0, parts)
    before = net.weight.detach().clone()
    for part in zip(*(tensor.chunk(parts) for tensor in images_of_two_classes()), strict=True):
        rows, labels, images = part
        wrapper.update_params(loss(torch.nn.functional.normalize(net(rows), dim=1), labels, images))
    return before - net.weight.detach()


def test_accumulated_gradients_are_those_of_the_large_batch_only_where_images_are_judged_one_by_one():
    torch.manual_seed(1)
    classifier = LevelCrossEntropyLoss(num_classes=2, in_channels=3).requires_grad_(False)
    torch.testing.assert_close(step(classifier, 2), step(classifier, 1), rtol=0, atol=1e-6)
    whole, halves = step(HiMulConLoss(), 1), step(HiMulConLoss(), 2)
    assert torch.nn.functional.cosine_similarity(whole.flatten(), halves.flatten(), dim=0) < 0.9
