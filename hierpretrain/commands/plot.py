"""Draws what a checkpoint embeds: a t-SNE map, queries with their nearest neighbours, or recall@k against k.

Examples:
    hierpretrain plot tsne finetune_emoji work_dirs/finetune_emoji/epoch_4.pth --level subcategory
    hierpretrain plot tsne linear_emoji_seen CHECKPOINT --level subcategory --splits unseen_test
    hierpretrain plot retrieval finetune_emoji CHECKPOINT --out retrieval.png --level category
    hierpretrain plot recall linear_emoji_seen CHECKPOINT --query unseen_test --gallery unseen_train

With a config linear_<data set>, any method's checkpoint will do, and its images are embedded once for all pictures.

What comes out: <picture>.png in the work directory, or the file of --out; recall also writes its numbers beside it.
Neighbours are searched for where the config's test searches for them, and the title says where that is. With --query
and --gallery you choose others; the title then says whether the config measures them.

Common mistakes:
    A level or a split that the data set does not have: the error says which ones it has.
    A picture of the wrong images: they come from the config's test_dataloader.
"""

from __future__ import annotations

import argparse

from hierpretrain._parser import Parser
from hierpretrain.apis.command import config_of, parse_command, read_level
from hierpretrain.commands import errors_in_one_line

HOOKS = {"tsne": "TSNEHook", "retrieval": "RetrievalSheetHook", "recall": "RecallCurveHook"}


def main() -> None:
    """Embeds the test images and draws them."""
    parser = Parser(description=__doc__)
    parser.add_argument("picture", choices=list(HOOKS), help="what to draw, of the config's test images")
    parser.add_argument("config", help="the config file, or a name of the model zoo")
    parser.add_argument("checkpoint", help="the checkpoint file")
    parser.add_argument("--out", help="file name in the work directory, or a path; <picture>.png if not given")
    parser.add_argument("--level", help="what colours the map, or the deepest level that counts: its name or number")
    parser.add_argument("--splits", nargs="+", help="tsne: the splits whose images are drawn; all if not given")
    parser.add_argument("--query", nargs="+", help="retrieval, recall: the queries' splits; the test's if not given")
    parser.add_argument("--gallery", nargs="+", help="retrieval, recall: the gallery's splits; the test's if not given")
    parser.add_argument("--seed", type=int, default=0, help="tsne, retrieval: of what is drawn at random")
    args = parse_command(parser)
    from hierpretrain.apis.launch import config_errors  # not before --help

    with errors_in_one_line(), config_errors():
        _draw(parser, args)


def _draw(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    from hierpretrain.apis.launch import build_runner
    from hierpretrain.apis.measured import unmeasured
    from hierpretrain.apis.starts import check_checkpoint

    config = config_of(args)
    for option in ("query", "gallery") if args.picture == "tsne" else ("splits",):
        if getattr(args, option):
            parser.error(f"--{option} is not for the picture {args.picture!r}")
    hook = dict(type=HOOKS[args.picture], filename=args.out or f"{args.picture}.png")
    if args.level:
        level = read_level(args.level)
        hook.update(levels=[level]) if args.picture == "recall" else hook.update(level=level)
    if args.picture != "recall":
        hook["seed"] = args.seed
    hook |= {name: getattr(args, name) for name in ("splits", "query", "gallery") if getattr(args, name)}
    config.default_hooks, config.custom_hooks = {}, [hook]
    config.test_evaluator = unmeasured(config.get("test_evaluator"))
    config.load_from, config.resume = args.checkpoint, False
    runner = build_runner(config)
    check_checkpoint(runner.model, args.checkpoint)
    runner.test()
