"""FGVC-Aircraft: manufacturer, family and variant, and the removal of the credit line below every image."""

from __future__ import annotations

import os
from typing import Any

from mmcv.transforms import BaseTransform

from hierpretrain.checks import check_from_0
from hierpretrain.datasets.annotations import Annotations
from hierpretrain.datasets.base import HierarchicalDataset
from hierpretrain.datasets.published import check_parent, check_same_ids, find_home, read_pairs
from hierpretrain.registry import DATASETS, TRANSFORMS

_LEVELS = ("manufacturer", "family", "variant")
_SPLITS = ("train", "val", "test")
_REMEDY = (
    "download fgvc-aircraft-2013b.tar.gz from https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/ and unpack it to "
    "fgvc-aircraft-2013b/data"
)


def read_aircraft(root: str) -> Annotations:
    """Reads FGVC-Aircraft: the nine lists ``images_<level>_<split>.txt``, joined by the images' numbers.

    Args:
        root: The folder ``fgvc-aircraft-2013b``, its folder ``data``, or the folder that it is in.

    Returns:
        Splits ``'train'``, ``'val'`` and ``'test'``; levels ``('manufacturer', 'family', 'variant')``.

    Raises:
        ValueError: With file and line, if a list is not as published, the lists of a split have different images, or a
            variant or family has two parents.
    """
    folders = ("data", "fgvc-aircraft-2013b/data", "fgvc-aircraft-2013b/fgvc-aircraft-2013b/data")
    home = find_home(root, folders, ("images", "images_variant_train.txt"), "FGVC-Aircraft", _REMEDY)
    records = []
    parents: dict[tuple[str, str], str] = {}
    for split in _SPLITS:
        files = {level: os.path.join(home, f"images_{level}_{split}.txt") for level in _LEVELS}
        names = {level: read_pairs(file) for level, file in files.items()}
        for level in _LEVELS[:-1]:
            check_same_ids(files[level], names[level], files["variant"], names["variant"])
        for number in names["variant"]:
            label = tuple(names[level][number][0] for level in _LEVELS)
            for i, level in enumerate(_LEVELS[1:], start=1):
                check_parent(
                    parents,
                    level,
                    label[i],
                    label[i - 1],
                    names[level][number][1],
                    names[_LEVELS[i - 1]][number][1],
                )
            records.append((f"images/{number}.jpg", label, split))
    return Annotations.from_records(
        records, _LEVELS, home, source=f"FGVC-Aircraft at {home!r}", lists="images_variant_*.txt"
    )


@DATASETS.register_module()
class FGVCAircraft(HierarchicalDataset):
    """FGVC-Aircraft: 10,000 images of 30 manufacturers, 70 families and 100 variants, see :func:`read_aircraft`.

    6,667 images to train, half of which are for validation; 3,333 to test. Every variant is in every split. The lowest
    20 pixels of an image are a line of credits: begin pipelines with ``LoadRGB`` and :class:`CropBottom`. The images
    are for non-commercial research only.

    Args:
        data_root: The folder ``fgvc-aircraft-2013b``, its folder ``data``, or the folder that it is in.
        options: The options of :class:`HierarchicalDataset`; the splits are ``'train'``, ``'val'`` and ``'test'``.
    """

    def read(self) -> Annotations:
        """Reads the lists."""
        return read_aircraft(self.data_root)


@TRANSFORMS.register_module()
class CropBottom(BaseTransform):
    """Cuts the lowest pixels off the image ``img``, such as a line of credits.

    Required and modified keys: ``img``, a ``PIL.Image.Image``. Modified keys: ``img_shape``, its (height, width).

    Args:
        pixels: The height of what is cut off, from 0.

    Raises:
        ValueError: If ``pixels`` is negative, or an image is not higher than that.

    Example:
        >>> from PIL import Image
        >>> CropBottom(20)({"img": Image.new("RGB", (64, 48))})["img_shape"]
        (28, 64)
    """

    def __init__(self, pixels: int = 20) -> None:
        check_from_0(pixels=pixels)
        self.pixels = pixels

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Replaces the image by the part that is left."""
        image = results["img"]
        if image.height <= self.pixels:
            raise ValueError(
                f"the image {results.get('img_path', '')} is {image.height} pixels high, so CropBottom(pixels="
                f"{self.pixels}) would leave none of it; lower pixels"
            )
        results["img"] = image.crop((0, 0, image.width, image.height - self.pixels))
        results["img_shape"] = (results["img"].height, results["img"].width)
        return results

    def __repr__(self) -> str:
        return f"CropBottom(pixels={self.pixels})"
