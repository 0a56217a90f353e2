"""Images for encoders, and their outputs compared with a call by hand."""

import copy

import torch


def random_images(size, number=2):
    return torch.randn(number, 3, size, size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def assert_gives(encoder, expected, images, *, differ=True):
    """Asserts that an encoder, in evaluation mode, gives the vectors of a function, different ones of two images.

    So does a copy of it, which a pretrained share keeps.
    """
    vectors = encoder.eval()(images)
    assert torch.equal(copy.deepcopy(encoder)(images), vectors)
    assert vectors.ndim == 2
    largest = vectors.abs().max().item()  # deep networks of random weights give tiny vectors
    torch.testing.assert_close(vectors, expected(images), atol=1e-5 * largest, rtol=1e-5)
    assert not differ or not torch.equal(vectors[0], vectors[1])


def assert_trains(encoder, images):
    """Asserts that every parameter that is to be trained gets a gradient, as DistributedDataParallel wants."""
    encoder.train()(images).square().sum().backward()
    trained = {name: parameter.grad for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    assert trained
    assert [name for name, gradient in trained.items() if gradient is None] == []
    encoder.zero_grad()


def assert_stays_frozen(encoder):
    """Asserts that an encoder that is frozen whole has nothing to train and stays in evaluation mode."""
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not any(module.training for module in encoder.train().network.modules())
