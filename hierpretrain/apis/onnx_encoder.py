"""An exported encoder at work: image files in, unit embeddings out, by onnxruntime and without torch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hierpretrain.datasets.loading import open_rgb

_AT_A_TIME = 16


class OnnxEncoder:
    """An encoder in the form that :func:`~hierpretrain.apis.export_onnx` writes.

    Args:
        data: The content of the file.

    Attributes:
        about: The description, which the file carries: ``about["fingerprint"]`` says which model it is.

    Raises:
        ImportError: If onnxruntime is missing.
        ValueError: If a step that makes the encoder's input of an image has no description.
    """

    def __init__(self, data: bytes) -> None:
        import onnxruntime  # of the extra `export`

        self._session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        described = self._session.get_modelmeta().custom_metadata_map
        self.about: Mapping[str, Any] = {name: json.loads(text) for name, text in described.items()}
        self._opened, *self._steps = self.about["preprocessing"]
        for step in self._steps:
            if step["step"] not in ("resize", "crop") or step.get("library", "pillow") != "pillow":
                raise ValueError(f"the test pipeline has a step that runs only with torch or OpenCV: {step}")

    def open(self, path: str | os.PathLike[str]) -> Image.Image:
        """Opens an image file; as :func:`~hierpretrain.datasets.loading.open_rgb`."""
        return open_rgb(
            os.fspath(path),
            self._opened.get("jpeg_min_side"),
            grey_range=self._opened.get("grey_range"),
            max_pixels=self._opened.get("max_pixels"),
        )

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """Returns the (C, H, W) input that an opened image becomes.

        Raises:
            ValueError: If a crop is larger than the image.
        """
        for step in self._steps:
            image = _resized(image, step) if step["step"] == "resize" else _cropped(image, step)
        return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))

    def __call__(self, paths: Sequence[str | os.PathLike[str]]) -> NDArray[np.float32]:
        """Returns the (N, D) unit embeddings of image files."""
        found = []
        for start in range(0, len(paths), _AT_A_TIME):
            pictures = np.stack([self.prepare(self.open(path)) for path in paths[start : start + _AT_A_TIME]])
            found += self._session.run(["embeddings"], {"images": pictures.astype(np.float32)})
        return np.concatenate(found)


def _resized(image: Image.Image, step: Mapping[str, Any]) -> Image.Image:
    width, height = image.size
    side = step.get("shorter_side") or step.get("longer_side")
    if side is None:
        size = (step["width"], step["height"])
    elif (width <= height) == ("shorter_side" in step):
        size = (side, int(side * height / width))
    else:
        size = (int(side * width / height), side)
    return image if size == image.size else image.resize(size, Image.Resampling[step["interpolation"].upper()])


def _cropped(image: Image.Image, step: Mapping[str, Any]) -> Image.Image:
    left, top = (image.width - step["width"]) / 2, (image.height - step["height"]) / 2
    if min(left, top) < 0:
        raise ValueError(f"an image of {image.size} is smaller than the crop of {step['width']} x {step['height']}")
    left, top = round(left), round(top)
    return image.crop((left, top, left + step["width"], top + step["height"]))
