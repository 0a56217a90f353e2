"""What an image file is: its kind, told from its first bytes, and what programs leave between images."""

from __future__ import annotations

IMAGE_KINDS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000")
"""The image formats that Pillow reads by itself, by its names. ``HEIF`` needs the extra; no other decoder is used."""

ENDINGS = (
    *(".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff"),
    *(".avif", ".heic", ".heif", ".jp2", ".j2k", ".jpx"),
)
"""File endings of images, where a name counts as much as the content."""

RAW_ENDINGS = (
    *(".3fr", ".arw", ".cr2", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".k25", ".kdc", ".mef", ".mos", ".nef"),
    *(".nrw", ".pef", ".sr2", ".srf", ".srw"),
)
"""File endings of cameras' raw files that are TIFFs, in which Pillow would find a small preview."""

HEAD = 64
"""How many bytes tell the kind: the brands of AVIF and HEIC stand after one another from byte 8 on."""

_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",  # with 64-bit offsets
    b"MM\0+": "TIFF",
    b"BM": "BMP",
    b"RIFF": "WEBP",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG2000",
    b"\xff\x4f\xff\x51": "JPEG2000",  # the bare codestream
}
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # bytes of the second header, which says so itself
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "HEIF"),
}
_CLUTTER = {
    *("@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot"),  # network storage
    *("$recycle.bin", "system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini"),  # Windows
    *("__macosx", "icon\r"),  # macOS
    *("lost+found", "__pycache__"),
}


def read_head(path: str) -> bytes:
    """Returns the first bytes of a file, for :func:`image_kind`; a ValueError if it cannot be opened."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(HEAD)
    except OSError as error:
        raise ValueError(f"cannot open {path}: {error.strerror}; make it readable or remove it") from error


def kind_of_file(path: str) -> str:
    """Returns the format of an image file, as :func:`image_kind`; an empty string of a camera's raw file, by its name.

    Raises:
        ValueError: If it cannot be opened.
    """
    return "" if path.lower().endswith(RAW_ENDINGS) else image_kind(read_head(path))


def image_kind(head: bytes) -> str:
    r"""Returns the format of an image file, by Pillow's name of it; an empty string if it is no image.

    A text may begin with the letters that a BMP, GIF or WebP begins with. What follows in such an image no text has.

    Args:
        head: The first 64 bytes of the file.

    Example:
        >>> image_kind(b"\x89PNG\r\n\x1a\n...."), image_kind(b"<svg>"), image_kind(b"BMW 320i, red, two owners")
        ('PNG', '', '')
    """
    if head[4:8] == b"ftyp":
        return _kind_of_brands(head)
    kind = next((kind for signature, kind in _SIGNATURES.items() if head.startswith(signature)), "")
    if kind == "BMP":
        return kind if int.from_bytes(head[14:18], "little") in _BMP_HEADERS else ""
    if kind == "GIF":  # sizes, flags and proportions: one of these seven bytes is as good as always near 0
        return kind if min(head[6:13], default=255) < 9 else ""
    if kind == "WEBP":
        return kind if head[8:12] == b"WEBP" and head[12:16] in (b"VP8 ", b"VP8L", b"VP8X") else ""
    if kind == "TIFF" and head[8:10] == b"CR":  # a camera's raw file, in which Pillow would find a small preview
        return ""
    return kind


def _kind_of_brands(head: bytes) -> str:
    """Returns the format of a file of boxes, as films, AVIF and HEIC are; an empty string for a film or a text."""
    size = int.from_bytes(head[:4], "big")
    if not 16 <= size < 1 << 16:
        return ""
    brands = [head[8:12], *(head[start : start + 4] for start in range(16, min(size, len(head)) - 3, 4))]
    return next((_BRANDS[brand] for brand in brands if brand in _BRANDS), "")


def is_clutter(name: str) -> bool:
    """Tells whether a file or a folder was left by a program and is neither an image nor a class of images.

    These are hidden names, such as ``.ipynb_checkpoints``, and what network storage, Windows and macOS add to folders.

    Example:
        >>> is_clutter("@eaDir"), is_clutter(".DS_Store"), is_clutter("cats")
        (True, True, False)
    """
    return name.startswith(".") or name.lower() in _CLUTTER
