"""PNG files: whether their pixels are whole, and the files without what is said about the pixels."""

from __future__ import annotations

import zlib
from typing import IO

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


def check_pixels(file: IO[bytes]) -> None:
    """Raises a ValueError if the checksum of some pixels is wrong, at which Pillow does not look.

    Where a file is cut off, Pillow says so.

    Example:
        >>> import io
        >>> small = _SIGNATURE + _chunk(b"IHDR", bytes(13)) + _chunk(b"IDAT", b"pixels") + _chunk(b"IEND", b"")
        >>> check_pixels(io.BytesIO(small.replace(b"pixels", b"pixel_")))
        Traceback (most recent call last):
        ValueError: it is damaged: the checksum of its pixels is wrong; get it anew
    """
    position = file.tell()
    file.seek(len(_SIGNATURE))
    while len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind != b"IDAT":
            file.seek(length + 4, 1)
            continue
        content, checksum = file.read(length), file.read(4)
        if len(checksum) == 4 and zlib.crc32(content, zlib.crc32(kind)) != int.from_bytes(checksum, "big"):
            raise ValueError("it is damaged: the checksum of its pixels is wrong; get it anew")
    file.seek(position)


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
