"""The description of a test pipeline as data, for programs in any language to follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmcv.transforms import CenterCrop, Resize
from mmpretrain.datasets.transforms import ResizeEdge
from mmpretrain.datasets.transforms.processing import TorchVisonTransformWrapper
from torchvision import transforms as torchvision

_LIBRARIES = {"cv2": "opencv", "pillow": "pillow"}


def describe_steps(
    transforms: Sequence[Any],
    min_side: int | None = None,
    grey_range: Sequence[float] | None = None,
    max_pixels: int | None = None,
) -> list[dict[str, Any]]:
    """Describes how an image file becomes the input of a model, step by step.

    - ``open``: the file becomes an upright picture of 8-bit RGB. ``jpeg_min_side`` allows a JPEG to be decoded at a
      half, a quarter or an eighth of its size if no side falls below that many pixels. ``grey_range`` has the values
      that become black and white in grey images of more than 8 bits, ``max_pixels`` the pixels that an image may have.
    - ``resize``: to ``height`` and ``width``; or, in proportion, ``shorter_side`` or ``longer_side`` to that many
      pixels, where the other side is ``floor(pixels * other / side)``. ``interpolation`` and ``library`` say how:
      Pillow averages over all the pixels that fall on one when it shrinks a picture, OpenCV does not.
    - ``crop``: the middle ``height`` x ``width``, from row ``round((rows - height) / 2)`` on, and column likewise,
      where a half is rounded to the even number. An image with fewer rows gets black ones, ``(height - rows) // 2``
      of them above, and columns likewise.
    - ``other``: any other transform, with its ``repr``.

    Args:
        transforms: The built transforms between opening and packing.
        min_side: The smallest side, in pixels, to which a JPEG may be decoded: the option of
            :class:`~hierpretrain.datasets.loading.LoadRGB`. ``None``: JPEGs are decoded at full size.
        grey_range: The same transform's range of grey values, if it has one.
        max_pixels: The same transform's limit of pixels, if it has one.

    Returns:
        The steps in their order, as values that JSON has.

    Example:
        >>> resize = TorchVisonTransformWrapper(torchvision.Resize, size=48, interpolation="bilinear")
        >>> describe_steps([resize])[1]
        {'step': 'resize', 'shorter_side': 48, 'interpolation': 'bilinear', 'library': 'pillow'}
    """
    opened = {
        "step": "open",
        "frame": "first",
        "exif_orientation": "applied",
        "transparency": "laid on white",
        "mode": "RGB, 8 bits a channel",
        **({} if min_side is None else {"jpeg_min_side": min_side}),
        **({} if grey_range is None else {"grey_range": list(grey_range)}),
        **({} if max_pixels is None else {"max_pixels": max_pixels}),
    }
    return [opened, *(_describe(transform) for transform in transforms)]


def _describe(transform: Any) -> dict[str, Any]:
    inner = transform.t if isinstance(transform, TorchVisonTransformWrapper) else transform
    if isinstance(inner, torchvision.Resize) and inner.max_size is None:
        size = [inner.size] if isinstance(inner.size, int) else list(inner.size)
        sides = {"shorter_side": size[0]} if len(size) == 1 else {"height": size[0], "width": size[1]}
        return {"step": "resize", **sides, "interpolation": inner.interpolation.value, "library": "pillow"}
    if isinstance(inner, torchvision.CenterCrop):
        height, width = inner.size
        return {"step": "crop", "where": "middle", "height": height, "width": width}
    if isinstance(inner, ResizeEdge) and inner.edge in ("short", "long"):
        return {"step": "resize", f"{inner.edge}er_side": inner.scale, **_how(inner)}
    if isinstance(inner, Resize) and inner.scale is not None and not inner.keep_ratio:
        width, height = inner.scale
        return {"step": "resize", "height": height, "width": width, **_how(inner)}
    if isinstance(inner, CenterCrop) and not inner.auto_pad:
        width, height = inner.crop_size
        return {"step": "crop", "where": "middle", "height": height, "width": width}
    return {"step": "other", "transform": repr(transform)}


def _how(transform: Resize | ResizeEdge) -> dict[str, str]:
    return {"interpolation": transform.interpolation, "library": _LIBRARIES[transform.backend]}
