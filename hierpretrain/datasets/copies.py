"""Copies of one image: found by their bytes, and merged into one image with several label paths."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from hierpretrain.datasets.annotations import Annotations
from hierpretrain.files import sha256
from hierpretrain.taxonomy import longest_paths


def content_hash(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file's bytes, as hexadecimal digits; a ValueError if it cannot be opened."""
    try:
        return sha256(path)
    except OSError as error:
        raise ValueError(f"cannot open {path}: {error.strerror}; make it readable or remove it") from error


def content_keys(paths: Sequence[str]) -> list[str]:
    """Returns a text for each file that is the same for files of the same bytes, and for these alone.

    Only files of equal size are read. What cannot be read, such as the name of an image without a file, is like nothing
    but itself.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     files = [f"{root}/{name}.png" for name in "abc"]
        ...     for file, data in zip(files, (b"tomato", b"tomato", b"carrot")):
        ...         with open(file, "wb") as opened:
        ...             _ = opened.write(data)
        ...     first, second, third = content_keys(files)
        >>> first == second, first == third
        (True, False)
    """
    sizes: dict[str, int | None] = {}
    for path in paths:
        try:
            sizes[path] = os.path.getsize(path)
        except OSError:
            sizes[path] = None
    of_size = Counter(sizes.values())
    keys = {}
    for path, size in sizes.items():
        try:
            keys[path] = sha256(path) if size is not None and of_size[size] > 1 else path
        except OSError:
            keys[path] = path
    return [keys[path] for path in paths]


def fold_copies(paths: Sequence[str], about: Sequence[object]) -> list[list[int]]:
    """Puts together the positions of files of the same bytes about which the same is known, such as their labels.

    Args:
        paths: N files, see :func:`content_keys`.
        about: N things of which the ``repr`` is compared.

    Returns:
        Lists of positions, each ascending, in the order of their first.

    Example:
        >>> fold_copies(["<image 0>", "<image 1>", "<image 0>", "<image 0>"], ["cat", "cat", "cat", "dog"])
        [[0, 2], [1], [3]]
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for position, key in enumerate(zip(content_keys(paths), map(repr, about), strict=True)):
        groups.setdefault(key, []).append(position)
    return list(groups.values())


def merge_copies(annotations: Annotations) -> Annotations:
    """Merges files with the same bytes into one image with the label paths of all of them.

    The first file is kept, with its split and its labels outside the tree. Of paths that continue one another, the
    longest is kept. Only files of equal size are read.

    Args:
        annotations: The annotations, with one image for each file.

    Raises:
        ValueError: If a file cannot be opened, or if copies are in different splits, so that an image that was trained
            on would be tested on as well.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name, data in (("a.png", b"tomato"), ("b.png", b"tomato"), ("c.png", b"carrot")):
        ...         _ = Path(root, name).write_bytes(data)
        ...     labels = [("fruit",), ("vegetable",), ("vegetable",)]
        ...     merged = merge_copies(Annotations(["a.png", "b.png", "c.png"], labels, ["all"] * 3, ("kind",), root))
        >>> merged.images, [merged.paths(index) for index in range(2)]
        (['a.png', 'c.png'], [[('fruit',), ('vegetable',)], [('vegetable',)]])
    """
    files = [os.path.join(annotations.root, image) for image in annotations.images]
    by_size: dict[int, list[int]] = defaultdict(list)
    for index, file in enumerate(files):
        by_size[_size(file)].append(index)
    first: dict[str, int] = {}  # hash of the content -> the image that is kept
    copies: dict[int, list[int]] = defaultdict(list)  # image that is kept -> the others of the same content
    for indices in by_size.values():
        for index in indices if len(indices) > 1 else ():
            kept = first.setdefault(content_hash(files[index]), index)
            if kept != index:
                copies[kept].append(index)
                if annotations.splits[index] != annotations.splits[kept]:
                    raise ValueError(
                        f"{annotations.source} has copies of one picture in two splits: {annotations.images[kept]!r} "
                        f"in {annotations.splits[kept]!r}, {annotations.images[index]!r} in "
                        f"{annotations.splits[index]!r}; move them into one"
                    )
    if not copies:
        return annotations
    labels, more_labels = list(annotations.labels), dict(annotations.more_labels)
    for kept, others in copies.items():
        labels[kept], *more = longest_paths([path for copy in (kept, *others) for path in annotations.paths(copy)])
        more_labels[kept] = tuple(more)
    merged = replace(annotations, labels=labels, more_labels={kept: more for kept, more in more_labels.items() if more})
    gone = {index for others in copies.values() for index in others}
    return merged.take([index for index in range(len(files)) if index not in gone])


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError as error:
        raise ValueError(f"cannot open {path}: {error.strerror}; make it readable or remove it") from error
