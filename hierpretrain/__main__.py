"""``hierpretrain COMMAND ...``, or ``python -m hierpretrain COMMAND ...``: runs a command, or lists them all."""

from __future__ import annotations

import ast
import sys
from importlib import import_module
from pathlib import Path

import hierpretrain
from hierpretrain._collection import search_seldom
from hierpretrain._endings import ends_without_traceback, say
from hierpretrain._names import did_you_mean

_FOLDER = Path(__file__).with_name("commands")


def commands() -> dict[str, str]:
    """Returns what every command does, in a line, by its name; reads their files, and imports none of them.

    Example:
        >>> commands()["train"]
        'Trains a model as a config says.'
    """
    files = sorted(path for path in _FOLDER.glob("*.py") if not path.stem.startswith("_"))
    docs = {path.stem: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "" for path in files}
    return {name.replace("_", "-"): doc.partition("\n")[0] for name, doc in docs.items()}


def run(command: str) -> None:
    """Runs a command, given the name of its module; Ctrl-C and a closed pipe end it without a traceback."""
    search_seldom()
    with ends_without_traceback():
        import_module(f"hierpretrain.commands.{command}").main()


def main() -> None:
    """Runs the command that the command line names, with the rest of the line as its arguments."""
    with ends_without_traceback():
        _main()


def _main() -> None:
    known = commands()
    name = sys.argv[1].replace("_", "-") if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help", "help"):
        width = max(map(len, known))
        print("usage: hierpretrain COMMAND ...\n\nImage embeddings that respect a label tree.\n\ncommands:")
        print("\n".join(f"  {name:<{width}}  {about}" for name, about in known.items()))
        print("\nhierpretrain COMMAND --help says more, with examples.")
    elif name == "--version":
        print(f"hierpretrain {hierpretrain.__version__}")
    elif name in known:
        sys.argv = [f"hierpretrain {name}", *sys.argv[2:]]
        run(name.replace("-", "_"))
    else:
        guess = did_you_mean(name, known, f"there are {', '.join(known)}")
        say(f"error: hierpretrain has no command {name!r}; {guess}")
        raise SystemExit(2)


if __name__ == "__main__":
    main()
