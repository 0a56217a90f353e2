"""Opening image files as upright RGB images, with errors that name the file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmpretrain.datasets.transforms import PackInputs as _PackInputs
from PIL import Image, ImageOps

from hierpretrain.registry import TRANSFORMS

IMAGE_KINDS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
"""The image formats that are read, by Pillow's names. Pillow's other decoders are not used."""


class UnreadableImage(ValueError):
    """An image file that cannot be read; the message names it."""


def open_rgb(path: str, min_side: int | None = None) -> Image.Image:
    """Opens an image file as an upright RGB image.

    The format is told from the content, not from the name. EXIF orientation is applied. Transparent pixels, by an alpha
    channel or a transparent colour, are laid on white. Grey, palette, CMYK and YCbCr images are converted to RGB;
    16-bit grey is scaled so that 65535 becomes 255. Of an animation, the first frame is taken.

    Args:
        path: The file; a JPEG, PNG, GIF, WebP, BMP or TIFF.
        min_side: Allows a JPEG to be decoded at a half, a quarter or an eighth of its size: the smallest at which no
            side is shorter than this many pixels. Half the size takes about half the time. ``None`` decodes the full
            size.

    Returns:
        An image of mode ``RGB``, loaded, with its file closed.

    Raises:
        UnreadableImage: If the file is missing, truncated, of another format or a decompression bomb (more than twice
            ``PIL.Image.MAX_IMAGE_PIXELS``), or if its pixels are floating point or 32-bit integers.
    """
    try:
        with Image.open(path, formats=IMAGE_KINDS) as image:
            if min_side is not None:
                image.draft(None, (min_side, min_side))
            return as_rgb(image)
    except Exception as error:  # Pillow raises nearly anything at a broken or hostile file
        raise UnreadableImage(f"cannot read the image {path}: {error or type(error).__name__}") from error


def as_rgb(image: Image.Image) -> Image.Image:
    """Converts an image of Pillow's to an upright one of mode RGB, by the rules of :func:`open_rgb`.

    Raises:
        ValueError: If its pixels are floating point, or integers outside 0 to 65535.
    """
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        return _eight_bit(image).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image)
        image = white
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    """Scales 16-bit grey to 8 bits; Pillow's own conversion would clip at 255."""
    pixels = np.asarray(image)
    if pixels.dtype.kind == "f" or pixels.min() < 0 or pixels.max() > 65535:
        raise ValueError(f"mode {image.mode} holds values outside 0 to 65535; save it with 8 or 16 bits a channel")
    return Image.fromarray(((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8))


@TRANSFORMS.register_module()
class LoadRGB(BaseTransform):
    """Opens the file at ``img_path`` as an upright RGB image, see :func:`open_rgb`.

    Required keys: ``img_path``. Added keys: ``img``, a ``PIL.Image.Image`` of mode RGB, as torchvision's transforms
    take it; ``ori_shape`` and ``img_shape``, its (height, width).

    Args:
        min_side: Allows large JPEGs to be decoded at a fraction of their size, with no side below this many pixels.
            With random crops to 224 px of at least 0.2 of the area and aspect ratios from 3/4, no detail is lost from
            579 on: ``224 / (0.2 * 3 / 4)**0.5``.

    Raises:
        ValueError: If ``min_side`` is below 1.
        UnreadableImage: If the file cannot be read. The data set's ``on_error`` decides what happens then.
    """

    def __init__(self, min_side: int | None = None) -> None:
        if min_side is not None and min_side < 1:
            raise ValueError(f"min_side must be a number of pixels from 1, or None; it is {min_side}")
        self.min_side = min_side

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Adds the image and its shapes to the item."""
        image = open_rgb(results["img_path"], self.min_side)
        results["img"] = image
        results["ori_shape"] = results["img_shape"] = (image.height, image.width)
        return results

    def __repr__(self) -> str:
        return "LoadRGB()" if self.min_side is None else f"LoadRGB(min_side={self.min_side})"


@TRANSFORMS.register_module()
class PackInputs(_PackInputs):
    """mmpretrain's ``PackInputs``, extended to the (P, L) ``gt_label`` of images with several paths.

    Args:
        input_key: The key of the input of the model.
        algorithm_keys: The keys of what is packed beside ``gt_label``. ``'flat_label'``, an older name, means
            ``'extra_labels'``.
        meta_keys: The keys of what is packed as meta information.
    """

    def __init__(
        self,
        input_key: str = "img",
        algorithm_keys: Sequence[str] = (),
        meta_keys: Sequence[str] = _PackInputs.DEFAULT_META_KEYS,
    ) -> None:
        keys = tuple("extra_labels" if key == "flat_label" else key for key in algorithm_keys)
        super().__init__(input_key, keys, meta_keys)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Packs the item into ``inputs`` and ``data_samples``."""
        label = results.get("gt_label")
        if label is None or np.ndim(label) < 2:
            return super().transform(results)
        packed = super().transform({key: value for key, value in results.items() if key != "gt_label"})
        packed["data_samples"].set_field(torch.as_tensor(label), "gt_label")
        return packed
