"""Evaluates a checkpoint as a config says.

Examples:
    python tools/test.py configs/himulcone_emoji.py work_dirs/himulcone_emoji/epoch_16.pth
    python tools/test.py configs/himulcone_deepfashion.py CHECKPOINT --data-root path/to/inshop --out results.json
"""

import argparse
import json
from pathlib import Path

from mmengine.dist import is_main_process

from hierpretrain.apis import build_runner, load_weights, nearest_names, read_command


def main() -> None:
    """Builds the runner and tests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="the config file")
    parser.add_argument("checkpoint", help="the checkpoint file")
    parser.add_argument("--out", help="also write the metrics to this JSON file")
    args, config = read_command(parser)
    config.load_from, config.resume = None, False
    with nearest_names():
        runner = build_runner(config)
        load_weights(runner, args.checkpoint)
        metrics = runner.test()
    if args.out and is_main_process():
        Path(args.out).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
