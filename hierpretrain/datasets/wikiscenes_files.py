"""WikiScenes' files: the tree of folders, which files category.json give names to, and the lists of concepts."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import NamedTuple

from hierpretrain._names import nfc
from hierpretrain.datasets.image_files import kind_of_file
from hierpretrain.datasets.messages import short, some, warn
from hierpretrain.datasets.safe_paths import unsafe_reason
from hierpretrain.datasets.text_files import numbered_lines, read_json_file
from hierpretrain.datasets.wikiscenes_names import tidy_name

CONCEPTS = ("facade", "window", "chapel", "organ", "nave", "tower", "choir", "portal", "altar", "statue")
"""The ten concepts, in the order of the authors' code."""

_CATEGORY = "category.json"
_PICTURES = "pictures"
_ANEW = "unpack the archive anew"
_RECORD = re.compile(r"(?P<path>[^:]*/[^:/]+):\[(?P<labels>'\w+'(?:, ?'\w+')*)\]:.*:.*")
_LABELS = re.compile(r"'(\w+)'")


# ---------------------------------------------------------------- the tree
class Landmark(NamedTuple):
    """A folder right below ``cathedrals``: its name on disk, and the names of the folders in it."""

    folder: str
    parts: tuple[str, ...]


@dataclass
class Picture:
    """A picture and all folders that list it.

    Attributes:
        file: The path below ``cathedrals`` of its first file that is an image; if it has none, of the first file that
            is listed.
        folders: For each folder that lists it, the names of the folders down to there, the landmark first.
        state: ``'image'``, ``'missing'``, or ``'other'`` if its files are no images.
    """

    file: str
    state: str
    folders: list[tuple[str, ...]] = field(default_factory=list)


def read_tree(home: str) -> tuple[list[Picture], dict[str, Landmark]]:
    """Reads the pictures and folders below ``cathedrals`` from the ``category.json`` of each folder.

    File names are unique on Wikimedia Commons, so files of the same name are one picture. Its first file is taken;
    files of another size are counted in the log. Names are compared in Unicode's composed form, because some file
    systems store them decomposed.

    Left out and counted in the log are files that are no images, files that no ``category.json`` lists, folders that
    the ``category.json`` above gives no name, and names without a folder. Pictures that are listed but missing are
    kept, so that the data set's ``check_files`` finds them.

    Args:
        home: The folder ``cathedrals``.

    Returns:
        The pictures in the order of the files, and the landmarks by name.

    Raises:
        ValueError: With the file, if a ``category.json`` is missing, damaged or malformed, or names a folder or picture
            outside of its own folder; if a folder is a link.
    """
    pictures: dict[str, Picture] = {}
    landmarks: dict[str, Landmark] = {}
    odd: dict[str, list[str]] = {}  # what is wrong -> examples
    stack: list[tuple[str, tuple[str, ...]]] = [("", ())]
    while stack:
        path, names = stack.pop()
        parts, listed = _read_category(os.path.join(home, path, _CATEGORY), at_root=not names)
        if len(names) == 1:
            landmarks[names[0]] = Landmark(path, tuple(parts))
        _add_pictures(home, path, names, listed, pictures, odd)
        found = _subfolders(os.path.join(home, path))
        below = [(name, f"{path}/{part}" if path else part) for name, part in parts.items()]
        odd.setdefault("names without a folder", []).extend(
            f"{child} ({name})" for name, child in below if os.path.basename(child) not in found
        )
        odd.setdefault("folders without a name", []).extend(
            f"{path}/{part}".lstrip("/") for part in sorted(found - set(parts.values()) - {_PICTURES})
        )
        kept = [(child, (*names, name)) for name, child in below if os.path.basename(child) in found]
        stack.extend(reversed(kept))
    others = [picture.file for picture in pictures.values() if picture.state == "other"]
    for what, examples in {**odd, "files that are no image": others}.items():
        if examples:
            warn(f"{home}: {len(examples)} {what}: {some(examples)}")
    return [picture for picture in pictures.values() if picture.state != "other"], landmarks


