"""Packages whose names are imported when somebody asks for one, so that a command imports no more than it runs."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def imported_on_demand(package: str) -> Callable[[str], Any]:
    """Returns the ``__getattr__`` of a package, which imports a name the first time that it is asked for.

    Where a name is from, the package says once, in imports below ``if TYPE_CHECKING:``, which type checkers and editors
    read too. Modules of the package can be asked for as well. It serves a module as it does a package.

    Args:
        package: The package, ``__name__`` in its ``__init__.py``.

    Example:
        >>> import hierpretrain.functional
        >>> hierpretrain.functional.triplet_loss.__module__
        'hierpretrain.functional.triplet'
        >>> hierpretrain.functional.triplet_los
        Traceback (most recent call last):
        AttributeError: module 'hierpretrain.functional' has no attribute 'triplet_los'
    """
    module = sys.modules[package]
    found: dict[str, str] = {}  # name -> the module that has it

    def get(name: str) -> Any:
        if not found:
            found.update(_sources(Path(str(module.__file__)).read_text(encoding="utf-8")))
        if name in found:
            value = getattr(import_module(found[name]), name)
        elif "__path__" in vars(module) and not name.startswith("__") and find_spec(f"{package}.{name}"):
            return import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(module, name, value)
        return value

    return get


def import_all(package: str) -> None:
    """Imports all that a package of :func:`imported_on_demand` offers, so that what registers does so."""
    module = import_module(package)
    for name in module.__all__:
        getattr(module, name)


def _sources(code: str) -> dict[str, str]:
    r"""Returns the modules of the names that a package imports below ``if TYPE_CHECKING:``.

    Example:
        >>> _sources("if TYPE_CHECKING:\n    from shop.fruit import Apple, Pear")
        {'Apple': 'shop.fruit', 'Pear': 'shop.fruit'}
    """
    blocks = [
        node.body
        for node in ast.parse(code).body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    ]
    imports = [line for block in blocks for line in block if isinstance(line, ast.ImportFrom)]
    return {alias.name: str(line.module) for line in imports for alias in line.names}
