"""Python's search for garbage, while many small objects are made that all stay: imports, and millions of labels."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

_USUAL = gc.get_threshold()


def search_seldom() -> None:
    """Has Python look for reference cycles once in 10,000 new objects: looking more often makes imports a tenth longer.

    Example:
        >>> search_seldom()
        >>> gc.get_threshold()[0]
        10000
        >>> search_as_ever()
    """
    gc.set_threshold(10_000)


def search_as_ever() -> None:
    """Has Python look for them as often as it does by itself, lest those that hold much memory wait for long."""
    gc.set_threshold(*_USUAL)


def without_collection(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Has Python look for no reference cycles while a function runs.

    Python looks whenever so many objects are new, and then at all that are there. Of a long list, which has no cycles,
    it finds nothing, in a good part of the time. What is in no cycle is freed at once, as ever.

    Example:
        >>> without_collection(gc.isenabled)(), gc.isenabled()
        (False, True)
    """

    @wraps(function)
    def uncollected(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            return function(*args, **kwargs)
        finally:
            if was_enabled:
                gc.enable()

    return uncollected
