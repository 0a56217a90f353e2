"""An encoder as it was before training, kept beside the one that is trained."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TypeVar

from torch import nn

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

    def take(self, backbone: nn.Module, neck: nn.Module | None) -> None:
        """Takes the weights that the parts have now."""
        self.backbone.load_state_dict(backbone.state_dict())
        if neck is not None:
            self.neck.load_state_dict(neck.state_dict())

    def train(self, mode: bool = True) -> PretrainedCopy:
        """Stays in evaluation mode."""
        return super().train(False)

    def extra_repr(self) -> str:
        """Says how much of an embedding is the copy's."""
        return f"share={self.share}"


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
