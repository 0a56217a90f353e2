"""What an update of an index takes away, brings and need not embed again."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from numbers import Number
from operator import attrgetter
from typing import Any

import numpy as np
from torch import Tensor

from hierpretrain._names import LabelNames, did_you_mean, nfc, same_name
from hierpretrain._texts import as_text, short
from hierpretrain.apis.branches import label_paths
from hierpretrain.datasets.cells import distinct
from hierpretrain.datasets.messages import some
from hierpretrain.taxonomy import Taxonomy


@dataclass(frozen=True)
class ImageRecord:
    """What an index knows of an image beside its embedding.

    Attributes:
        path: Its file.
        key: What people know it by; empty for nothing.
        digest: What tells whether it is still the same; empty for not known.
        labels: Its label paths, one or several; none for an image without a label.
        metadata: What else is known of it: name -> text, without empty ones.
    """

    path: str
    key: str = ""
    digest: str = ""
    labels: tuple[LabelNames, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def name(self) -> str:
        """What the image is called to remove or to update it, its key or its file if it has none."""
        return self.key or self.path

    def says_as(self, other: ImageRecord) -> bool:
        """Returns whether another one says the same, in whatever order the label paths of an image stand."""
        return set(self.labels) == set(other.labels) and replace(self, labels=other.labels) == other


@dataclass(frozen=True)
class Change:
    """How many images an index has gained and lost.

    Attributes:
        added: Images that came, changed ones too.
        removed: Images that went, and what was known of changed ones.
        kept: Images that were given and are in the index as they are.
        embedded: How many of the added ones were embedded; the others have the vector of an image of the same content.
        relabelled: How many of the added ones were in the index under other labels.
    """

    added: int = 0
    removed: int = 0
    kept: int = 0
    embedded: int = 0
    relabelled: int = 0

    def __str__(self) -> str:
        """Returns the numbers in one line for people.

        Example:
            >>> print(Change(added=3, removed=1, kept=1200, embedded=2))
            added 3 (2 embedded), removed 1, kept 1,200
        """
        about = [f"{self.embedded:,} embedded"] * (self.embedded != self.added)
        about += [f"{self.relabelled:,} relabelled"] * (self.relabelled > 0)
        how = f" ({', '.join(about)})" if about else ""
        return f"added {self.added:,}{how}, removed {self.removed:,}, kept {self.kept:,}"


@dataclass(frozen=True)
class UpdatePlan:
    """What becomes of the images that an update is about.

    Attributes:
        gone: The ids of the images of the index that go.
        kept: The ids of the images of the index that were given and are as they were.
        coming: For each given image that comes, its number among them, and the id of an image of the index that has its
            vector; ``None`` where it must be embedded.
    """

    gone: set[int]
    kept: set[int]
    coming: list[tuple[int, int | None]]


def completed(
    given: Sequence[ImageRecord],
    there: Collection[ImageRecord],
    silent: Sequence[Collection[str]],
    folders: Sequence[str],
) -> list[ImageRecord]:
    """Returns given images with what an index knows of them and their source does not say.

    Images of a folder that lies below the one that the index has them of are placed where it lies.

    Args:
        given: The given images.
        there: Images of the index: all whose name or file a given one has.
        silent: What the source of each says nothing of, ``'labels'`` and ``'metadata'``.
        folders: The folder whose sub-folders are the label of each; empty for none.

    Example:
        >>> there = [ImageRecord("photos/animal/cat/1.jpg", labels=(("animal", "cat"),))]
        >>> given = [ImageRecord(f"photos/animal/{name}", labels=((name[:3],),)) for name in ("cat/1.jpg", "dog/2.jpg")]
        >>> for found in completed(given, there, [(), ()], ["photos/animal"] * 2):
        ...     print(found.path, found.labels)
        photos/animal/cat/1.jpg (('animal', 'cat'),)
        photos/animal/dog/2.jpg (('animal', 'dog'),)
    """
    exact, keyed = {(record.key, record.path): record for record in there}, defaultdict(list)
    for record in there:
        keyed[record.key].append(record)
    known = []
    for record in given:
        of_key = keyed[record.key] if record.key else ()
        alone = of_key[0] if len(of_key) == 1 else None  # whose file has another name now
        known.append(exact.get((record.key, record.path)) or exact.get(("", record.path)) or alone)
    places = _places(given, known, folders)
    found = []
    for record, older, of, folder in zip(given, known, silent, folders, strict=True):
        told: dict[str, Any] = {}
        if place := places.get(folder):
            told["labels"] = tuple((*place, *path) for path in record.labels or [()])
        if older is not None:
            told |= {name: getattr(older, name) for name in of}
        told = {name: value for name, value in told.items() if value != getattr(record, name)}
        found.append(replace(record, **told) if told else record)
    return found


def _places(
    given: Sequence[ImageRecord], known: Sequence[ImageRecord | None], folders: Sequence[str]
) -> dict[str, LabelNames]:
    """Returns the names above each folder that most of its images have in front of those below it, where it lies.

    An image with another label, which was corrected by a list for example, says nothing of the place.
    """
    lies = {folder: tuple(map(nfc, os.path.abspath(folder).split("/"))) for folder in set(folders)}
    votes: dict[str, Counter[LabelNames]] = defaultdict(Counter)
    for record, older, folder in zip(given, known, folders, strict=True):
        if folder and older is not None and len(older.labels) == 1:
            (label,), below = older.labels, record.labels[0] if record.labels else ()
            place = label[: len(label) - len(below)]
            if label == (*place, *below) and lies[folder][len(lies[folder]) - len(place) :] == place:
                votes[folder][place] += 1
    return {folder: places.most_common(1)[0][0] for folder, places in votes.items()}


def in_twice(
    there: Mapping[int, ImageRecord], staying: Collection[int], coming: Iterable[ImageRecord]
) -> list[tuple[str, str]]:
    """Returns the names of images that would be in an index twice: of those that stay, and of the same ones that come.

    They are the same if they are one file under two keys, or of one content where the older file is gone. Copies whose
    files are both there are two images.

    Args:
        there: Images of the index: all whose file or digest one that comes has.
        staying: The ids of those that nobody gave and that stay.
        coming: The images that come.

    Example:
        >>> there = {0: ImageRecord("a.jpg", key="0"), 1: ImageRecord("no/such.jpg", digest="1")}
        >>> in_twice(there, {0, 1}, [ImageRecord("a.jpg", key="0.0"), ImageRecord("moved.jpg", digest="1")])
        [('0', '0.0'), ('no/such.jpg', 'moved.jpg')]
    """
    older = {record.path: record for i, record in there.items() if i in staying}
    moved = {record.digest: record for record in older.values() if record.digest and not os.path.exists(record.path)}
    pairs = [(older.get(record.path) or moved.get(record.digest), record) for record in coming]
    return [(one.name, record.name) for one, record in pairs if one is not None]


def plan_update(
    there: Mapping[int, ImageRecord], given: Sequence[ImageRecord], unread: Collection[str] = ()
) -> UpdatePlan:
    """Compares given images with an index's images, by what they are called and by their content.

    The images of a name become the given ones of that name, and one without a key that of its file. One that is the
    same in all respects stays as it is, and so does one whose file cannot be read now. That file may be named in any
    Unicode form: a list may have another one than the index, which has the disk's.

    Args:
        there: Images of the index by their ids: all whose name, file or digest a given one has.
        given: The given images.
        unread: Files and folders that cannot be read.

    Example:
        >>> there = {0: ImageRecord("a.jpg", digest="1"), 1: ImageRecord("b.jpg", digest="2")}
        >>> plan_update(there, [ImageRecord("b.jpg", digest="9"), ImageRecord("moved.jpg", digest="1")])
        UpdatePlan(gone={1}, kept=set(), coming=[(0, None), (1, 0)])
    """
    by_name, by_digest = defaultdict(list), {}
    for number, record in there.items():
        by_name[record.name].append(number)
        if record.digest:
            by_digest.setdefault(record.digest, number)
    read = [(i, record) for i, record in enumerate(given) if record.digest in by_digest or record.path not in unread]
    sure = {record.path for _, record in read}  # a file need not be read where its content is known
    lost = set(map(nfc, set(unread) - sure))
    gone = {number for _, record in read for number in by_name.get(record.name, ())}
    gone |= {number for _, record in read for number in by_name.get(record.path, ()) if not there[number].key}
    gone = {number for number in gone if there[number].path in sure or not lies_in(there[number].path, lost)}
    kept, coming = set(), []
    for number, record in read:
        same = [i for i in by_name.get(record.name, ()) if i in gone and record.digest and there[i].says_as(record)]
        if same:
            gone.remove(same[0])
            kept.add(same[0])
        else:
            coming.append((number, by_digest.get(record.digest)))
    return UpdatePlan(gone, kept, coming)


def count_relabelled(gone: Iterable[ImageRecord], coming: Iterable[ImageRecord]) -> int:
    """Returns how many of the images that come were in an index under other labels.

    An image is found again among those that go by its name and file, or else its name, its file or its content. The
    order of the labels of an image says nothing.

    Args:
        gone: What the index knew of the images that go.
        coming: The images that come.

    Example:
        >>> gone = [ImageRecord("cat/1.jpg", digest="1", labels=(("cat",),))]
        >>> count_relabelled(gone, [ImageRecord("dog/1.jpg", digest="1", labels=(("dog",),))])
        1
    """
    left, waiting, number = list(gone), list(coming), 0
    for mark in (attrgetter("name", "path"), attrgetter("name"), attrgetter("path"), attrgetter("digest")):
        older, others = defaultdict(list), []
        for record in left:
            older[mark(record)].append(record)
        for record in waiting:
            if mark(record) and (same := older[mark(record)]):
                number += set(same.pop().labels) != set(record.labels)
            else:
                others.append(record)
        left, waiting = list(chain.from_iterable(older.values())), others
    return number


def lies_in(path: str, files: Collection[str]) -> bool:
    """Returns whether a path, in any Unicode form, is one of some files and folders, or below one of them.

    Args:
        path: The path.
        files: The files and folders, in Unicode's composed form.

    Example:
        >>> lies_in("shop/shoes/1.jpg", {"shop/shoes"}), lies_in("shop/shoes.jpg", {"shop/shoes"})
        (True, False)
    """
    path = nfc(path) if files else ""
    end = len(path)
    while end > 0 and path[:end] not in files:
        end = path.rfind("/", 0, end)
    return end > 0


def records_of(
    paths: Sequence[str],
    keys: Sequence[str],
    digests: Sequence[str],
    taxonomy: Taxonomy,
    labels: Tensor,
    metadata: Mapping[str, Sequence[str]],
) -> Iterator[ImageRecord]:
    """Yields what is known of each image of a set, from its columns; ``keys`` and ``digests`` may be empty."""
    names: dict[tuple[int, ...], tuple[LabelNames, ...]] = {}  # most images share their labels with others
    for i, row in enumerate(labels.flatten(1).tolist()):
        known = tuple(row)
        if known not in names:
            names[known] = label_paths(taxonomy, labels[i])
        told = {name: text for name, column in metadata.items() if (text := column[i])}
        yield ImageRecord(paths[i], keys[i] if keys else "", digests[i] if digests else "", names[known], told)


def _under_one_name(paths: Sequence[str]) -> list[str]:
    """Returns files of which those that are named both relative and absolute are named relative alone.

    A link is a file of its own.
    """
    named: dict[str, str] = {}
    called: dict[str, str] = {}
    for path in sorted(dict.fromkeys(paths), key=os.path.isabs):
        name = named.setdefault(os.path.abspath(path), path)
        # '..' behind a link leads elsewhere
        if name != path and os.path.exists(path) and os.path.realpath(name) == os.path.realpath(path):
            called[path] = name
    return [called.get(path, path) for path in paths]


def check_once(keys: Sequence[str], paths: Sequence[str]) -> list[str]:
    """Raises unless no two images have the same key and file, relative or absolute; ``keys`` may be empty.

    Returns:
        The files, of which those that are named in both ways are named relative alone.

    Raises:
        ValueError: That names those of which there are several.
    """
    keys, names = keys or [""] * len(paths), _under_one_name(paths)
    images = list(zip(keys, names, strict=True))
    number = Counter(images)
    named = zip(images, keys, paths, strict=True)
    if again := list(dict.fromkeys(key or path for image, key, path in named if number[image] > 1)):
        raise ValueError(f"images must be given once; {some(again)} are given several times: leave the copies out")
    return names


def check_new(there: Collection[tuple[str, str]], keys: Sequence[str], paths: Sequence[str]) -> None:
    """Raises unless images are new to an index.

    Args:
        there: Keys and files of the images of the index, of those at least that are among the images.
        keys: The keys of the images; may be empty.
        paths: Their files.

    Raises:
        ValueError: If the index has an image of the same file and key, or of the same file where one of the two has no
            key, or two of the images have the same.
    """
    check_once(keys, paths)
    files, without_key = {path for _, path in there}, {path for key, path in there if not key}
    named = zip(keys or [""] * len(paths), paths, strict=True)
    if twice := [key or path for key, path in named if (key, path) in there or path in (without_key if key else files)]:
        raise ValueError(
            f"{len(twice)} of {len(paths)} images are in the index already: {some(twice)}; leave them out, or "
            "update the index, which replaces what has changed (hierpretrain index update)"
        )


def check_known(names: Iterable[str], known: Collection[str]) -> None:
    """Raises unless an index has images of all keys or files that shall be removed.

    Args:
        names: What shall be removed.
        known: Keys and files of images of the index, of which a name may be the only one in another Unicode form.

    Raises:
        ValueError: That names those that there are none of.
    """
    forms = Counter(map(nfc, set(known)))
    if unknown := sorted(name for name in set(names) - set(known) if forms[nfc(name)] != 1):
        raise ValueError(
            f"the index has no image of the key or file {some(unknown)}; nothing was removed: give keys or files as "
            "the answers of a search have them"
        )


def metadata_name(name: str, known: Collection[str]) -> str:
    """Returns the column of an index's metadata that has a name, in whatever Unicode form.

    Raises:
        ValueError: If there is none; the message suggests the nearest.
    """
    if (column := same_name(name, known)) is None:
        guess = did_you_mean(name, known, f"there are {', '.join(known) or 'none'}")
        raise ValueError(f"the index has no metadata {name!r}; {guess}")
    return column


def conditions(where: Mapping[str, Any] | None, known: Collection[str]) -> list[tuple[str, set[str]]]:
    """Returns the columns of metadata that a search is limited by, and the texts of which an image must have one there.

    Args:
        where: The text of each column, or a number, true or false as a list has it; an empty text for images without.
        known: The columns that there are.

    Raises:
        ValueError: If there is no such column, or something else than one text.

    Example:
        >>> conditions({"price": 3.0, "new": True}, ["price", "new"])
        [('price', {'3'}), ('new', {'true'})]
    """
    found = []
    for name, value in (where or {}).items():
        if not isinstance(value, str | Number | np.bool_ | None):
            raise ValueError(f"where takes one text of each name, as an image has; of {name!r} it is {short(value)}")
        text = as_text(value)
        found.append((metadata_name(name, known), {text, nfc(text)}))
    return found


def holding(column: Iterable[str], texts: set[str]) -> list[bool]:
    """Returns which metadata are one of some texts, or an array (in JSON, as lists have it) with one as an entry.

    Example:
        >>> holding(["red", '["red", "blue"]', "blue"], {"red"}), holding(["[38, 39]"], {"39"})
        ([True, True, False], [True])
    """
    return [text in texts or (text[:1] == "[" and not texts.isdisjoint(_entries(text))) for text in column]


def _entries(text: str) -> list[str]:
    try:
        return distinct([json.loads(text)])
    except (ValueError, RecursionError):  # a note that begins with a bracket
        return []


def nothing_fits(
    wanted: Sequence[tuple[str, set[str]]],
    columns: Mapping[str, Sequence[str]],
    within: str | Sequence[str] | None = None,
) -> str:
    """Returns what to say of a search that no image of an index fits.

    Args:
        wanted: What :func:`conditions` returns.
        columns: The texts of all images in each of those columns, empty for none.
        within: The branch that is searched, if one is.

    Example:
        >>> nothing_fits([("colour", {"rde"})], {"colour": ["red", "blue"]})
        "no image of the index has colour='rde'; did you mean 'red'?"
    """
    for name, texts in wanted:
        text = min(texts)
        if any(holding(columns[name], texts)):
            continue
        if not text:
            return f"every image of the index has a text in {name!r}, and an empty one is asked for: give one"
        there = sorted({entry for known in columns[name] if known for entry in _entries(known) or [known]})
        guess = did_you_mean(text, there, f"there are {some(there) or 'none'}")
        return f"no image of the index has {name}={text!r}; {guess}"
    asked = " and ".join(f"{name}={min(texts)!r}" for name, texts in wanted)
    inside = "" if within is None else f" within {within!r}"
    return f"no image of the index{inside} has {asked}: ask for less"
