"""The width of an encoder, found by running it once, so that no config has to say it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hierpretrain.registry import MODELS, arguments_of, class_of

_SIZES = (224, 256, 64, 32)  # px, tried in turn; some encoders have a smallest size, and some read one size alone


def width_of(encode: Callable[[Tensor], Tensor], parts: Iterable[nn.Module], inputs: Iterable[Tensor]) -> int:
    """Returns how many values an encoder gives for one image, and leaves it as it was.

    The encoder runs in evaluation mode and without a gradient: no statistics change, nor does the state of the random
    numbers.

    Args:
        encode: Returns (N, D) vectors.
        parts: The modules that it runs.
        inputs: What to try it on, in turn, until one is read without an error.

    Raises:
        ValueError: If none is read; the message has the last error.

    Example:
        >>> layer = nn.Linear(4, 6)
        >>> width_of(layer, [layer], [torch.zeros(1, 3), torch.zeros(1, 4)])
        6
    """
    last: Exception | None = None
    with as_it_was(parts):
        for dummy in inputs:
            try:
                return encode(dummy).shape[1]
            except Exception as error:  # networks have errors of all kinds for an image that they do not read
                last = error
    raise ValueError(f"the encoder reads none of the images that were tried: {last}") from last


def projected_width(projection: nn.Module | None, width: int) -> int:
    """Returns how many values a projection gives for a vector of ``width`` values; no projection gives the vector."""
    if projection is None:
        return width
    some = next(projection.parameters(), torch.zeros(()))
    return width_of(projection, [projection], [torch.zeros(1, width, dtype=some.dtype, device=some.device)])


@contextmanager
def as_it_was(parts: Iterable[nn.Module]) -> Iterator[None]:
    """Runs modules in evaluation mode, without a gradient, and gives modes and random numbers back afterwards."""
    modes = [(module, module.training) for part in parts for module in part.modules()]
    try:
        for module, _ in modes:
            module.training = False
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def dummy_images(backbone: nn.Module, config: Mapping[str, Any], channels: int) -> Iterator[Tensor]:
    """Yields single images that a backbone may read: of its own size, if it says one, then of common ones.

    Args:
        backbone: The backbone.
        config: Its config; ``img_size`` and ``in_channels`` count, if they are given.
        channels: Channels of an image, where the config does not say them.
    """
    some = next(backbone.parameters(), torch.zeros(()))
    settings = getattr(backbone, "settings", None)
    own = [getattr(settings, "size", None), config.get("img_size"), getattr(backbone, "img_size", None)]
    for size in [*(size for size in own if size), *_SIZES]:
        height, width = size if isinstance(size, Sequence) else (size, size)
        yield torch.zeros(1, config.get("in_channels", channels), height, width, dtype=some.dtype, device=some.device)


def takes_width(config: Mapping[str, Any] | None) -> bool:
    """Returns whether the class that a config names has the option ``in_channels``."""
    if config is None:
        return False
    kind = class_of(MODELS, config)
    return kind is not None and "in_channels" in arguments_of(kind)


def with_width(config: Mapping[str, Any], width: Callable[[], int], part: str) -> dict[str, Any]:
    """Returns a config with its ``in_channels``, if its class has that option.

    Args:
        config: The config of a projection or a loss.
        width: Returns how many values it gets.
        part: Its name in the model's config, for the message.

    Raises:
        ValueError: If the config has another number, or has none and the width cannot be found.
    """
    config = dict(config)
    if not takes_width(config):
        return config
    try:
        found = width()
    except ValueError as error:
        if "in_channels" in config:
            return config  # what fails on images of ours may read the user's
        raise ValueError(f"model.{part} needs in_channels, the width of its input: {error}. Set it") from error
    if config.setdefault("in_channels", found) != found:
        raise ValueError(
            f"model.{part}.in_channels is {config['in_channels']}, but its input has {found} values; leave it out or "
            f"set it to {found}"
        )
    return config
