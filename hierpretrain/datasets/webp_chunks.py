"""WebP files without what is said about their pixels."""

from __future__ import annotations

import re

from hierpretrain.datasets.orientation import exif_of

_REMARKS = {b"ICCP": 0x20, b"EXIF": 0x08, b"XMP ": 0x04}  # chunk -> the flag of the header that says it is there
_CHUNK = re.compile(rb"VP8[ LX]|ALPH|ANIM|ANMF|ICCP|EXIF|XMP ")


def pixels_alone(data: bytes) -> bytes:
    """Returns a WebP without colour profile and XMP, and of its EXIF with the orientation alone.

    A remark may be damaged or cut off, and its length may be wrong, while the pixels are fine.

    Args:
        data: The content of the file. It may be cut off.
    """
    data = data[: 8 + int.from_bytes(data[4:8], "little")]
    chunks = []
    info: dict[str, bytes] = {}
    flags = 0
    position = 12
    while position + 8 <= len(data):
        kind, size = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], "little")
        end = position + 8 + size + size % 2
        if kind not in _REMARKS:
            chunks.append(data[position:end])
            flags = flags if kind != b"VP8X" else data[position + 8]
        elif position + 8 + size > len(data) or (end < len(data) and not _CHUNK.match(data, end)):
            # this is not its length, and so the next one is looked for
            found = _CHUNK.search(data, position + 8)
            end = found.start() if found else len(data)
        elif flags & _REMARKS[kind]:
            info[kind.strip().lower().decode()] = data[position + 8 : position + 8 + size]
        position = end
    if chunks and chunks[0].startswith(b"VP8X"):
        exif = exif_of(info)
        flags = flags & ~sum(_REMARKS.values()) | (_REMARKS[b"EXIF"] if exif else 0)
        chunks[0] = chunks[0][:8] + bytes([flags]) + chunks[0][9:]
        chunks.append(b"EXIF" + len(exif).to_bytes(4, "little") + exif if exif else b"")
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + len(body).to_bytes(4, "little") + body
