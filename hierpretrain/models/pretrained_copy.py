"""An encoder as it was before training, kept beside the one that is trained."""

from __future__ import annotations

import copy
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from mmengine.dist import get_world_size
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from hierpretrain.models.frozen_part import running
from hierpretrain.models.stages import stages

_one_thread = threading.Lock()  # stages are changed while they share

Weight = TypeVar("Weight")


class PretrainedCopy(nn.Module):
    """A copy of a backbone and its neck that no training changes: without gradients, and always in evaluation mode.

    Args:
        share: How much of an embedding is the copy's; it may be changed at any time.
        backbone: The backbone.
        neck: The neck, if there is one.

    Example:
        >>> encoder = nn.Linear(2, 2)
        >>> before = PretrainedCopy(0.5, encoder, None)
        >>> _ = nn.init.zeros_(encoder.weight)
        >>> before.backbone.weight.any().item(), before.train().training
        (True, False)
    """

    def __init__(self, share: float, backbone: nn.Module, neck: nn.Module | None) -> None:
        super().__init__()
        self.share = share
        self.backbone, self.neck = copy.deepcopy(backbone), copy.deepcopy(neck)
        self.requires_grad_(False).eval()
        self._stages = [name for name, _ in stages(self.backbone)]

    def take(self, backbone: nn.Module, neck: nn.Module | None) -> None:
        """Takes the weights that the parts have now."""
        self.backbone.load_state_dict(backbone.state_dict())
        if neck is not None:
            self.neck.load_state_dict(neck.state_dict())

    @contextmanager
    def sharing_stages(self, backbone: nn.Module) -> Iterator[None]:
        """Has each stage of the copy give what that of the backbone gave before, of equal weights and equal inputs.

        So stages that were frozen in training run once for both, and the result is the same. Nothing is shared on a
        GPU, where to look costs as much as it saves, where gradients are wanted, while the model is compiled or
        exported, where several processes share the work, and in all threads but the first that shares.

        Args:
            backbone: The backbone, which runs before its copy does.

        Example:
            >>> encoder = nn.Sequential(*[nn.Sequential(nn.Linear(3, 3), nn.Sigmoid()) for _ in range(3)]).eval()
            >>> before, vectors = PretrainedCopy(0.5, encoder, None), torch.rand(4, 3)
            >>> _ = nn.init.zeros_(encoder[2][0].weight)
            >>> whole = before.backbone(vectors)
            >>> with torch.no_grad(), before.sharing_stages(encoder):
            ...     trained, shared = encoder(vectors), before.backbone(vectors)
            >>> torch.equal(shared, whole), torch.equal(trained, whole)
            (True, False)
        """
        on_cpu = all(weight.device.type == "cpu" for weight in backbone.parameters())
        alone = not (torch.is_grad_enabled() or torch.compiler.is_compiling()) and get_world_size() == 1 and on_cpu
        if not (alone and _one_thread.acquire(blocking=False)):
            yield
            return
        try:
            with ExitStack() as stack:
                for name in self._stages:
                    stack.enter_context(_sharing(backbone.get_submodule(name), self.backbone.get_submodule(name)))
                yield
        finally:
            _one_thread.release()

    def train(self, mode: bool = True) -> PretrainedCopy:
        """Stays in evaluation mode."""
        return super().train(False)

    def extra_repr(self) -> str:
        """Says how much of an embedding is the copy's."""
        return f"share={self.share}"


@contextmanager
def _sharing(giver: nn.Module, taker: nn.Module) -> Iterator[None]:
    """Has a module give, call by call, what another gave before, if it would give the same."""
    if any("forward" in vars(part) or part._forward_hooks or part._forward_pre_hooks for part in (giver, taker)):
        yield  # something else changes what they do
        return
    thread, own, given = threading.get_ident(), taker.forward, deque[tuple[Any, Any, list[int]]]()

    def keep(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        whole = args, kwargs, output
        if threading.get_ident() == thread and not any(tensor.is_inference() for tensor in _tensors(whole)):
            given.append(((args, kwargs), output, _versions(whole)))

    def forward(*args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() == thread and given:
            inputs, output, versions = given.popleft()
            # what was written to since tells nothing, and inputs tell whether all was equal up to here
            unchanged = _versions((*inputs, output)) == versions
            if unchanged and _are_equal((args, kwargs), inputs) and _are_alike(giver, taker):
                return output
        return own(*args, **kwargs)

    handle = giver.register_forward_hook(keep, with_kwargs=True)
    try:
        with running(taker, forward):
            yield
    finally:
        handle.remove()


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _versions(values: Any) -> list[int]:
    """Returns how often each tensor was written to."""
    return [tensor._version for tensor in _tensors(values)]


def _are_equal(some: Any, others: Any) -> bool:
    """Returns whether values of any nesting are equal, tensors in every number."""
    leaves = tree_leaves(some), tree_leaves(others)
    return len(leaves[0]) == len(leaves[1]) and all(map(_is_equal, *leaves))


def _is_equal(one: Any, other: Any) -> bool:
    if one is other or type(one) is not type(other):
        return one is other
    if isinstance(one, Tensor):
        return (one.dtype, one.device) == (other.dtype, other.device) and torch.equal(one, other)
    return isinstance(one, str | int | float | tuple) and one == other


def _are_alike(one: nn.Module, other: nn.Module) -> bool:
    """Returns whether modules have equal parameters and buffers, and none trains."""
    if type(one) is not type(other) or any(part.training for part in (*one.modules(), *other.modules())):
        return False
    return _are_equal(*([*part.named_parameters(), *part.named_buffers()] for part in (one, other)))


def with_copy(weights: Mapping[str, Weight], prefix: str, name: str) -> dict[str, Weight]:
    """Returns the weights of a model with those of its copy, where they are of a model without one.

    The encoder that such weights are of is then what training begins with.

    Args:
        weights: By name.
        prefix: What precedes the names of the model.
        name: What the model calls the copy.

    Example:
        >>> with_copy({"backbone.bias": 1, "loss_module.bias": 2}, "", "pretrained")
        {'backbone.bias': 1, 'loss_module.bias': 2, 'pretrained.backbone.bias': 1}
    """
    found = dict(weights)
    if not any(key.startswith(f"{prefix}{name}.") for key in weights):
        for part in ("backbone", "neck"):
            of_part = [key for key in weights if key.startswith(f"{prefix}{part}.")]
            found |= {f"{prefix}{name}.{key.removeprefix(prefix)}": weights[key] for key in of_part}
    return found
