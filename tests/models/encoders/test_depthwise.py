"""The quick gradient of depthwise weights against PyTorch's own."""

import itertools

import pytest
import torch
from torch import nn

from hierpretrain.models.encoders import EfficientNetLite0
from hierpretrain.models.encoders.depthwise import DepthwiseConv2d, quick_depthwise, weight_gradient

SHAPES = [
    (kernel, stride, padding, height, width)
    for kernel, stride, padding in itertools.product((1, 3, 5, 7), (1, 2, 3), (0, 1, 2, 3))
    for height, width in ((1, 1), (3, 3), (4, 7), (9, 2))
    if height + 2 * padding >= kernel and width + 2 * padding >= kernel
]


@pytest.mark.parametrize(("kernel", "stride", "padding", "height", "width"), SHAPES)
def test_weight_gradient_equals_autograd(kernel, stride, padding, height, width):
    torch.manual_seed(0)
    convolution = nn.Conv2d(5, 5, kernel, stride, padding, groups=5, bias=False).double()
    images = torch.randn(3, 5, height, width, dtype=torch.float64)
    output = convolution(images)
    gradient = torch.randn_like(output)
    output.backward(gradient)
    found = weight_gradient(images, gradient, kernel, stride, padding)
    torch.testing.assert_close(found, convolution.weight.grad)


@pytest.mark.parametrize("size", [2, 3, 9])  # the last has more pixels than are taken over
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_step_equals_pytorchs(size, memory_format):
    torch.manual_seed(0)
    plain = nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False)
    quick = DepthwiseConv2d(nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False))
    quick.load_state_dict(plain.state_dict())
    images = torch.randn(4, 8, size, size).to(memory_format=memory_format)
    inputs = [images.clone().requires_grad_() for _ in range(2)]
    outputs = [module(each) for module, each in zip((plain, quick), inputs, strict=True)]
    assert torch.equal(*outputs)
    assert type(outputs[1].grad_fn).__name__ == ("_DepthwiseBackward" if size < 9 else "ConvolutionBackward0")
    for output in outputs:
        output.square().sum().backward()
    assert torch.equal(inputs[0].grad, inputs[1].grad)
    torch.testing.assert_close(quick.weight.grad, plain.weight.grad)


def test_can_be_differentiated_twice():
    torch.manual_seed(0)
    quick = DepthwiseConv2d(nn.Conv2d(2, 2, 5, padding=2, groups=2, bias=False))
    images = torch.randn(2, 2, 3, 3, requires_grad=True)
    losses = []
    for module in (quick, lambda images: nn.functional.conv2d(images, quick.weight, padding=2, groups=2)):
        (gradient,) = torch.autograd.grad(module(images).square().sum(), quick.weight, create_graph=True)
        losses.append(torch.autograd.grad(gradient.square().sum(), images)[0])
    torch.testing.assert_close(*losses)


def test_takes_over_what_it_can():
    network = nn.Sequential(
        nn.Conv2d(4, 4, 5, groups=4, bias=False),
        nn.Conv2d(4, 4, 5, groups=4),
        nn.Conv2d(4, 4, 5, groups=2, bias=False),
        nn.Conv2d(4, 4, 3, groups=4, bias=False),
        nn.Conv2d(4, 4, (5, 3), groups=4, bias=False),
        nn.Conv2d(4, 4, 5, groups=4, dilation=2, bias=False),
        nn.Conv2d(4, 4, 5, groups=4, padding=2, padding_mode="reflect", bias=False),
        nn.Conv2d(4, 4, 5, groups=4, padding="same", bias=False),
    )
    quick_depthwise(network)
    assert [type(module) is DepthwiseConv2d for module in network] == [True] + [False] * 7


def test_encoder_is_timms_network_and_trains_like_it():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    encoder = EfficientNetLite0(weights=False).train()
    plain = timm.create_model("tf_efficientnet_lite0", num_classes=0).train()
    plain.load_state_dict(encoder.network.state_dict())
    images = torch.randn(4, 3, 96, 96)
    for network in (encoder, plain):
        network(images).square().mean().backward()
    gradients = {name.removeprefix("network."): weights.grad for name, weights in encoder.named_parameters()}
    assert sum(isinstance(module, DepthwiseConv2d) for module in encoder.modules()) == 9
    for name, weights in plain.named_parameters():
        torch.testing.assert_close(gradients[name], weights.grad, rtol=1e-3, atol=1e-6)
