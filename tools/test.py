"""Evaluates a checkpoint as a config says.

Examples:
    python tools/test.py configs/himulcone_emoji.py work_dirs/himulcone_emoji/epoch_5.pth
    python tools/test.py configs/himulcone_deepfashion.py CHECKPOINT --data-root path/to/inshop --out results.json
    python tools/test.py configs/linear_wikiscenes.py --data-root path/to/it     # the pretrained encoder as it is
"""

import argparse
import json

from mmengine.dist import is_main_process

from hierpretrain.apis import build_runner, check_checkpoint, nearest_names, read_command
from hierpretrain.files import write_whole


def main() -> None:
    """Builds the runner and tests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="the config file")
    parser.add_argument(
        "checkpoint",
        nargs="?",
        help="the checkpoint file; without it, or with '', the weights that training would start with",
    )
    parser.add_argument("--out", help="also write the metrics to this JSON file")
    args, config = read_command(parser)
    config.load_from, config.resume = args.checkpoint or None, False
    with nearest_names():
        runner = build_runner(config)
        if args.checkpoint:
            check_checkpoint(runner.model, args.checkpoint)
        else:
            runner.logger.info("no checkpoint is given: the model has its initial weights, pretrained or random")
            runner._init_model_weights()  # and the same on all processes
        metrics = runner.test()
    if args.out and is_main_process():
        write_whole(args.out, (json.dumps(metrics, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
