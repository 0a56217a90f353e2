"""The nearest of a constructor's arguments, for one that it does not have."""

from __future__ import annotations

import inspect
import re
import traceback

from hierpretrain._names import did_you_mean
from hierpretrain.registry import arguments_of

_UNEXPECTED = re.compile(r"([\w.]+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")


def nearest_argument(error: TypeError) -> str:
    """Returns the question which argument was meant, where a constructor got one that it does not have.

    Args:
        error: What was raised, while it is handled.

    Returns:
        A question, or what there is where no argument is much like it; nothing where the error is another one.

    Example:
        >>> class Loss:
        ...     def __init__(self, weight=1.0): ...
        >>> try:
        ...     Loss(wieght=2.0)
        ... except TypeError as error:
        ...     print(nearest_argument(error))
        did you mean 'weight'?
    """
    if not (match := _UNEXPECTED.search(str(error))):
        return ""
    name = match[1].rpartition(".")[2]
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        for kind in (frame.f_locals.get("obj_cls"), frame.f_locals.get(name), frame.f_globals.get(name)):
            # a class hands on to the one above it what it does not know
            if inspect.isclass(kind) and any(part.__name__ == name for part in kind.__mro__):
                return did_you_mean(
                    match[2], known := dict.fromkeys(arguments_of(kind)), f"it takes {', '.join(known)}"
                )
    return ""
