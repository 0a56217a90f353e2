"""ImageNet's files: the list of its images, and the classes of images that are in no class folder."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from hierpretrain._texts import short
from hierpretrain.datasets.matlab import read_mat
from hierpretrain.datasets.messages import warn
from hierpretrain.datasets.safe_paths import unsafe_reason
from hierpretrain.datasets.text_files import numbered_lines, text_lines

_SPLITS = ("train", "val")
_IMAGE = (".jpeg", ".jpg", ".png", ".webp")
_VAL_IMAGE = re.compile(r"ILSVRC2012_val_(\d{8})\.[A-Za-z]+")
_DEVKIT = ("ILSVRC2012_devkit_t12", "devkit", "")
_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
_META = "meta.mat"
_NUM_VAL, _NUM_CLASSES = 50_000, 1_000  # of every class equally many


def list_imagenet(root: str) -> list[str]:
    """Lists the images in ``train/<class>/``, ``val/<class>/`` and ``val/``, in the order of their names.

    A file is an image by its extension, so that no file has to be opened. Hidden files are skipped, others are counted
    in the log. One of the two folders may be missing.

    Args:
        root: The folder that ``train`` and ``val`` are in.

    Returns:
        The images' paths below ``root``.

    Raises:
        ValueError: If there is neither folder, or a folder cannot be read or holds no image.
    """
    images: list[str] = []
    others = 0
    for split in _SPLITS:
        if not os.path.isdir(os.path.join(root, split)):
            continue
        folders, files = _scan(os.path.join(root, split))
        for folder in folders:
            _, names = _scan(os.path.join(root, split, folder))
            kept = [f"{split}/{folder}/{name}" for name in names if name.lower().endswith(_IMAGE)]
            if not kept:
                raise ValueError(f"the folder {root}/{split}/{folder} holds no image; remove it, or unpack its archive")
            images += kept
            others += len(names) - len(kept)
        loose = [f"{split}/{name}" for name in files if split == "val" and name.lower().endswith(_IMAGE)]
        images += loose
        others += len(files) - len(loose)
    if not images:
        raise ValueError(
            f"{root} holds no ImageNet: images are at train/<class>/<name>.JPEG and val/<class>/<name>.JPEG or "
            "val/<name>.JPEG; unpack ILSVRC2012_img_train.tar, the archives in it and ILSVRC2012_img_val.tar there, or "
            "correct data_root"
        )
    if others:
        warn(f"{root}: left out {others} files that have no extension of an image")
    return images


def _scan(folder: str) -> tuple[list[str], list[str]]:
    """Returns the names of the folders in a folder and of its other entries, sorted, without hidden ones."""
    folders, files = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    (folders if entry.is_dir() else files).append(entry.name)
    except OSError as error:
        raise ValueError(f"cannot list the folder {folder}: {error.strerror}; make it readable or remove it") from error
    return sorted(folders), sorted(files)


def read_image_list(path: str) -> list[str]:
    """Reads a list of images with one path a line, as ``find train val -name '*.JPEG'`` writes it.

    Args:
        path: The list, in UTF-8; blank lines are skipped.

    Returns:
        The images' paths below the folder that ``train`` and ``val`` are in, in the order of the list.

    Raises:
        ValueError: With file and line, if a path is not ``train/<class>/<name>``, ``val/<class>/<name>`` or
            ``val/<name>``.
    """
    images = []
    for where, line in numbered_lines(path):
        image = line.removeprefix("./")
        parts = image.split("/")
        if parts[0] not in _SPLITS or not (len(parts) == 3 or (len(parts) == 2 and parts[0] == "val")):
            raise ValueError(
                f"{where}: a line is train/<class>/<name>, val/<class>/<name> or val/<name>, not {image!r}"
            )
        if reason := unsafe_reason(image):
            raise ValueError(f"{where}: the path {image!r} {reason}; list paths below data_root")
        images.append(image)
    return images


# ---------------------------------------------------------------- the classes of val/<name>
def read_val_classes(path: str | os.PathLike[str]) -> Mapping[str, str]:
    """Reads the classes of the validation images.

    Args:
        path: The devkit's folder, with ``meta.mat`` and ``ILSVRC2012_validation_ground_truth.txt`` in it or in its
            folder ``data``; or a text file with lines ``ILSVRC2012_val_00000001.JPEG n01751748``.

    Returns:
        Image name without extension -> class.

    Raises:
        ValueError: With file and line, if a file is missing or damaged.
    """
    path = os.fspath(path)
    if os.path.isdir(path):
        inner = os.path.join(path, "data")
        return _devkit_classes(inner if os.path.isfile(os.path.join(inner, _TRUTH)) else path)
    classes: dict[str, str] = {}
    for where, line in numbered_lines(path):
        fields = line.split()
        if len(fields) != 2 or not _VAL_IMAGE.fullmatch(fields[0]):
            raise ValueError(f"{where}: a line is 'ILSVRC2012_val_00000001.JPEG n01751748', not {line!r}")
        name, label = os.path.splitext(fields[0])[0], fields[1]
        if label.isdecimal():
            raise ValueError(
                f"{where}: the class is the number {label}, which may count in the devkit's or in sorted "
                "order; write the class as its folder is named, such as n01751748"
            )
        if classes.setdefault(name, label) != label:
            raise ValueError(f"{where}: the image {fields[0]} is listed with two classes; remove one")
    return classes


def _devkit_classes(folder: str) -> dict[str, str]:
    names = _devkit_ids(os.path.join(folder, _META))
    path = os.path.join(folder, _TRUTH)
    by_text = {str(number): name for number, name in names.items()}  # a line may have more digits than int() takes
    classes = {}
    for number, line in text_lines(path):
        if (text := line.strip()) not in by_text:
            raise ValueError(
                f"{path}:{number}: a line is the number of a class of {_META}, not {short(line)}; unpack the devkit "
                "anew"
            )
        classes[f"ILSVRC2012_val_{number:08d}"] = by_text[text]
    if len(classes) == _NUM_VAL and len(names) == _NUM_CLASSES:
        counts = Counter(classes.values())
        if odd := sorted(name for name in names.values() if counts[name] != _NUM_VAL // _NUM_CLASSES):
            raise ValueError(
                f"{path} has {counts[odd[0]]} images of the class {odd[0]!r}, and {_NUM_VAL // _NUM_CLASSES} are of "
                "every class; unpack the devkit anew"
            )
    return classes


def _check_number(source: str, known: Mapping[str, str], images: Sequence[str]) -> None:
    """Raises if the devkit's classes, which go by the number of their line alone, are more or fewer than images."""
    if os.path.isdir(source) and len(known) != _NUM_VAL and len(known) != len(images):
        raise ValueError(
            f"{source}: {_TRUTH} has {len(known):,} lines, and there are {len(images):,} images in val; a line lost or "
            "added moves the classes of all images behind it: unpack the devkit anew"
        )