def _read_category(path: str, *, at_root: bool) -> tuple[dict[str, str], list[str]]:
    """Reads a ``category.json``; ``at_root``, the file of all landmarks, it may lack pictures.

    Returns:
        The folders beside the file, name -> folder, and the names of the pictures.
    """
    if not os.path.isfile(path):
        raise ValueError(f"there is no {path}, which every folder of WikiScenes has; {_ANEW}")
    data = read_json_file(path, _ANEW)
    pairs, listed = (data.get("pairs"), data.get("pictures")) if isinstance(data, dict) else (None, None)
    if at_root and listed is None:
        listed = {}
    if not isinstance(pairs, dict) or not isinstance(listed, dict):
        raise ValueError(f"{path}: the file must be an object with the objects 'pairs' and 'pictures'; {_ANEW}")
    parts: dict[str, str] = {}
    for name, part in pairs.items():
        part = str(part) if type(part) is int else part
        if not isinstance(part, str) or "/" in part or part == _PICTURES or unsafe_reason(part):
            raise ValueError(
                f"{path}: 'pairs' must give the name of a folder beside the file, as '0'; for {short(name)} it is "
                f"{short(part)}"
            )
        if not tidy_name(name):
            raise ValueError(f"{path}: a category must have a name in Unicode; folder {part!r} has {short(name)}")
        if part in parts.values() or tidy_name(name) in parts:
            raise ValueError(
                f"{path}: 'pairs' must give every folder one name and every name one folder; {part!r} is "
                f"{short(name)}, and another is alike"
            )
        parts[tidy_name(name)] = part
    for name in listed:
        if "/" in name or unsafe_reason(name):
            raise ValueError(f"{path}: 'pictures' must hold names of files, without a folder; one is {short(name)}")
    return parts, list(listed)


def _subfolders(folder: str) -> set[str]:
    with os.scandir(folder) as entries:
        folders = [entry for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    for entry in folders:
        if entry.is_symlink():
            raise ValueError(
                f"{entry.path} is a link; folders below cathedrals must be real ones, so that each has one path: move "
                "it there, or link the folder WikiScenes as a whole"
            )
    return {entry.name for entry in folders}


def _add_pictures(
    home: str,
    path: str,
    names: tuple[str, ...],
    listed: list[str],
    pictures: dict[str, Picture],
    odd: dict[str, list[str]],
) -> None:
    """Adds the pictures that a folder lists to ``pictures``, and what is wrong with its files to ``odd``."""
    folder = f"{path}/{_PICTURES}".lstrip("/")
    files = _files(os.path.join(home, folder))
    on_disk = {nfc(name): name for name in files}
    for name in listed:
        key = nfc(name)
        file = f"{folder}/{name if name in files else on_disk.get(key, name)}"
        exists = key in on_disk
        picture = pictures.setdefault(key, Picture(file, "missing"))
        picture.folders.append(names)
        if picture.state == "image":
            if exists and os.path.getsize(os.path.join(home, picture.file)) != os.path.getsize(
                os.path.join(home, file)
            ):
                odd.setdefault("files of another size than the first one of their name", []).append(file)
        elif exists:
            picture.file = file
            picture.state = "image" if kind_of_file(os.path.join(home, file)) else "other"
    unlisted = on_disk.keys() - {nfc(name) for name in listed}
    odd.setdefault("files that no category.json lists", []).extend(
        f"{folder}/{on_disk[key]}" for key in sorted(unlisted) if not key.startswith(".")
    )


def _files(folder: str) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise ValueError(f"cannot list the folder {folder}: {error.strerror}; make it a readable folder") from error


# ---------------------------------------------------------------- the lists of the ten concepts
def read_concept_list(path: str) -> dict[str, tuple[str, ...]]:
    """Reads a list of images with their concepts.

    Args:
        path: The list, in UTF-8. A line is ``<path>:['nave', 'altar']:<caption>:<tags>``. It is read from the left,
            because a caption may hold any character. Caption and tags are not used.

    Returns:
        File name, in Unicode's composed form -> its concepts, the most specific first.

    Raises:
        ValueError: With file and line, if a line is malformed, a concept is not one of :data:`CONCEPTS`, or an image is
            listed twice.
    """
    concepts: dict[str, tuple[str, ...]] = {}
    for where, line in numbered_lines(path):
        if not (record := _RECORD.fullmatch(line)):
            raise ValueError(
                f"{where}: a line is WikiScenes/cathedrals/<path>:['<concept>', ...]:<caption>:<tags>; it is "
                f"{short(line)}"
            )
        labels = tuple(_LABELS.findall(record["labels"]))
        if unknown := [label for label in labels if label not in CONCEPTS]:
            raise ValueError(f"{where}: the concepts are {', '.join(CONCEPTS)}; the line has {unknown[0]!r}")
        name = nfc(record["path"].rpartition("/")[2])
        if name in concepts:
            raise ValueError(f"{where}: the image {name!r} was listed before; list every image once")
        concepts[name] = labels
    return concepts
