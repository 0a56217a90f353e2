"""Trains a model as a config says.

Examples:
    python tools/train.py configs/himulcone_emoji.py
    python tools/train.py configs/himulcone_deepfashion.py --data-root path/to/inshop --amp
    python tools/train.py configs/himulcone_emoji.py --resume
    python tools/train.py configs/himulcone_emoji.py --cfg-options train_cfg.max_epochs=2 model.loss.temperature=0.07
"""

import argparse

import torch

from hierpretrain.apis import build_runner, check_checkpoint, nearest_names, read_command
from hierpretrain.apis.config import DATALOADERS


def main() -> None:
    """Builds the runner and trains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="the config file")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        help="go on from this checkpoint; without a path, from the newest one of the work directory, if there is any",
    )
    parser.add_argument("--amp", action="store_true", help="train in mixed precision (bfloat16 on a CPU)")
    parser.add_argument("--no-validate", action="store_true", help="do not evaluate while training")
    parser.add_argument("--auto-scale-lr", action="store_true", help="scale the learning rate with the batch size")
    parser.add_argument("--no-pin-memory", action="store_true", help="do not pin the memory of batches")
    parser.add_argument("--no-persistent-workers", action="store_true", help="start the loaders' workers every epoch")
    args, config = read_command(parser)
    if not config.get("train_cfg"):
        parser.error(
            f"{args.config} trains nothing: it evaluates a checkpoint, python tools/test.py {args.config} FILE"
        )
    if args.no_validate:
        config.val_cfg = config.val_dataloader = config.val_evaluator = None
    if args.amp:
        if torch.cuda.is_available():
            config.optim_wrapper.type = "AmpOptimWrapper"
            config.optim_wrapper.setdefault("loss_scale", "dynamic")
        else:
            config.optim_wrapper.type = "BF16OptimWrapper"
    if args.resume:
        config.load_from, config.resume = None if args.resume == "auto" else args.resume, True
    if args.auto_scale_lr:
        config.auto_scale_lr.enable = True
    for key in DATALOADERS:
        if config.get(key) and args.no_pin_memory:
            config[key].pin_memory = False
        if config.get(key) and args.no_persistent_workers:
            config[key].persistent_workers = False
    with nearest_names():
        runner = build_runner(config)
        if config.get("resume"):
            check_checkpoint(runner.model, config.load_from)
        runner.train()


if __name__ == "__main__":
    main()
