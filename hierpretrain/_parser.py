"""The parser of the commands' arguments."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from hierpretrain._names import did_you_mean

_UNKNOWN = "unrecognized arguments: "


class Parser(argparse.ArgumentParser):
    """A parser that shows its description as it was written, and says which option an unknown one is most like.

    Example:
        >>> import contextlib, sys
        >>> parser = Parser(prog="train", usage="train --resume")
        >>> _ = parser.add_argument("--resume")
        >>> with contextlib.redirect_stderr(sys.stdout):
        ...     parser.parse_args(["--rezume=yes"])
        Traceback (most recent call last):
        SystemExit: 2
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        """Prints the usage and the message, and ends the program with status 2."""
        if message.startswith(_UNKNOWN):
            words = [word.partition("=")[0] for word in message.removeprefix(_UNKNOWN).split() if word.startswith("-")]
            guess = did_you_mean(words[0], self._option_string_actions) if words else ""
            message += f"; {guess}" if guess else ""
        super().error(message)
