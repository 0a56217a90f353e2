"""Listing a tree of folders as ``FolderDataset`` reads it, with all that is wrong with its files at once."""

from __future__ import annotations

import os

from hierpretrain._names import LabelNames
from hierpretrain.data_checks.sources import Source
from hierpretrain.datasets.annotations import nfc
from hierpretrain.datasets.folders import numbered_levels
from hierpretrain.datasets.image_files import ENDINGS, RAW_ENDINGS, image_kind, is_clutter, read_head
from hierpretrain.datasets.safe_paths import check_inside, unsafe_reason
from hierpretrain.datasets.split_names import are_splits


def folder_source(root: str) -> Source:
    """Lists the images of a tree of folders, whose names are the label paths.

    Where the folders at the top are called ``train``, ``val`` and the like, all of them, they are taken for splits.

    Args:
        root: The folder.

    Raises:
        ValueError: If there is no such folder.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as root:
        ...     Path(root, "cat").mkdir()
        ...     _ = Path(root, "cat", "1.jpg").write_text("<html>")
        ...     [(problem.kind, problem.subject[-9:]) for problem in folder_source(root).problems]
        [('no image', 'cat/1.jpg'), ('empty folder', '...')]
    """
    if not os.path.isdir(root):
        raise ValueError(f"there is no folder {root!r} to check; correct the path")
    source = Source(name=root, root=root)
    _Walk(source).run()
    source.splits = [""] * len(source.images)
    _take_splits(source)
    source.tell_unlabelled()
    source.level_names = numbered_levels(max((len(path) for paths in source.paths for path in paths), default=0))
    return source


class _Walk:
    """Goes through the folders, the names in order, and puts down images and problems."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.real_root = os.path.realpath(source.root)
        self.full: set[LabelNames] = {()}  # folders with an image in them or below

    def run(self) -> None:
        """Goes through all folders."""
        stack: list[LabelNames] = [()]
        folders: list[LabelNames] = []
        while stack:
            folders.append(path := stack.pop())
            stack += reversed(self.folder(path))
        for path in folders:
            if path not in self.full and path[:-1] in self.full:  # of empty folders, the topmost says it
                self.source.add("empty folder", os.path.join(self.source.root, *path))

    def folder(self, path: LabelNames) -> list[LabelNames]:
        """Lists a folder and returns the folders in it."""
        where = os.path.join(self.source.root, *path)
        try:
            with os.scandir(where) as entries:
                children = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self.source.add("unreadable file", where, why=str(error.strerror))
            self._fill(path)  # for all that is known
            return []
        self._compare_unicode_forms(where, [entry.name for entry in children if entry.is_dir()])
        folders = []
        for entry in children:
            if is_clutter(entry.name):
                self.source.add("left out", entry.path, why="hidden, or left by a program")
            elif not entry.is_dir(follow_symlinks=False):
                if self.file(entry, path):
                    self._fill(path)
            elif _is_utf8(entry.name):
                folders.append((*path, entry.name))
            else:
                self.source.add("unreadable file", entry.path, why="the folder's name is not UTF-8; rename it")
        return folders

    def _fill(self, path: LabelNames) -> None:
        while path not in self.full:
            self.full.add(path)
            path = path[:-1]

    def file(self, entry: os.DirEntry[str], path: LabelNames) -> bool:
        """Puts down a file or a link, and returns whether it is an image."""
        source = self.source
        if entry.is_symlink():
            try:
                there = os.path.exists(check_inside(entry.path, self.real_root))
            except ValueError:
                source.add("link out of the folder", entry.path, why=f"to {os.path.realpath(entry.path)}")
                return False
            if not there:
                source.add("broken link", entry.path, why=f"to {os.readlink(entry.path)}")
                return False
            if entry.is_dir():
                source.add("left out", entry.path, why="a link to a folder, whose images are found where they are")
                return False
        if not entry.is_file():
            source.add("left out", entry.path, why="neither a file nor a folder")
            return False
        try:
            head = read_head(entry.path)
        except ValueError as error:
            source.add("unreadable file", entry.path, why=str(error.__cause__.strerror))
            return False
        named = entry.name.lower().endswith(ENDINGS)
        if image_kind(head) and not entry.name.lower().endswith(RAW_ENDINGS):
            image = "/".join((*path, entry.name))
            if reason := unsafe_reason(image):
                source.add("unsafe path", entry.path, why=reason)
                return True
            source.images.append(image)
            source.paths.append((tuple(map(nfc, path)),) if path else ())
            return True
        if named and not head:
            source.add("empty file", entry.path)
        elif named:
            source.add("no image", entry.path, why=f"begins with {head[:12]!r}")
        else:
            source.add("left out", entry.path, why="no image")
        return False

    def _compare_unicode_forms(self, where: str, names: list[str]) -> None:
        forms: dict[str, list[str]] = {}
        for name in names:
            forms.setdefault(nfc(name), []).append(name)
        for same in forms.values():
            if len(same) > 1:
                first, *others = (os.path.join(where, name) for name in same)
                self.source.add("two Unicode forms", first, others=others)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _take_splits(source: Source) -> None:
    """Makes splits of the folders at the top, if that is what all of them are called."""
    tops = {path[0] for paths in source.paths for path in paths}
    if not are_splits(tops):
        return
    source.splits = [paths[0][0] if paths else "" for paths in source.paths]
    source.paths = [tuple(path[1:] for path in paths if path[1:]) for paths in source.paths]
    source.notes.append(
        f"the folders {', '.join(sorted(tops))} are taken for splits; a FolderDataset of {source.name} would take them "
        "for classes: give it one of them"
    )
