"""Which listed images are there, by the names that their files really have."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping

from hierpretrain.data_checks.sources import Source
from hierpretrain.datasets.annotations import Listings, nfc
from hierpretrain.datasets.image_files import ENDINGS, is_clutter
from hierpretrain.datasets.safe_paths import check_inside


def keep_found(source: Source, *, tell_unlisted: bool = True) -> None:
    """Leaves of a source the images that are there, and tells of the others; each folder is listed once.

    Args:
        source: The source; its images are called as their files are, also where a list has another Unicode form.
        tell_unlisted: Whether to tell of images that lie beside listed ones and are not listed.
    """
    listings = Listings(source.root)
    called: dict[str, str] = {}  # folders of the list -> as they are really called
    folders: dict[str, list[int]] = {}
    for i, image in enumerate(source.images):
        folder = image.rpartition("/")[0]
        if folder not in called:
            there = listings.folder(folder)
            called[folder] = folder if there is None else there
        folders.setdefault(called[folder], []).append(i)
    real_root = os.path.realpath(source.root)
    kept: dict[int, str] = {}
    for folder, indices in folders.items():
        where = os.path.join(source.root, folder)
        files = _files(where)
        by_form = {nfc(name): name for name in reversed(files)}
        folder_is_inside = _is_inside(where, real_root)
        listed: set[str] = set()
        for i in sorted(indices):
            name = source.images[i].rpartition("/")[2]
            name = name if name in files else by_form.get(nfc(name), name)
            path = os.path.join(where, name)
            if name not in files:
                source.add("missing file", path)
            elif name in listed:
                source.add("contradicting rows", path, why="it is listed in two Unicode forms of its name; keep one")
            elif not folder_is_inside or (files[name] and not _is_inside(path, real_root)):
                source.add("link out of the folder", path, why=f"to {os.path.realpath(path)}")
            elif files[name] and not os.path.exists(path):
                source.add("broken link", path, why=f"to {os.readlink(path)}")
            elif not os.path.isfile(path):  # a pipe would be waited for
                source.add("unreadable file", path, why="it is no file")
            else:
                kept[i] = posixpath.join(folder, name)
            listed.add(name)
        for name in sorted(set(files) - listed) if tell_unlisted else ():
            if name.lower().endswith(ENDINGS) and not is_clutter(name):
                source.add("not listed", os.path.join(where, name))
    order = sorted(kept)
    source.images = [kept[i] for i in order]
    source.paths = [source.paths[i] for i in order]
    source.splits = [source.splits[i] for i in order]


def _files(folder: str) -> Mapping[str, bool]:
    """Returns what is in a folder beside folders, each with whether it is a link; nothing if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            found = {entry.name: entry.is_symlink() for entry in entries if not entry.is_dir()}
    except OSError:
        return {}
    return {name: found[name] for name in sorted(found)}


def _is_inside(path: str, real_root: str) -> bool:
    try:
        check_inside(path, real_root)
    except ValueError:
        return False
    return True
