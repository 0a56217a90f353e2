"""TIFF files: without what is said about their pixels, and what Pillow takes their values for."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from PIL.TiffImagePlugin import TiffImageFile

_REDUCED, _SUB_IMAGES, _DNG_VERSION = 254, 330, 50706  # tags of raw files
_PHOTOMETRIC, _SAMPLE_FORMAT, _BITS = 262, 339, 258  # and of how grey is stored
_ORIENTATION, _XMP = 274, 700
_BYTES = (1, 7)  # types of a value
_PIXELS = {
    *(_REDUCED, 256, 257, _BITS, 259, _PHOTOMETRIC, 266, 273, _ORIENTATION, 277, 278, 279, 284, 292, 293, 317, 320),
    *(322, 323, 324, 325, _SUB_IMAGES, 332, 334, 338, _SAMPLE_FORMAT, 347, 529, 530, 531, 532, _DNG_VERSION),
    *range(512, 522),  # of JPEG in an old form
}


def pixels_alone(data: bytes) -> bytes:
    """Returns a TIFF of one image, without the entries of its directory that are not about the pixels.

    An entry may be damaged, and point out of the file, while the pixels are fine. XMP is kept where it lies within, as
    it may say the orientation.

    Args:
        data: The content of the file. It may be cut off.
    """
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")  # with 64-bit offsets
    forms = ("Q", "HHQQ", "Q") if big else ("H", "HHLL", "L")
    number, entry, offset = (struct.Struct(order + form) for form in forms)
    try:
        (first,) = offset.unpack_from(data, 8 if big else 4)
        (count,) = number.unpack_from(data, first)
    except struct.error:
        return data
    kept = []
    start = first + number.size
    for position in range(start, min(start + count * entry.size, len(data) - entry.size + 1), entry.size):
        tag, kind, length, there = entry.unpack_from(data, position)
        if tag in _PIXELS or (tag == _XMP and kind in _BYTES and there + length <= len(data)):
            kept.append(data[position : position + entry.size])
    directory = number.pack(len(kept)) + b"".join(kept) + offset.pack(0)
    return data[:first] + directory + data[first + len(directory) :]


def check_not_raw(image: TiffImageFile) -> None:
    """Raises a ValueError if a TIFF is the raw file of a camera, whose first image is a small preview."""
    tags = image.tag_v2
    if _DNG_VERSION in tags or (tags.get(_REDUCED) == 1 and _SUB_IMAGES in tags):
        raise ValueError(
            "it is the raw file of a camera, in which only a small preview can be read; develop it into a JPEG, a PNG "
            "or a TIFF of its own"
        )


def lacks_entries(image: TiffImageFile) -> bool:
    """Tells whether Pillow gave up at a damaged entry, and knows nothing of those behind it, such as the orientation.

    It has not come to the offset of a next directory then.
    """
    return image.tag_v2.next == image.tag_v2.offset


def mend_decoding(image: TiffImageFile) -> None:
    """Tells Pillow what it does not know of a TIFF that it is about to decode.

    libtiff gives values in the byte order of this machine, whatever the order of the file. Pillow has this of unsigned
    16-bit grey alone: signed and floating-point values of a compressed TIFF of the other order were other numbers. And
    an uncompressed file may be mapped into memory, but not as one whose sides are exchanged.
    """
    if image.tile and image.tile[0].codec_name == "libtiff":
        stored_as, *more = image.tile[0].args
        image.tile[0] = image.tile[0]._replace(args=(re.sub(r"(;\d+)B?([SF])$", r"\1N\2", stored_as), *more))
    if image.fp is not None and image.tag_v2.get(_ORIENTATION) in (5, 6, 7, 8):
        image.load_read = image.fp.read  # type: ignore[attr-defined]  # where this is, Pillow maps nothing


def grey_values(image: Image.Image, tags: Mapping[int, Any]) -> NDArray[np.generic] | None:
    """Returns the values of grey that is to be scaled to 8 bits, of the type that the file has; ``None`` of others.

    Args:
        image: An image.
        tags: Those of the TIFF that it is of, if it is of one.
    """
    signed = tags.get(_SAMPLE_FORMAT, (1,))[0] == 2
    if image.mode == "L" and signed:  # Pillow takes its values for unsigned ones
        return np.asarray(image).view(np.int8)
    if image.mode == "I" and not signed and tags.get(_BITS, (1,))[0] == 32:  # and these for signed ones
        return np.asarray(image).view(np.uint32)
    return np.asarray(image) if image.mode.startswith(("I", "F")) else None


def is_negative(tags: Mapping[int, Any]) -> bool:
    """Tells whether 0 is white."""
    return tags.get(_PHOTOMETRIC) == 0
