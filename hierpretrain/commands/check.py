"""Checks a folder, a list or a config's data sets, and tells all that is wrong with them at once.

Examples:
    hierpretrain check photos
    hierpretrain check catalogue.csv --image-column photo --levels category type --out problems.json
    hierpretrain check configs/finetune_emoji.py
    hierpretrain check photos.index
    hierpretrain check photos --config configs/finetune_emoji.py --checkpoint work_dirs/finetune_emoji/epoch_4.pth

What comes out: what is there (images, levels, splits, sizes, modes), every kind of problem with its number, what it
means and the first few, and a file with all of them. docs/checking.md lists the kinds.
    error    a training ends at it, or its numbers are wrong: broken images, copies in two splits or two classes, ...
    warning  worth a look: look-alikes, two spellings of a name, classes of one image, ...
    note     good to know: files that are left out, classes of one child, ...

With --checkpoint, a trained model also says which images are perhaps mislabelled, the surest first, and which classes
are perhaps one or two. Of an index, that is checked by its embeddings, with names and the tree, and which files are
missing or copies; no image is opened.

Exit status: 0 if there is no error (with --strict: no warning either), 1 if there is one, 2 if the data cannot be
checked at all.
"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from hierpretrain._parser import Parser
from hierpretrain.commands import (
    add_list_arguments,
    check_outputs,
    errors_in_one_line,
    list_options,
    log_to_standard_error,
    printable,
)
from hierpretrain.files import as_called

if TYPE_CHECKING:
    from mmengine.config import Config

    from hierpretrain.data_checks import DataCheck, Problem, Source


_OUT = "check.csv"


def main() -> None:
    """Checks the data, prints what was found and writes the file."""
    from hierpretrain._options import add_cfg_options

    parser = Parser(description=__doc__)
    parser.add_argument(
        "data", help="a folder, a list (.csv, .json, .jsonl, .xlsx, .parquet, ...), a config, or an index"
    )
    add_list_arguments(parser)
    parser.add_argument("--out", help="the file of all problems, CSV or .json (default: check.csv)")
    parser.add_argument("--most", type=int, default=3, help="problems of a kind that are printed (default: 3)")
    parser.add_argument("--workers", type=int, default=2, help="processes that open images (default: 2)")
    parser.add_argument("--quick", action="store_true", help="open no image: neither pictures nor duplicates")
    parser.add_argument("--strict", action="store_true", help="let warnings make the exit status 1, too")
    group = parser.add_argument_group("a config, if one is given")
    group.add_argument("--data-root", help="where its data set is")
    add_cfg_options(group)
    group = parser.add_argument_group("a trained model, to check the labels by")
    group.add_argument("--checkpoint", help="its checkpoint")
    group.add_argument("--config", help="its config, unless that is what is checked")
    group.add_argument("--device", help="such as cpu or cuda:1; a GPU if there is one")
    group.add_argument("--batch-size", type=int, default=64, help="images embedded at a time (default: 64)")
    group.add_argument("--amp", action="store_true", help="embed in bfloat16")
    group.add_argument("-k", type=int, default=10, help="neighbours that vote on a label (default: 10)")
    args = parser.parse_args()
    with errors_in_one_line():
        raise SystemExit(_check(args))


def _check(args: argparse.Namespace) -> int:
    if args.config and args.checkpoint is None:
        raise ValueError("--config says how a model embeds; give its weights too: --checkpoint FILE, or '' for none")
    by_default, args.out = not args.out, args.out or _OUT
    check_outputs(args, "out", ours={_OUT: b"problem,severity,kind,"} if by_default else None)
    from hierpretrain.data_checks import write_problems
    from hierpretrain.data_checks.problems import count_severities, listing

    log_to_standard_error()
    found = _found(args)
    print("\n".join(map(printable, str(found).splitlines())))
    if found.problems:
        print("\n" + "\n".join(map(printable, listing(found.problems, args.most))))
    write_problems(found.problems, args.out)
    counts = count_severities(found.problems)
    print(f"\n{', '.join(f'{number:,} {severity}s' for severity, number in counts.items())}: all are in {args.out}")
    return int(bool(counts["error"] or (args.strict and counts["warning"])))


def _found(args: argparse.Namespace) -> DataCheck:
    from hierpretrain.data_checks import check_sources, index_source, is_index, label_problems

    if is_index(data := os.path.expanduser(args.data)):
        if args.checkpoint is not None or list_options(args):
            raise ValueError(f"{args.data} is an index, which has embeddings and labels: leave the other options out")
        source, images = index_source(data)
        found = check_sources([source], open_images=False)
        found.problems += label_problems(images, args.k)
        return found
    sources, config = _sources(args)
    found = check_sources(sources, open_images=not args.quick, workers=args.workers, opening=_opening(config))
    if args.checkpoint is not None:
        found.problems += _label_problems(args, found)
    return found


def _label_problems(args: argparse.Namespace, found: DataCheck) -> list[Problem]:
    """Embeds the images that can be read, and returns what a trained model says about their labels."""
    from hierpretrain.commands import build_inferencer
    from hierpretrain.data_checks.labels import CheckedImages, label_problems

    if args.config is None and (os.path.isdir(args.data) or _is_list(args.data)):
        raise ValueError("a checkpoint needs its config: give --config FILE")
    if not found.nodes:
        raise ValueError(
            "labels are checked by the neighbours of labelled images; there is no label: leave --checkpoint"
        )
    args.config, args.on_error = args.config or args.data, "skip"
    readable = found.pictures.readable if found.pictures else [True] * len(found.files)
    kept = [(file, paths) for file, paths, good in zip(found.files, found.paths, readable, strict=True) if good]
    levels = max((source.level_names for source in found.sources), key=len)
    stores = [store for source in found.sources for store in source.stores]
    images = CheckedImages([file for file, _ in kept], [paths for _, paths in kept], levels, stores)
    return label_problems(build_inferencer(args).embed(images), args.k)


def _is_list(path: str) -> bool:
    from hierpretrain.datasets.tables import READERS

    return os.path.isfile(path) and path.lower().endswith(tuple(READERS))


def _sources(args: argparse.Namespace) -> tuple[list[Source], Config | None]:
    """Returns what is checked, and the config if it is one."""
    from hierpretrain.apis import load_config
    from hierpretrain.data_checks import config_sources, folder_source, list_source

    data = as_called(os.path.expanduser(args.data))
    options = list_options(args)
    is_list = _is_list(data)
    if options and not is_list:
        raise ValueError(f"{', '.join(options)} say how a list is read, and {args.data} is none: leave them out")
    if is_list or os.path.isdir(data):
        if args.data_root or args.cfg_options:
            raise ValueError("--data-root and --cfg-options are for a config's data sets; leave them out")
        if not is_list:
            return [folder_source(data)], None
        root = options.pop("data_root", os.path.dirname(data) or ".")
        return [list_source(data, root, **options)], None
    if not os.path.exists(data) and ("/" in data or "." in data) and not data.endswith(".py"):
        raise ValueError(f"there is no folder, no list and no config {args.data}; correct the path")
    config = load_config(args.data, args.cfg_options, args.data_root)
    return config_sources(config), config


def _opening(config: Config | None) -> dict[str, Any]:
    """Returns how a config opens images, as far as it matters to whether they can be read."""
    from hierpretrain.apis.dataset_configs import evaluation_pipelines

    firsts = [pipeline[0] for pipeline in evaluation_pipelines(config or {}) if pipeline]
    first = firsts[0] if firsts else {}
    return {name: first[name] for name in ("grey_range", "max_pixels") if first.get(name) is not None}
