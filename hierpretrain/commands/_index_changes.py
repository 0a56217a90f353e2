"""The commands that change an index: ``hierpretrain index add | update | remove | merge | info``."""

from __future__ import annotations

import argparse
import json
import sys
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hierpretrain._parser import Parser
from hierpretrain.commands import (
    add_list_arguments,
    add_running_arguments,
    check_outputs,
    errors_in_one_line,
    list_options,
    list_skipped,
    log_to_standard_error,
    running_options,
)

if TYPE_CHECKING:
    from hierpretrain.apis.index import EmbeddingIndex

_IMAGES = "folders (sub-folders are labels), files, quoted patterns or lists (.csv, .xlsx ...)"


def add(words: Sequence[str]) -> None:
    """Adds images to an index, which costs little beyond embedding them.

    An image whose file the index has already is an error, unless each has a key of its own: update replaces it.
    """
    parser = _parser("add", add)
    parser.add_argument("images", nargs="+", help=_IMAGES)
    _embedding_arguments(parser)
    args = parser.parse_intermixed_args(words)
    with errors_in_one_line():
        check_outputs(args, "skipped")  # not after hours of embedding
        index = _open(args)
        before = index.skipped
        _print(args.index, index, str(index.add(args.images, **list_options(args))))
        list_skipped(args, {path: why for path, why in index.skipped.items() if path not in before})


def update(words: Sequence[str]) -> None:
    """Makes an index agree with images: new ones are added, changed ones replaced, the same ones left alone.

    Images are found again by their key (--key-column) or file. What is given says nothing of stays: single files and
    patterns have no labels, keys and metadata to give. A file whose bytes the index knows is not embedded again, also
    if it has moved. --prune removes images that are not given.
    """
    parser = _parser("update", update)
    parser.add_argument("images", nargs="+", help=_IMAGES)
    parser.add_argument("--prune", action="store_true", help="remove images of the index that are not given")
    _embedding_arguments(parser)
    args = parser.parse_intermixed_args(words)
    with errors_in_one_line():
        check_outputs(args, "skipped")  # not after hours of embedding
        index = _open(args)
        before = index.skipped
        _print(args.index, index, str(index.update(args.images, prune=args.prune, **list_options(args))))
        # also what an earlier update could not read, behind what only this one could not
        list_skipped(args, dict(sorted(index.skipped.items(), key=lambda skipped: skipped[0] in before)))


def remove(words: Sequence[str]) -> None:
    """Removes images from an index: all that have one of some keys, or are one of some files.

    Keys and files are those that a search prints. With --from, they are the lines of a text file; - is the standard
    input.
    """
    parser = _parser("remove", remove)
    parser.add_argument("keys", nargs="*", help="keys or files")
    parser.add_argument("--from", dest="file", metavar="FILE", help="a text file with a key or file in each line")
    args = parser.parse_intermixed_args(words)
    with errors_in_one_line():
        keys = list(args.keys)
        if args.file == "-":
            keys += sys.stdin.read().removeprefix("\ufeff").split("\n")
        elif args.file:
            keys += _lines(args.file)
        if not (keys := [key for key in keys if key]):
            raise ValueError("there is nothing to remove: give keys or files, or --from a file of them")
        index = _open(args)
        _print(args.index, index, str(index.remove(keys)))


def merge(words: Sequence[str]) -> None:
    """Adds the images of other indexes, which the same model made, to an index; nothing is embedded."""
    parser = _parser("merge", merge)
    parser.add_argument("others", nargs="+", help="other indexes; they stay as they are")
    args = parser.parse_args(words)
    with errors_in_one_line():
        index = _open(args)
        for other in args.others:
            _print(args.index, index, f"{other}: {index.merge(other)}")


def info(words: Sequence[str]) -> None:
    """Says what is in an index: images, levels, kind, model and parts."""
    parser = _parser("info", info)
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")
    args = parser.parse_args(words)
    with errors_in_one_line():
        told = _open(args, to_change=False).info()
        if args.json:
            print(json.dumps(told, indent=1))
            return
        for name, value in told.items():
            text = ", ".join(f"{key} {item:,}" for key, item in value.items()) if isinstance(value, dict) else value
            text = ", ".join(map(str, value)) if isinstance(value, list) else text
            print(f"{name.replace('_', ' '):14}{text if text not in ('', None) else '-'}")


CHANGES: dict[str, Callable[[Sequence[str]], None]] = {
    "add": add,
    "update": update,
    "remove": remove,
    "merge": merge,
    "info": info,
}
"""The commands by their names."""


def _lines(path: str) -> list[str]:
    """Returns the lines of a text file, which may name files whose names are no UTF-8."""
    from hierpretrain.datasets.encodings import decode
    from hierpretrain.datasets.text_files import read_bytes

    data = read_bytes(path)
    if b"\0" in data or data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):  # as PowerShell's > writes
        text = decode(data, path)
    else:
        text = data.decode("utf-8-sig", "surrogateescape").replace("\r\n", "\n")
    return text.split("\n")  # and not splitlines(): a key may hold U+2028


def _parser(name: str, command: Callable[..., None]) -> argparse.ArgumentParser:
    text = "\n".join(line.removeprefix("    ") for line in (command.__doc__ or "").splitlines())
    parser = Parser(prog=f"hierpretrain index {name}", description=text)
    parser.add_argument("index", help="the index: a folder, or an address (milvus://, milvus-lite://)")
    return parser


def _embedding_arguments(parser: argparse.ArgumentParser) -> None:
    add_list_arguments(parser)
    add_running_arguments(parser)


def _open(args: argparse.Namespace, *, to_change: bool = True) -> EmbeddingIndex:
    from hierpretrain.apis.index import EmbeddingIndex
    from hierpretrain.apis.index_files import check_changeable

    if to_change:
        check_changeable(args.index)  # not after hours of embedding
    log_to_standard_error()
    index = EmbeddingIndex.open(args.index, **(running_options(args) if "device" in args else {}))
    index.log = print
    return index


def _print(name: str, index: EmbeddingIndex, change: str) -> None:
    print(f"{change}; {name} has {len(index):,} images")