def _devkit_ids(path: str) -> dict[int, str]:
    """Returns the classes by their number in the devkit, which is not their position in sorted order."""
    try:
        synsets = read_mat(path).get("synsets")
    except ValueError as error:
        raise ValueError(f"{error}: unpack ILSVRC2012_devkit_t12.tar.gz anew") from error
    if not isinstance(synsets, list) or not all(map(_is_synset, synsets)):
        raise ValueError(
            f"{path} must have a list 'synsets' whose entries have the integers ILSVRC2012_ID and num_children and the "
            "text WNID: unpack ILSVRC2012_devkit_t12.tar.gz anew"
        )
    for key in ("ILSVRC2012_ID", "WNID"):
        if len({one[key] for one in synsets}) < len(synsets):
            raise ValueError(f"{path} has an {key} twice: unpack ILSVRC2012_devkit_t12.tar.gz anew")
    return {int(one["ILSVRC2012_ID"]): one["WNID"] for one in synsets if one["num_children"] == 0}


def _is_synset(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("WNID"), str):
        return False
    numbers = [value.get(name) for name in ("ILSVRC2012_ID", "num_children")]
    return all(isinstance(number, int | float) and float(number).is_integer() for number in numbers)


def _find_val_classes(root: str) -> str:
    for name in _DEVKIT:
        for folder in (os.path.join(root, name), os.path.join(root, name, "data")):
            if os.path.isfile(os.path.join(folder, _TRUTH)):
                return folder
    raise ValueError(
        f"{root}/val holds images outside of class folders, and no devkit says their class: unpack "
        f"ILSVRC2012_devkit_t12.tar.gz to {root}, or give its folder or a list 'image class' as val_classes"
    )


def classes_of(images: Sequence[str], val_classes: str | None, root: str) -> list[str]:
    """Returns the class of each image: the name of its folder, or for ``val/<name>`` the class that a list gives.

    Args:
        images: Paths ``train/<class>/<name>``, ``val/<class>/<name>`` or ``val/<name>``.
        val_classes: The list of classes, a path for :func:`read_val_classes`. ``None`` looks for the devkit in
            ``root``, if an image needs it.
        root: The folder that the images are in.

    Raises:
        ValueError: If the class of an image is not known, or the devkit's list has another number of lines than there
            are images; and as :func:`read_val_classes`.
    """
    known: Mapping[str, str] | None = None
    one: dict[str, str] = {}
    classes = []
    for image in images:
        parts = image.split("/")
        if len(parts) == 3:
            name = parts[1]
        else:
            if known is None:
                source = val_classes or _find_val_classes(root)
                known = read_val_classes(source)
                _check_number(source, known, [image for image in images if image.count("/") == 1])
            stem = os.path.splitext(parts[1])[0]
            if stem not in known:
                listed = f"{source}: {_TRUTH}" if os.path.isdir(source) else source
                raise ValueError(f"{listed} has no class for the image {root}/{image}; remove the image or add a line")
            name = known[stem]
        classes.append(one.setdefault(name, name))
    return classes
