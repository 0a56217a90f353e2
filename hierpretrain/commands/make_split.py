r"""Makes a split file: which classes training never sees, and train, val and test inside the seen and the unseen ones.

With --renew it renews the split file that a config reads, after images were added or removed.

Examples:
    hierpretrain make-split himulcone_emoji --level subcategory --unseen-share 0.2 --out split.json
    hierpretrain make-split himulcone_deepfashion --data-root path/to/inshop --level category \
        --unseen Denim Suiting --keep-splits --out inshop_unseen.json
    hierpretrain make-split himulcone_modelnet40 --data-root path/to/modelnet40v1 --level category \
        --unseen-file modelnet40_ho.txt --unit model --keep-splits --val-share 0.2 --out ho.json
    hierpretrain make-split photos.py --renew

What comes out: a table of images and classes, and the file of --out, for split_file= of a data set in a config; its
splits are then seen_train, seen_val, seen_test, unseen_train and so on (docs/splits.md).

--renew: images that the file knows keep their tags, new ones are dealt by the shares, the units and the seed that the
file records, and those that are gone are dropped. It renews files of `hierpretrain init`, too.

Common mistakes:
    Classes that are there under several parents: name one by its path, 'women/Denim'.
    A new draw for each run of an experiment: make the file once and keep it; the same seed makes the same file.
    A new draw because images were added: a model would be tested on images that it was trained on. Take --renew.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
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
    parser.add_argument(
        "--renew", action="store_true", help="renew the split file that the config reads: only new images are dealt out"
    )
    parser.add_argument("--level", help="the level of the classes, by name or number (1 is coarsest)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--unseen", nargs="+", metavar="CLASS", help="the unseen classes: names, paths joined with /, or JSON lists"
    )
    which.add_argument("--unseen-file", help="a text file with one unseen class a line")
    which.add_argument(
        "--unseen-share",
        type=float,
        help="the fraction of unseen classes, drawn with the seed; with --renew: of the new classes (default: as many "
        "as of the known ones)",
    )
    parser.add_argument("--seed", type=int, help="of all draws (default: 0)")
    shares = parser.add_mutually_exclusive_group()
    shares.add_argument(
        "--shares",
        type=float,
        nargs=3,
        help="of train, val and test (default: 0.6 0.2 0.2); with --renew: for a file that records none",
    )
    shares.add_argument("--keep-splits", action="store_true", help="keep the data set's own splits in both parts")
    parser.add_argument("--val-share", type=float, help="with --keep-splits: the fraction of train that becomes val")
    parser.add_argument("--unit", help="a level whose nodes are never divided, or an extra label such as product_id")
    parser.add_argument("--hold-out", nargs="+", metavar="BRANCH", help="branches that are neither seen nor unseen")
    parser.add_argument("--hold-out-tag", help="what their tags begin with (default: held_out)")
    parser.add_argument("--data-root", help="where the data set is; overrides the config's")
    parser.add_argument("--out", help="the split file to write; with --renew by default the one that is renewed")
    args = parser.parse_args()
    _check_options(parser, args)
    with errors_in_one_line():
        if args.renew:
            _renew(args)
        else:
            _make_split(args)


def _check_options(parser: Parser, args: argparse.Namespace) -> None:
    """Ends the program with the usage unless the options are those of a new split file, or of a renewed one."""
    options = vars(args)
    which = ("unseen", "unseen_file", "unseen_share")
    if args.renew:
        recorded = ("level", *which[:2], "seed", "keep_splits", "val_share", "unit", "hold_out", "hold_out_tag")
        if wrong := [name for name in recorded if options[name] is not None and options[name] is not False]:
            flag = f"--{wrong[0].replace('_', '-')}"
            parser.error(f"with --renew, the split file says what {flag} would: leave it out")
        return
    if missing := [f"--{name}" for name in ("level", "out") if not options[name]]:
        parser.error(f"the following arguments are required: {', '.join(missing)}")
    if all(options[name] is None for name in which):
        parser.error("one of the arguments --unseen --unseen-file --unseen-share is required")
    if args.hold_out_tag is not None and args.hold_out is None:
        parser.error("--hold-out-tag is for the branches of --hold-out, and there is none: name them, or leave it out")


def _make_split(args: argparse.Namespace) -> None:
    from hierpretrain.apis.command import read_level
    from hierpretrain.apis.config import load_config
    from hierpretrain.datasets import seen_unseen_split
    from hierpretrain.datasets.text_files import numbered_lines

    check_outputs(args, "out")
    config = load_config(args.config, data_root=args.data_root)
    _check_not_read(args.out, config, args.config)
    annotations = read_annotations(config)
    unseen: list[str | tuple[str, ...]] | float = args.unseen_share
    if args.unseen_file:
        unseen = [read_branch(line, args.unseen_file) for _, line in numbered_lines(args.unseen_file)]
    elif args.unseen is not None:
        unseen = [read_branch(word, "--unseen") for word in args.unseen]
    split = seen_unseen_split(
        annotations,
        level=read_level(args.level),
        unseen=unseen,
        seed=args.seed or 0,
        shares=None if args.keep_splits else args.shares or (0.6, 0.2, 0.2),
        val_share=args.val_share,
        unit=None if args.unit is None else read_level(args.unit),
        held_out=[read_branch(word, "--hold-out") for word in args.hold_out or ()],
        held_out_tag="held_out" if args.hold_out_tag is None else args.hold_out_tag,
    )
    print(table(annotations, split))
    split.save(args.out)
    print(f"written to {args.out}")


def _check_not_read(out: str, config: Config, name: str) -> None:
    """Raises if a new split file would replace one that the config reads, and with it the tags of all images."""
    from hierpretrain.apis.config import DATALOADERS
    from hierpretrain.apis.dataset_configs import own_datasets

    datasets = [loader.dataset for key in DATALOADERS if (loader := config.get(key)) and loader.get("dataset")]
    files = [file for dataset in datasets for own in own_datasets(dataset) if (file := own.get("split_file"))]
    if os.path.exists(out) and any(os.path.exists(file) and os.path.samefile(out, file) for file in files):
        raise ValueError(
            f"{out} is the split file that {name} reads, and a new one would give all its images new tags: renew it "
            f"(hierpretrain make-split {shlex.quote(name)} --renew), give another --out, or remove it first"
        )


def _renew(args: argparse.Namespace) -> None:
    from hierpretrain.apis.config import load_config
    from hierpretrain.apis.dataset_configs import own_datasets
    from hierpretrain.datasets import Split, renewed_split

    config = load_config(args.config, data_root=args.data_root)
    annotations = read_annotations(config)
    path = next(own_datasets(config.train_dataloader.dataset)).get("split_file")
    if not path:
        raise ValueError(
            f"the data set that {args.config} trains on has no split_file to renew; make one: hierpretrain make-split "
            f"{shlex.quote(args.config)} --level ... --unseen-share ... --out split.json"
        )
    args.out = args.out or path
    check_outputs(args, "out")
    split = Split.load(path)
    if args.shares:
        if split.unseen or split.shares is not None:
            raise ValueError(f"{path} records how its images are dealt: leave out --shares")
        split = dataclasses.replace(split, shares=tuple(args.shares))
    renewed = renewed_split(annotations, split, unseen_share=args.unseen_share)
    print(renewal_table(annotations, split, renewed))
    renewed.save(args.out)
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


def renewal_table(annotations: Annotations, split: Split, renewed: Split) -> str:
    """Returns how many images of every tag were kept, are new and are gone, and what new classes there are, as text."""
    from hierpretrain.datasets.messages import some_paths
    from hierpretrain.datasets.split_files import names_in_file

    names = names_in_file(split.tags, annotations.images)
    kept = Counter(renewed.tags[image] for image in names)
    new = Counter(tag for image, tag in renewed.tags.items() if image not in names)
    gone = Counter(split.tags.values()) - kept
    lines = [f"{'tag':<20} {'kept':>10} {'new':>10} {'gone':>10}"]
    for tag in sorted(kept | new | gone):
        lines.append(f"{tag:<20} {kept[tag]:>10,} {new[tag]:>10,} {gone[tag]:>10,}")
    lines.append(f"{'total':<20} {kept.total():>10,} {new.total():>10,} {gone.total():>10,}")
    if unseen := sorted(set(renewed.unseen) - set(split.unseen)):
        lines.append(f"new classes that are unseen: {some_paths(unseen)}")
    return "\n".join(lines)
