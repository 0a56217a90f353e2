"""Copies of one image in several folders: one item that hangs in several places of the tree."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from dataclasses import replace

from hierpretrain.datasets.annotations import Annotations
from hierpretrain.taxonomy import longest_paths


def content_hash(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file's bytes, as hexadecimal digits.

    Raises:
        ValueError: If the file cannot be opened.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ValueError(f"cannot open {path}: {error.strerror}; make it readable or remove it") from error


def merge_copies(annotations: Annotations) -> Annotations:
    """Makes the files of the same bytes one image, which hangs wherever one of them did.

    The first file stands for all, with its own split and flat labels; a folder that lies above another one of the
    image's says nothing more. Only files of equal size are read.

    Args:
        annotations: One row a file.

    Raises:
        ValueError: If a file cannot be opened, or if copies are of different splits: a picture that was trained on
            would be tested on as well.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name, data in (("a.png", b"tomato"), ("b.png", b"tomato"), ("c.png", b"carrot")):
        ...         _ = Path(root, name).write_bytes(data)
        ...     labels = [("fruit",), ("vegetable",), ("vegetable",)]
        ...     rows = Annotations(["a.png", "b.png", "c.png"], labels, ["all"] * 3, ("kind",), root)
        ...     merged = merge_copies(rows)
        >>> merged.images, [merged.paths(row) for row in range(2)]
        (['a.png', 'c.png'], [[('fruit',), ('vegetable',)], [('vegetable',)]])
    """
    paths = [os.path.join(annotations.root, image) for image in annotations.images]
    by_size: dict[int, list[int]] = defaultdict(list)
    for row, path in enumerate(paths):
        by_size[_size(path)].append(row)
    first: dict[str, int] = {}  # content -> the row that stands for it
    stands_for: dict[int, list[int]] = defaultdict(list)
    for rows in by_size.values():
        for row in rows if len(rows) > 1 else ():
            keeper = first.setdefault(content_hash(paths[row]), row)
            if keeper != row:
                stands_for[keeper].append(row)
                if annotations.splits[row] != annotations.splits[keeper]:
                    raise ValueError(
                        f"{annotations.source} has copies of one picture in two splits: {annotations.images[keeper]!r} "
                        f"in {annotations.splits[keeper]!r}, {annotations.images[row]!r} in "
                        f"{annotations.splits[row]!r}; move them into one"
                    )
    gone = {row for rows in stands_for.values() for row in rows}
    if not gone:
        return annotations
    labels = {
        row: longest_paths([path for copy in (row, *copies) for path in annotations.paths(copy)])
        for row, copies in stands_for.items()
    }
    merged = replace(
        annotations,
        labels=[labels[row][0] if row in labels else label for row, label in enumerate(annotations.labels)],
        more_labels={
            row: more
            for row, more in {**annotations.more_labels, **{row: tuple(m) for row, (_, *m) in labels.items()}}.items()
            if more
        },
    )
    return merged.take([row for row in range(len(paths)) if row not in gone])


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError as error:
        raise ValueError(f"cannot open {path}: {error.strerror}; make it readable or remove it") from error
