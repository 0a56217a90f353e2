"""The tools as a user runs them, on a small tree in DeepFashion In-Shop's exact format."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import hierpretrain.registry  # noqa: F401  lets torch load our checkpoints
from hierpretrain.engine import newest_checkpoint
from tests import processes
from tests.datasets.trees import write_inshop
from tests.processes import ROOT

SMALL = [  # the recipe of paper A, cut down to a CPU
    "model.backbone.depth=18",
    "model.backbone.init_cfg=None",
    "model.backbone.base_channels=16",
    "model.backbone.stem_channels=16",
    "model.projection.in_channels=128",
    "train_dataloader.batch_size=12",
    "train_dataloader.dataset.pipeline.1.transforms.0.size=64",
    *[f"{part}_dataloader.dataset.pipeline.1.size=64" for part in ("val", "test")],
    *[f"{part}_dataloader.dataset.pipeline.2.size=64" for part in ("val", "test")],
    *[f"{part}_dataloader.num_workers=1" for part in ("train", "val", "test")],
    "optim_wrapper.optimizer.lr=0.01",
    "default_hooks.logger.interval=1",
    "train_cfg.max_epochs=3",
    "train_cfg.val_interval=3",
]
LINEAR = [  # the same for what only evaluates
    *[option for option in SMALL if option.startswith("model.backbone.")],
    *[f"test_dataloader.dataset.pipeline.{place}.size=64" for place in (1, 2)],
    "test_dataloader.num_workers=1",
]
BY_ITERATION = "default_hooks.checkpoint.by_epoch=False"


@pytest.fixture(scope="module")
def inshop(tmp_path_factory):
    root = tmp_path_factory.mktemp("inshop")
    write_inshop(root)
    return root


def command(tool, *arguments, options=()):
    small = LINEAR if any("linear_" in str(argument) for argument in arguments) else SMALL
    return [ROOT / "tools" / tool, *arguments, "--cfg-options", *small, *options]


@pytest.fixture
def run(tmp_path):
    """Returns a function that runs a tool, well or with an error as said, and returns what it wrote."""

    def run(*arguments, options=(), fails=False):
        return processes.run(tmp_path / "log.txt", *command(*arguments, options=options), fails=fails)

    return run


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def assert_same_bits(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.fixture(scope="module")
def trained(inshop, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp("whole")
    words = command("train.py", "configs/himulcone_deepfashion.py", "--data-root", inshop, "--work-dir", work_dir)
    processes.run(work_dir / "log.txt", *words)
    return work_dir


def test_training_leaves_checkpoint_metrics_and_pictures(trained):
    metrics = json.loads((trained / "metrics.json").read_text())["metrics"]
    assert metrics["product_id/recall@1"] > 2 / 3  # pictures of a product share a colour
    assert {"variation/map@r", "category/recall@20", "category/nmi", "product/nmi_in_category"} <= metrics.keys()
    assert metrics["variation/num_lone_queries"] == 1  # a query whose variation is not in the gallery
    for picture in ("tsne.png", "retrieval.png"):
        assert (trained / picture).read_bytes().startswith(b"\x89PNG")
    meta = torch.load(trained / "epoch_3.pth", weights_only=True)["meta"]["dataset_meta"]
    assert meta["taxonomy"]["level_names"] == ["category", "product", "variation"]


def test_testing_a_checkpoint_gives_the_metrics_of_training(run, trained, inshop, tmp_path):
    arguments = ("configs/himulcone_deepfashion.py", trained / "epoch_3.pth", "--data-root", inshop)
    run("test.py", *arguments, "--work-dir", tmp_path, "--out", tmp_path / "out.json")
    expected = json.loads((trained / "metrics.json").read_text())["metrics"]
    assert json.loads((tmp_path / "metrics.json").read_text())["metrics"] == expected
    out = json.loads((tmp_path / "out.json").read_text())
    assert {key: out[key] for key in expected} == expected
    assert (tmp_path / "tsne.png").exists()


@pytest.mark.parametrize(
    ("options", "checkpoints"),  # of those, the newest at the kill; it is the first unless the kill took long
    [
        pytest.param((), ("epoch_1", "epoch_2"), marks=pytest.mark.slow),
        # checkpoints in the middle of an epoch: the sampler goes on at its place
        ((BY_ITERATION, "default_hooks.checkpoint.interval=3"), ("iter_6", "iter_9", "iter_12")),
        pytest.param(
            (BY_ITERATION, "default_hooks.checkpoint.interval=5"), ("iter_5", "iter_10"), marks=pytest.mark.slow
        ),
    ],
    ids=["by epoch", "in the middle of an epoch", "by iteration at the end of an epoch"],
)
def test_a_killed_run_resumes_to_the_same_bits(run, trained, inshop, tmp_path, options, checkpoints):
    log = tmp_path / "log.txt"
    arguments = ("train.py", "configs/himulcone_deepfashion.py", "--data-root", inshop, "--work-dir", tmp_path)
    process = processes.start(log, *command(*arguments, options=options))
    processes.kill_when(process, log, "Epoch(train) [2][3/")
    newest = newest_checkpoint(tmp_path)
    assert Path(newest).stem in checkpoints
    assert f"resuming from {newest}" in run(*arguments, "--resume", options=options)
    last = max(tmp_path.glob("*.pth"), key=lambda path: path.stat().st_mtime)
    assert_same_bits(weights(last), weights(trained / "epoch_3.pth"))
    expected = json.loads((trained / "metrics.json").read_text())["metrics"]
    assert json.loads((tmp_path / "metrics.json").read_text())["metrics"] == expected


def test_an_evaluation_that_a_kill_cut_off_is_made_up_for(run, trained, inshop, tmp_path):
    shutil.copy(trained / "epoch_3.pth", tmp_path)  # all that a kill right after the last epoch leaves
    arguments = ("train.py", "configs/himulcone_deepfashion.py", "--data-root", inshop, "--work-dir", tmp_path)
    run(*arguments, "--resume")
    assert json.loads((tmp_path / "metrics.json").read_text()) == json.loads((trained / "metrics.json").read_text())
    assert (tmp_path / "retrieval.png").exists()
    assert "Epoch(val)" not in run(*arguments, options=["resume=True"])  # which is the same; nothing is left to do


@pytest.mark.slow
@pytest.mark.ddp
def test_two_processes_train_and_evaluate_as_one(trained, inshop, tmp_path):
    config, checkpoint = "configs/himulcone_deepfashion.py", trained / "epoch_3.pth"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    _, *words = map(str, command("test.py", "--data-root", inshop, "--work-dir", tmp_path / "test"))
    done = subprocess.run(
        ["bash", ROOT / "tools/dist_test.sh", config, checkpoint, "2", *words],
        env={**os.environ, "PORT": port, "PATH": path, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    expected = json.loads((trained / "metrics.json").read_text())["metrics"]
    metrics = json.loads((tmp_path / "test" / "metrics.json").read_text())["metrics"]
    assert metrics == pytest.approx(expected, abs=1e-6)
    arguments = (config, "--launcher", "pytorch", "--data-root", inshop, "--work-dir", tmp_path / "train")
    words = command("train.py", *arguments, options=["train_dataloader.batch_size=6"])
    processes.run_ranks(tmp_path, [words, words])
    assert (tmp_path / "train" / "epoch_3.pth").exists()
    metrics = json.loads((tmp_path / "train" / "metrics.json").read_text())["metrics"]
    assert metrics["product_id/num_queries"] == expected["product_id/num_queries"]
    assert metrics["product_id/recall@1"] > 2 / 3


def test_mixed_precision_trains_on_a_cpu(run, inshop, tmp_path):
    arguments = ("train.py", "configs/himulcon_deepfashion.py", "--data-root", inshop, "--work-dir", tmp_path)
    run(*arguments, "--amp", "--no-validate", options=["train_cfg.max_epochs=1"])
    (log,) = tmp_path.glob("*/*.log")
    assert "BF16OptimWrapper" in log.read_text()
    assert (tmp_path / "epoch_1.pth").exists()
    assert not (tmp_path / "metrics.json").exists()


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("train.py", "configs/himulcone_deepfashion.py"), ["custom_hook=[]"], "did you mean 'custom_hooks'"),
        (
            ("train.py", "configs/himulcone_deepfashion.py", "--data-root", "INSHOP"),
            ["train_dataloader.batch_sampler.type=HierarchicalBatchSampller"],
            "unknown type 'HierarchicalBatchSampller'; did you mean 'HierarchicalBatchSampler'",
        ),
        (
            ("train.py", "configs/himulcone_deepfashion.py", "--data-root", "no/such/place"),
            [],
            "In-shop Clothes Retrieval",
        ),
        (
            ("test.py", "configs/himulcone_deepfashion.py", "no.pth", "--data-root", "INSHOP"),
            [],
            "no checkpoint no.pth",
        ),
        (
            ("test.py", "configs/himulcone_deepfashion.py", "README.md", "--data-root", "INSHOP"),
            [],
            "README.md is damaged or no checkpoint",
        ),
        (
            ("test.py", "configs/himulcone_deepfashion.py", "CHECKPOINT", "--data-root", "INSHOP"),
            ["model.projection.out_channels=32"],
            r"epoch_3.pth is no checkpoint of the config's model: 2 weights are of another shape: projection.layers.2",
        ),
    ],
    ids=["key", "type", "data", "checkpoint", "no checkpoint", "another model"],
)
def test_what_is_wrong_is_said(run, trained, inshop, tmp_path, arguments, options, message):
    stand_ins = {"INSHOP": inshop, "CHECKPOINT": trained / "epoch_3.pth"}
    arguments = [stand_ins.get(argument, argument) for argument in arguments]
    assert re.search(message, run(*arguments, "--work-dir", tmp_path, options=options, fails=True))


def test_pictures_of_any_checkpoint(run, trained, inshop, tmp_path):
    config = "configs/himulcone_deepfashion.py"
    for picture, level in (("tsne", "product"), ("retrieval", "product_id")):
        path = tmp_path / f"{picture}.png"
        arguments = (picture, config, trained / "epoch_3.pth", "--data-root", inshop, "--level", level)
        arguments += ("--work-dir", tmp_path)
        run("plot.py", *arguments)
        assert path.read_bytes().startswith(b"\x89PNG")


def test_the_downstream_tasks_of_a_checkpoint_are_one_command(run, trained, inshop, tmp_path):
    arguments = ("configs/linear_deepfashion.py", trained / "epoch_3.pth", "--data-root", inshop)
    output = run("test.py", *arguments, "--work-dir", tmp_path)
    assert "unexpected key" not in output  # the checkpoint has a projection, which is left out on purpose
    metrics = json.loads((tmp_path / "metrics.json").read_text())["metrics"]
    assert metrics["category/linear_top1"] > 1 / 3  # of six: the category is the colour of the background
    assert metrics["category/knn_top1"] > 1 / 3
    assert {"product_id/map@r", "h_ap", "product/nmi_in_category", "violations"} <= metrics.keys()
    expected = json.loads((trained / "metrics.json").read_text())["metrics"]
    for key in ("product_id/recall@1", "variation/map@r", "category/nmi"):
        assert metrics[key] == pytest.approx(expected[key], abs=1e-9), key
    lines = (tmp_path / "recall.csv").read_text().splitlines()
    assert lines[0] == "k,product_id"
    assert float(lines[1].split(",")[1]) == pytest.approx(metrics["product_id/recall@1"], abs=1e-6)
    again = run("plot.py", "tsne", *arguments, "--work-dir", tmp_path, "--level", "category", "--splits", "query")
    assert re.search(r"the \d+ embeddings of .* are used again", again)
    assert (tmp_path / "tsne.png").read_bytes().startswith(b"\x89PNG")


def test_a_config_that_only_evaluates_cannot_be_trained(run, inshop, tmp_path):
    output = run("train.py", "configs/linear_deepfashion.py", "--work-dir", tmp_path, fails=True)
    assert "trains nothing: it evaluates a checkpoint, hierpretrain test configs/linear_deepfashion.py" in output
