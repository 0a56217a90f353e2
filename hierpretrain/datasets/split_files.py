"""Splits as files, and annotations that go by one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hierpretrain._json import is_number
from hierpretrain.datasets.annotations import Annotations, nfc
from hierpretrain.datasets.messages import short, some
from hierpretrain.datasets.text_files import read_json_file
from hierpretrain.files import write_whole

_FORMAT = "hierpretrain.split.v1"
_MAKERS = "hierpretrain init or make-split"


@dataclass(frozen=True)
class Split:
    """A split tag for every image of a data set, and the options that the tags were made with.

    Args:
        tags: Image, as the annotations name it -> split tag.
        level: The name of the level whose nodes are the classes, or in whose nodes images were dealt; None for neither.
        unseen: The paths of the unseen classes, sorted.
        seed: The seed of all draws.
        shares: The fractions of train, val and test; None if the annotations' own splits were kept.
        val_share: The fraction of the own training split that became val; None if none did.
        unit: The name of the level whose nodes, or of the extra label whose images, were kept together; None if images
            were dealt one by one.
        source: What the annotations were read from.
        held_out: The paths of the branches that are neither seen nor unseen, sorted.

    Example:
        >>> import tempfile
        >>> tags = {"a.jpg": "seen_train", "b.jpg": "unseen_test"}
        >>> split = Split(tags, "kind", (("dog",),), 0, None, None, None, "pets")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     split.save(f"{folder}/split.json")
        ...     Split.load(f"{folder}/split.json") == split
        True
    """

    tags: Mapping[str, str]
    level: str | None
    unseen: tuple[tuple[str, ...], ...]
    seed: int
    shares: tuple[float, float, float] | None
    val_share: float | None
    unit: str | None
    source: str
    held_out: tuple[tuple[str, ...], ...] = ()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the split as JSON, with one image a line, whole or not at all. Equal splits give equal bytes."""
        images: dict[str, list[str]] = {tag: [] for tag in sorted(set(self.tags.values()))}
        for image in sorted(self.tags):
            images[self.tags[image]].append(image)
        about = {"format": _FORMAT} | {key: getattr(self, key) for key in _KEYS if key != "images"}
        about |= {"held_out": self.held_out} if self.held_out else {}
        lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in about.items()]
        lines.append(f'"images": {json.dumps(images, indent=0)}')
        # JSON escapes all but ASCII, because a file name need not be UTF-8.
        write_whole(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode("ascii"))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Split:
        """Reads a file that :meth:`save` wrote.

        Raises:
            ValueError: With the file, if it cannot be read, is truncated or no split, lacks a key, has a value of a
                wrong type, or lists an image twice.
        """
        path = os.fspath(path)
        data = read_json_file(path, f"it may be edited: make it anew with {_MAKERS}", any_text=True)
        if not isinstance(data, dict) or data.get("format") != _FORMAT:
            found = data.get("format") if isinstance(data, dict) else type(data).__name__
            raise ValueError(
                f"{path}: a split file must have 'format': {_FORMAT!r}, not {found!r}; make it with {_MAKERS}"
            )
        for key, (fits, kind) in _KEYS.items():
            if key not in data:
                raise ValueError(f"{path}: the key {key!r} is missing; make the file anew with {_MAKERS}")
            if not fits(data[key]):
                raise ValueError(f"{path}: {key!r} must be {kind}; it is {short(data[key])}")
        held_out = data.get("held_out", [])  # older files have none
        if not (isinstance(held_out, list) and all(map(_is_texts, held_out))):
            raise ValueError(f"{path}: 'held_out' must be a list of paths of names; it is {short(held_out)}")
        tags: dict[str, str] = {}
        for tag, images in data["images"].items():
            for image in images:
                if image in tags:
                    raise ValueError(
                        f"{path}: the image {image!r} is listed twice, as {tags[image]!r} and {tag!r}; list it once"
                    )
                tags[image] = tag
        return cls(
            tags=tags,
            unseen=tuple(map(tuple, data["unseen"])),
            held_out=tuple(map(tuple, held_out)),
            shares=None if data["shares"] is None else tuple(data["shares"]),
            **{key: data[key] for key in ("level", "seed", "val_share", "unit", "source")},
        )


def with_split(annotations: Annotations, path: str | os.PathLike[str]) -> Annotations:
    """Returns annotations with the split tags of a file instead of their own.

    An image that the file has in another Unicode form alone, as one made on a Mac may, has the tag of that.

    Args:
        annotations: The annotations of all images of the data set.
        path: A file that :meth:`Split.save` wrote.

    Raises:
        ValueError: If the file is no split (see :meth:`Split.load`), or if it and the annotations do not list the same
            images.
    """
    tags = Split.load(path).tags
    names = names_in_file(tags, annotations.images)
    unlisted = [image for image in annotations.images if image not in names]
    foreign = sorted(tags.keys() - set(names.values())) if len(names) < len(tags) else []
    if unlisted or foreign:
        lists = [
            f"{len(images)} images are only in {where}: {some(images)}"
            for images, where in ((unlisted, annotations.source), (foreign, "the file"))
            if images
        ]
        raise ValueError(
            f"{os.fspath(path)} must tag exactly the images of {annotations.source}; {' and '.join(lists)}; give the "
            "data set's own split_file, or renew this one, which keeps all other tags: "
            "hierpretrain make-split CONFIG --renew"
        )
    return replace(annotations, splits=[tags[names[image]] for image in annotations.images])


def names_in_file(tags: Mapping[str, str], images: Sequence[str]) -> dict[str, str]:
    r"""Returns image -> its name in a split file, for the images that the file tags.

    An image that the file has in another Unicode form alone, as one made on a Mac may, is found by that form.

    Args:
        tags: The tags of the file.
        images: The images, as the annotations name them.

    Example:
        >>> names = names_in_file({"caf\u00e9.jpg": "train", "gone.jpg": "val"}, ["cafe\u0301.jpg", "new.jpg"])
        >>> names == {"cafe\u0301.jpg": "caf\u00e9.jpg"}
        True
    """
    names = {image: image for image in images if image in tags}
    if len(names) < len(images):
        other_forms = {nfc(name): name for name in tags if not name.isascii() and name not in names}
        for image in images:
            if image not in names and (other := other_forms.pop(nfc(image), None)) is not None:
                names[image] = other
    return names


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


_KEYS = {
    "source": (_is_text, "a string"),
    "level": (lambda value: value is None or _is_text(value), "null or the name of a level"),
    "unseen": (lambda value: isinstance(value, list) and all(map(_is_texts, value)), "a list of paths of names"),
    "seed": (lambda value: isinstance(value, int) and not isinstance(value, bool), "an integer"),
    "shares": (
        lambda value: value is None or (isinstance(value, list) and len(value) == 3 and all(map(is_number, value))),
        "null or three numbers",
    ),
    "val_share": (lambda value: value is None or is_number(value), "null or a number"),
    "unit": (lambda value: value is None or _is_text(value), "null or the name of a level or an extra label"),
    "images": (
        lambda value: isinstance(value, dict) and all(map(_is_text, value)) and all(map(_is_texts, value.values())),
        "an object that gives every tag its list of images",
    ),
}
