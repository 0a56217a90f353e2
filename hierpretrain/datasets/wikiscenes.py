"""WikiScenes: photographs of cathedrals in the ragged tree of Wikimedia's categories, some with labelled concepts."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hierpretrain._names import nfc
from hierpretrain.checks import check_flag, check_one_of
from hierpretrain.datasets.annotations import Annotations
from hierpretrain.datasets.base import HierarchicalDataset
from hierpretrain.datasets.folders import numbered_levels
from hierpretrain.datasets.messages import log, some, warn
from hierpretrain.datasets.published import find_home
from hierpretrain.datasets.wikiscenes_files import Landmark, Picture, read_concept_list, read_tree
from hierpretrain.datasets.wikiscenes_names import FILLERS, landmark_words, name_words, normalised_concept
from hierpretrain.registry import DATASETS
from hierpretrain.taxonomy import longest_paths

_SIZES = ("small", "medium", "large")
_NUM_MEDIUM = 6
_LISTS = {  # split -> list
    "train": "train_10classes_20639_63landmark_balanced.txt",
    "val": "val_10classes_20639_7landmark.txt",
    "val_easy": "val_easy_10classes_20639_63landmark.txt",
}


def read_wikiscenes(
    root: str,
    landmarks: bool = False,
    merge: str = "names",
    small: str | int = "notre dame paris",
    medium: Sequence[str | int] | str | int | None = None,
    concept_dir: str | None = "auto",
) -> Annotations:
    """Reads the tree of folders, which files ``category.json`` give names to, and the lists of the ten concepts.

    An image that several folders list is one image with several label paths. The content of a file tells whether it is
    an image.

    Args:
        root: The folder that has ``cathedrals`` or ``WikiScenes/cathedrals``.
        landmarks: Whether level 1 is the landmark. Otherwise it is the level below: exterior, interior, views.
        merge: Which folders are the same node. ``'names'``: folders whose :func:`normalised_concept` is the same, so
            that the same part of two cathedrals is one node. ``'none'``: no two folders.
        small: The landmark whose images are the small set: the number of its folder, or words that are all in its name
            or in the names of its exterior and interior.
        medium: The landmarks that the medium set adds to the small one; by default the six others with the most images.
        concept_dir: The folder of the three lists, relative to ``root`` or absolute. ``'auto'`` looks into ``root``,
            ``WikiScenes`` and the folder ``data`` of either. With ``None`` no lists are read: no image has a concept or
            is for validation.

    Returns:
        Splits ``'small'``, ``'medium'`` and ``'large'``, to be joined; the same with ``'_concept'`` for images in the
        training list of concepts; and ``'val'`` and ``'val_easy'`` for images in the other two lists. Levels
        ``'level1'`` to ``'levelL'``, or ``'landmark'``, ``'level2'`` and so on. Extra labels ``'concept'``, the first
        and most specific concept in the list, and ``'concepts'``, all of them in alphabetical order, as
        ``'altar+nave'``; both are empty for images in no list.

    Raises:
        ValueError: If files are missing or malformed, see :func:`read_tree` and :func:`read_concept_list`; if an image
            is in two lists; if an entry of ``small`` or ``medium`` does not name one landmark; and as
            :class:`Annotations`.
    """
    check_one_of("merge", merge, ("names", "none"))
    remedy = "download WikiScenes.zip as https://github.com/tgxs002/wikiscenes says and unpack it"
    home = os.path.join(
        find_home(root, ["WikiScenes"], [os.path.join("cathedrals", "category.json")], "WikiScenes", remedy),
        "cathedrals",
    )
    concepts = {} if concept_dir is None else _read_concepts(root, concept_dir)
    pictures, found = read_tree(home)
    names = _path_names(pictures, found, landmarks, merge)
    sizes = _sizes(pictures, found, small, medium, home)
    images, labels, splits, first, every = [], [], [], [], []
    more_labels: dict[int, tuple[tuple[str, ...], ...]] = {}
    for index, picture in enumerate(pictures):
        paths = longest_paths([names[folders] for folders in picture.folders])
        images.append(picture.file)
        labels.append(paths[0])
        if len(paths) > 1:
            more_labels[index] = tuple(paths[1:])
        split, of_image = concepts.pop(nfc(os.path.basename(picture.file)), ("", ()))
        size = _SIZES[min(sizes.get(folders[:1], len(_SIZES) - 1) for folders in picture.folders)]
        splits.append(split if split.startswith("val") else f"{size}_concept" if split else size)
        first.append(of_image[0] if of_image else "")
        every.append("+".join(sorted(of_image)))
    if concepts:
        warn(f"{home}: {len(concepts)} images of the concept lists are not there, or no images: {some(list(concepts))}")
    depth = max(map(len, names.values()), default=0)
    levels = ("landmark" if landmarks else "level1", *numbered_levels(depth)[1:])
    return Annotations(
        images,
        labels,
        splits,
        levels,
        home,
        extra_labels={"concept": first, "concepts": every},
        source=f"WikiScenes at {home!r}",
        lists="category.json",
        more_labels=more_labels,
    )


def _read_concepts(root: str, folder: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Reads the three lists: file name -> (split, concepts)."""
    remedy = (
        "get the folder data of https://github.com/tgxs002/wikiscenes and give it as concept_dir, or go without "
        "concepts by concept_dir=None"
    )
    folders = ["data", "WikiScenes", "WikiScenes/data"]
    if folder != "auto":
        root, folders = os.path.join(root, os.path.expanduser(folder)), []
    home = find_home(root, folders, list(_LISTS.values()), "concept lists of WikiScenes", remedy)
    concepts: dict[str, tuple[str, tuple[str, ...]]] = {}
    for split, file in _LISTS.items():
        path = os.path.join(home, file)
        for name, of_image in read_concept_list(path).items():
            if name in concepts:
                raise ValueError(
                    f"{path}: the image {name!r} is in {_LISTS[concepts[name][0]]} too; no image may be in two lists"
                )
            concepts[name] = (split, of_image)
    return concepts


