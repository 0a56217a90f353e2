"""JPEG files without what is said about their pixels."""

from __future__ import annotations

from hierpretrain.datasets.orientation import exif_of

_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_OF_COLOURS = {0xE0: (b"JFIF\0", 14), 0xEE: (b"Adobe", 12)}  # marker -> how it begins and the least of its bytes
_SCAN, _COMMENT = 0xDA, 0xFE


def pixels_alone(data: bytes) -> bytes:
    r"""Returns a JPEG without colour profiles, comments and other remarks, of which the orientation is kept.

    A remark may be damaged, while the pixels are fine. Those that tell the decoder how colours are stored stay.

    Args:
        data: The content of the file. It may be cut off.

    Example:
        >>> pixels_alone(b"\xff\xd8" + b"\xff\xe2\0\x10ICC_PROFILE\0\x01\x01" + b"\xff\xda the scan")
        b'\xff\xd8\xff\xda the scan'
    """
    segments = []
    info: dict[str, bytes] = {}
    position = 2
    while (position := data.find(b"\xff", position)) >= 0 and position + 4 <= len(data):
        marker = data[position + 1]
        if marker == _SCAN:
            break
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD9:  # filling, and markers without a segment
            position += 1 if marker == 0xFF else 2
            continue
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        content = data[position + 4 : end]
        if marker == 0xE1 and content.startswith(_EXIF):
            info["exif"] = info.get("exif", _EXIF) + content[len(_EXIF) :]  # it may be in several
        elif marker == 0xE1 and content.startswith(_XMP):
            info["xmp"] = content[len(_XMP) :]
        elif 0xE0 <= marker <= 0xEF or marker == _COMMENT:
            begin, least = _OF_COLOURS.get(marker, (b"", 1 << 16))
            if content.startswith(begin) and len(content) >= least:
                segments.append(data[position:end])
        else:
            segments.append(data[position:end])
        position = end
    if exif := exif_of(info):
        segments.insert(0, b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif)
    return b"".join([data[:2], *segments, data[position:] if position >= 0 else b""])
