"""Python's search for garbage, while millions of small objects are made that all stay."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


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
