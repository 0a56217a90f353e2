"""Reads ``--cfg-options``, without importing torch, so that ``--help`` is quick."""

from __future__ import annotations

import argparse
from typing import Any

from mmengine.config import DictAction


class OptionsAction(DictAction):
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
