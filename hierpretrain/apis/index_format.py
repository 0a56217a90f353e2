"""What the files of an index are called, and the files of its images."""

import os
import re

from hierpretrain._names import ADDRESS

FORMAT = "hierpretrain.index.v3"
MANIFEST = "index.json"
CONFIG, WEIGHTS, ENCODER = "config", "weights", "encoder"
"""The parts of the model that an index carries: its config as data, its weights, and the encoder in ONNX."""
MODEL_PARTS = {CONFIG, WEIGHTS, ENCODER}
ENDINGS = {WEIGHTS: ".pth", ENCODER: ".onnx"}
"""The endings of parts that are not JSON."""
_SLASH = rf"[/{re.escape(os.sep)}]"
_BEFORE = "(?<=/)" if os.sep == "/" else rf"(?<=[^/\\]{_SLASH})"  # Windows: //server/share is no /server/share
_IDLE = re.compile(rf"(?:\A\.|{_BEFORE}\.?){_SLASH}(?:\.?{_SLASH})*")


def plain_path(path: str) -> str:
    """Returns a path without ``./`` and doubled slashes, so that a file has one name in an index.

    ``..`` stays: ``a/../b`` is another file than ``b`` where ``a`` is a link. An address (``https://...``) stays too.

    Example:
        >>> plain_path("./cats/1.jpg"), plain_path("../cats/.//1.jpg"), plain_path(".hidden/1.jpg")
        ('cats/1.jpg', '../cats/1.jpg', '.hidden/1.jpg')
        >>> plain_path("a/../b.jpg"), plain_path("s3://shop//1.jpg")
        ('a/../b.jpg', 's3://shop//1.jpg')
    """
    return path if ADDRESS.match(path) else _IDLE.sub("", path)


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
