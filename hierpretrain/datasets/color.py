"""Random changes of colour, the hue in a fraction of Pillow's time."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image
from torchvision.transforms import ColorJitter
from torchvision.transforms.functional import adjust_brightness, adjust_contrast, adjust_saturation

from hierpretrain.registry import TRANSFORMS


def shift_hue(image: Image.Image, shift: float) -> Image.Image:
    """Turns the hue of a picture, as torchvision's ``adjust_hue`` does, through OpenCV instead of Pillow.

    Both go by way of 8-bit hue, saturation and value, and round at different places: on photographs and drawings,
    values come out less than one of 255 apart on average, and closer to what exact arithmetic gives.

    Args:
        image: A picture of mode ``RGB``.
        shift: In turns of the colour wheel, from -0.5 to 0.5; taken in steps of 1/256.

    Returns:
        A new picture of the same size.

    Raises:
        ValueError: If ``shift`` is out of range, or the picture of another mode.

    Example:
        >>> shift_hue(Image.new("RGB", (1, 1), (255, 0, 0)), 0.5).getpixel((0, 0))  # the opposite of red is cyan
        (0, 255, 252)
    """
    if not -0.5 <= shift <= 0.5:
        raise ValueError(f"shift must be a part of the colour wheel from -0.5 to 0.5; it is {shift}")
    if image.mode != "RGB":
        raise ValueError(f"the picture must be of mode RGB, as LoadRGB opens it; its mode is {image.mode}")
    pixels = cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2HSV_FULL)  # (H, W, 3), the hue from 0 to 255
    pixels[..., 0] += np.uint8(int(shift * 255) % 256)  # goes round
    return Image.fromarray(cv2.cvtColor(pixels, cv2.COLOR_HSV2RGB_FULL))


@TRANSFORMS.register_module()
class PILColorJitter(BaseTransform):
    """Changes brightness, contrast, saturation and hue at random and in random order: torchvision's ``ColorJitter``.

    It draws what torchvision's draws; only the hue is turned by :func:`shift_hue`, which takes a seventh of the time:
    with Pillow, the hue takes longer than anything else that happens to a view of 224 px.

    Required key: ``img``, a ``PIL.Image.Image`` of mode RGB, which is replaced.

    Args:
        brightness: The factor is drawn from ``1 - brightness`` to ``1 + brightness``, or from a (least, most) pair.
        contrast: Likewise.
        saturation: Likewise.
        hue: The shift is drawn from ``-hue`` to ``hue``, at most 0.5, or from a pair.

    Raises:
        ValueError: If a range is negative or out of bounds, as torchvision says.

    Example:
        >>> grey = Image.new("RGB", (1, 1), (100, 100, 100))
        >>> PILColorJitter(brightness=(2.0, 2.0))({"img": grey})["img"].getpixel((0, 0))
        (200, 200, 200)
    """

    def __init__(
        self,
        brightness: float | tuple[float, float] = 0.0,
        contrast: float | tuple[float, float] = 0.0,
        saturation: float | tuple[float, float] = 0.0,
        hue: float | tuple[float, float] = 0.0,
    ) -> None:
        self.jitter = ColorJitter(brightness, contrast, saturation, hue)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Returns the item with the changed picture."""
        ranges = self.jitter.brightness, self.jitter.contrast, self.jitter.saturation, self.jitter.hue
        order, *factors = self.jitter.get_params(*ranges)
        changes = (adjust_brightness, adjust_contrast, adjust_saturation, shift_hue)
        image = results["img"]
        for number in order.tolist():
            if factors[number] is not None:
                image = changes[number](image, factors[number])
        return {**results, "img": image}

    def __repr__(self) -> str:
        return f"PIL{self.jitter!r}"
