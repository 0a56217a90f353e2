"""What the files of an index are called, and the files of its images."""

import os
import re

FORMAT = "hierpretrain.index.v3"
MANIFEST = "index.json"
CONFIG, WEIGHTS, ENCODER = "config", "weights", "encoder"
"""The parts of the model that an index carries: its config as data, its weights, and the encoder in ONNX."""
MODEL_PARTS = {CONFIG, WEIGHTS, ENCODER}
ENDINGS = {WEIGHTS: ".pth", ENCODER: ".onnx"}
"""The endings of parts that are not JSON."""
_LEADING_DOT = re.compile(rf"(\.[/{re.escape(os.sep)}]+)+")


def plain_path(path: str) -> str:
    """Returns a path without ``./`` in front, so that a file in the working directory has one name.

    Example:
        >>> plain_path("./cats/1.jpg"), plain_path("../cats/1.jpg"), plain_path(".hidden/1.jpg")
        ('cats/1.jpg', '../cats/1.jpg', '.hidden/1.jpg')
    """
    dots = _LEADING_DOT.match(path)
    return path[dots.end() :] if dots else path


def image_path(root: str, path: str) -> str:
    """Returns the file of an image of a segment.

    Args:
        root: What all its files begin with, by the manifest, where people change it if images have moved.
        path: The rest. Older versions wrote ``./`` in front.

    Example:
        >>> image_path("/moved", "1.jpg"), image_path("/moved/", "1.jpg"), image_path("", "./1.jpg")
        ('/moved/1.jpg', '/moved/1.jpg', '1.jpg')
    """
    return plain_path((root if not root or root.endswith("/") else f"{root}/") + path)
