"""What train and test say where the config is at fault, and where the training is."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hierpretrain.apis import build_runner
from hierpretrain.apis.launch import _Runner
from hierpretrain.commands import test as test_command
from hierpretrain.commands import train as train_command
from hierpretrain.registry import MODELS
from tests.datasets.trees import write_image
from tests.test_configs import _own_globals  # noqa: F401  every run has its own of what MMEngine keeps for a process

CONFIG = """
_base_ = "hierpretrain::himulcone_emoji.py"
_small = dict(_delete_=True, type="FolderDataset", data_root="photos")
log_level = "ERROR"
train_dataloader = dict(
    batch_size=4, num_workers=0, dataset=dict(**_small, pipeline={{_base_.train_pipeline}})
)
val_dataloader = val_evaluator = val_cfg = None
test_dataloader = dict(num_workers=0, dataset=dict(**_small, pipeline={{_base_.test_pipeline}}))
test_evaluator = [dict(type="RetrievalMetric", levels=["level1"])]
train_cfg = dict(max_epochs=1)
param_scheduler = [dict(type="ConstantLR", factor=1.0)]
custom_hooks = [dict(type="MetricsFileHook")]
"""


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs a command on a folder of eight photos of two colours and returns what it wrote to stderr."""
    for colour in ("red", "blue"):
        for i in range(4):
            write_image(tmp_path / f"photos/{colour}/{i}.png", colour)
    (tmp_path / "mine.py").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)

    def run(command, *words):
        monkeypatch.setattr(sys, "argv", ["hierpretrain", "mine.py", *words])
        command.main()
        return capsys.readouterr().err

    return run


