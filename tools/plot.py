"""Draws what a checkpoint embeds: a t-SNE map, or queries with their nearest neighbours.

Examples:
    python tools/plot.py tsne configs/himulcone_emoji.py work_dirs/himulcone_emoji/epoch_5.pth --level subcategory
    python tools/plot.py retrieval configs/himulcone_emoji.py CHECKPOINT --out retrieval.png --level category
"""

import argparse

from hierpretrain.apis import build_runner, check_checkpoint, nearest_names, read_command

HOOKS = {"tsne": "TSNEHook", "retrieval": "RetrievalSheetHook"}


def main() -> None:
    """Embeds the test images once and draws them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", choices=list(HOOKS), help="what to draw, of the config's test images")
    parser.add_argument("config", help="the config file")
    parser.add_argument("checkpoint", help="the checkpoint file")
    parser.add_argument("--out", help="file name in the work directory, or a path; <picture>.png if not given")
    parser.add_argument("--level", help="what colours the map or makes a neighbour right: a level's name or its number")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn at random")
    args, config = read_command(parser)
    hook = dict(type=HOOKS[args.picture], seed=args.seed, filename=args.out or f"{args.picture}.png")
    if args.level:
        hook["level"] = int(args.level) if args.level.lstrip("-").isdigit() else args.level
    config.custom_hooks, config.test_evaluator = [hook], []
    config.load_from, config.resume = args.checkpoint, False
    with nearest_names():
        runner = build_runner(config)
        check_checkpoint(runner.model, args.checkpoint)
        runner.test()


if __name__ == "__main__":
    main()
