"""Reads ``--cfg-options``, without importing torch, so that ``--help`` is quick."""

from __future__ import annotations

import argparse
from typing import Any

from mmengine.config import DictAction


def add_cfg_options(parser: argparse._ActionsContainer, config: str = "the config") -> None:
    """Adds ``--cfg-options`` to a parser or a group of it; ``config`` is what the help calls the config."""
    parser.add_argument(
        "--cfg-options", nargs="+", action=_Options, help=f"override values of {config}: key.key=value ..."
    )


class _Options(DictAction):
    """Reads ``--cfg-options`` as MMEngine does, but a malformed option ends the program with one line about it."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *args: Any) -> None:
        """Puts the options into the namespace, or ends the program."""
        for text in values:
            try:
                super().__call__(parser, namespace, [text], *args)
            except (ValueError, AssertionError, RecursionError):  # MMEngine's at no '=', odd brackets, calls in them
                parser.error(
                    f"{self.option_strings[0]} takes key=value, up to the next option that begins with '-'; a value is "
                    f"a number, a word, or a [list] or (tuple) of these; {text!r} is not like that"
                )
