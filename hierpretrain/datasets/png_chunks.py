"""PNG files without what is said about their pixels."""

from __future__ import annotations

import zlib

from hierpretrain.datasets.orientation import exif_of

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_OF_ORIENTATION = (b"Raw profile type exif", b"XML:com.adobe.xmp")  # keywords of texts, by which Pillow keeps them
_MOST = 1 << 26  # bytes of a text in which the orientation is looked for


def pixels_alone(data: bytes) -> bytes:
    r"""Returns a PNG without text, colour profiles and other remarks, of which the orientation is kept.

    A remark may be damaged or of any size, while the pixels are fine.

    Args:
        data: The content of the file. It may be cut off.

    Example:
        >>> small = _SIGNATURE + _chunk(b"IHDR", bytes(13)) + _chunk(b"IEND", b"")
        >>> pixels_alone(small[:33] + _chunk(b"tEXt", b"workflow\0{}") + small[33:]) == small
        True
    """
    chunks = [_SIGNATURE]
    info: dict[str, bytes | str] = {}
    position = len(_SIGNATURE)
    while position + 8 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        if kind in _PIXELS:
            chunks.append(data[position:end])
        elif kind == b"eXIf" or kind in _TEXTS:
            content = data[position + 8 : end - 4]
            if data[position:end] == _chunk(kind, content):  # the checksum, too
                info |= {"exif": b"Exif\0\0" + content} if kind == b"eXIf" else _text(kind, content)
        position = end
    if exif := exif_of(info):
        chunks.insert(2, _chunk(b"eXIf", exif.removeprefix(b"Exif\0\0")))
    return b"".join(chunks)


def _text(kind: bytes, content: bytes) -> dict[str, str]:
    """Returns the text of a chunk by its keyword, if it may say the orientation."""
    keyword, _, text = content.partition(b"\0")
    if keyword not in _OF_ORIENTATION:
        return {}
    packed = kind == b"zTXt"
    if packed:
        text = text[1:]  # after the method of compression
    elif kind == b"iTXt":
        packed = text[:1] == b"\1"
        text = text[2:].split(b"\0", 2)[-1]  # after two flags, a language and a translated keyword
    if packed:
        try:
            text = zlib.decompressobj().decompress(text, _MOST)
        except zlib.error:
            return {}
    return {keyword.decode("latin-1"): text.decode("latin-1")}


def _chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
