"""Evaluates a checkpoint as a config says.

Examples:
    python tools/test.py configs/himulcone_emoji.py work_dirs/himulcone_emoji/epoch_16.pth
    python tools/test.py configs/himulcone_deepfashion.py CHECKPOINT --data-root path/to/inshop --out results.json
"""

import argparse
import json
import os
from pathlib import Path

from mmengine.config import DictAction
from mmengine.dist import is_main_process

from hierpretrain.apis import build_runner, load_config, load_weights, nearest_names


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="the config file")
    parser.add_argument("checkpoint", help="the checkpoint file")
    parser.add_argument("--work-dir", help="where results and pictures go; work_dirs/<config name> if not given")
    parser.add_argument("--data-root", help="where the data set is; overrides the config's")
    parser.add_argument("--out", help="also write the metrics to this JSON file")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="override config values: key.key=value ...")
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none", help="job launcher")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help="given by some launchers")
    args = parser.parse_args()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    return args


def main() -> None:
    """Builds the runner and tests."""
    args = parse_args()
    config = load_config(args.config, args.cfg_options, args.data_root)
    config.launcher = args.launcher
    config.work_dir = args.work_dir or config.get("work_dir") or f"work_dirs/{Path(args.config).stem}"
    config.load_from, config.resume = None, False
    with nearest_names():
        runner = build_runner(config)
        load_weights(runner, args.checkpoint)
        metrics = runner.test()
    if args.out and is_main_process():
        Path(args.out).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
