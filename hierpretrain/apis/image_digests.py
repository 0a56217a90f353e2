"""What tells whether an image is still the one that was embedded."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import numpy as np
from PIL import Image

from hierpretrain.datasets.orientation import orientation_of
from hierpretrain.files import sha256


def image_digest(source: Any) -> str:
    """Returns 32 hex digits for the content of an image: of a file its bytes, of an array or a picture its pixels.

    To a picture's pixels belong, where it has them, its palette, its transparent colour and its EXIF orientation.

    Args:
        source: A file, an array or a picture of Pillow's.

    Returns:
        Half of a SHA-256; empty for a file that cannot be read.

    Example:
        >>> image_digest(np.zeros((2, 2, 3), np.uint8)) == image_digest(np.zeros((2, 2, 3), np.uint8))
        True
        >>> image_digest("no/such/file.jpg")
        ''
    """
    if isinstance(source, str | os.PathLike):
        try:
            return sha256(source)[:32]
        except OSError:
            return ""
    try:
        array = np.ascontiguousarray(source)
    except Exception:  # a picture of Pillow's may be a file that is opened and damaged
        return ""
    about = f"{getattr(source, 'mode', '')} {array.dtype} {array.shape}"
    if isinstance(source, Image.Image):
        orientation = orientation_of(source)
        shown = {
            "palette": source.getpalette(None),
            "transparency": source.info.get("transparency"),
            "orientation": None if orientation == 1 else orientation,
        }
        about += "".join(f" {name} {value}" for name, value in shown.items() if value is not None)
    return hashlib.sha256(about.encode() + array.tobytes()).hexdigest()[:32]
