"""Reading a tree of folders whose names are the labels of the images in them."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from hierpretrain.datasets.annotations import NO_SPLIT, Annotations
from hierpretrain.datasets.image_files import ENDINGS, is_clutter, kind_of_file
from hierpretrain.datasets.messages import first, some, warn
from hierpretrain.datasets.on_error import check_on_error
from hierpretrain.datasets.safe_paths import check_inside

_ENDINGS = frozenset(ENDINGS)


def read_folder(
    root: str | os.PathLike[str],
    level_names: Sequence[str] | None = None,
    *,
    expected: Sequence[str] = (),
    on_error: str = "error",
    need_labels: bool = True,
) -> Annotations:
    """Reads a tree of folders: the folders from below ``root`` down to an image are the image's label path.

    Images may be on inner folders, and branches may differ in depth. A file whose name ends as an image's does counts
    as one, and is not opened before it is used; of any other the content tells. Hidden files and folders are skipped,
    and so is what programs leave, such as ``Thumbs.db`` and ``@eaDir``. Other files that are no image are counted in
    the log, and so are links to folders inside ``root``, whose images are found where they really are. Images come in
    the order of their names.

    Args:
        root: The folder.
        level_names: A name for every level; by default ``level1`` (coarsest) to ``levelL``.
        expected: Paths below ``root`` of files that are known to be no images and need not be in the log.
        on_error: What links and files that cannot be read do, see :func:`walk_folder`.
        need_labels: Whether it is an error if no image is in a sub-folder, and so has a label.

    Raises:
        ValueError: If ``root`` is no folder or holds no image, or none in a sub-folder; unless they are skipped, if a
            link is broken or leads out of ``root``, if a file cannot be opened, or if a folder's name is not UTF-8.
    """
    root = os.fspath(root)
    found = walk_folder(root, on_error=on_error)
    found.tell(root, expected)
    if not found.images:
        raise ValueError(f"the folder {root!r} holds no image ({len(found.others)} other files); correct data_root")
    names = tuple(level_names) if level_names is not None else numbered_levels(max(map(len, found.labels)))
    return Annotations(
        found.images,
        found.labels,
        [NO_SPLIT] * len(found.images),
        names,
        root,
        source=f"the folder {root!r}",
        found=True,
        skipped=found.skipped,
        need_labels=need_labels,
    )


def numbered_levels(depth: int) -> tuple[str, ...]:
    """Returns ``level1`` (coarsest) to ``levelL``, the default names of L levels.

    Example:
        >>> numbered_levels(2)
        ('level1', 'level2')
    """
    return tuple(f"level{i}" for i in range(1, depth + 1))


@dataclass
class Walk:
    """What is in a tree of folders.

    Attributes:
        images: The paths of the images below the root, with forward slashes, in the order of the names.
        labels: The folders down to each image.
        others: The paths of files that are no image and of links to folders.
        skipped: Files and links that cannot be read and were left out: path below the root -> reason.
    """

    images: list[str] = field(default_factory=list)
    labels: list[tuple[str, ...]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def tell(self, root: str, expected: Collection[str] = ()) -> None:
        """Logs how many files are not taken, and why."""
        if others := [name for name in self.others if name not in expected]:
            warn(f"{root}: left out {len(others)} files that are no image and links to folders: {some(others)}")
        if self.skipped:
            warn(f"{root}: skipped {len(self.skipped)} that cannot be read: {'; '.join(first(self.skipped.values()))}")


def walk_folder(root: str, *, on_error: str = "error") -> Walk:
    """Finds the images in a tree of folders, as :func:`read_folder` describes it.

    Args:
        root: The folder.
        on_error: ``'error'`` raises at a link that is broken or leads out of ``root``, and at a file or a folder that
            cannot be opened or has a name that is no path; ``'skip'`` leaves them out and says so. Nothing outside
            ``root`` is read either way.

    Raises:
        ValueError: If ``root`` is no folder, or as ``on_error`` has it.
    """
    check_on_error(on_error)
    if not os.path.isdir(root):
        raise ValueError(f"there is no folder {root!r} to read images from; correct data_root")
    real_root = os.path.realpath(root)
    found = Walk()
    stack: list[tuple[str, ...]] = [()]
    while stack:
        path = stack.pop()
        prefix = "".join(f"{name}/" for name in path)
        images, folders, rest = [], [], []
        for entry in _entries(os.path.join(root, *path), prefix, found, on_error):
            name = entry.name
            if entry.is_file(follow_symlinks=False) and name[0] != "." and _ending(name) in _ENDINGS:
                images.append(name)  # as most entries are
            elif not is_clutter(name):
                rest.append(entry)
        for entry in sorted(rest, key=lambda entry: entry.name):
            name = entry.name
            try:
                if (kind := _kind(entry, real_root)) == "image":
                    images.append(name)
                elif kind == "folder":
                    folders.append((*path, name))
                else:
                    found.others.append(prefix + name)
            except ValueError as error:
                if on_error == "error":
                    raise
                found.skipped[prefix + name] = str(error)
        found.images += [prefix + name for name in sorted(images)]
        found.labels += [path] * len(images)
        stack.extend(sorted(folders, reverse=True))
    return found


def _entries(folder: str, prefix: str, found: Walk, on_error: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        reason = f"cannot open {folder}: {error.strerror}; make it readable or remove it"
        if on_error == "error" or not prefix:
            raise ValueError(reason) from error
        found.skipped[prefix.rstrip("/")] = reason
        return []


def _ending(name: str) -> str:
    return name[name.rfind(".") :].lower()


def _kind(entry: os.DirEntry[str], real_root: str) -> str:
    """Returns what an entry of a folder is: ``'image'``, ``'folder'`` or ``'other'``.

    Raises:
        ValueError: If it cannot be read.
    """
    if entry.is_symlink() and not os.path.exists(check_inside(entry.path, real_root)):
        raise ValueError(f"{entry.path} is a broken link; remove it, or put its file in place")
    if entry.is_dir():
        return "other" if entry.is_symlink() else _utf8_named(entry)
    if not entry.is_file():
        return "other"
    return "image" if _ending(entry.name) in _ENDINGS or kind_of_file(entry.path) else "other"


def _utf8_named(folder: os.DirEntry[str]) -> str:
    try:
        folder.name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the folder {folder.path!r} has a name that is not UTF-8; rename it") from error
    return "folder"
