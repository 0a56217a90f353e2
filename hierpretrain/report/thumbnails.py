"""Small pictures of many images, on sheets that a page carries and cuts its thumbnails from."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from hierpretrain.datasets.loading import UnreadableImage, open_small

SIDES = (128, 96, 80, 64, 56, 48, 40, 32, 28, 24, 20, 16)
"""Sides of a thumbnail in pixels."""

_COLUMNS = 32  # a sheet of 32 x 32 pictures: a browser decodes no more than that to show one
_QUALITIES = (80, 70, 60, 45, 30)
_CHOICE = 60  # the quality at which a side must fit: a larger picture shows more than a better one
_GREY = (190, 190, 190)
_THREADS = 4
_SAMPLE = 512  # pictures that tell how many bytes all will take


@dataclass(frozen=True)
class Thumbnails:
    """Pictures on sheets, in rows of ``columns``, from left to right and from the top.

    Attributes:
        side: Of a picture, in pixels.
        columns: Pictures in a row, and rows on a sheet.
        sheets: WebP files.
        unread: Indices of images that could not be read: there is a grey square.
    """

    side: int
    columns: int
    sheets: list[bytes]
    unread: list[int]


def thumbnails(
    paths: Sequence[str], *, largest: int = 64, budget: int = 1 << 24, log: Callable[[str], object] = print
) -> Thumbnails:
    """Draws images on sheets, as large as a number of bytes lets them be.

    A sample of the images, evenly spread, tells the largest side whose sheets fit at a fair quality; then the best
    quality is taken at which all together fit. A picture keeps its shape, centred on white.

    Args:
        paths: Image files; anything that cannot be read, such as the name of an image without a file, is grey.
        largest: The largest side in pixels; the sides that are tried are ``SIDES``.
        budget: How many bytes the sheets may have together.
        log: Told how far it is.

    Returns:
        The sheets; none at all, with side 0, where not even the smallest side fits.

    Example:
        >>> found = thumbnails(["<image 0>"], log=str)
        >>> found.side, len(found.sheets), found.unread
        (64, 1, [0])
    """
    if not paths:
        return Thumbnails(largest, _COLUMNS, [], [])
    side, qualities = _fitting(paths, largest, budget)
    if side:
        tiles, unread = _tiles(paths, side, log)
        for quality in qualities:
            sheets = _sheets(tiles, quality)
            if sum(map(len, sheets)) <= budget:
                return Thumbnails(side, _COLUMNS, sheets, unread)
    log(f"no thumbnails of {len(paths):,} images fit {budget:,} bytes")
    return Thumbnails(0, _COLUMNS, [], [])


def _fitting(paths: Sequence[str], largest: int, budget: int) -> tuple[int, tuple[int, ...]]:
    """Returns the largest side at which a sample, scaled up to all images, fits, 0 if none does; and qualities to try.

    The first of these is the best at which the sample fits; lower ones follow, in case all are larger than it tells.
    """
    sample = [paths[i] for i in np.linspace(0, len(paths) - 1, min(len(paths), _SAMPLE)).astype(int)]
    tiles, _ = _tiles(sample, largest, lambda _: None)

    def fits(pictures: np.ndarray, quality: int) -> bool:
        return sum(map(len, _sheets(pictures, quality))) / len(sample) * len(paths) <= budget

    for side in [largest, *(side for side in SIDES if side < largest)]:
        shrunk = np.stack(
            [np.asarray(Image.fromarray(tile).resize((side, side), Image.Resampling.LANCZOS)) for tile in tiles]
        )
        if fits(shrunk, _CHOICE):
            first = next(at for at, quality in enumerate(_QUALITIES) if quality == _CHOICE or fits(shrunk, quality))
            return side, _QUALITIES[first:]
    return 0, ()


def _tiles(paths: Sequence[str], side: int, log: Callable[[str], object]) -> tuple[np.ndarray, list[int]]:
    """Returns (N, side, side, 3) pictures, and the indices of the images that could not be read."""
    tiles = np.empty((len(paths), side, side, 3), np.uint8)
    unread = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(paths), 5000):  # in turns, so that no more pictures wait to be stored
            part = paths[start : start + 5000]
            for i, tile in enumerate(pool.map(lambda path: _tile(path, side), part), start):
                if tile is None:
                    unread.append(i)
                tiles[i] = _GREY if tile is None else tile
            if len(paths) > 5000:
                log(f"  {start + len(part):,} of {len(paths):,} thumbnails")
    return tiles, unread


def _tile(path: str, side: int) -> np.ndarray | None:
    try:
        image = open_small(path, side)
    except UnreadableImage:
        return None
    return np.asarray(ImageOps.pad(image, (side, side), Image.Resampling.LANCZOS, color="white"))


def _sheets(tiles: np.ndarray, quality: int) -> list[bytes]:
    """Compresses (N, S, S, 3) pictures, a sheet's number at a time."""
    with ThreadPoolExecutor(_THREADS) as pool:
        parts = np.split(tiles, range(_COLUMNS**2, len(tiles), _COLUMNS**2))
        return list(pool.map(lambda part: _encoded(part, quality), parts))


def _encoded(tiles: np.ndarray, quality: int) -> bytes:
    """Lays up to a sheet's number of (n, S, S, 3) pictures out and compresses them."""
    side = tiles.shape[1]
    columns = min(_COLUMNS, len(tiles))
    sheet = np.full((-(-len(tiles) // columns) * columns, side, side, 3), 255, np.uint8)
    sheet[: len(tiles)] = tiles
    lines = sheet.reshape(-1, columns, side, side, 3).swapaxes(1, 2).reshape(-1, columns * side, 3)
    file = io.BytesIO()
    Image.fromarray(lines).save(file, "WEBP", quality=quality, method=4)
    return file.getvalue()
