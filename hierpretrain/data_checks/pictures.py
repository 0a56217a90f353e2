"""Opening every image once, in several processes: what it is, what it looks like, or why it cannot be read."""

from __future__ import annotations

import gc
import hashlib
import io
import os
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track

from hierpretrain.apis.image_digests import image_digest
from hierpretrain.checks import check_not_below_0
from hierpretrain.data_checks.look_alikes import THUMBNAIL, thumbnail
from hierpretrain.data_checks.problems import Problem
from hierpretrain.datasets.image_files import IMAGE_KINDS
from hierpretrain.datasets.loading import UnreadableImage, open_rgb
from hierpretrain.datasets.stored_images import ImageStore, Stored, stored_image
from hierpretrain.files import sha256

HUGE = Image.MAX_IMAGE_PIXELS or 89_478_485
"""Pixels from which an image is huge: where Pillow begins to warn of a decompression bomb."""
TINY = 8
"""Pixels of a side below which an image is tiny."""

_MEMORY = re.compile(r" <_io\.BytesIO object at 0x\w+>")  # in Pillow's messages
_BLANK = 4  # of 255, which the pixels of an image of one colour differ by
_CHUNK = 64  # files that a process takes at a time
_kept: Sequence[ImageStore] = ()  # by a process that opens images, which finds them while they live
_MIN_SIDE = 64  # a JPEG is decoded at an eighth of its size if no side is shorter then: all of it is read all the same


class Picture(NamedTuple):
    """What one file is.

    Attributes:
        digest: The SHA-256 of its bytes.
        size: (width, height) in pixels; (0, 0) if it cannot be read.
        mode: Pillow's name for its kind of pixels, before they were made RGB.
        format: Pillow's name for its format.
        thumbnail: Its bytes as :func:`~hierpretrain.data_checks.look_alikes.thumbnail` makes them.
        is_blank: Whether all pixels are equal, but for the noise of a compression.
        problem: Why it cannot be read; empty if it can.
    """

    digest: bytes
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    format: str = ""
    thumbnail: bytes = b""
    is_blank: bool = False
    problem: str = ""


