"""The commands: each a module with a ``main``, run as ``python tools/<name>.py`` or ``hierpretrain <name>``."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hierpretrain._endings import is_of_output, say
from hierpretrain._parser import Parser

if TYPE_CHECKING:
    from hierpretrain.apis import EmbeddingInferencer
    from hierpretrain.apis.images import ImageSet
    from hierpretrain.evaluation import Embeddings

_REMEDIES = {
    errno.ENOSPC: "; make room on its disk, or give a path on another",
    errno.EDQUOT: "; make room in your quota, or give a path on another disk",
    errno.EROFS: "; give a path on a disk that can be written to",
}
_LISTED = 20  # of the files that were skipped


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Ends the program with ``error: ...`` and exit status 2 where the user's input is at fault.

    What is the user's to mend is a ``ValueError``, an ``OSError`` or an ``ImportError`` whose message says how; all
    else keeps its traceback, for it is ours. Ctrl-C ends the program with status 130, and a reader of its output who
    has seen enough, such as ``head``, with 0.

    Example:
        >>> with errors_in_one_line():
        ...     raise ValueError("the folder 'photos' holds no image")
        Traceback (most recent call last):
        SystemExit: 2
    """
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        if isinstance(error, OSError) and is_of_output(error):
            raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        remedy = _REMEDIES.get(error.errno, "") if isinstance(error, OSError) else ""
        say(f"error: {printable(' '.join(lines))}{remedy}")
        raise SystemExit(2) from error


def printable(text: str) -> str:
    r"""Returns a text, such as the name of a file, with escapes for what would break a line or upset a terminal.

    Example:
        >>> print(printable("new\nyear \x1b[2J.jpg"))
        new\nyear \x1b[2J.jpg
    """
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what chooses the model: ``CONFIG CHECKPOINT`` and how to run it."""
    from hierpretrain._options import add_cfg_options

    parser.add_argument("config", help="the config file of the training, or a name of the model zoo")
    parser.add_argument("checkpoint", help="its checkpoint; '' for the weights that training would start with")
    group = add_running_arguments(parser)
    add_cfg_options(group)


def model_parser(doc: str | None) -> argparse.ArgumentParser:
    """Returns a parser of ``CONFIG CHECKPOINT [IMAGES ...]``, for the commands that embed images by a model."""
    parser = Parser(description=doc)
    add_model_arguments(parser)
    add_image_arguments(parser)
    return parser


def add_running_arguments(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Adds how a model is run, and returns the group of these arguments."""
    group = parser.add_argument_group("the model")
    group.add_argument("--device", help="such as cpu or cuda:1; a GPU if there is one")
    group.add_argument("--batch-size", type=int, default=64, help="images embedded at a time (default: 64)")
    group.add_argument(
        "--workers",
        type=int,
        help="processes that read images, and embed them on a CPU (default: one for each core of a CPU, 2 for a GPU)",
    )
    group.add_argument(
        "--amp",
        action="store_true",
        help="compute in bfloat16, faster where the processor or the GPU has it; cosines are off by some thousandths",
    )
    group.add_argument(
        "--on-error",
        choices=["skip", "error"],
        default="skip",
        help="what a file or a link that cannot be read does: it is skipped and listed, or ends the command "
        "(default: skip)",
    )
    group.add_argument(
        "--skipped", metavar="FILE", help="write what was skipped, each with why, as JSON, here too; {} if all was read"
    )
    return group


def add_image_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what chooses the images: ``[IMAGES ...]``, or the config's test data."""
    parser.add_argument(
        "images",
        nargs="*",
        help="files, folders (sub-folders are labels), quoted patterns such as 'photos/**/*.jpg', or a list (.csv, "
        ".tsv, .txt, .json, .jsonl, .xlsx, .parquet); without any, the config's test data set",
    )
    add_list_arguments(parser)
    add_test_data_arguments(parser)


def add_test_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what chooses among the config's test data, where no images are given."""
    group = parser.add_argument_group("the config's test data set, if no images are given")
    group.add_argument("--data-root", help="where it is; the folder of the config by default")
    group.add_argument("--splits", nargs="+", help="its splits; the splits of the config by default")


_LIST_OPTIONS = {  # of the command line: how ListDataset calls it, and what it is
    "--image-column": ("image_column", "the column of the images (default: image)"),
    "--levels": (
        "levels",
        "the columns of the labels, the broadest first; without a name: none (default: all)",
    ),
    "--key-column": ("key_column", "the column by which you know an image; it comes back with every answer"),
    "--split-column": ("split_column", "the column of the splits (default: split, if there is one)"),
    "--level-separator": ("level_separator", "what separates the names of a path, for one column of whole paths"),
    "--path-separator": ("path_separator", "what separates several places in one cell"),
    "--on-gap": (
        "on_gap",
        "what a level does that is empty above one that is not (default: error)",
    ),
    "--delimiter": ("delimiter", "what separates the fields; by default comma, semicolon or tab is found out"),
    "--encoding": (
        "encoding",
        "of a text file, such as cp1252; by default it is found out",
    ),
    "--image-root": ("data_root", "the folder that the images are relative to (default: the list's own)"),
}