def fails(run, command, *words, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(command, *words)
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith(("error:", "Traceback"))]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("trian_cfg.max_epochs=1", "unknown key 'trian_cfg'; did you mean 'train_cfg'"),
        ("model.loss.type=HiMulConLos", "unknown type 'HiMulConLos'; did you mean 'HiMulConLoss'"),
        ("model.grad_cache=0", "grad_cache must be at least 1"),
        ("model.loss.constraint=pairs", "constraint must be None, 'pair', 'anchor' or 'level'; it is 'pairs'"),
        ("model.loss.temprature=0.1", "got an unexpected keyword argument 'temprature'; did you mean 'temperature'?"),
        ("model.loss.wieght=1", "got an unexpected keyword argument 'wieght'; it takes constraint, "),
        ("optim_wrapper.optimizer.type=AdamWW", "unknown type 'AdamWW'; did you mean 'AdamW'"),
        (
            "optim_wrapper.optimizer.lrr=1",
            "got an unexpected keyword argument 'lrr'; did you mean 'lr'?",
        ),
        ("train_dataloader.batchsize=2", "argument 'batchsize'; did you mean 'batch_size'?"),
        ("model=1", "model must be a dict of settings; it is 1"),
        (
            "model.loss.margins=1",
            "temperature, level_weights, positives, instance_level, chunk_size; where a base config",
        ),
        (
            "train_cfg.by_epoch=False train_cfg.max_iters=3",
            "train_cfg.by_epoch=False counts iterations, and train_cfg.max_epochs is 1; leave it out, and where it "
            "comes from a base config, leave out all of that: train_cfg=dict(_delete_=True, ...)",
        ),
        (
            "train_cfg.by_epoch=True train_cfg.max_iters=3",
            "train_cfg.by_epoch=True counts epochs, and train_cfg.max_iter",
        ),
        ("auto_scale_lr.enabel=True", "auto_scale_lr has the unknown key 'enabel'; did you mean 'enable'?"),
        (
            "env_cfg.cudnn_benchmrk=True",
            "env_cfg has the unknown key 'cudnn_benchmrk'; did you mean 'cudnn_benchmark'?",
        ),
        (
            "env_cfg.x=True",
            "env_cfg has the unknown key 'x'; it takes cudnn_benchmark, mp_cfg, dist_cfg, resource_limit",
        ),
        (
            "custom_hooks=[None]",
            "custom_hooks.0 must be a hook; it is None, which leaves out a hook of default",
        ),
        ("optim_wrapper.type=AmpOptimWrapper", "is for GPUs, and there is none; take 'BF16OptimWrapper', or --amp"),
        (
            "train_dataloader.num_batch_per_epoch=1 default_hooks.frozen_features.type=FrozenFeaturesHook",
            "train_dataloader.num_batch_per_epoch does not go with FrozenFeaturesHook, which keeps features of all",
        ),
        ("randomness.seed=abc", "randomness.seed must be an integer from 0 to 4294967295, or None; it is 'abc'"),
        ("train_cfg.max_epochs=1e999", "train_cfg.max_epochs must be an integer from 1; it is inf"),
        ("train_cfg.val_interval=0", "train_cfg.val_interval must be an integer from 1; it is 0"),
        ("train_cfg.val_interval=None", "train_cfg.val_interval must be an integer from 1; it is None"),
        ("train_cfg.val_begin=1.5", "train_cfg.val_begin must be an integer from 0; it is 1.5"),
        ("default_hooks.logger.interval=0", "default_hooks.logger.interval must be an integer from 1; it is 0"),
        ("default_hooks.checkpoint.interval=0.5", "must be an integer from 1, or -1 for no checkpoint; it is 0.5"),
        ("train_dataloader.dataset=3", "the config has a value that nothing can be built of: "),
        ("param_scheduler.0.type=CosineAnealingLR", "did you mean 'CosineAnnealingLR'"),
        ("train_cfg.max_epoch=1", "EpochBasedTrainLoop.__init__() got an unexpected keyword argument 'max_epoch'"),
        ("train_dataloader.dataset.data_root=no_photos", "no_photos"),
        ("train_dataloader.batch_sampler.type=HierarchicalBatchSamplr", "did you mean 'HierarchicalBatchSampler'"),
        ("load_from=no.pth resume=True", "there is no checkpoint no.pth"),
        ("load_from=no.pth runner_type=FlexibleRunner", "there is no checkpoint no.pth"),
        (
            "runner_type=FlexibleRunner strategy.type=DDPStrategy",
            "strategy.type='DDPStrategy' is for processes that a launcher started: start them with tools/dist_train.sh",
        ),
        (
            "runner_type=FlexibleRunner model.loss._delete_=True model.loss.type=LevelCrossEntropyLoss",
            "how many classes LevelCrossEntropyLoss has; set model.loss.num_classes, or leave runner_type out",
        ),
    ],
)
def test_a_mistake_in_the_config_is_one_line(run, option, message, capsys):
    (line,) = fails(run, train_command, "--cfg-options", *option.split(), capsys=capsys)
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--amq"], "unrecognized arguments: --amq; did you mean '--amp'?"), (["--x=1"], "unrecognized arguments: --x=1")],
)
def test_a_mistyped_option_is_told_the_nearest(run, words, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(train_command, *words)
    assert capsys.readouterr().err.splitlines()[-1].endswith(message)


def test_mixed_precision_takes_the_place_of_that_of_gpus(run, tmp_path):
    of_gpus = ["optim_wrapper.type=AmpOptimWrapper", "optim_wrapper.loss_scale=dynamic", "optim_wrapper.dtype=float16"]
    run(train_command, "--amp", "--cfg-options", *of_gpus)
    assert (tmp_path / "work_dirs/mine/epoch_1.pth").exists()


@pytest.mark.parametrize(("told", "kept"), [([], [2, 4, 5]), (["default_hooks.checkpoint.by_epoch=True"], [])])
def test_a_training_that_counts_iterations_is_kept_at_every_validation(run, tmp_path, told, kept):
    with open(tmp_path / "mine.py", "a") as file:
        file.write(
            "train_cfg = dict(_delete_=True, by_epoch=False, max_iters=5, val_interval=2)\nparam_scheduler = None\n"
        )
    run(train_command, "--cfg-options", "default_hooks.checkpoint.max_keep_ckpts=9", *told)
    found = (tmp_path / "work_dirs/mine").glob("iter_*.pth")
    assert sorted(int(path.stem[5:]) for path in found) == kept


def test_a_mistake_in_what_is_tested_is_one_line(run, capsys):
    (line,) = fails(run, test_command, "no.pth", capsys=capsys)
    assert line == "error: there is no checkpoint no.pth; give a file or an address"
    (line,) = fails(run, test_command, "photos", capsys=capsys)
    assert line.startswith("error: photos is a folder, and a checkpoint is a file; if processes of a sharded training")
    (line,) = fails(run, test_command, "", "--out", "mine.py/out.json", capsys=capsys)
    assert line.startswith("error: mine.py/out.json cannot be written: ")
    nothing = ["--cfg-options", "test_dataloader=None", "test_cfg=None"]
    (line,) = fails(run, test_command, "", *nothing, capsys=capsys)
    assert line == (
        "error: mine.py has no test_dataloader, test_cfg: to test on what the training validates on, set "
        "test_dataloader = val_dataloader, test_cfg = val_cfg"
    )
    option = "test_dataloader.dataset.data_root=no_photos"
    (line,) = fails(run, test_command, "", "--cfg-options", option, capsys=capsys)
    assert "no_photos" in line


def test_a_rate_that_is_to_be_scaled_needs_the_batch_size_it_is_meant_for(run, capsys):
    (line,) = fails(run, train_command, "--auto-scale-lr", "--cfg-options", "auto_scale_lr=None", capsys=capsys)
    assert line.endswith(
        "the config does not say it: set auto_scale_lr=dict(base_batch_size=...), or --cfg-options "
        "auto_scale_lr.base_batch_size=..."
    )


def test_a_start_from_another_trees_checkpoint_is_one_line_unless_it_is_wanted_partly(run, tmp_path, capsys):
    classes = ["model.loss._delete_=True", "model.loss.type=LevelCrossEntropyLoss", "model.loss.level=1"]
    run(train_command, "--work-dir", "first", "--cfg-options", *classes)
    Path("photos/red").rename("photos/green")  # of as many classes
    start = [*classes, "load_from=first/epoch_1.pth"]
    (line,) = fails(run, train_command, "--work-dir", "second", "--cfg-options", *start, capsys=capsys)
    assert line.startswith("error: first/epoch_1.pth was trained with another label tree than that of the data: its")
    (line,) = fails(run, train_command, "--resume", "--work-dir", "first", "--cfg-options", *classes, capsys=capsys)
    assert "first/epoch_1.pth was trained with another label tree" in line
    run(train_command, "--work-dir", "second", "--cfg-options", *start, "load_from_partly=True")
    assert (tmp_path / "second/epoch_1.pth").exists()


def test_resuming_nothing_and_testing_no_checkpoint_begin_with_load_from(run, tmp_path, monkeypatch, capsys):
    run(train_command, "--work-dir", "first")
    start = ["--cfg-options", "load_from=first/epoch_1.pth"]
    still = ["optim_wrapper.optimizer.lr=0.0", "optim_wrapper.optimizer.weight_decay=0.0"]
    run(train_command, "--resume", "--work-dir", "second", *start, *still)
    first, second = (torch.load(tmp_path / f"{name}/epoch_1.pth")["state_dict"] for name in ("first", "second"))
    own = [name for name in first if name.endswith("weight")]
    assert all(torch.equal(first[name], second[name]) for name in own)
    tested, own_test = [], _Runner.test
    monkeypatch.setattr(_Runner, "test", lambda runner: (own_test(runner), tested.append(runner.model.state_dict()))[0])
    for number, words in enumerate((["first/epoch_1.pth"], start, ["", *start], [])):
        run(test_command, *words, "--work-dir", f"tested{number}")
    assert [all(torch.equal(first[name], weights[name]) for name in own) for weights in tested] == [True] * 3 + [False]
    (line,) = fails(run, test_command, "--cfg-options", "load_from=no.pth", capsys=capsys)
    assert line == "error: there is no checkpoint no.pth; give a file or an address"


def test_mixed_precision_can_be_watched(run, tmp_path):
    run(train_command, "--amp", "--work-dir", "amp", "--cfg-options", "default_hooks.violations.interval=1")
    (scalars,) = (tmp_path / "amp").glob("*/vis_data/scalars.json")
    assert '"batch_violations/level1": ' in scalars.read_text()


def test_a_flexible_runner_trains_as_the_usual_one_does(run, tmp_path):
    run(train_command, "--work-dir", "usual")
    run(train_command, "--work-dir", "flexible", "--cfg-options", "runner_type=FlexibleRunner", "experiment_name=f")
    usual, flexible = (
        torch.load(tmp_path / f"{name}/epoch_1.pth", weights_only=True)["state_dict"] for name in ("usual", "flexible")
    )
    assert usual.keys() == flexible.keys()
    for name, weight in usual.items():
        torch.testing.assert_close(flexible[name], weight)
    start = ["runner_type=FlexibleRunner", "experiment_name=g", "load_from=usual/epoch_1.pth"]
    run(train_command, "--work-dir", "again", "--cfg-options", *start)


def test_an_error_within_the_training_keeps_its_traceback(run, monkeypatch):
    class Broken(nn.Module):
        def forward(self, features, labels, instances):
            raise ValueError("the loss is broken")

    monkeypatch.setattr(MODELS, "_module_dict", {**MODELS.module_dict, "Broken": Broken})
    with pytest.raises(ValueError, match="the loss is broken"):
        run(train_command, "--cfg-options", "model.loss.type=Broken")


def test_loops_that_are_built_early_train_to_the_same_bits(run, tmp_path, monkeypatch):
    """The data sets are read before the training, not within it: nothing of the training may change by that."""
    run(train_command, "--work-dir", "early")
    build = train_command._build

    def late(parser, args):
        runner = build(parser, args)
        return build_runner(runner.cfg)

    monkeypatch.setattr(train_command, "_build", late)
    run(train_command, "--work-dir", "late", "--cfg-options", "experiment_name=late")
    early, late = (torch.load(tmp_path / f"{name}/epoch_1.pth", weights_only=True) for name in ("early", "late"))
    for name, weight in early["state_dict"].items():
        assert np.array_equal(weight.numpy(), late["state_dict"][name].numpy()), name
