"""The annotations of a data set: the image files, their label paths and split tags, checked."""

from __future__ import annotations

import functools
import itertools
import os
import posixpath
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hierpretrain._names import nfc as nfc  # who reads lists has it from here
from hierpretrain.datasets.messages import some
from hierpretrain.datasets.safe_paths import check_inside, suspicious, unsafe_reason
from hierpretrain.files import as_called
from hierpretrain.taxonomy import MAX_LEVELS, longest_paths

NO_SPLIT = "all"
"""The split tag of every image where the annotations name none."""


@dataclass(frozen=True)
class Annotations:
    """The annotations of N images: an image file, a label path and a split tag for each.

    Args:
        images: N different paths below ``root``, with forward slashes.
        labels: N label paths: names from the coarsest level down, as many as the image has; ``()`` is no label.
        splits: N split tags.
        level_names: A name for every level, the coarsest first.
        root: The folder that ``images`` are relative to.
        extra_labels: Labels outside the tree: name of the column -> N strings, empty where an image has none.
        source: What the annotations were read from, for messages.
        more_labels: The further label paths of images that have several: index of the image -> the paths besides the
            one in ``labels``.
        keys: N texts by which people know the images or what they show, empty where there is none; or nothing at all.
        metadata: What else is known of the images: name of the column -> N texts.
        need_labels: Whether one image at least must have a label.
        found: Whether the images were found below ``root``, links checked, so that nobody needs to look for them again.
        skipped: Files and links that cannot be read and were left out: path below ``root`` -> reason.
        lists: The files that list the images, for messages, where ``source`` does not name them.

    Split tags and the names of levels and on label paths are put into Unicode's composed form (NFC), so that one word
    is one node however it is spelt.

    Raises:
        ValueError: If there is no image or no label, the columns' lengths differ, an image is listed twice or leaves
            ``root``, a name or a split is no non-empty string, a label is deeper than ``level_names``, or
            ``more_labels`` has an index that does not exist or an image without a label.

    Example:
        >>> annotations = Annotations(["a.jpg", "b.jpg"], [("cat", "tabby"), ("tool",)], ["train", "test"],
        ...                           ("kind", "breed"), root="pets")
        >>> annotations.paths(0)
        [('cat', 'tabby')]
    """

    images: list[str]
    labels: list[tuple[str, ...]]
    splits: list[str]
    level_names: tuple[str, ...]
    root: str
    extra_labels: Mapping[str, list[str]] = field(default_factory=dict)
    source: str = "the annotations"
    more_labels: Mapping[int, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    keys: Sequence[str] = ()
    metadata: Mapping[str, list[str]] = field(default_factory=dict)
    need_labels: bool = True
    found: bool = False
    skipped: Mapping[str, str] = field(default_factory=dict)
    lists: str = ""

    def __post_init__(self) -> None:
        if not self.images:
            raise ValueError(f"{self.told} lists no image; a data set needs at least one")
        columns = {"labels": self.labels, "splits": self.splits, **self.extra_labels, **self.metadata}
        for name, column in {**columns, **({"keys": self.keys} if self.keys else {})}.items():
            if len(column) != len(self.images):
                raise ValueError(f"{self.told} has {len(self.images)} images but {len(column)} entries of {name!r}")
        for image in self.images if suspicious(self.images) else ():
            if reason := unsafe_reason(image):
                remedy = "rename it" if self.found else f"list paths below {self.root}"
                raise ValueError(f"{self.told} lists the image {image!r}, which {reason}; {remedy}")
        if len(set(self.images)) < len(self.images):
            twice = [image for image, count in Counter(self.images).items() if count > 1]
            raise ValueError(
                f"{self.told} lists {len(twice)} images more than once: {some(twice)}; list every image once "
                "(an image with several labels can be listed as copies in a folder tree: FolderDataset with "
                "merge_copies=True)"
            )
        for index in self.more_labels:
            if not 0 <= index < len(self.images) or not self.labels[index]:
                raise ValueError(
                    f"{self.told} has more_labels of image {index}, which does not exist or has no label; give its "
                    "first path in labels"
                )
        if len(self.level_names) > MAX_LEVELS:
            raise ValueError(
                f"{self.told} has {len(self.level_names)} levels; a tree has at most {MAX_LEVELS}: name the columns "
                "that are levels"
            )
        object.__setattr__(self, "level_names", _composed(self.level_names))
        if not all(_is_composed(split) for split in set(self.splits)):
            object.__setattr__(self, "splits", list(_composed(self.splits)))
        different = self.different_paths
        names = dict.fromkeys(itertools.chain.from_iterable(different))  # each once, which there are far fewer of
        sound = set(map(type, names)) <= {str} and "" not in names
        deep_enough = max(map(len, different)) <= len(self.level_names)
        for path in different if not (sound and deep_enough) else ():
            if len(path) > len(self.level_names):
                raise ValueError(
                    f"{self.told} has the label {path!r} of {len(path)} levels, more than the "
                    f"{len(self.level_names)} level_names {self.level_names!r}; name every level"
                )
            if any(not isinstance(name, str) or not name for name in path):
                raise ValueError(f"{self.told} has the label {path!r}; names must be non-empty strings")
        _check_unicode("labels", names, self.told)
        for name, column in {"split": set(self.splits), **self.extra_labels, **self.metadata, "key": self.keys}.items():
            _check_unicode(name, column, self.told)
        if not all(map(_is_composed, names)):
            composed = {path: _composed(path) for path in different}
            object.__setattr__(self, "labels", [composed[path] for path in self.labels])
            more = {i: tuple(composed[path] for path in paths) for i, paths in self.more_labels.items()}
            object.__setattr__(self, "more_labels", more)
            del self.__dict__["different_paths"]
        if self.need_labels and not any(different):
            raise ValueError(f"{self.told} has {len(self.images)} images, none with a label; label at least one")
        for name, column in {"split": self.splits, **self.extra_labels}.items():
            if wrong := [v for v in set(column) if not isinstance(v, str) or (not v and name == "split")]:
                raise ValueError(f"{self.told} has the {name} {wrong[0]!r}; it must be a non-empty string")

    @classmethod
    def from_records(
        cls,
        records: Iterable[tuple[str, tuple[str, ...], str]],
        level_names: Sequence[str],
        root: str,
        **columns: Any,
    ) -> Annotations:
        """Makes annotations from one record (image, label path, split tag) for each image.

        Args:
            records: The records.
            level_names: A name for every level, the coarsest first.
            root: The folder that the images are relative to.
            columns: ``extra_labels``, ``more_labels`` and ``source``, as for the class.

        Raises:
            ValueError: If the annotations are wrong, see :class:`Annotations`.
        """
        images, labels, splits = [], [], []
        known: dict[tuple[str, ...], tuple[str, ...]] = {}  # one object for equal labels, not one for each image
        for image, label, split in records:
            images.append(image)
            labels.append(known.setdefault(label, label))
            splits.append(split)
        return cls(images, labels, splits, tuple(level_names), root, **columns)

    @property
    def told(self) -> str:
        """The source in messages, with the files in which to look for what is wrong."""
        return f"{self.source} ({self.lists})" if self.lists else self.source

    def paths(self, index: int) -> list[tuple[str, ...]]:
        """Returns the different label paths of an image, without prefixes of one another; ``[()]`` for no label."""
        return longest_paths([self.labels[index], *self.more_labels.get(index, ())])

    def all_paths(self) -> list[tuple[str, ...]]:
        """Returns the label paths of all images, from ``labels`` and ``more_labels``, with repetitions."""
        return [*self.labels, *(path for paths in self.more_labels.values() for path in paths)]

    @functools.cached_property
    def different_paths(self) -> tuple[tuple[str, ...], ...]:
        """The different ones of :meth:`all_paths` in their order; there are far fewer of them than images."""
        return tuple(dict.fromkeys(self.all_paths() if self.more_labels else self.labels))

    def take(self, indices: Sequence[int]) -> Annotations:
        """Returns the annotations of some images, in the order of ``indices``."""
        return replace(
            self,
            images=[self.images[index] for index in indices],
            labels=[self.labels[index] for index in indices],
            splits=[self.splits[index] for index in indices],
            extra_labels={name: [column[index] for index in indices] for name, column in self.extra_labels.items()},
            more_labels={i: self.more_labels[index] for i, index in enumerate(indices) if index in self.more_labels},
            keys=[self.keys[index] for index in indices] if self.keys else (),
            metadata={name: [column[index] for index in indices] for name, column in self.metadata.items()},
        )


def _is_composed(name: Any) -> bool:
    return not isinstance(name, str) or nfc(name) == name  # others are refused where they are checked


def _composed(names: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(name if _is_composed(name) else nfc(name) for name in names)


def _check_unicode(column: str, names: Iterable[Any], source: str) -> None:
    text = "".join(name for name in names if isinstance(name, str))
    try:
        text.isascii() or text.encode()
    except UnicodeEncodeError as error:
        near = text[max(0, error.start - 20) : error.end]
        raise ValueError(
            f"{source} has a name in {column!r} that no file in UTF-8 can hold, near {near!r}: half a surrogate pair, "
            "or a file's name in another encoding; rename it"
        ) from error


def find_images(
    images: Sequence[str], root: str, skipped: dict[int, str] | None = None, source: str = "the list"
) -> list[str]:
    """Returns images as their files are really called; each folder is listed once, so no file is looked up.

    Where there is no file of a name, one whose name is the same text in another Unicode form is taken: Macs write ``é``
    as an ``e`` and an accent.

    Args:
        images: Paths below ``root``.
        root: The folder; it may itself be a link.
        skipped: Gets what is missing or leads out of ``root``, index -> reason, which is otherwise an error.
        source: What lists them, for the message.

    Raises:
        ValueError: If files are missing, with their number and the first of them, if a link leads out of ``root``, or
            if two names of the list are one file.
    """
    folders: dict[str, list[int]] = {}
    for i, image in enumerate(images):
        folders.setdefault(image.rpartition("/")[0], []).append(i)
    real_root = os.path.realpath(root)
    listings = Listings(root)
    found, missing = list(images), []

    def leads_out(path: str, indices: Sequence[int]) -> bool:
        try:
            check_inside(os.path.join(root, path), real_root)
        except ValueError as error:
            if skipped is None:
                raise
            skipped.update(dict.fromkeys(indices, str(error)))
            return True
        return False

    for folder, indices in folders.items():
        there = listings.folder(folder)
        if there is not None and leads_out(there, indices):
            continue
        files = {} if there is None else listings.files(there)
        for i in indices:
            name = listings.same(files, images[i].rpartition("/")[2])
            if name is None:
                missing.append(images[i])
                if skipped is not None:
                    skipped[i] = f"there is no file {os.path.join(root, images[i])}"
                continue
            if there != folder or name != images[i].rpartition("/")[2]:
                found[i] = posixpath.join(there, name)
            if files[name]:
                leads_out(found[i], [i])
    if missing and skipped is None:
        raise ValueError(
            f"{len(missing)} of {len(images)} images are missing below {root}: {some(missing)}; put the files there, "
            f"take them off {source}, correct data_root, or go on without them by on_error='skip' (--on-error skip)"
        )
    if found != list(images) and len(set(found)) < len(found):
        twice = [image for image, count in Counter(found).items() if count > 1]
        raise ValueError(f"{len(twice)} files are listed in two Unicode forms of their names: {some(twice)}; keep one")
    return found


class Listings:
    """The files of folders, and names in another Unicode form."""

    def __init__(self, root: str) -> None:
        self.root = root

    def files(self, folder: str) -> dict[str, bool]:
        """Returns the files of a folder, each with whether it is a link; none of one that cannot be listed."""
        try:
            with os.scandir(os.path.join(self.root, folder)) as entries:
                return {entry.name: entry.is_symlink() for entry in entries if entry.is_file()}
        except OSError:
            return {}

    def folder(self, folder: str) -> str | None:
        """Returns a folder as it is really called, None if there is none."""
        there = as_called(folder, self.root)
        return there if folder.isascii() or os.path.isdir(os.path.join(self.root, there)) else None

    @staticmethod
    def same(names: Mapping[str, bool], name: str) -> str | None:
        """Returns the one of some names that is a name, in the same Unicode form if there is such a one."""
        if name in names or name.isascii():
            return name if name in names else None
        return next((other for other in names if nfc(other) == nfc(name)), None)
