"""Reading a tree of folders whose names are the labels of the images in them."""

from __future__ import annotations

import os
from collections.abc import Sequence

from hierpretrain.datasets.annotations import NO_SPLIT, Annotations, check_inside
from hierpretrain.datasets.image_files import image_kind, is_clutter, read_head
from hierpretrain.datasets.messages import some, warn


def read_folder(
    root: str | os.PathLike[str], level_names: Sequence[str] | None = None, *, expected: Sequence[str] = ()
) -> Annotations:
    """Reads a tree of folders: the folders from below ``root`` down to an image are the image's label path.

    Images may be on inner folders, and branches may differ in depth. The content of a file tells whether it is an
    image. Hidden files and folders are skipped, and so is what programs leave, such as ``Thumbs.db`` and ``@eaDir``.
    Other files that are no image are counted in the log, and so are links to folders inside ``root``, whose images are
    found where they really are. Images come in the order of their names.

    Args:
        root: The folder.
        level_names: A name for every level; by default ``level1`` (coarsest) to ``levelL``.
        expected: Paths below ``root`` of files that are known to be no images and need not be in the log.

    Raises:
        ValueError: If ``root`` is no folder or holds no image in a sub-folder, if a link is broken or leads out of
            ``root``, if a file cannot be opened, or if a folder's name is not UTF-8.
    """
    root = os.fspath(root)
    images, labels, left_out = walk_folder(root)
    if left_out := [name for name in left_out if name not in expected]:
        warn(f"{root}: left out {len(left_out)} files that are no image and links to folders: {some(left_out)}")
    if not images:
        raise ValueError(f"the folder {root!r} holds no image ({len(left_out)} other files); correct data_root")
    names = tuple(level_names) if level_names is not None else numbered_levels(max(map(len, labels)))
    return Annotations(images, labels, [NO_SPLIT] * len(images), names, root, source=f"the folder {root!r}")


def numbered_levels(depth: int) -> tuple[str, ...]:
    """Returns ``level1`` (coarsest) to ``levelL``, the default names of L levels.

    Example:
        >>> numbered_levels(2)
        ('level1', 'level2')
    """
    return tuple(f"level{i}" for i in range(1, depth + 1))


def walk_folder(root: str, by_name: Sequence[str] = ()) -> tuple[list[str], list[tuple[str, ...]], list[str]]:
    """Finds the images in a tree of folders, as :func:`read_folder` describes it.

    Args:
        root: The folder.
        by_name: File endings, such as ``'.jpg'``. A file with one of them counts as an image whatever it holds, also if
            it is a broken link; other broken links are then left out. Without endings, broken links are errors.

    Returns:
        The paths of the images below ``root``, with forward slashes, in the order of the names; the folders down to
        each image; and the paths of other files and of links to folders.

    Raises:
        ValueError: If ``root`` is no folder, if a link is broken or leads out of ``root``, if a file cannot be opened,
            or if a folder's name is not UTF-8.
    """
    if not os.path.isdir(root):
        raise ValueError(f"there is no folder {root!r} to read images from; correct data_root")
    real_root = os.path.realpath(root)
    images: list[str] = []
    labels: list[tuple[str, ...]] = []
    left_out: list[str] = []
    stack: list[tuple[str, ...]] = [()]
    while stack:
        path = stack.pop()
        with os.scandir(os.path.join(root, *path)) as entries:
            children = sorted(entries, key=lambda entry: entry.name)
        folders = []
        for entry in children:
            if is_clutter(entry.name):
                continue
            named = entry.name.lower().endswith(tuple(by_name))
            broken = entry.is_symlink() and not os.path.exists(check_inside(entry.path, real_root))
            if broken and not by_name:
                raise ValueError(f"{entry.path} is a broken link; remove it, or put its file in place")
            if entry.is_dir() and not entry.is_symlink():
                folders.append((*path, _utf8_name(entry)))
            elif (named and (broken or entry.is_file())) or (entry.is_file() and image_kind(read_head(entry.path))):
                images.append("/".join((*path, entry.name)))
                labels.append(path)
            else:
                left_out.append("/".join((*path, entry.name)))
        stack.extend(reversed(folders))
    return images, labels, left_out


def _utf8_name(entry: os.DirEntry[str]) -> str:
    try:
        entry.name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the folder {entry.path!r} has a name that is not UTF-8; rename it") from error
    return entry.name
