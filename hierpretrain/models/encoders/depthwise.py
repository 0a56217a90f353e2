"""Depthwise convolutions whose weights' gradient on small maps is quick on a CPU."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hierpretrain._extras import needed

_PIXELS = 16  # of the output, up to which the products here are quicker than oneDNN, with kernels wider than 3


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution that computes its weights' gradient itself where that is quicker.

    oneDNN takes ten times as long for the weights' gradient of a 5 x 5 kernel on 3 x 3 pixels as for the rest of that
    convolution, forward and backward. The gradient is a sum over images and pixels of products of input and output
    gradient, one for each place of the kernel, and few places meet the small map at all. Outputs, larger maps, other
    types and devices, and compiled or exported code are PyTorch's own.

    Args:
        convolution: The convolution to take over, with its very weights: a depthwise ``torch.nn.Conv2d`` with a square
            kernel and without dilation or bias, or timm's ``Conv2dSame``, which pads as TensorFlow does.

    Example:
        >>> convolution = nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False)
        >>> images = torch.rand(2, 8, 3, 3)
        >>> torch.equal(DepthwiseConv2d(convolution)(images), convolution(images))
        True
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        channels, kernel = convolution.in_channels, convolution.kernel_size
        super().__init__(
            channels, channels, kernel, convolution.stride, convolution.padding, groups=channels, bias=False
        )
        self.weight = convolution.weight
        self.pads_same = type(convolution) is not nn.Conv2d

    def forward(self, images: Tensor) -> Tensor:
        """Convolves images (N, C, H, W)."""
        if self.pads_same:
            images = needed("timm", type(self).__name__).layers.pad_same(images, self.kernel_size, self.stride)
        padding = 0 if self.pads_same else self.padding[0]
        if self._is_slow(images, padding):
            return _Depthwise.apply(images, self.weight, self.stride[0], padding)
        return F.conv2d(images, self.weight, None, self.stride, padding, 1, self.groups)

    def _is_slow(self, images: Tensor, padding: int) -> bool:
        """Tells whether oneDNN would be asked for a gradient that it is slow at."""
        if not (torch.is_grad_enabled() and self.weight.requires_grad) or torch.compiler.is_compiling():
            return False
        if images.device.type != "cpu" or images.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return False
        kernel, stride = self.kernel_size[0], self.stride[0]
        height, width = ((size + 2 * padding - kernel) // stride + 1 for size in images.shape[-2:])
        return kernel > 3 and height * width <= _PIXELS


def quick_depthwise(network: nn.Module) -> None:
    """Puts a :class:`DepthwiseConv2d` in the place of each depthwise convolution that it can take over, in place."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Conv2d) and _can_be_taken_over(child):
                setattr(module, name, DepthwiseConv2d(child))


def _can_be_taken_over(convolution: nn.Conv2d) -> bool:
    kernel, stride, dilation = convolution.kernel_size, convolution.stride, convolution.dilation
    return (
        type(convolution).__name__ in ("Conv2d", "Conv2dSame")
        and convolution.in_channels == convolution.out_channels == convolution.groups > 1
        and kernel[0] == kernel[1] > 3
        and stride[0] == stride[1]
        and dilation == (1, 1)
        and convolution.bias is None
        and convolution.padding_mode == "zeros"
        and isinstance(convolution.padding, tuple)
        and convolution.padding[0] == convolution.padding[1]
    )


class _Depthwise(torch.autograd.Function):
    """PyTorch's depthwise convolution with another gradient of the weights; it can be differentiated again."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(images, weight, None, stride, padding, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        images, weight = ctx.saved_tensors
        of_images = of_weight = None
        if ctx.needs_input_grad[0]:
            sizes = [ctx.stride] * 2, [ctx.padding] * 2, [1, 1], False, [0, 0], len(weight), [True, False, False]
            of_images = torch.ops.aten.convolution_backward(gradient, images, weight, None, *sizes)[0]
        if ctx.needs_input_grad[1]:
            of_weight = weight_gradient(images, gradient, weight.shape[-1], ctx.stride, ctx.padding)
        return of_images, of_weight, None, None


def weight_gradient(images: Tensor, gradient: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """Returns the gradient of the weights (C, 1, kernel, kernel) of a depthwise convolution.

    Args:
        images: The input (N, C, H, W).
        gradient: The gradient of the output (N, C, H', W').
        kernel: Height and width of the kernel.
        stride: The stride, equal in both directions.
        padding: The padding, equal on all sides.
    """
    images, gradient = images.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)  # as they lie, where channels are last
    spans = [
        [_meeting(size, out, stride, place - padding) for place in range(kernel)]
        for size, out in zip(images.shape[1:3], gradient.shape[1:3], strict=True)
    ]
    places = [
        (images[:, rows, columns] * gradient[:, out_rows, out_columns]).sum((0, 1, 2))
        for rows, out_rows in spans[0]
        for columns, out_columns in spans[1]
    ]
    return torch.stack(places, 1).view(-1, 1, kernel, kernel)


def _meeting(size: int, out: int, stride: int, offset: int) -> tuple[slice, slice]:
    """Returns the pixels of the input that a place of the kernel meets, and the outputs that it meets them for."""
    first = max(0, -(offset // stride))  # offset + first * stride is in the image
    last = min(out, (size - 1 - offset) // stride + 1)
    if last <= first:
        return slice(0, 0), slice(0, 0)
    return slice(offset + first * stride, offset + (last - 1) * stride + 1, stride), slice(first, last)
