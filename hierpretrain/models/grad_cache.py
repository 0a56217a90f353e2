"""Gradient caching: the gradient of a batch of any size in the memory of a chunk of it (Gao et al., RepL4NLP 2021)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Entry = tuple[nn.Module, str, Any]  # an entry of a module: (module, name, value)


@torch.compiler.disable  # it cannot follow a context that gives modules other buffers
def encode_in_chunks(
    encode: Callable[[Tensor], Tensor], images: Tensor, size: int, modules: Sequence[nn.Module]
) -> Tensor:
    """Computes ``encode(images)`` chunk by chunk, and keeps nothing for backward but the images themselves.

    Backward runs one chunk after the other a second time, with the random numbers, the buffers, the modes (``train``
    or ``eval``) and the autocast of the first run, and takes its gradient before it comes to the next. Each parameter
    gets the gradient of all chunks at once, so that gradient scalers, accumulation and ``DistributedDataParallel`` see
    nothing special.

    Args:
        encode: Turns some images, of which it gets copies, into one vector each. Its random numbers are torch's alone.
        images: (N, ...) images, or features of a frozen backbone; they get no gradient.
        size: Images of a chunk at most, at least 1. The chunks of a batch differ by one image at most.
        modules: All modules that ``encode`` runs. Their buffers, such as the running statistics of batch normalisation,
            change in the first run alone.

    Returns:
        (N, D) vectors.

    Raises:
        ValueError: If one process has fewer images than another has chunks. All must make as many chunks, since batch
            normalisation may take statistics over all processes at each.
        RuntimeError: In backward, if a parameter was changed since.

    Example:
        >>> layer = torch.nn.Linear(2, 1)
        >>> encode_in_chunks(layer, torch.ones(5, 2), 2, [layer]).sum().backward()
        >>> layer.weight.grad
        tensor([[5., 5.]])
    """
    owners = list(dict.fromkeys(owner for module in modules for owner in module.modules()))
    chunks = images.tensor_split(_number_of_chunks(len(images), size))
    device = images.device.type
    # without its cache each chunk casts the weights anew, so that the chunks' gradients are added up in full precision
    with torch.autocast(
        device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device), cache_enabled=False
    ):
        return torch.cat(
            [
                checkpoint(
                    lambda chunk: encode(chunk.clone()),
                    chunk,
                    use_reentrant=False,
                    context_fn=lambda: (nullcontext(), _AsBefore(owners)),
                )
                for chunk in chunks
            ]
        )


class _AsBefore(AbstractContextManager[None]):
    """Gives modules copies of the buffers, and the modes, that they have when this is made; later, their own again."""

    def __init__(self, owners: Sequence[nn.Module]) -> None:
        self.owners = owners
        self.modes: list[Entry] = [(owner, "training", owner.training) for owner in owners]
        self.buffers = _copies(_entries("buffers", owners))
        self.versions = self._versions()

    def _versions(self) -> list[tuple[int, int]]:
        """Returns numbers that differ once a parameter was replaced or changed in place."""
        return [(id(parameter), parameter._version) for *_, parameter in _entries("parameters", self.owners)]

    def __enter__(self) -> None:
        if self._versions() != self.versions:
            raise RuntimeError(
                "a parameter was changed between forward and backward of grad_cache, which takes the gradient at the "
                "parameters as they were; run backward before the optimizer steps or weights are loaded"
            )
        before = [*_copies(self.buffers), *self.modes]
        self.own = [(owner, name, getattr(owner, name)) for owner, name, _ in before]
        _set(before)

    def __exit__(self, *error: object) -> None:
        _set(self.own)


def _number_of_chunks(number: int, size: int) -> int:
    """Returns the largest number of chunks that any process needs."""
    largest = torch.tensor([-(-number // size), -number])
    all_reduce(largest, "max")
    chunks, fewest = int(largest[0]), -int(largest[1])
    if fewest < chunks:  # known to all processes, so that none waits for another
        raise ValueError(
            f"grad_cache={size} makes {chunks} chunks of one process's images and views, but another process has only "
            f"{fewest} of them; give all processes batches of about one size, or raise grad_cache"
        )
    return chunks


def _entries(kind: str, owners: Iterable[nn.Module]) -> list[Entry]:
    """Returns the ``'parameters'`` or ``'buffers'`` of all modules, once for each name that one has."""
    own = {"recurse": False, "remove_duplicate": False}
    return [(owner, *named) for owner in owners for named in getattr(owner, f"named_{kind}")(**own)]


def _copies(entries: Sequence[Entry]) -> list[Entry]:
    """Returns the entries with copies of their tensors; a tensor of several names has one copy."""
    copies = {id(tensor): tensor.detach().clone() for *_, tensor in entries}
    return [(owner, name, copies[id(tensor)]) for owner, name, tensor in entries]


def _set(entries: Iterable[Entry]) -> None:
    for owner, name, value in entries:
        setattr(owner, name, value)
