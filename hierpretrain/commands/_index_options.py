"""The arguments of the commands that ask an index: the index, its model if it does not carry one, and images."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hierpretrain._options import add_cfg_options
from hierpretrain._parser import Parser
from hierpretrain.commands import (
    add_list_arguments,
    add_running_arguments,
    add_test_data_arguments,
    build_inferencer,
    log_to_standard_error,
    running_options,
)

if TYPE_CHECKING:
    from hierpretrain.apis import EmbeddingInferencer
    from hierpretrain.apis.index import EmbeddingIndex

MODEL_BEFORE_IMAGES = "give its config and checkpoint between the index and the images"
"""What a command can do that :func:`index_parser` reads, where an index does not carry its model."""
_CHECKPOINTS = (".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".tar")  # no image has such an ending


def index_parser(doc: str | None, images: str = "IMAGES", *, test_data: bool = False) -> argparse.ArgumentParser:
    """Returns a parser of ``INDEX [CONFIG CHECKPOINT] IMAGES``; :func:`open_index` opens what they name.

    Args:
        doc: What the command does.
        images: What its images are called.
        test_data: Whether they may be left out behind CONFIG and CHECKPOINT, for the config's test data.
    """
    parser = Parser(description=doc)
    parser.add_argument("index", help="an index, as the command index writes it: a folder, or an address of Milvus")
    parser.add_argument(
        "images",
        nargs="*" if test_data else "+",
        metavar=images,
        help="files, folders (sub-folders are labels), quoted patterns or a list (.csv, .xlsx ...); before them CONFIG "
        "and CHECKPOINT, if the index does not carry its model"
        + (" or to take the config's test data, without any IMAGES" if test_data else ""),
    )
    group = add_running_arguments(parser)
    add_cfg_options(group, "CONFIG")
    add_list_arguments(parser)
    parser.set_defaults(data_root=None, splits=None, test_data=test_data)
    if test_data:
        add_test_data_arguments(parser)
    return parser


def open_index(args: argparse.Namespace) -> EmbeddingIndex:
    """Opens the index that the arguments name, with its model; from here on the log goes to the standard error.

    ``args.images`` are then the images alone.

    Raises:
        ValueError: If there is no image, CONFIG and CHECKPOINT are not of the model that made the index, there are
            options of a config and no CONFIG, and as :meth:`EmbeddingIndex.open`.
    """
    from hierpretrain.apis.index import EmbeddingIndex

    if names_model(args.images):
        args.config, args.checkpoint, *args.images = args.images
        if not args.images and not args.test_data:
            raise ValueError(
                "there is no image to search for: give files, folders, patterns or lists behind CHECKPOINT"
            )
        return build_inferencer(args).load_index(args.index)
    if args.cfg_options:
        raise ValueError("--cfg-options are for CONFIG, and the index carries its own: give CONFIG and CHECKPOINT")
    if not args.images:
        raise ValueError(
            "give images: files, folders, patterns or lists; or CONFIG and CHECKPOINT, for the config's test data"
        )
    log_to_standard_error()
    return EmbeddingIndex.open(args.index, **running_options(args))


def model_of(index: EmbeddingIndex, remedy: str) -> EmbeddingInferencer:
    """Returns the model of an index; where there is none, the error tells what the command takes instead."""
    from hierpretrain.apis.index_model import NoModel

    try:
        return index.inferencer
    except NoModel as error:
        raise NoModel(error.name, remedy) from None


def names_model(words: Sequence[str]) -> bool:
    """Returns whether the words of a command line begin with a config and a checkpoint, and not with images.

    Example:
        >>> names_model(["emoji.py", "epoch_4.pth", "a.jpg"]), names_model(["a.jpg", "b.jpg"]), names_model(["a.jpg"])
        (True, False, False)
        >>> names_model(["finetune_emoji", "", "a.jpg"])
        True
    """
    first, second, *_ = [*words, "no", "more"]
    return first.endswith(".py") or (len(words) > 1 and (not second or second.endswith(_CHECKPOINTS)))
