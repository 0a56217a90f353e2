"""The transforms that open an image and that pack it: steps of a config's pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmpretrain.datasets.transforms import PackInputs as _PackInputs

from hierpretrain.checks import check_at_least_1, check_whole
from hierpretrain.datasets.grey import checked_range
from hierpretrain.datasets.loading import open_rgb
from hierpretrain.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadRGB(BaseTransform):
    """Opens the file at ``img_path`` as an upright RGB image, see :func:`~hierpretrain.datasets.loading.open_rgb`.

    Required keys: ``img_path``. Added keys: ``img``, a ``PIL.Image.Image`` of mode RGB, as torchvision's transforms
    take it; ``ori_shape`` and ``img_shape``, its (height, width).

    Args:
        min_side: Allows large JPEGs to be decoded at a fraction of their size, with no side below this many pixels.
            With random crops to 224 px of at least 0.2 of the area and aspect ratios from 3/4, no detail is lost from
            579 on: ``224 / (0.2 * 3 / 4)**0.5``.
        grey_range: The value that becomes black and the one that becomes white, in grey images of more than 8 bits;
            ``None``: the number of bits that hold the largest value of the image, and 0 to 1 for floating point.
        max_pixels: How many pixels an image may have, where more than 178,956,970 shall be allowed.

    Raises:
        ValueError: If ``min_side`` or ``max_pixels`` is below 1, or ``grey_range`` is not two rising numbers.
        UnreadableImage: If the file cannot be read. The data set's ``on_error`` decides what happens then.
    """

    def __init__(
        self,
        min_side: int | None = None,
        grey_range: Sequence[float] | None = None,
        max_pixels: int | None = None,
    ) -> None:
        if min_side is not None:
            check_whole(min_side=min_side)
            if min_side < 1:
                raise ValueError(f"min_side must be a number of pixels from 1, or None; it is {min_side}")
        if max_pixels is not None:
            check_at_least_1(max_pixels=max_pixels)
        self.min_side, self.max_pixels = min_side, max_pixels
        self.grey_range = None if grey_range is None else checked_range(grey_range)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Adds the image and its shapes to the item."""
        image = open_rgb(results["img_path"], self.min_side, grey_range=self.grey_range, max_pixels=self.max_pixels)
        results["img"] = image
        results["ori_shape"] = results["img_shape"] = (image.height, image.width)
        return results

    def __repr__(self) -> str:
        options = (("min_side", self.min_side), ("grey_range", self.grey_range), ("max_pixels", self.max_pixels))
        return f"LoadRGB({', '.join(f'{name}={value}' for name, value in options if value is not None)})"


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