@dataclass
class Pictures:
    """What N files are.

    Attributes:
        digests: (N, 32) uint8, the SHA-256 of the bytes.
        thumbnails: (N, 8, 9, 3) uint8; zeros where an image cannot be read or is of one colour.
        readable: (N,) bool.
        blank: (N,) bool, whether an image is of one colour.
        sizes: (N, 2) int64, width and height.
        modes: Mode -> number of images.
        formats: Format -> number of images.
        problems: What is wrong with them.
    """

    digests: NDArray[np.uint8]
    thumbnails: NDArray[np.uint8]
    readable: NDArray[np.bool_]
    blank: NDArray[np.bool_]
    sizes: NDArray[np.int64]
    modes: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)

    def __str__(self) -> str:
        """Returns sizes, modes and formats in a line for people."""
        sizes = self.sizes[self.readable]
        if not len(sizes):
            return "no image can be read"
        by_area = sizes[np.argsort(sizes.prod(1), kind="stable")]
        small, middle, large = (f"{w} x {h}" for w, h in by_area[[0, len(by_area) // 2, -1]].tolist())
        parts = [f"sizes {small} to {large}, median {middle}" if small != large else f"size {small}"]
        for name, counts in (("modes", self.modes), ("formats", self.formats)):
            parts.append(f"{name} " + ", ".join(f"{key} {number:,}" for key, number in counts.most_common()))
        return "; ".join(parts)


def look_at(
    files: Sequence[str],
    *,
    workers: int = 2,
    opening: Mapping[str, Any] | None = None,
    stores: Sequence[ImageStore] = (),
) -> Pictures:
    """Opens files, each once, as a training does, and says what they are.

    Memory does not grow with the size of the images: huge ones are opened last, one at a time.

    Args:
        files: N image files.
        workers: Processes that open them; 0 opens them in this one.
        opening: Options of ``LoadRGB``: ``grey_range`` and ``max_pixels``.
        stores: What gives those of the images that are no files.

    Raises:
        ValueError: If a process was killed, as where memory is short; the message says at which files.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     Image.new("RGB", (40, 30), "red").save(f"{root}/a.png")
        ...     _ = open(f"{root}/b.png", "wb").write(open(f"{root}/a.png", "rb").read()[:60])
        ...     pictures = look_at([f"{root}/a.png", f"{root}/b.png"], workers=0)
        >>> print(pictures)
        size 40 x 30; modes RGB 1; formats PNG 1
        >>> [problem.kind for problem in pictures.problems]
        ['blank image', 'truncated image']
    """
    number = len(files)
    found = Pictures(
        np.zeros((number, 32), np.uint8),
        np.zeros((number, *THUMBNAIL), np.uint8),
        np.zeros(number, bool),
        np.zeros(number, bool),
        np.zeros((number, 2), np.int64),
    )
    check_not_below_0(workers=workers)
    opening = dict(opening or {})
    huge = []
    console = Console(stderr=True)
    looked = _each(files, range(number), workers, opening, stores)
    for i, picture in track(looked, "opening", number, console=console, disable=not console.is_terminal):
        if picture is None:
            huge.append(i)
        else:
            _put_down(found, i, files[i], picture)
    for i in huge:
        _put_down(found, i, files[i], look_at_one(files[i], opening))
    return found


def _put_down(found: Pictures, i: int, file: str, picture: Picture) -> None:
    found.digests[i] = np.frombuffer(picture.digest, np.uint8)
    if picture.problem:
        truncated = "truncated" in picture.problem.lower()
        found.problems.append(Problem("truncated image" if truncated else "broken image", file, why=picture.problem))
        return
    width, height = found.sizes[i] = picture.size
    found.readable[i] = True
    found.blank[i] = picture.is_blank
    found.thumbnails[i] = np.frombuffer(picture.thumbnail, np.uint8).reshape(THUMBNAIL)
    found.modes[picture.mode] += 1
    found.formats[picture.format] += 1
    if width * height > HUGE:
        found.problems.append(Problem("huge image", file, why=f"{width:,} x {height:,} pixels"))
    if min(width, height) < TINY:
        found.problems.append(Problem("tiny image", file, why=f"{width} x {height} pixels"))
    if picture.is_blank:
        found.problems.append(Problem("blank image", file))


def _each(
    files: Sequence[str], indices: range, workers: int, opening: Mapping[str, Any], stores: Sequence[ImageStore]
) -> Iterator[tuple[int, Picture | None]]:
    """Yields every index with what its file is, ``None`` for a huge one, in order."""
    chunks = [indices[start : start + _CHUNK] for start in range(0, len(indices), _CHUNK)]
    if not workers:
        for chunk in chunks:
            yield from zip(chunk, _look_at_some([files[i] for i in chunk], opening), strict=True)
        return
    gc.freeze()  # what is there by now is shared with the processes, not copied
    context = get_context("fork" if sys.platform == "linux" else "spawn")
    try:
        number = min(workers, len(chunks) or 1)
        with ProcessPoolExecutor(number, context, initializer=_keep, initargs=(stores,)) as pool:
            waiting: list[tuple[range, Future[list[Picture | None]]]] = []
            for chunk in chunks:  # a few chunks ahead, so that what is done does not pile up
                waiting.append((chunk, pool.submit(_look_at_some, [files[i] for i in chunk], opening)))
                if len(waiting) > 4 * workers:
                    yield from _done(*waiting.pop(0), files)
            for one in waiting:
                yield from _done(*one, files)
    finally:
        gc.unfreeze()


def _keep(stores: Sequence[ImageStore]) -> None:
    global _kept
    _kept = stores


def _done(
    chunk: range, future: Future[list[Picture | None]], files: Sequence[str]
) -> Iterator[tuple[int, Picture | None]]:
    try:
        yield from zip(chunk, future.result(), strict=True)
    except BrokenProcessPool as error:
        raise ValueError(
            f"a process that opens images was killed, as where memory is short, at {files[chunk[0]]} or one of the "
            f"{len(chunk) - 1} images after it; give fewer --workers, and, if one image does it, take that away"
        ) from error


def _look_at_some(files: Sequence[str], opening: Mapping[str, Any]) -> list[Picture | None]:
    return list(map(partial(look_at_one, opening=opening, but_huge=True), files))


def look_at_one(file: str, opening: Mapping[str, Any] | None = None, *, but_huge: bool = False) -> Picture | None:
    """Opens one file or stored image; returns ``None`` for a huge image with ``but_huge``."""
    try:
        stored = stored_image(file)
        digest = bytes.fromhex(sha256(file)) if stored is None else _digest(stored)
    except OSError as error:
        return Picture(bytes(32), problem=f"cannot open it: {error.strerror}")
    except Exception as error:  # what stores images may raise anything
        return Picture(bytes(32), problem=f"cannot open it: {error}")
    if stored == b"" or (stored is None and not os.path.getsize(file)):
        return Picture(digest, problem="the file is empty")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large images and odd remarks
        size, mode, kind = _header(file if stored is None else stored)
        if but_huge and size[0] * size[1] > HUGE:
            return None
        try:
            image = open_rgb(file, _MIN_SIDE, **(opening or {}))
        except UnreadableImage as error:
            return Picture(digest, problem=_MEMORY.sub("", str(error).removeprefix(f"cannot read the image {file}: ")))
    extrema: Any = image.getextrema()
    blank = all(high - low <= _BLANK for low, high in extrema)
    return Picture(digest, size if size[0] else image.size, mode, kind, thumbnail(image), blank)


def _digest(stored: Stored) -> bytes:
    """Returns the SHA-256 of the bytes of a stored image, or of the pixels of a picture."""
    return hashlib.sha256(stored if isinstance(stored, bytes) else image_digest(stored).encode()).digest()


def _header(source: str | Stored) -> tuple[tuple[int, int], str, str]:
    """Returns the size, the mode and the format of an image; nothing where Pillow alone cannot tell."""
    if isinstance(source, Image.Image):
        return source.size, source.mode, source.format or "in memory"
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=IMAGE_KINDS) as image:
            return image.size, image.mode, image.format or ""
    except Exception:  # open_rgb says why, or reads it in another way
        return (0, 0), "other", "other"
