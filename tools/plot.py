"""Draws what a checkpoint embeds: a t-SNE map, or queries with their nearest neighbours.

Examples:
    python tools/plot.py tsne configs/himulcone_emoji.py work_dirs/himulcone_emoji/epoch_8.pth --level subcategory
    python tools/plot.py retrieval configs/himulcone_emoji.py CHECKPOINT --out retrieval.png --level category
"""

import argparse
from pathlib import Path

from mmengine.config import DictAction

from hierpretrain.apis import build_runner, load_config, load_weights, nearest_names


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", choices=["tsne", "retrieval"], help="what to draw, of the config's test images")
    parser.add_argument("config", help="the config file")
    parser.add_argument("checkpoint", help="the checkpoint file")
    parser.add_argument("--out", help="the picture; <picture>.png beside the checkpoint if not given")
    parser.add_argument(
        "--level", help="level that colours the map or makes a neighbour right; by name, or by number from 1"
    )
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn at random")
    parser.add_argument("--data-root", help="where the data set is; overrides the config's")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="override config values: key.key=value ...")
    return parser.parse_args()


def main() -> None:
    """Embeds the test images once and draws them."""
    args = parse_args()
    out = Path(args.out or Path(args.checkpoint).with_name(f"{args.picture}.png")).absolute()
    config = load_config(args.config, args.cfg_options, args.data_root)
    hook = dict(type={"tsne": "TSNEHook", "retrieval": "RetrievalSheetHook"}[args.picture], seed=args.seed)
    if args.level:
        hook["level"] = int(args.level) if args.level.isdigit() else args.level
    config.custom_hooks = [dict(hook, filename=out.name)]
    config.work_dir, config.load_from, config.resume = str(out.parent), None, False
    config.test_evaluator = []
    with nearest_names():
        runner = build_runner(config)
        load_weights(runner, args.checkpoint)
        runner.test()


if __name__ == "__main__":
    main()
