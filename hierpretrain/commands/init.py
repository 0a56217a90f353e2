r"""Looks at a folder or a list of images, proposes how to train on them, and writes a config that does.

Examples:
    hierpretrain init photos
    hierpretrain init catalogue.csv --yes
    hierpretrain init catalogue.xlsx --image-root pictures --levels department category --key-column sku --out shop.py
    hierpretrain init photos --split both --unseen-share 0.2 --out seen_unseen.py

DATA is a folder whose sub-folders are labels, a list (.csv, .tsv, .txt, .json, .jsonl, .xlsx, .parquet), or a folder
with a list in it. What was found is printed, and what is proposed, with the reasons; an option overrides each of it.
A question is asked only where the data leave something open, and none with --yes, which takes the likeliest answer.

What comes out: a short config to read, to change and to train with, and beside it, where the data have no splits, a
file of them. The last lines that are printed are the commands that come next.

Splits (--split):
    own     those of the list, or the folders train, val and test; by default if there are such
    share   every class is in train, val and test: new images of known classes; by default otherwise
    class   some classes are not trained on: how well will new classes be told apart
    both    some classes are not trained on, and all classes are in train, val and test

Common mistakes:
    Images that are elsewhere than the list: --image-root says where.
    A folder around several data sets: give the folder whose sub-folders are the classes.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hierpretrain._parser import Parser
from hierpretrain.commands import add_list_arguments, errors_in_one_line, list_options, printable

if TYPE_CHECKING:
    from hierpretrain.apis.look_at_data import Choose, FoundData
    from hierpretrain.apis.proposal import LevelCounts, Proposal

_KINDS = {
    "images": "the images",
    "split": "the splits",
    "key": "another value for every image, as a key has",
    "names": "names",
    "row number": "counts the rows",
    "numbers": "numbers, such as prices",
    "dates": "dates",
    "addresses": "addresses",
    "text": "free text",
    "flags": "yes or no",
    "constant": "the same in all rows",
    "empty": "empty",
}


def main() -> None:
    """Looks, proposes, and writes the config."""
    parser = Parser(description=__doc__)
    parser.add_argument("data", metavar="DATA", help="a folder of images, a list, or a folder with a list in it")
    parser.add_argument("--out", metavar="FILE.py", help="the config to write (default: named like DATA, right here)")
    parser.add_argument("--yes", "-y", action="store_true", help="ask nothing, and take the likeliest answer")
    parser.add_argument(
        "--force",
        action="store_true",
        help="replace files that are there already: all tags of a split file are drawn anew, and your edits are lost",
    )
    group = parser.add_argument_group("the training")
    group.add_argument("--split", choices=["own", "share", "class", "both"], help="what images are kept apart for")
    group.add_argument(
        "--shares", type=float, nargs=3, help="of train, val and test, for share and both (default: 0.8 0.1 0.1)"
    )
    group.add_argument("--unseen-share", type=float, help="of the classes, for class and both (default: 0.2)")
    group.add_argument("--class-level", help="the level of these classes, by name or number (1 is coarsest)")
    group.add_argument("--seed", type=int, help="of all draws (default: 0)")
    group.add_argument("--encoder", choices=["lite0", "convnext", "dinov2"], help="the pretrained encoder")
    group.add_argument("--image-size", type=int, help="pixels a side; by default the encoder's, or the images'")
    group.add_argument("--epochs", type=int, help="by default by the number of images")
    add_list_arguments(parser)
    args = parser.parse_args()
    with errors_in_one_line():
        _init(args)


def _init(args: argparse.Namespace) -> None:
    from hierpretrain.apis.command import read_level
    from hierpretrain.apis.look_at_data import look_at
    from hierpretrain.apis.proposal import propose
    from hierpretrain.apis.written_config import config_text, list_text
    from hierpretrain.files import check_writable, write_whole

    out = _out(args)
    files = {name: out.with_name(f"{out.stem}_{name}") for name in ("splits.json", "images.csv")}
    check_writable(out)
    found = look_at(args.data, list_options(args), _choose(args.yes))
    listed = list_text(found.annotations).encode() if found.new_list else b""  # an error before anything is written
    proposal = propose(
        found.annotations,
        split=args.split,
        shares=args.shares,
        unseen_share=args.unseen_share,
        class_level=None if args.class_level is None else read_level(args.class_level),
        seed=args.seed,
        encoder=args.encoder,
        image_size=args.image_size,
        epochs=args.epochs,
    )
    written = [out, *([files["splits.json"]] if proposal.split else []), *([files["images.csv"]] * found.new_list)]
    redrawn = _shown(files["splits.json"]) if proposal.split and files["splits.json"].exists() else ""
    renewal = f"hierpretrain make-split {shlex.quote(_shown(out))} --renew"
    if there := [str(file) for file in written if file.exists()]:
        if not args.force:
            why = f", which draws all tags of {redrawn} anew; {renewal} deals out new images alone" if redrawn else ""
            raise ValueError(
                f"{' and '.join(there)} is there already; give another --out, or replace it by --force{why}"
            )
    print("\n".join(map(printable, [*_what_was_found(found, proposal.counts), "", *_what_is_proposed(proposal)])))
    if found.new_list:
        found.dataset["ann_file"] = str(files["images.csv"])
        write_whole(files["images.csv"], listed)
    if proposal.split:
        proposal.split.save(files["splits.json"])
    command = shlex.join(["hierpretrain", "init", *sys.argv[1:]])
    split_file = str(files["splits.json"]) if proposal.split else ""
    text = config_text(found, proposal, str(out.parent), split_file=split_file, command=command)
    write_whole(out, text.encode())
    print(f"\nwrote {printable(' and '.join(_shown(file) for file in written))}")
    if redrawn:
        print(printable(f"all tags of {redrawn} are drawn anew; the next time, {renewal} deals out new images alone"))
    print("\nnext")
    print("\n".join(f"  {printable(line)}" for line in _next(found, proposal, _shown(out), out.stem)))


def _out(args: argparse.Namespace) -> Path:
    """Returns the file of the config; by default it is named like the data."""
    if args.out is None:
        name = Path(os.path.abspath(args.data)).stem
        name = "".join(letter if letter.isalnum() or letter in "_-" else "_" for letter in name)
        return Path(f"{name or 'images'}.py").absolute()
    if not args.out.endswith(".py"):
        raise ValueError(f"a config is a Python file: --out must end in .py; it is {args.out!r}")
    return Path(args.out).absolute()


def _choose(yes: bool) -> Choose:
    from hierpretrain.apis.look_at_data import first_of

    def ask(question: str, answers: Sequence[str], option: str) -> str:
        if not sys.stdin.isatty():
            there = ", ".join(map(repr, answers))
            raise ValueError(f"{question} There are {there}: say which ({option} ...), or take the first, --yes")
        print(question)
        for number, answer in enumerate(answers, start=1):
            print(f"  {number}  {printable(answer)}")
        while True:
            answer = input(f"1 to {len(answers)} [1]: ").strip() or "1"
            if answer.isdecimal() and 1 <= int(answer) <= len(answers):
                return answers[int(answer) - 1]

    return first_of if yes else ask


def _shown(path: Path) -> str:
    """Returns a path as people write it: from here, if it is here or below."""
    here = os.path.relpath(path)
    return str(path) if here.startswith("..") else here


def _what_was_found(found: FoundData, counts: Sequence[LevelCounts]) -> list[str]:
    annotations = found.annotations
    lines = [f"{found.name}: {len(annotations.images):,} images"]
    if found.columns:
        width = max(len(column.name) for column in found.columns)
        lines.append("columns")
        for column in found.columns:
            about = _KINDS[column.kind]
            about = f"{column.num_values:,} names, such as {column.example!r}" if column.kind == "names" else about
            used = {found.dataset.get("key_column"): "the key"} | dict.fromkeys(found.dataset["levels"], "a level")
            if column.num_empty and column.kind != "empty":
                about += f"; {column.num_empty:,} empty"
            lines.append(f"  {column.name:<{width}}  {about}{f': {used[column.name]}' if column.name in used else ''}")
    if counts:
        lines.append("levels")
        width = max(len(level.name) for level in counts)
        for level in counts:
            lines.append(
                f"  {level.name:<{width}}  {level.num_nodes:,} nodes of {level.smallest:,} to {level.largest:,} "
                f"images, {level.middle:,.10g} in the middle"
            )
        depths = [len(label) for label in annotations.labels]
        if min(depths) < max(depths):
            ends = ", ".join(f"{depths.count(depth):,} after {depth}" for depth in range(max(depths) + 1))
            lines.append(f"  labels end at different depths: {ends}")
    return lines + [f"note: {note}" for note in found.notes]


def _what_is_proposed(proposal: Proposal) -> list[str]:
    from hierpretrain.apis.proposal import ENCODERS, unused

    lines = ["proposal"]
    if proposal.untrained:
        lines.append(f"  training  none: {proposal.untrained}. The encoder as it is embeds, indexes and searches")
    else:
        sizes = proposal.split_sizes or {}
        lines.append(f"  levels    measured: {', '.join(dict.fromkeys(n for s in proposal.test for n in s.levels))}")
        lines.append(f"  splits    {', '.join(f'{name} {size:,}' for name, size in sizes.items())}")
        lines.append(f"            {proposal.split_reason}")
        if unused(proposal):
            lines.append(f"            {unused(proposal):,} images have no such class, or several, and are unused")
    lines.append(f"  encoder   {ENCODERS[proposal.encoder][0]}: {proposal.encoder_reason}")
    lines.append(f"  size      {proposal.image_size} px: {proposal.size_reason}")
    if not proposal.untrained:
        batches = -(-proposal.num_trained // proposal.batch_size)
        lines.append(
            f"  training  {proposal.epochs} epochs of {batches:,} batches at a rate of {proposal.rate:g}, "
            f"{proposal.num_views} kept views of each image: by the number of images, {proposal.num_trained:,}"
        )
        if proposal.share:
            lines.append(
                f"  share     {100 * proposal.share:g} % of a similarity is the encoder's before training, for classes "
                "that are not trained on"
            )
    return lines


def _next(found: FoundData, proposal: Proposal, config: str, stem: str) -> list[str]:
    config, index = shlex.quote(config), shlex.quote(f"{stem}.index")
    lines = [f"hierpretrain check {config}"]
    checkpoint = "''"
    if not proposal.untrained:
        checkpoint = shlex.quote(f"work_dirs/{stem}/epoch_{proposal.epochs}.pth")
        lines.append(f"hierpretrain train {config}")
        lines.append(f"hierpretrain report {config} {checkpoint} --out {shlex.quote(f'{stem}.html')}")
    lines.append(f"hierpretrain index {config} {checkpoint} --out {index}")
    images = found.annotations.images
    example = Path(found.annotations.root, next(filter(str.isprintable, images), images[0]))
    lines.append(f"hierpretrain search {index} {shlex.quote(_shown(example))}")
    return lines
