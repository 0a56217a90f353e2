"""Which pictures look alike: a hash of 64 bits that near pairs share most of, and a thumbnail to be sure."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from PIL import Image

THUMBNAIL = (8, 9, 3)
"""The shape of a thumbnail: height, width, channels."""

_BITS = 3  # of 64 that the hashes of look-alikes may differ in
_PARTS = 6  # of the bits of a hash; look-alikes agree in _PARTS - _BITS of them at least
_RISE = 2  # of 255, from which on a step is no noise
_MEAN, _MOST = 4.0, 24  # of 255, by which the thumbnails of look-alikes may differ, on the mean and at one place
_OF_CONTRAST = 0.1  # of what a thumbnail differs from its mean colour, which they may differ from each other
_PALE = 1.0  # of 255: a thumbnail that differs less from its mean colour shows too little to be like another
_WINDOW = 64  # hashes that one is compared with, where very many share a key
_BLOCK = 1 << 14  # pairs of thumbnails in memory at a time


def thumbnail(image: Image.Image) -> bytes:
    """Returns an RGB image at 9 x 8 pixels, smoothed so that another size changes little: 216 bytes, row by row."""
    height, width, _ = THUMBNAIL
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0).tobytes()


def look_hashes(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Hashes pictures by their look: a bit is set where brightness rises from one place to the next on the right.

    This is the difference hash (Krawetz, *Kind of like that*, 2013), with a threshold: a step below 3 of 255 counts as
    none, so that the noise of another compression sets no bits in plain areas.

    Args:
        thumbnails: (N, 8, 9, 3) uint8, see :func:`thumbnail`.

    Returns:
        (N,) uint64.

    Example:
        >>> picture = np.zeros((1, 8, 9, 3), np.uint8)
        >>> picture[0, 0, 1:] = 200
        >>> [f"{value:016x}" for value in look_hashes(picture)]
        ['8000000000000000']
    """
    grey = (thumbnails.astype(np.int32) * np.array([299, 587, 114], np.int32)).sum(3) // 1000  # (N, 8, 9)
    bits = np.diff(grey, axis=2) > _RISE  # (N, 8, 8)
    return np.packbits(bits.reshape(len(bits), 64), axis=1).view(">u8")[:, 0].astype(np.uint64)


def near_hashes(hashes: NDArray[np.uint64], distance: int = _BITS) -> NDArray[np.int64]:
    """Finds the pairs of hashes that differ in few bits, in about linear time.

    The bits are dealt to 6 parts. Two hashes that differ in at most 3 bits agree in at least 3 of the parts, so they
    stand together when hashes are sorted by these, for one of the 20 choices of 3 parts. Where more than 64 hashes
    agree in the parts, each is compared with the 64 that follow it: others may be missed then.

    Args:
        hashes: (N,) uint64.
        distance: How many bits they may differ in, 0 to 3.

    Returns:
        (P, 2) int64 pairs of indices, the smaller first, every pair once, in ascending order.

    Example:
        >>> near_hashes(np.array([0b0000, 0b0111, 0b1111, 0xFF << 20], np.uint64)).tolist()
        [[0, 1], [1, 2]]
    """
    parts = [np.uint64(sum(1 << bit for bit in range(part, 64, _PARTS))) for part in range(_PARTS)]
    found = [np.empty((0, 2), np.int64)]
    for chosen in itertools.combinations(range(_PARTS), _PARTS - distance):
        keys = hashes & np.bitwise_or.reduce([parts[part] for part in chosen])
        order = np.argsort(keys, kind="stable")
        keys, sorted_hashes = keys[order], hashes[order]
        first = np.arange(len(hashes))
        for step in range(1, _WINDOW + 1):
            first = first[first + step < len(hashes)]
            first = first[keys[first] == keys[first + step]]
            if not len(first):
                break
            differing = sorted_hashes[first] ^ sorted_hashes[first + step]
            near = np.bitwise_count(differing) <= distance
            # a pair that agrees in more parts than these is found for the first choice of them alone
            for part in range(chosen[-1]):
                if part not in chosen:
                    near &= (differing & parts[part]) != 0
            pairs = np.stack([order[first[near]], order[first[near] + step]], 1)
            found.append(np.sort(pairs, axis=1))
    pairs = np.concatenate(found)
    return pairs[np.lexsort(pairs.T[::-1])]


def look_alikes(thumbnails: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Finds pairs of pictures that look alike: their hashes are near, and so are the colours of their thumbnails.

    How much colours may differ grows with the contrast, so that pale drawings are not all alike.

    Args:
        thumbnails: (N, 8, 9, 3) uint8.

    Returns:
        (P, 2) int64 pairs of indices, the smaller first, in ascending order.

    Example:
        >>> pictures = np.random.default_rng(0).integers(0, 256, (3, *THUMBNAIL), np.uint8)
        >>> pictures[2] = pictures[0] // 4 * 4
        >>> look_alikes(pictures).tolist()
        [[0, 2]]
    """
    hashes = look_hashes(thumbnails)
    # of very many with one hash, images of one brightness stand together
    order = np.lexsort((thumbnails.sum((1, 2, 3), dtype=np.int64), hashes))
    pairs = order[near_hashes(hashes[order])]
    colours = thumbnails.reshape(len(thumbnails), THUMBNAIL[0] * THUMBNAIL[1], 3)
    contrasts = np.abs(colours - colours.mean(1, keepdims=True, dtype=np.float32)).mean((1, 2))  # (N,)
    pairs = pairs[contrasts[pairs].min(1, initial=np.inf) >= _PALE]
    alike = [np.empty(0, bool)]
    for start in range(0, len(pairs), _BLOCK):
        one, other = (thumbnails[side].astype(np.int16) for side in pairs[start : start + _BLOCK].T)
        difference = np.abs(one - other).reshape(len(one), -1)
        allowed = np.minimum(_MEAN, _OF_CONTRAST * contrasts[pairs[start : start + _BLOCK]].min(1))
        alike.append((difference.mean(1) <= allowed) & (difference.max(1) <= _MOST))
    pairs = np.sort(pairs[np.concatenate(alike)], axis=1)
    return pairs[np.lexsort(pairs.T[::-1])]
