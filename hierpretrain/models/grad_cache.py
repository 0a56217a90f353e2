"""Gradient caching: the gradient of a batch of any size in the memory of a part of it (Gao et al., RepL4NLP 2021)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn
from torch.utils.checkpoint import get_device_states, set_device_states


def encode_in_chunks(
    encode: Callable[[Tensor], Tensor], rows: Tensor, size: int, modules: Sequence[nn.Module]
) -> Tensor:
    """Returns ``encode(rows)``, computed a chunk at a time, and keeps nothing for backward but the rows themselves.

    Backward runs one chunk after the other a second time, with the random numbers and the autocast of the first, and
    takes its gradient before it comes to the next. To autograd all of it is one function, so that each parameter gets
    its whole gradient at once: gradient scalers, accumulation and ``DistributedDataParallel`` see nothing special.

    Args:
        encode: From some rows to one vector of each. It must draw random numbers from torch alone.
        rows: (N, ...); they get no gradient.
        size: Rows of a chunk at most, at least 1. The chunks of a batch differ by one row at most.
        modules: What ``encode`` runs: their parameters get the gradient. Their buffers, such as the running statistics
            of batch normalisation, change in the first run alone.

    Returns:
        (N, D).

    Raises:
        ValueError: If one process has fewer rows than another has chunks. All of them must make the same number of
            chunks, since batch normalisation may take statistics over all processes at each.

    Example:
        >>> layer = torch.nn.Linear(2, 1)
        >>> encode_in_chunks(layer, torch.ones(5, 2), 2, [layer]).sum().backward()
        >>> layer.weight.grad
        tensor([[5., 5.]])
    """
    trained = {id(p): p for module in modules for p in module.parameters() if p.requires_grad}
    return _InChunks.apply(encode, rows, _number_of_chunks(len(rows), size), modules, *trained.values())


class _InChunks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        encode: Callable[[Tensor], Tensor],
        rows: Tensor,
        number: int,
        modules: Sequence[nn.Module],
        *parameters: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.encode, ctx.number, ctx.modules, ctx.parameters = encode, number, modules, parameters
        device = rows.device.type
        # no cache: weights that were cast where there is no gradient are not for others
        ctx.autocast = {"device_type": device, "dtype": torch.get_autocast_dtype(device), "cache_enabled": False}
        ctx.autocast["enabled"] = torch.is_autocast_enabled(device)
        ctx.random_states, encoded = [], []
        with torch.autocast(**ctx.autocast):
            for chunk in rows.tensor_split(number):
                ctx.random_states.append((torch.get_rng_state(), *get_device_states(rows)))
                encoded.append(encode(chunk))
        return torch.cat(encoded)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (rows,) = ctx.saved_tensors
        device, devices = rows.device.type, ctx.random_states[0][1]
        chunks = zip(rows.tensor_split(ctx.number), gradient.tensor_split(ctx.number), ctx.random_states, strict=True)
        with torch.random.fork_rng(devices, device_type=device), _stand_ins(ctx.modules) as parameters:
            for chunk, its_gradient, (state, _, states) in chunks:
                torch.set_rng_state(state)
                set_device_states(devices, states, device_type=device)
                with torch.enable_grad(), torch.autocast(**ctx.autocast):
                    encoded = ctx.encode(chunk)
                encoded.backward(its_gradient)
                del encoded
        return None, None, None, None, *(parameters[id(parameter)].grad for parameter in ctx.parameters)


def _number_of_chunks(rows: int, size: int) -> int:
    """Returns the most chunks that any process needs."""
    most = torch.tensor([-(-rows // size), -rows])
    all_reduce(most, "max")
    number, fewest = int(most[0]), -int(most[1])
    if fewest < number:  # known to all processes, so that none waits for another
        raise ValueError(
            f"grad_cache={size} makes {number} chunks of one process's images and views, but another process has only "
            f"{fewest} of them; give all processes batches of about one size, or raise grad_cache"
        )
    return number


@contextmanager
def _stand_ins(modules: Sequence[nn.Module]) -> Iterator[dict[int, nn.Parameter]]:
    """Has modules run on parameters that share the values and have a gradient of their own, and on copied buffers.

    Yields:
        The stand-ins by the ``id`` of the parameters.
    """
    owners = [owner for module in modules for owner in module.modules()]
    own = {"recurse": False, "remove_duplicate": False}
    kept = [(owner, *named) for owner in owners for named in owner.named_parameters(**own)]
    buffers = [(owner, *named) for owner in owners for named in owner.named_buffers(**own)]
    stand_ins = {id(p): nn.Parameter(p.detach(), requires_grad=p.requires_grad) for _, _, p in kept}
    try:
        for owner, name, parameter in kept:
            setattr(owner, name, stand_ins[id(parameter)])
        for owner, name, buffer in buffers:
            setattr(owner, name, buffer.clone())
        yield stand_ins
    finally:
        for owner, name, tensor in kept + buffers:
            setattr(owner, name, tensor)
