"""Opening image files as upright RGB images, with errors that name the file."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from hierpretrain._lazy import imported_on_demand
from hierpretrain.datasets import jpeg_segments, png_chunks, tiff_entries, webp_chunks
from hierpretrain.datasets.grey import as_eight_bits
from hierpretrain.datasets.image_files import HEAD, IMAGE_KINDS, image_kind, read_head
from hierpretrain.datasets.messages import warn
from hierpretrain.datasets.on_error import UnreadableImage
from hierpretrain.datasets.orientation import orientation_of
from hierpretrain.datasets.stored_images import stored_image
from hierpretrain.files import stand_in

if TYPE_CHECKING:  # the transforms, which import much more than it takes to open a file
    from hierpretrain.datasets.loading_transforms import LoadRGB, PackInputs

__all__ = ["LoadRGB", "PackInputs", "as_rgb", "decode_rgb", "open_rgb"]

_TURNS = {  # what makes an image of each EXIF orientation upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PIXELS_ALONE = {  # what takes the remarks out of a file of each kind
    "JPEG": jpeg_segments.pixels_alone,
    "PNG": png_chunks.pixels_alone,
    "TIFF": tiff_entries.pixels_alone,
    "WEBP": webp_chunks.pixels_alone,
}
_GREY_STEPS = {"L;2": 85, "L;4": 17}  # from a value of 2 and of 4 bits to one of 8
_BAND = 1 << 20  # pixels
_DARK = 1 / 64  # of white: where floating-point values end below, an image is nearly black
_MOST_UNEQUAL = 2000  # of a picture that is resized by its shorter side to 256, these are 131 million pixels
_PREVIEW = 1 << 26  # pixels of an image of which a small picture is wanted
_MANY = 1 << 22  # pixels from which on these are decoded one after the other
_ONE_AT_A_TIME = threading.Lock()
_LIMIT_IS_SET = threading.Lock()


def open_rgb(
    path: str,
    min_side: int | None = None,
    *,
    grey_range: tuple[float, float] | None = None,
    max_pixels: int | None = None,
) -> Image.Image:
    """Opens an image file as an upright RGB image.

    The format is told from the content, not from the name. EXIF orientation is applied; whatever else is written about
    the pixels is not read, and costs nothing where it is damaged or large. Transparent pixels, by an alpha channel or a
    transparent colour, are laid on white. Grey, palette, CMYK and YCbCr images are converted to RGB. Grey of more than
    8 bits is scaled by the rule of :func:`~hierpretrain.datasets.grey.as_eight_bits`. Of an animation, the first frame
    is taken.

    Args:
        path: The file; a JPEG, PNG, GIF, WebP, BMP, TIFF, AVIF or JPEG 2000, and with the extra ``heif`` a HEIC. It may
            be the path of a stored image, see :mod:`~hierpretrain.datasets.stored_images`.
        min_side: Allows a JPEG to be decoded at a half, a quarter or an eighth of its size: the smallest at which no
            side is shorter than this many pixels. Half the size takes about half the time. ``None`` decodes the full
            size.
        grey_range: The value that becomes black and the one that becomes white, in grey images of more than 8 bits.
        max_pixels: How many pixels an image may have at most, where more than twice ``PIL.Image.MAX_IMAGE_PIXELS``
            (178,956,970) shall be allowed. A JPEG beyond the limit is decoded at a half, a quarter or an eighth of its
            size, unless it is progressive, which takes the memory of the whole.

    Returns:
        An image of mode ``RGB``, loaded, with its file closed.

    Raises:
        UnreadableImage: If the file is missing, truncated, of another format or a decompression bomb (more pixels than
            the limit), if its grey values have no range, if it is the raw file of a camera, or if one side is more than
            2,000 times as long as the other.
    """
    try:
        source = stored_image(path)
        if isinstance(source, Image.Image):
            return as_rgb(source, grey_range, name=path)
        return _opened(path if source is None else source, path, min_side, grey_range, max_pixels)
    except UnidentifiedImageError as error:
        why = (stand_in(path) if source is None else "") or error
        raise UnreadableImage(f"cannot read the image {path}: {why}") from error
    except Exception as error:  # Pillow raises nearly anything at a broken or hostile file
        raise UnreadableImage(f"cannot read the image {path}: {error or type(error).__name__}") from error


def decode_rgb(
    data: bytes,
    name: str,
    min_side: int | None = None,
    *,
    grey_range: tuple[float, float] | None = None,
    max_pixels: int | None = None,
) -> Image.Image:
    """Decodes the bytes of an image file, as :func:`open_rgb` opens the file.

    Args:
        data: The bytes.
        name: What a message shall call the image.
        min_side: As for :func:`open_rgb`.
        grey_range: As there.
        max_pixels: As there.

    Raises:
        UnreadableImage: As there.

    Example:
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (2, 3), "red").save(file, "PNG")
        >>> decode_rgb(file.getvalue(), "red.png").size
        (2, 3)
        >>> decode_rgb(b"", "empty.png")
        Traceback (most recent call last):
        hierpretrain.datasets.on_error.UnreadableImage: cannot read the image empty.png: it is of no known format
    """
    try:
        return _opened(data, name, min_side, grey_range, max_pixels)
    except UnidentifiedImageError as error:  # which tells of an object, where open_rgb's tells of the file
        raise UnreadableImage(f"cannot read the image {name}: it is of no known format") from error
    except Exception as error:
        raise UnreadableImage(f"cannot read the image {name}: {error or type(error).__name__}") from error


def _opened(
    source: str | bytes,
    name: str,
    min_side: int | None,
    grey_range: tuple[float, float] | None,
    max_pixels: int | None,
) -> Image.Image:
    try:
        with _open(source, min_side, max_pixels) as image:
            return _drawn(image, name, min_side, grey_range)
    except Image.DecompressionBombError:
        with _open_large(source, min_side, max_pixels) as image:
            return _drawn(image, name, min_side, grey_range)


def _open(source: str | bytes, min_side: int | None, max_pixels: int | None) -> Image.Image:
    try:
        return Image.open(_file(source), formats=IMAGE_KINDS)
    except (FileNotFoundError, Image.DecompressionBombError):
        raise
    except Exception:
        if (again := _open_otherwise(source, min_side, max_pixels)) is None:
            raise
        return again


def open_small(path: str, min_side: int) -> Image.Image:
    """Opens an image for a small picture of it, in a page or a sheet, within a limit on memory.

    An image of more than 67,108,864 pixels (64 Mi) is not decoded, unless it is a JPEG, which can be at a fraction of
    its size: a PNG of a few kilobytes may have hundreds of megapixels. Large ones are decoded one at a time, whatever
    the number of threads, so that all together take less than a gibibyte.

    Args:
        path: As for :func:`open_rgb`.
        min_side: As for :func:`open_rgb`.

    Raises:
        UnreadableImage: If the image is larger than that, and as :func:`open_rgb`.
    """
    try:
        source = stored_image(path)
        if isinstance(source, Image.Image):
            return open_rgb(path, min_side)
        with (
            _limit_of_pixels(1 << 40),
            Image.open(_file(path if source is None else source), formats=IMAGE_KINDS) as image,
        ):
            pixels, kind = image.width * image.height, image.format
    except Exception:  # open_rgb reads it in another way, or says why not
        return open_rgb(path, min_side)
    if pixels > _PREVIEW and kind != "JPEG":
        raise UnreadableImage(f"{path} has {pixels:,} pixels: too many for a small picture of it, {_PREVIEW:,} at most")
    if pixels < _MANY:
        return open_rgb(path, min_side)
    with _ONE_AT_A_TIME:
        return open_rgb(path, min_side)


def _file(source: str | bytes) -> str | io.BytesIO:
    return io.BytesIO(source) if isinstance(source, bytes) else source


def _head(source: str | bytes) -> bytes:
    return source[:HEAD] if isinstance(source, bytes) else read_head(source)


def _drawn(image: Image.Image, path: str, min_side: int | None, grey_range: tuple[float, float] | None) -> Image.Image:
    """Decodes an open file."""
    if min_side is not None:
        image.draft(None, (min_side, min_side))
    return as_rgb(image, grey_range, name=path)


def _open_otherwise(source: str | bytes, min_side: int | None, max_pixels: int | None) -> Image.Image | None:
    """Opens a HEIC, or a file with a damaged or large remark, which Pillow alone does not; ``None`` for other files."""
    kind = image_kind(_head(source))
    if kind in _PIXELS_ALONE:
        source = _PIXELS_ALONE[kind](source if isinstance(source, bytes) else Path(source).read_bytes())
    elif kind == "HEIF":
        try:
            from pillow_heif import register_heif_opener
        except ImportError as error:
            raise ValueError("it is a HEIC; install what reads it: pip install 'hierpretrain[heif]'") from error
        register_heif_opener()
    else:
        return None
    try:
        return Image.open(_file(source), formats=[kind])
    except Image.DecompressionBombError:
        return _open_large(source, min_side, max_pixels)
    except UnidentifiedImageError as error:
        if kind != "TIFF":
            return None
        raise ValueError(
            "it is a TIFF that is damaged, or of values that Pillow does not read, such as floating point of 16 or 64 "
            "bits; save it with 8 or 16 bits a channel, or grey as floating point of 32 bits"
        ) from error


def _open_large(source: str | bytes, min_side: int | None, max_pixels: int | None) -> Image.Image:
    """Opens an image of more pixels than Pillow's limit: a JPEG at a part of its size, others if they are allowed."""
    kind = image_kind(_head(source))
    limit = max(2 * (Image.MAX_IMAGE_PIXELS or 0), max_pixels or 0)
    try:
        with _limit_of_pixels(limit):
            image: Image.Image = Image.OPEN[kind][0](_file(source), "" if isinstance(source, bytes) else source)
            width, height = image.size
            if width * height <= limit:
                if min_side is not None:
                    image.draft(None, (min_side, min_side))
                image.load()
                return image
    except Image.DecompressionBombError as error:
        raise ValueError(_too_large(re.findall(r"\d+", str(error))[0], limit)) from error
    parts = (2, 4, 8) if kind == "JPEG" and not image.info.get("progressive") else ()
    for part in parts:
        if (width // part) * (height // part) <= limit:
            part = max(part, min(width, height) // min_side if min_side else 1)
            image.draft(None, (max(width // part, 1), max(height // part, 1)))
            return image
    image.close()
    raise ValueError(_too_large(width * height, limit))


@contextmanager
def _limit_of_pixels(limit: int) -> Iterator[None]:
    """Sets Pillow's limit, at which some formats look when they open a file, and some when they read it."""
    with _LIMIT_IS_SET:
        usual = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = (limit + 1) // 2  # twice as many are refused
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = usual


def _too_large(pixels: int | str, limit: int) -> str:
    return (
        f"its {int(pixels):,} pixels are more than the limit of {limit:,}, as in a decompression bomb; if you trust "
        f"the file, give LoadRGB(max_pixels={pixels}), or save it smaller"
    )


def as_rgb(
    image: Image.Image, grey_range: tuple[float, float] | None = None, *, name: str = "of Pillow's"
) -> Image.Image:
    """Converts an image of Pillow's to an upright one of mode RGB, by the rules of :func:`open_rgb`.

    Args:
        image: The image.
        grey_range: As for :func:`open_rgb`.
        name: What a warning shall call it.

    Raises:
        ValueError: If its grey values have no range, see :func:`~hierpretrain.datasets.grey.as_eight_bits`, if it is of
            the raw file of a camera, or if one of its sides is more than 2,000 times as long as the other.
    """
    if max(image.size) > _MOST_UNEQUAL * min(image.size):
        raise ValueError(
            f"one of its sides is more than {_MOST_UNEQUAL:,} times as long as the other ({image.width:,} x "
            f"{image.height:,}), so that a resize by the shorter one would fill the memory; crop the image"
        )
    if hasattr(image, "tag_v2"):  # it is a TIFF
        if tiff_entries.lacks_entries(image):
            image = _without_remarks(image) or image
        tiff_entries.check_not_raw(image)
    if image.format == "PNG" and getattr(image, "fp", None) is not None:
        png_chunks.check_pixels(image.fp)
    stored_as = str(image.tile[0][3]) if getattr(image, "tile", None) else ""
    deep = ";16" in stored_as  # 16 bits a channel, of which Pillow keeps the higher 8
    image = _decoded(image)
    tags = getattr(image, "tag_v2", {})
    _scale_transparent_colour(image, stored_as)
    turn = _TURNS.get(orientation_of(image))
    if turn is not None:
        image = image.transpose(turn)  # a new one, which shall not say any more that it is to be turned
        image.info = {key: value for key, value in image.info.items() if key == "transparency"}
    if (values := tiff_entries.grey_values(image, tags)) is not None:
        return _grey_as_rgb(image, values, grey_range, negative=tiff_entries.is_negative(tags), name=name)
    if deep and max(high for _, high in image.getextrema()[:3]) < 64:
        warn(
            f"the image {name} is nearly black: of its 16 bits a channel the upper ones are not used. If it shall not "
            "be, save it with 8 bits a channel, or with values up to 65535"
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _decoded(image: Image.Image) -> Image.Image:
    """Decodes an image; if that fails, without the remarks of its file, of which some are read with the pixels."""
    try:
        if hasattr(image, "tag_v2"):
            tiff_entries.mend_decoding(image)
        image.load()
        return image
    except Image.DecompressionBombError:
        raise
    except Exception:
        if (again := _without_remarks(image)) is None:
            raise
    if hasattr(again, "tag_v2"):
        tiff_entries.mend_decoding(again)
    again.load()
    return again


def _without_remarks(image: Image.Image) -> Image.Image | None:
    """Opens the file of an open image again, without its remarks; ``None`` where there is no such file.

    What the image itself says is corrected, too: Pillow fails at a remark once alone, and leaves out what is behind it.
    """
    file, kind = getattr(image, "fp", None), str(image.format)
    if kind not in _PIXELS_ALONE or file is None or image.tell():
        return None
    file.seek(0)
    try:
        again = Image.open(io.BytesIO(_PIXELS_ALONE[kind](file.read())), formats=[kind])
    except UnidentifiedImageError:
        return None
    image.info = again.info
    return again


def _scale_transparent_colour(image: Image.Image, stored_as: str) -> None:
    """Brings the transparent colour of a PNG to 8 bits, as Pillow does with the pixels."""
    colour = image.info.get("transparency")
    if isinstance(colour, int) and stored_as in _GREY_STEPS:
        image.info["transparency"] = colour * _GREY_STEPS[stored_as]
    elif isinstance(colour, tuple) and ";16" in stored_as:
        image.info["transparency"] = tuple(value >> 8 for value in colour)


def _grey_as_rgb(
    image: Image.Image,
    values: NDArray[np.generic],
    grey_range: tuple[float, float] | None,
    *,
    negative: bool,
    name: str,
) -> Image.Image:
    colour = image.info.get("transparency")
    clear = values == colour if isinstance(colour, int) else None
    if clear is not None:  # these do not tell the number of bits
        values = np.where(clear, values.dtype.type(0), values)
    try:
        grey = as_eight_bits(values, grey_range)
    except ValueError as error:
        raise ValueError(f"of mode {image.mode}, {error}") from error
    if grey_range is None and values.dtype.kind == "f" and 0 < values.max() < _DARK:
        warn(
            f"the image {name} is nearly black: its values go up to {values.max():g}, and 1 is white. If it shall not "
            f"be, say which value is, as LoadRGB(grey_range=(0, {values.max():g})), the same for all images"
        )
    grey = 255 - grey if negative else grey
    if clear is not None:
        grey[clear] = 255
    return Image.fromarray(grey).convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    """Lays an RGBA image on white, a band of rows at a time: the whole of the white would take its memory again."""
    laid = Image.new("RGB", image.size)
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        part = image.crop((0, top, image.width, min(top + rows, image.height)))
        white = Image.new("RGBA", part.size, "white")
        white.alpha_composite(part)
        laid.paste(white.convert("RGB"), (0, top))
    return laid


__getattr__ = imported_on_demand(__name__)
