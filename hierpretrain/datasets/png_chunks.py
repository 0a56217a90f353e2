"""PNG files without what is said about their pixels."""

from __future__ import annotations

import re
import zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_MOST = 1 << 26  # bytes of an XMP text in which the orientation is looked for
_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')


def pixels_alone(data: bytes) -> bytes:
    r"""Returns a PNG without text, colour profiles and other remarks, of which the orientation is kept.

    A remark may be damaged or of any size, while the pixels are fine.

    Args:
        data: The content of the file. It may be cut off.

    Example:
        >>> def chunk(kind, content):
        ...     return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
        >>> small = _SIGNATURE + chunk(b"IHDR", bytes(13)) + chunk(b"IEND", b"")
        >>> pixels_alone(small[:33] + chunk(b"tEXt", b"workflow\0{}") + small[33:]) == small
        True
    """
    chunks = [_SIGNATURE]
    orientation: bytes | None = None
    position = len(_SIGNATURE)
    while position + 8 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        kind, content = data[position + 4 : position + 8], memoryview(data)[position + 8 : end - 4]
        if kind in _PIXELS:
            chunks.append(data[position:end])
        elif kind == b"eXIf" and zlib.crc32(content, zlib.crc32(kind)) == int.from_bytes(data[end - 4 : end], "big"):
            orientation = data[position:end]
        elif kind == b"iTXt" and orientation is None:
            orientation = _orientation_of(bytes(content))
        position = end
    if orientation is not None:
        chunks.insert(2, orientation)
    return b"".join(chunks)


def _orientation_of(text: bytes) -> bytes | None:
    """Returns a chunk that says what an iTXt chunk of XMP says of the orientation, if it says something."""
    keyword, _, rest = text.partition(b"\0")
    if keyword != b"XML:com.adobe.xmp" or len(rest) < 4:
        return None
    xmp = rest[2:].split(b"\0", 2)[-1]  # after two flags, a language and a translated keyword
    if rest[0]:
        try:
            xmp = zlib.decompressobj().decompress(xmp, _MOST)
        except zlib.error:
            return None
    if not (found := _ORIENTATION.search(xmp)):
        return None
    # EXIF of one entry: tag 0x0112, a short, one of them
    exif = b"MM\0*\0\0\0\x08" + b"\0\x01" + b"\x01\x12\0\x03\0\0\0\x01" + bytes([0, int(found[1]), 0, 0]) + bytes(4)
    return len(exif).to_bytes(4, "big") + b"eXIf" + exif + zlib.crc32(b"eXIf" + exif).to_bytes(4, "big")
