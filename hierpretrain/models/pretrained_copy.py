"""An encoder as it was before training, kept beside the one that is trained."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from operator import itemgetter
from typing import Any, TypeVar

import torch
from mmengine.dist import get_world_size
from torch import Tensor, nn

from hierpretrain.models.frozen_part import giving, is_close, last_of
from hierpretrain.models.stages import stages, state_depths

_one_at_a_time = threading.RLock()  # what stages give is exchanged by their modules, which all threads share

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
        self._stages, self._depths = [name for name, _ in stages(self.backbone)], state_depths(self.backbone)
        self._shared: list[str] = []
        self._works = {0: True}  # by the number of shared stages

    def take(self, backbone: nn.Module, neck: nn.Module | None) -> None:
        """Takes the weights that the parts have now."""
        self.backbone.load_state_dict(backbone.state_dict())
        if neck is not None:
            self.neck.load_state_dict(neck.state_dict())

    @contextmanager
    def sharing_stages(self, backbone: nn.Module, images: Tensor) -> Iterator[None]:
        """Has the copy of the backbone take what the backbone's first stages give, where they are equal to its own.

        Stages that were frozen in training then run once for both, and the result is the same. Inside, the backbone
        runs on the images before its copy does. In training, and where several processes share the work, nothing is
        shared.

        Args:
            backbone: The backbone, or one of its kind.
            images: (N, C, H, W). Whether the result is the same is looked at on two of them, once for so many stages.

        Example:
            >>> encoder = nn.Sequential(*[nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sigmoid()) for _ in range(3)]).eval()
            >>> before, images = PretrainedCopy(0.5, encoder, None), torch.rand(4, 3, 8, 8)
            >>> _ = nn.init.zeros_(encoder[2][0].weight)
            >>> whole = before.backbone(images)
            >>> with before.sharing_stages(encoder, images):
            ...     trained, shared = encoder(images), before.backbone(images)
            >>> torch.equal(shared, whole), torch.equal(trained, whole)
            (True, False)
        """
        if backbone.training or get_world_size() > 1:
            yield
            return
        with _one_at_a_time:
            if not torch.compiler.is_compiling():  # what traces the model sees no numbers, but changes none either
                self._shared = self._equal_stages(backbone)
                if len(self._shared) not in self._works:
                    self._works[len(self._shared)] = self._makes_no_difference(backbone, images[:2])
                if not self._works[len(self._shared)]:
                    self._shared = []
            with _exchanging(self._shared, backbone, self.backbone):
                yield

    def _equal_stages(self, backbone: nn.Module) -> list[str]:
        """Returns the names of the first stages that are equal with all that stands before them."""
        own, its = self.backbone.state_dict(), backbone.state_dict()
        for name, depth in sorted(self._depths.items(), key=itemgetter(1)):
            if not torch.equal(own[name], its[name]):
                return self._stages[: max(depth - 1, 0)]
        return self._stages

    @torch.no_grad()
    def _makes_no_difference(self, backbone: nn.Module, images: Tensor) -> bool:
        """Returns whether the result is the same; it is not where a later stage overwrites what it is given."""
        whole = self.backbone(images)
        with _exchanging(self._shared, backbone, self.backbone):
            backbone(images)
            shared = self.backbone(images)
        return is_close(last_of(whole), last_of(shared))

    def train(self, mode: bool = True) -> PretrainedCopy:
        """Stays in evaluation mode."""
        return super().train(False)

    def extra_repr(self) -> str:
        """Says how much of an embedding is the copy's."""
        return f"share={self.share}"


@contextmanager
def _exchanging(names: list[str], giver: nn.Module, taker: nn.Module) -> Iterator[None]:
    """Has stages of an encoder give what those of another gave before, call by call."""
    with ExitStack() as stack:
        for name in names:
            given: list[Any] = []

            def keep(module: nn.Module, inputs: Any, output: Any, given: list[Any] = given) -> None:
                given.append(output)

            stack.callback(giver.get_submodule(name).register_forward_hook(keep).remove)
            stack.enter_context(giving(taker.get_submodule(name), lambda given=given: given.pop(0)))
        yield


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
