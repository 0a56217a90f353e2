"""Batches of images on their way into an encoder: read by several processes, which on a CPU embed them too."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hierpretrain.apis.image_digests import image_digest
from hierpretrain.apis.images import ImageSet, read_picture
from hierpretrain.datasets import UnreadableImage

_FEWEST = 8  # images for which it pays to start a process


@dataclass(frozen=True)
class Batch:
    """Some images of a set, read and prepared.

    Attributes:
        indices: Which images could be read.
        images: Of these, their n inputs of the encoder, or what ``encode`` made of them.
        unread: Why the others could not: index -> reason.
        digests: Digests of all the images, by index.
    """

    indices: list[int]
    images: Any
    unread: Mapping[int, str]
    digests: Mapping[int, str]

    def __len__(self) -> int:
        return len(self.digests)


def read_batches(
    images: ImageSet,
    opening: Mapping[str, Any],
    pipeline: Callable[[Image.Image], Tensor],
    *,
    batch_size: int,
    num_workers: int,
    encode: Callable[[list[Tensor]], Tensor] | None = None,
) -> Iterator[Batch]:
    """Yields the images of a set in batches, in their order.

    Args:
        images: The images.
        opening: Options of :func:`~hierpretrain.apis.images.read_picture`.
        pipeline: Makes an input of the encoder of a picture.
        batch_size: Images in memory as inputs of an encoder, of all processes together where they encode.
        num_workers: Processes that read images; fewer for a few images, and 0 for this one alone.
        encode: What the processes do with the inputs of a batch, each on one thread. As many processes as there are
            cores keep all of them busy, in whatever parts the work is to read and to encode. Where one process encodes
            on all cores and others read, they wait for one another. ``None``: inputs come as they are.

    Raises:
        ValueError: What ``encode`` raises.
    """
    number = len(images.paths)
    workers = min(num_workers, number // _FEWEST)
    if encode is not None and workers:
        batch_size = max(1, min(batch_size // workers, -(-number // workers)))
    loader = DataLoader(
        _Pictures(images, opening, pipeline),
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=partial(_batch, encode),
    )
    for batch in loader:
        if isinstance(batch, ValueError):
            raise batch
        yield batch


def default_workers(device: torch.device) -> int:
    """Returns how many processes keep an encoder busy: on a CPU one for each of torch's threads, otherwise two.

    Processes that are started afresh and not forked, as on Windows and macOS, each load the encoder again: of these
    there are two.
    """
    return torch.get_num_threads() if device.type == "cpu" and sys.platform.startswith("linux") else 2


def _batch(
    encode: Callable[[list[Tensor]], Tensor] | None, read: Sequence[tuple[int, Tensor | str, str]]
) -> Batch | ValueError:
    indices = [index for index, picture, _ in read if isinstance(picture, Tensor)]
    pictures: Any = [picture for _, picture, _ in read if isinstance(picture, Tensor)]
    try:
        pictures = encode(pictures) if encode is not None and pictures else pictures
    except ValueError as error:  # a loader's process would raise it with its whole traceback as the message
        return error
    unread = {index: reason for index, reason, _ in read if isinstance(reason, str)}
    return Batch(indices, pictures, unread, {index: digest for index, _, digest in read})


class _Pictures(Dataset):
    """Images as the model wants them, or why one cannot be read."""

    def __init__(self, images: ImageSet, opening: Mapping[str, Any], pipeline: Callable[[Image.Image], Tensor]) -> None:
        self.images, self.opening, self.pipeline = images, opening, pipeline

    def __len__(self) -> int:
        return len(self.images.paths)

    def __getitem__(self, index: int) -> tuple[int, Tensor | str, str]:
        source = self.images.sources[index]
        before = _state(source)
        digest = image_digest(source)
        try:
            picture = read_picture(source, **self.opening, name=self.images.paths[index])
            if _state(source) != before:
                digest = ""  # of which content the picture is, nobody knows: an update shall read the file again
            return index, self.pipeline(picture), digest
        except UnreadableImage as error:
            return index, str(error), digest


def _state(source: Any) -> tuple[int, ...] | None:
    """Returns what changes with the content of a file; ``None`` for what is none, or is not there."""
    if not isinstance(source, str | os.PathLike):
        return None
    try:
        found = os.stat(source)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
