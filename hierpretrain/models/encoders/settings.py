"""The data settings of an encoder: how images must look that its weights were trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hierpretrain.checks import check_at_least_1, check_one_of

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")


@dataclass(frozen=True)
class DataSettings:
    """Size, normalisation and interpolation of the images that an encoder reads.

    Args:
        size: Height and width in pixels.
        mean: Mean of each channel, on the scale 0 to 255.
        std: Standard deviation of each channel, likewise.
        interpolation: By which images are resized: ``'bicubic'`` and so on, Pillow's names.
        resize: What a test image is resized to before its middle is cropped to ``size``: the shorter side in pixels, or
            a pair (height, width) where images are squeezed to it. ``None``: ``size``.
        fixed_size: Whether the encoder reads no other size.

    Raises:
        ValueError: If a size is below 1 or the interpolation is unknown.

    Example:
        >>> settings = DataSettings(224, (127.5,) * 3, (127.5,) * 3, "bicubic", resize=256)
        >>> settings.size, settings.resize, settings.fixed_size
        (224, 256, False)
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    resize: int | tuple[int, int] | None = None
    fixed_size: bool = False

    def __post_init__(self) -> None:
        check_one_of("interpolation", self.interpolation, INTERPOLATIONS)
        check_at_least_1(size=self.size)
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))
        if self.resize is None:
            object.__setattr__(self, "resize", self.size)


def in_bytes(values: Sequence[float]) -> tuple[float, ...]:
    """Returns means or deviations of the scale 0 to 1 on the scale 0 to 255.

    Example:
        >>> in_bytes((0.5, 0.485))
        (127.5, 123.675)
    """
    return tuple(round(255 * value, 6) for value in values)


def square(size: int | Sequence[int], name: str) -> int:
    """Returns the one side of a square size.

    Raises:
        ValueError: If the size is no square.

    Example:
        >>> square((224, 224), "resnet18")
        224
    """
    height, width = (size, size) if isinstance(size, int) else tuple(size)[-2:]
    if height != width:
        raise ValueError(f"{name} reads images of {height} x {width} pixels; take an encoder that reads squares")
    return int(height)
