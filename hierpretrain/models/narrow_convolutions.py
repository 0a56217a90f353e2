"""A crash of torch's convolutions on CPUs, avoided."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

_NARROWEST = 16  # input channels with which oneDNN's kernel is right


def step_before_narrow_convolutions(model: nn.Module) -> int:
    """Has narrow 1 x 1 convolutions with a stride take every n-th pixel first; the values stay the same.

    On a CPU, the gradient of their weights writes past its memory where images are laid out as ``channels_last`` and
    have fewer than 16 channels (seen with torch 2.14 and its oneDNN, on images of 56 x 56 pixels and more): the process
    dies of a segmentation fault, or goes on with damaged memory. On the same pixels with a stride of 1 it does not.

    Args:
        model: The model, whose convolutions are changed.

    Returns:
        How many convolutions were changed.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(8, 16, 1, stride=2), nn.Conv2d(16, 32, 1, stride=2))
        >>> step_before_narrow_convolutions(model), model[0].stride, model[1].stride
        (1, (1, 1), (2, 2))
    """
    changed = 0
    for part in model.modules():
        if isinstance(part, nn.Conv2d) and _is_narrow(part):
            part.register_forward_pre_hook(_Step(*part.stride))
            part.stride = (1, 1)
            changed += 1
    return changed


def _is_narrow(part: nn.Conv2d) -> bool:
    plain = part.kernel_size == (1, 1) and part.padding in ((0, 0), 0, "valid") and part.groups == 1
    return plain and max(part.stride) > 1 and part.in_channels < _NARROWEST


class _Step:
    """A hook that takes every n-th pixel of a layer's input."""

    def __init__(self, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
        return (inputs[0][..., :: self.rows, :: self.columns], *inputs[1:])
