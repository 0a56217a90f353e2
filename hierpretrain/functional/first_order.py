"""What is differentiated once, said aloud where it is differentiated twice."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def first_order(backward: Callable[P, R]) -> Callable[P, R]:
    """Has the ``backward`` of an autograd function raise wherever ``create_graph=True`` asks for more than it gives.

    ``once_differentiable`` raises only if the incoming gradient requires one. That of a loss is a constant, and what
    a penalty on the gradient adds would be lost without a word.

    Raises:
        RuntimeError: In ``backward``, while a graph of the gradient is made.

    Example:
        >>> class Double(torch.autograd.Function):
        ...     forward = staticmethod(lambda ctx, x: 2 * x)
        ...     backward = staticmethod(first_order(lambda ctx, grad: 2 * grad))
        >>> x = torch.ones((), requires_grad=True)
        >>> torch.autograd.grad(Double.apply(x), x)
        (tensor(2.),)
        >>> torch.autograd.grad(Double.apply(x), x, create_graph=True)
        Traceback (most recent call last):
        RuntimeError: this gradient is a constant: it cannot be differentiated again; leave create_graph=True out
    """

    @wraps(backward)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "this gradient is a constant: it cannot be differentiated again; leave create_graph=True out"
            )
        return backward(*args, **kwargs)

    return checked