def add_list_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what says how a list of images is read; :func:`list_options` returns what was chosen."""
    group = parser.add_argument_group("a list of images, if one is given")
    for flag, (name, text) in _LIST_OPTIONS.items():
        more = {"nargs": "*"} if name == "levels" else {"choices": ["error", "cut"]} if name == "on_gap" else {}
        group.add_argument(flag, dest=f"list_{name}", help=text, **more)


def list_options(args: argparse.Namespace) -> dict[str, Any]:
    r"""Returns the options of :class:`~hierpretrain.datasets.ListDataset` that a command line gives.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_list_arguments(parser)
        >>> list_options(parser.parse_args(["--levels", "kind", "breed", "--delimiter", r"\t"]))
        {'levels': ['kind', 'breed'], 'delimiter': '\t'}
    """
    names = [name for name, _ in _LIST_OPTIONS.values()]
    chosen = {name: value for name in names if (value := getattr(args, f"list_{name}")) is not None}
    return chosen | ({"delimiter": "\t"} if chosen.get("delimiter") in (r"\t", "tab") else {})


class _StandardError:
    """The standard error of the moment, for a log that outlives it where Python redirects it."""

    def write(self, text: str) -> None:
        sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def build_inferencer(args: argparse.Namespace) -> EmbeddingInferencer:
    """Builds the model that the arguments choose; from here on the log goes to the standard error.

    The standard output is for what a command finds, which a program may read.
    """
    from hierpretrain.apis import EmbeddingInferencer

    log_to_standard_error()
    return EmbeddingInferencer(args.config, args.checkpoint, options=args.cfg_options, **running_options(args))


def check_outputs(args: argparse.Namespace, *options: str, ours: Mapping[str, bytes] | None = None) -> None:
    """Raises unless the files that options name can be written, and none is one that the command reads or writes.

    It is called before the work: a long work would be lost, and a list of the user's replaced by what is said of it.

    Args:
        args: The command line.
        options: The names of the options, such as ``'out'``; a file that is not given is none.
        ours: Of files that have a name by default, what those that this command writes begin with. Such a file
            replaces its like, and nothing else.

    Raises:
        ValueError: That names the file, and the option that shall have another.

    Example:
        >>> args = argparse.Namespace(data=__file__, out=__file__)
        >>> check_outputs(args, "out")
        Traceback (most recent call last):
        ValueError: .../commands/__init__.py is read by this command and would be replaced: give another --out
    """
    from hierpretrain.files import check_writable

    named = {option: _texts(value) for option, value in vars(args).items()}
    for option in options:
        rest = [path for other, paths in named.items() if other != option for path in paths]
        for path in named[option]:
            if path == "-":  # the standard output
                continue
            check_writable(path)
            if os.path.exists(path) and any(os.path.exists(other) and os.path.samefile(path, other) for other in rest):
                raise ValueError(f"{path} is read by this command and would be replaced: give another --{option}")
            if os.path.abspath(path) in map(os.path.abspath, rest):
                raise ValueError(f"{path} would be written twice: give another --{option}")
    for path, head in (ours or {}).items():
        if os.path.isfile(path):
            with open(path, "rb") as file:
                if file.read(len(head)) != head:
                    raise ValueError(f"{path} is there and is not of this command: give --out, or move it away")


def page_head(name: str) -> bytes:
    """Returns what every page begins with that is made of a template in ``hierpretrain/report``.

    Example:
        >>> page_head("report")[:15]
        b'<!DOCTYPE html>'
    """
    return Path(__file__).parents[1].joinpath("report", f"{name}.html").read_bytes().partition(b"<title>")[0]


def _texts(value: Any) -> list[str]:
    """Returns the texts of an option that has one, several or none."""
    return [text for text in (value if isinstance(value, list | tuple) else [value]) if isinstance(text, str) and text]


def running_options(args: argparse.Namespace) -> dict[str, Any]:
    """Returns how the arguments of :func:`add_running_arguments` run a model: options of an inferencer."""
    return {
        "device": args.device,
        "batch_size": args.batch_size,
        "num_workers": args.workers,
        "amp": args.amp,
        "on_error": args.on_error,
        "progress": True,
    }


def log_to_standard_error() -> None:
    """Sends the log to the standard error: the standard output is for what a command finds."""
    from mmengine.logging import MMLogger

    for handler in MMLogger.get_current_instance().handlers:
        if type(handler) is logging.StreamHandler:
            handler.stream = _StandardError()  # setStream would flush the old one, which may be closed by now


def embed_images(
    args: argparse.Namespace, inferencer: EmbeddingInferencer, check: Callable[[ImageSet], object] | None = None
) -> Embeddings:
    """Embeds the images that the arguments choose, and lists those that had to be skipped.

    Args:
        args: Of :func:`add_image_arguments` and :func:`add_running_arguments`.
        inferencer: The model.
        check: Called with the images before any is embedded; it raises if what is to be done with them cannot be done.

    Raises:
        ValueError: If images are given together with options of the config's data set, and as the inferencer.
    """
    from hierpretrain.apis import config_dataset, gather_images

    if args.images and (args.data_root or args.splits):
        raise ValueError("--data-root and --splits are for the config's own test data; leave them out, or the images")
    check_outputs(args, "skipped")  # not after hours of embedding
    images = args.images or config_dataset(inferencer.config, args.data_root, args.splits, args.on_error)
    found = gather_images(images, on_error=inferencer.on_error, **list_options(args))
    if check is not None:
        check(found)
    embedded = inferencer.embed_set(found)
    print(f"embedded {len(embedded.paths):,} images with {inferencer.name}")
    list_skipped(args, embedded.skipped)
    return embedded


def list_skipped(args: argparse.Namespace, skipped: Mapping[str, str]) -> None:
    """Writes which images could not be read, and why, to the file of ``--skipped``, if it is given, and prints it."""
    from hierpretrain.datasets.on_error import write_skipped

    if args.skipped:
        write_skipped(args.skipped, skipped)
    if skipped:
        print(f"skipped {len(skipped):,} that cannot be read:", file=sys.stderr)
        for reason in list(skipped.values())[:_LISTED]:
            print(f"  {printable(reason)}", file=sys.stderr)
        if len(skipped) > _LISTED:
            print(f"  and {len(skipped) - _LISTED:,} more", file=sys.stderr)
