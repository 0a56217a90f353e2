"""Gradient caching: the gradient of a batch of any size in the memory of a part of it (Gao et al., RepL4NLP 2021)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn
from torch.utils.checkpoint import get_device_states, set_device_states

from hierpretrain.functional.first_order import first_order

Named = list[tuple[nn.Module, str, Any]]  # an entry of a module: (module, name, value)


def encode_in_chunks(
    encode: Callable[[Tensor], Tensor], rows: Tensor, size: int, modules: Sequence[nn.Module]
) -> Tensor:
    """Returns ``encode(rows)``, computed a chunk at a time, and keeps nothing for backward but the rows themselves.

    Backward runs one chunk after the other a second time, with the random numbers, the buffers, the modes (``train``
    or ``eval``) and the autocast of the first, and takes its gradient before it comes to the next. To autograd all of
    it is one function, so that each parameter gets its whole gradient at once: gradient scalers, accumulation and
    ``DistributedDataParallel`` see nothing special.

    Args:
        encode: From some rows to one vector of each. It must draw random numbers from torch alone. It gets copies of
            the rows, so it may change them.
        rows: (N, ...); they get no gradient.
        size: Rows of a chunk at most, at least 1. The chunks of a batch differ by one row at most.
        modules: What ``encode`` runs: their parameters get the gradient. Their buffers, such as the running statistics
            of batch normalisation, change in the first run alone.

    Returns:
        (N, D).

    Raises:
        ValueError: If one process has fewer rows than another has chunks. All of them must make the same number of
            chunks, since batch normalisation may take statistics over all processes at each.
        RuntimeError: In backward, if a parameter was changed since, or with ``create_graph=True``.

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
        ctx.buffers = _copies(_named("buffers", modules))
        ctx.modes = [(owner, "training", owner.training) for owner in _owners(modules)]
        device = rows.device.type
        # no cache: weights that were cast where there is no gradient are not for others
        ctx.autocast = {"device_type": device, "dtype": torch.get_autocast_dtype(device), "cache_enabled": False}
        ctx.autocast["enabled"] = torch.is_autocast_enabled(device)
        ctx.random_states, encoded = [], []
        with torch.autocast(**ctx.autocast):
            for chunk in rows.tensor_split(number):
                ctx.random_states.append((torch.get_rng_state(), *get_device_states(rows)))
                encoded.append(encode(chunk.clone()))
        ctx.versions = _versions(modules)
        return torch.cat(encoded)

    @staticmethod
    @first_order
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (rows,) = ctx.saved_tensors
        if _versions(ctx.modules) != ctx.versions:
            raise RuntimeError(
                "a parameter was changed between forward and backward of grad_cache, whose gradient is that of the "
                "parameters as they were; run backward before the optimizer steps or weights are loaded"
            )
        device, devices = rows.device.type, ctx.random_states[0][1]
        chunks = zip(rows.tensor_split(ctx.number), gradient.tensor_split(ctx.number), ctx.random_states, strict=True)
        kept = _named("parameters", ctx.modules)
        parameters = {id(p): nn.Parameter(p.detach(), requires_grad=p.requires_grad) for *_, p in kept}
        stand_ins = [(owner, name, parameters[id(p)]) for owner, name, p in kept]
        others = _copies(ctx.buffers) + ctx.modes
        with torch.random.fork_rng(devices, device_type=device), _in_place_of_own(stand_ins + others):
            for chunk, its_gradient, (state, _, states) in chunks:
                torch.set_rng_state(state)
                set_device_states(devices, states, device_type=device)
                with torch.enable_grad(), torch.autocast(**ctx.autocast):
                    encoded = ctx.encode(chunk.clone())
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


def _owners(modules: Sequence[nn.Module]) -> list[nn.Module]:
    return list(dict.fromkeys(owner for module in modules for owner in module.modules()))


def _named(kind: str, modules: Sequence[nn.Module]) -> Named:
    """Returns the ``'parameters'`` or ``'buffers'`` of all modules, in each place where one stands."""
    own = {"recurse": False, "remove_duplicate": False}
    return [(owner, *named) for owner in _owners(modules) for named in getattr(owner, f"named_{kind}")(**own)]


def _versions(modules: Sequence[nn.Module]) -> list[tuple[int, int]]:
    """Returns what is no more the same once a parameter was replaced or changed in place."""
    return [(id(parameter), parameter._version) for *_, parameter in _named("parameters", modules)]


def _copies(tensors: Named) -> Named:
    """Returns copies, one of each tensor, wherever it stands."""
    copies = {id(tensor): tensor.detach().clone() for *_, tensor in tensors}
    return [(owner, name, copies[id(tensor)]) for owner, name, tensor in tensors]


@contextmanager
def _in_place_of_own(entries: Named) -> Iterator[None]:
    """Has modules run on other parameters, buffers and modes than their own, which they get back after it."""
    own = [(owner, name, getattr(owner, name)) for owner, name, _ in entries]
    try:
        for owner, name, value in entries:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in own:
            setattr(owner, name, value)
