"""Grey values of more than 8 bits, as 8 bits, by one rule."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_DEPTHS = (8, 10, 12, 14, 16)  # bits that cameras, scanners and microscopes have


def as_eight_bits(pixels: NDArray[np.generic], grey_range: tuple[float, float] | None = None) -> NDArray[np.uint8]:
    """Scales grey values to 0 to 255.

    Without a range, integers are taken for values of 8, 10, 12, 14 or 16 bits, the fewest that hold the largest value
    of the image, and floating-point values for 0 (black) to 1 (white).

    Args:
        pixels: (H, W) integers or floating-point values.
        grey_range: The value that becomes black and the one that becomes white; beyond them it stays black or white.

    Raises:
        ValueError: If a value is not finite, or outside 0 to 65535 (integers) or 0 to 1 without a range, or the range
            does not rise.

    Example:
        >>> as_eight_bits(np.array([[0, 2048, 4095]])), as_eight_bits(np.array([[0.0, 0.5, 1.0]]))
        (array([[  0, 128, 255]], dtype=uint8), array([[  0, 128, 255]], dtype=uint8))
        >>> as_eight_bits(np.array([[500, 1500, 9000]]), grey_range=(1000, 2000))
        array([[  0, 128, 255]], dtype=uint8)
    """
    values = np.asarray(pixels)
    low, high = values.min(), values.max()
    whole = values.dtype.kind != "f"
    if not (np.isfinite(low) and np.isfinite(high)):  # NaN shows in both
        raise ValueError("it has values that are NaN or infinite; replace them and save it with 8 or 16 bits a channel")
    if grey_range is not None:
        black, white = checked_range(grey_range)
        scaled = (np.clip(values.astype(np.float64), black, white) - black) / (white - black)
        return np.floor(scaled * 255 + 0.5).astype(np.uint8)
    if low < 0 or high > (65535 if whole else 1):
        black, white = min(low, 0), max(high, 0)  # which rise, also where all values are one
        raise ValueError(
            f"its grey values go from {low:g} to {high:g}, outside {'0 to 65535' if whole else '0 to 1'}; say which "
            f"values are black and white, as LoadRGB(grey_range=({black:g}, {white:g})), the same for all images, or "
            "save it with 8 or 16 bits a channel"
        )
    if not whole:
        return np.floor(values * 255.0 + 0.5).astype(np.uint8)
    white = next(2**bits - 1 for bits in _DEPTHS if high < 2**bits)
    return ((values.astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)


def checked_range(grey_range: Sequence[float]) -> tuple[float, float]:
    """Returns the values that become black and white; a ValueError unless these are two finite numbers that rise.

    Example:
        >>> checked_range([0, 4095])
        (0.0, 4095.0)
    """
    if len(grey_range) == 2 and -math.inf < grey_range[0] < grey_range[1] < math.inf:
        return float(grey_range[0]), float(grey_range[1])
    raise ValueError(
        f"grey_range must be the value that becomes black and a larger one that becomes white; it is {grey_range!r}"
    )
