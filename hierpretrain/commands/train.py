"""Trains a model as a config says.

Examples:
    hierpretrain train finetune_emoji
    hierpretrain train himulcone_deepfashion --data-root path/to/inshop --amp
    hierpretrain train mine.py --resume
    hierpretrain train mine.py --vis tensorboard
    hierpretrain train finetune_emoji --cfg-options train_cfg.max_epochs=2 model.loss.weight=1.0

CONFIG is a file, or a name of the model zoo (docs/zoo.md); a file of your own may begin with
_base_ = "hierpretrain::finetune_emoji.py". emoji64 and openclipart96 come along; for other data give --data-root.

What comes out, in work_dirs/<config name> or --work-dir: epoch_*.pth, the checkpoints; metrics.json, what evaluation
measured; tsne.png and retrieval.png, two pictures; the config as it was; and a folder with the log and the scalars.

Common mistakes:
    A modified config with an old checkpoint in the work directory: --resume goes on from that; give a new --work-dir.
    A type or a key that is misspelt: the error names the nearest one.
    A module of your own that is not found: run `python -m hierpretrain train` in its folder, or set PYTHONPATH.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from hierpretrain._collection import search_as_ever
from hierpretrain._parser import Parser
from hierpretrain.apis.command import config_of, parse_command
from hierpretrain.apis.watching import WATCHERS, watch_with
from hierpretrain.commands import errors_in_one_line

if TYPE_CHECKING:
    from mmengine.runner import Runner


def main() -> None:
    """Builds the runner and trains."""
    parser = Parser(description=__doc__)
    parser.add_argument("config", help="the config file, or a name of the model zoo")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        help="go on from this checkpoint; without a path, from the newest one of the work directory, if there is any",
    )
    parser.add_argument("--amp", action="store_true", help="train in mixed precision (bfloat16 on a CPU)")
    parser.add_argument("--vis", nargs="+", choices=WATCHERS, default=[], help="also watch it with these")
    parser.add_argument("--no-validate", action="store_true", help="do not evaluate while training")
    parser.add_argument("--auto-scale-lr", action="store_true", help="scale the learning rate with the batch size")
    parser.add_argument("--no-pin-memory", action="store_true", help="do not pin the memory of batches")
    parser.add_argument("--no-persistent-workers", action="store_true", help="start the loaders' workers every epoch")
    args = parse_command(parser)
    from hierpretrain.apis.launch import build_errors, config_errors  # not before --help

    with errors_in_one_line(), build_errors():
        runner = _build(parser, args)
    search_as_ever()  # all is imported, and what waits now may hold a GPU's memory
    with config_errors():
        runner.train()


def _build(parser: argparse.ArgumentParser, args: argparse.Namespace) -> Runner:
    """Builds all that the command line and its config name, whose errors are the user's to mend."""
    import torch
    from mmengine.runner import Runner

    from hierpretrain.apis.config import DATALOADERS
    from hierpretrain.apis.launch import build_runner, check_optimizer
    from hierpretrain.apis.starts import check_start, check_tree
    from hierpretrain.registry import MODELS

    config = config_of(args)
    if not config.get("train_cfg"):
        parser.error(f"{args.config} trains nothing: it evaluates a checkpoint, hierpretrain test {args.config} FILE")
    if args.no_validate:
        config.val_cfg = config.val_dataloader = config.val_evaluator = None
    if args.amp:
        if torch.cuda.is_available():
            config.optim_wrapper.type = "AmpOptimWrapper"
            config.optim_wrapper.setdefault("loss_scale", "dynamic")
        else:
            config.optim_wrapper.type = "BF16OptimWrapper"
            for option in ("loss_scale", "dtype", "use_fp16"):  # of AmpOptimWrapper
                config.optim_wrapper.pop(option, None)
    if args.resume:
        config.resume = True if args.resume != "auto" else "auto"
        config.load_from = args.resume if args.resume != "auto" else config.get("load_from")
    if args.auto_scale_lr:
        if not (config.get("auto_scale_lr") or {}).get("base_batch_size"):
            raise ValueError(
                "--auto-scale-lr scales from the batch size that the learning rate is meant for, and the config does "
                "not say it: set auto_scale_lr=dict(base_batch_size=...), or --cfg-options "
                "auto_scale_lr.base_batch_size=..."
            )
        config.auto_scale_lr.enable = True
    for key in DATALOADERS:
        if config.get(key) and args.no_pin_memory:
            config[key].pin_memory = False
        if config.get(key) and args.no_persistent_workers:
            config[key].persistent_workers = False
    watch_with(config, args.vis)
    check_optimizer(config)
    runner = build_runner(config)
    built = isinstance(runner, Runner)  # the strategy of a FlexibleRunner builds model and optimizer when it trains
    if built or config.get("load_from"):
        check_start(config, runner.model if built else MODELS.build(config.model))  # before the data sets are read
    dataset = runner.train_loop.dataloader.dataset  # the data sets are read here, and not within the training
    if built:
        check_tree(config, runner.model, dataset)
    runner.val_loop  # noqa: B018
    if built:
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    return runner
