"""The orientation that a file gives its image, by the rules of Pillow."""

from __future__ import annotations

from typing import Any

from PIL import Image

_ORIENTATION = 0x0112  # a tag of EXIF


def orientation_of(image: Image.Image) -> Any:
    """Returns the EXIF orientation of an image, 1 (upright) where there is none or it cannot be read."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Pillow raises nearly anything at damaged EXIF
        return 1
    return orientation if isinstance(orientation, int) else 1


def exif_of(info: dict[str, Any]) -> bytes:
    r"""Returns EXIF that says the orientation alone, nothing if the image is upright.

    Args:
        info: What a file says of its image, by Pillow's names. EXIF goes before XMP.

    Example:
        >>> exif_of({"xmp": b'<x tiff:Orientation="6"/>'})
        b'Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00'
        >>> exif_of({"exif": b"damaged"})
        b''
    """
    image = Image.Image()
    image.info = dict(info)
    if not 1 < (orientation := orientation_of(image)) < 9:
        return b""
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    return exif.tobytes()
