"""The arguments that the commands which run a config have in common."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from hierpretrain._options import add_cfg_options

if TYPE_CHECKING:
    from mmengine.config import Config


def read_level(text: str) -> int | str:
    """Reads a level from a command line: its number, or else its name.

    Example:
        >>> read_level("2"), read_level("-1"), read_level("kind")
        (2, -1, 'kind')
    """
    return int(text) if text.removeprefix("-").isdecimal() else text


def read_command(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, Config]:
    """Adds the common arguments to a parser, reads the command line, and loads the config that it names.

    Args:
        parser: A parser with the arguments of the command itself; ``config`` must be one of them.

    Returns:
        The arguments, and the config with the overrides, ``work_dir`` and ``launcher`` that they say.

    Raises:
        ValueError: If the config cannot be read; see :func:`~hierpretrain.apis.load_config`.
    """
    args = parse_command(parser)
    return args, config_of(args)


def parse_command(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Adds the common arguments to a parser and reads the command line, without importing torch."""
    parser.add_argument("--work-dir", help="where all that is written goes; work_dirs/<config name> if not given")
    parser.add_argument("--data-root", help="where the data set is; overrides the config's")
    add_cfg_options(parser)
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none", help="job launcher")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help="given by some launchers")
    return parser.parse_args()


def config_of(args: argparse.Namespace) -> Config:
    """Loads the config that parsed arguments name, as :func:`read_command` does."""
    from hierpretrain.apis.config import load_config

    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    config = load_config(args.config, args.cfg_options, args.data_root)
    config.launcher = args.launcher
    config.work_dir = args.work_dir or config.get("work_dir") or f"work_dirs/{Path(config.filename).stem}"
    return config