def _path_names(
    pictures: Sequence[Picture], landmarks: Mapping[str, Landmark], with_landmark: bool, merge: str
) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Returns the label path of every folder that lists an image; a folder is given by the names down to it."""
    words = {name: landmark_words(name, landmark.parts) for name, landmark in landmarks.items()}
    times = Counter(part for landmark in landmarks.values() for part in landmark.parts)
    paths: dict[tuple[str, ...], tuple[str, ...]] = {}
    for folders in dict.fromkeys(folders for picture in pictures for folders in picture.folders):
        landmark, below = folders[:1], folders[1:]
        if merge == "names":
            below = tuple(normalised_concept(name, words[folders[0]]) for name in below)
        elif below and not with_landmark and times[below[0]] > 1:
            below = (f"{below[0]} ({folders[0]})", *below[1:])  # two landmarks' "Interior" stay two nodes
        paths[folders] = (*landmark, *below) if with_landmark else below
    nodes = len(set(paths.values()))
    log(f"WikiScenes: {len(paths)} folders with images are {nodes} nodes (merge={merge!r})")
    return paths


def _sizes(
    pictures: Sequence[Picture],
    landmarks: Mapping[str, Landmark],
    small: str | int,
    medium: Sequence[str | int] | str | int | None,
    home: str,
) -> dict[tuple[str, ...], int]:
    """Returns (landmark,) -> 0 for the small set, 1 for the landmarks that the medium set adds."""
    first = _find(small, landmarks, "small", home)
    if medium is None:
        images: Counter[str] = Counter()
        for picture in pictures:
            images.update({path[0] for path in picture.folders if path})
        others = sorted(landmarks.keys() - {first}, key=lambda name: (-images[name], name))
        more = others[:_NUM_MEDIUM]
    else:
        several = [medium] if isinstance(medium, str | int) else medium
        more = [_find(wanted, landmarks, "medium", home) for wanted in several]
    log(f"WikiScenes: the small set is {first!r}; the medium set adds {', '.join(more)}")
    return {**{(name,): 1 for name in more}, (first,): 0}


def _find(wanted: str | int, landmarks: Mapping[str, Landmark], option: str, home: str) -> str:
    """Returns the name of the landmark that has a folder of this number, or has all of these words in its names."""
    if str(wanted).isdecimal():
        found = [name for name, landmark in landmarks.items() if landmark.folder == str(wanted)]
    else:
        words = name_words(str(wanted)) - FILLERS
        found = [
            name
            for name, landmark in landmarks.items()
            if words and words <= name_words(name) | landmark_words(name, landmark.parts)
        ]
    if len(found) != 1:
        raise ValueError(
            f"{option} must be one landmark each, by its folder's number or by words of its name; {wanted!r} is "
            f"{len(found)} of the {len(landmarks)} of {home}: {some(found or list(landmarks))}"
        )
    return found[0]


@DATASETS.register_module()
class WikiScenes(HierarchicalDataset):
    """WikiScenes: some 63,000 photographs of 99 cathedrals, in folders up to nine deep, see :func:`read_wikiscenes`.

    Images are in inner folders as well as in leaves. Some are in several folders, so labels are (N, P, L); the option
    ``paths`` reduces them to one path.

    Args:
        data_root: The folder that has ``cathedrals`` or ``WikiScenes/cathedrals``.
        landmarks: Whether level 1 is the landmark; otherwise it is exterior, interior, views.
        merge: Whether the same part of two cathedrals is one node (``'names'``) or two (``'none'``).
        small: The landmark of the small set, by the number of its folder or by words of its name.
        medium: The landmarks that the medium set adds to the small one; by default the six others with the most images.
        concept_dir: The folder of the concept lists. ``'auto'`` looks into the usual folders, ``None`` reads no lists.
        options: The options of :class:`HierarchicalDataset`; the splits are ``'small'``, ``'medium'``, ``'large'``, the
            same with ``'_concept'``, ``'val'`` and ``'val_easy'``.
    """

    def __init__(
        self,
        *,
        data_root: str,
        landmarks: bool = False,
        merge: str = "names",
        small: str | int = "notre dame paris",
        medium: Sequence[str | int] | str | int | None = None,
        concept_dir: str | None = "auto",
        **options: Any,
    ) -> None:
        check_flag(landmarks=landmarks)
        self._read_options = landmarks, merge, small, medium, concept_dir
        super().__init__(data_root=data_root, **options)

    def read(self) -> Annotations:
        """Reads the tree and the lists."""
        return read_wikiscenes(self.data_root, *self._read_options)
