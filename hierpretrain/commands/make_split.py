r"""Makes a split file: which classes training never sees, and train, val and test inside the seen and the unseen ones.

Examples:
    hierpretrain make-split himulcone_emoji --level subcategory --unseen-share 0.2 --out split.json
    hierpretrain make-split himulcone_deepfashion --data-root path/to/inshop --level category \
        --unseen Denim Suiting --keep-splits --out inshop_unseen.json
    hierpretrain make-split himulcone_modelnet40 --data-root path/to/modelnet40v1 --level category \
        --unseen-file modelnet40_ho.txt --unit model --keep-splits --val-share 0.2 --out ho.json

What comes out: a table of images and classes, and the file of --out, for split_file= of a data set in a config; its
splits are then seen_train, seen_val, seen_test, unseen_train and so on (docs/splits.md).

Common mistakes:
    Classes that are there under several parents: name one by its path, 'women/Denim'.
    A new draw for each run of an experiment: make the file once and keep it; the same seed makes the same file.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections import Counter
from typing import TYPE_CHECKING

from hierpretrain._parser import Parser
from hierpretrain._texts import read_branch
from hierpretrain.commands import check_outputs, errors_in_one_line

if TYPE_CHECKING:
    from mmengine.config import Config

    from hierpretrain.datasets import Annotations, Split


def main() -> None:
    """Reads the annotations of the config's training data set, splits them, shows the counts and writes the file."""
    parser = Parser(description=__doc__)
    parser.add_argument("config", help="the config, whose train_dataloader.dataset is split, with all its splits")
    parser.add_argument("--level", required=True, help="the level of the classes, by name or number (1 is coarsest)")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--unseen", nargs="+", metavar="CLASS", help="the unseen classes: names, paths joined with /, or JSON lists"
    )
    which.add_argument("--unseen-file", help="a text file with one unseen class a line")
    which.add_argument("--unseen-share", type=float, help="the fraction of unseen classes, drawn with the seed")
    parser.add_argument("--seed", type=int, default=0, help="of all draws (default: 0)")
    shares = parser.add_mutually_exclusive_group()
    shares.add_argument(
        "--shares", type=float, nargs=3, default=(0.6, 0.2, 0.2), help="of train, val and test (default: 0.6 0.2 0.2)"
    )
    shares.add_argument("--keep-splits", action="store_true", help="keep the data set's own splits in both parts")
    parser.add_argument("--val-share", type=float, help="with --keep-splits: the fraction of train that becomes val")
    parser.add_argument("--unit", help="a level whose nodes are never divided, or an extra label such as product_id")
    parser.add_argument(
        "--hold-out", nargs="+", default=(), metavar="BRANCH", help="branches that are neither seen nor unseen"
    )
    parser.add_argument("--hold-out-tag", default="held_out", help="what their tags begin with (default: held_out)")
    parser.add_argument("--data-root", help="where the data set is; overrides the config's")
    parser.add_argument("--out", required=True, help="the split file to write")
    args = parser.parse_args()
    with errors_in_one_line():
        _make_split(args)


def _make_split(args: argparse.Namespace) -> None:
    from hierpretrain.apis.command import read_level
    from hierpretrain.apis.config import load_config
    from hierpretrain.datasets import seen_unseen_split
    from hierpretrain.datasets.text_files import numbered_lines

    check_outputs(args, "out")
    annotations = read_annotations(load_config(args.config, data_root=args.data_root))
    unseen: list[str | tuple[str, ...]] | float = args.unseen_share
    if args.unseen_file:
        unseen = [read_branch(line, args.unseen_file) for _, line in numbered_lines(args.unseen_file)]
    elif args.unseen is not None:
        unseen = [read_branch(word, "--unseen") for word in args.unseen]
    split = seen_unseen_split(
        annotations,
        level=read_level(args.level),
        unseen=unseen,
        seed=args.seed,
        shares=None if args.keep_splits else args.shares,
        val_share=args.val_share,
        unit=None if args.unit is None else read_level(args.unit),
        held_out=[read_branch(word, "--hold-out") for word in args.hold_out],
        held_out_tag=args.hold_out_tag,
    )
    print(table(annotations, split))
    split.save(args.out)
    print(f"written to {args.out}")


def read_annotations(config: Config) -> Annotations:
    """Returns the annotations of a config's training data set, with the level names that the config gives them."""
    from hierpretrain.apis.config import nearest_names
    from hierpretrain.apis.dataset_configs import own_datasets
    from hierpretrain.registry import DATASETS

    if not config.get("train_dataloader"):
        raise ValueError(
            f"{config.filename} has no train_dataloader, whose data set is split; give a config that trains on this "
            "data set, such as himulcone_<data set>.py"
        )
    own, *others = own_datasets(config.train_dataloader.dataset)
    if others:
        raise ValueError(
            f"one data set is split, and {config.filename} trains on {len(others) + 1} that are joined; make a split "
            "file for each, of a config that has it alone"
        )
    options = {key: value for key, value in own.items() if key not in ("split", "split_file", "pipeline")}
    with nearest_names():
        dataset = DATASETS.build({**options, "check_files": False, "keep_annotations": True})
    names = dataset.taxonomy.level_names[: len(dataset.annotations.level_names)]
    return dataclasses.replace(dataset.annotations, level_names=names)


def table(annotations: Annotations, split: Split) -> str:
    """Returns the numbers of images and of classes of every tag as lines of text."""
    number = annotations.level_names.index(split.level) + 1
    tags = [split.tags[image] for image in annotations.images]
    images = Counter(tags)
    rows = zip(tags, annotations.labels, strict=True)
    classes = Counter(tag for tag, _ in {(tag, label[:number]) for tag, label in rows if len(label) >= number})
    lines = [f"{'tag':<20} {'images':>10} {'classes':>10}"]
    return "\n".join(lines + [f"{tag:<20} {images[tag]:>10,} {classes[tag]:>10,}" for tag in sorted(images)])
