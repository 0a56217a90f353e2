"""CIFAR-100: the pickled arrays, written out once as image files; superclass and class."""

from __future__ import annotations

import csv
import os
import pickle
import re
import shutil
import tempfile
from typing import Any

import numpy as np
from PIL import Image

from hierpretrain.datasets.annotations import Annotations
from hierpretrain.datasets.base import HierarchicalDataset
from hierpretrain.datasets.lists import read_csv
from hierpretrain.datasets.messages import short
from hierpretrain.datasets.published import check_parent, find_home
from hierpretrain.registry import DATASETS

_LEVELS = ("coarse", "fine")
_SPLITS = ("train", "test")
_LIST = "list.csv"
_FOLDER = "cifar-100-python"
_ARCHIVE = f"{_FOLDER}.tar.gz"
_SAFE_NAME = re.compile(r"\w[\w.+-]*", re.ASCII)
_PIXELS = 3 * 32 * 32


def read_cifar100(root: str, images: str | None = None) -> Annotations:
    """Reads CIFAR-100, after writing its images as PNG files if that was not done yet.

    The images come to ``<images>/<train or test>/<class>/<file name>.png``, with the list ``<images>/list.csv`` beside
    them (some 60,000 small files). The folder appears complete or not at all, also when the process is killed (a
    temporary folder ``.<name>.*`` may then stay behind and can be deleted) and when several processes start at once
    (the first one's folder stays). From then on the list is read, and the pickled files are no longer needed.

    Args:
        root: The folder that holds ``cifar-100-python``, or this folder itself.
        images: The folder for the image files; ``<root>/images`` by default.

    Returns:
        Splits ``'train'`` and ``'test'``; levels ``('coarse', 'fine')``, the 20 superclasses and the 100 classes.

    Raises:
        ValueError: If there is neither the folder of images nor the pickled files, if a pickled file is damaged, holds
            anything but plain values and arrays of bytes, or is not as published, or if the list is damaged.
    """
    images = images or os.path.join(root, "images")
    if not os.path.isdir(images):
        write_images(root, images)
    path = os.path.join(images, _LIST)
    if not os.path.isfile(path):
        raise ValueError(f"{images} holds no {_LIST}: it is no folder of CIFAR-100's image files; move it away")
    return read_csv(path, images, _LEVELS)


def write_images(root: str, images: str) -> None:
    """Writes CIFAR-100's images as PNG files, and the list of them, see :func:`read_cifar100`.

    Args:
        root: The folder that holds ``cifar-100-python``, or this folder itself.
        images: The folder to make; its parent must be writable.

    Raises:
        ValueError: As :func:`read_cifar100`.
    """
    remedy = f"download {_ARCHIVE} from https://www.cs.toronto.edu/~kriz/cifar.html and unpack it there"
    for folder in (root, os.path.dirname(os.path.abspath(root))):  # of cifar-100-python, or where it shall be
        if os.path.isfile(archive := os.path.join(folder, _ARCHIVE)):
            remedy = f"unpack the archive by: tar -xzf {archive} -C {folder}"
            break
    home = find_home(root, (_FOLDER,), ("train", "test", "meta"), "CIFAR-100", remedy)
    meta = _load(os.path.join(home, "meta"), ("fine_label_names", "coarse_label_names"))
    names = {level: _class_names(os.path.join(home, "meta"), meta, level) for level in _LEVELS}
    parents: dict[tuple[str, str], str] = {}
    images = os.path.abspath(images)
    os.makedirs(os.path.dirname(images), exist_ok=True)
    scratch = tempfile.mkdtemp(prefix=f".{os.path.basename(images)}.", dir=os.path.dirname(images))
    os.chmod(scratch, 0o755)  # mkdtemp's folders are for their owner alone
    try:
        with open(os.path.join(scratch, _LIST), "w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(("image", "split", *_LEVELS))
            for split in _SPLITS:
                _write_split(os.path.join(home, split), scratch, split, names, parents, rows)
        try:
            os.rename(scratch, images)
        except OSError:
            if not os.path.isdir(images):  # otherwise another process was faster, and its folder is as good as ours
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write_split(
    path: str,
    target: str,
    split: str,
    names: dict[str, list[str]],
    parents: dict[tuple[str, str], str],
    rows: Any,
) -> None:
    """Writes the images of one pickled file below ``target``, and a row of the list for each."""
    data = _load(path, ("data", "filenames", "fine_labels", "coarse_labels"))
    pixels = data["data"].values if isinstance(data["data"], _Array) else None
    if pixels is None or pixels.shape[1:] != (_PIXELS,):
        found = f"is {type(data['data']).__name__}" if pixels is None else f"has the shape {pixels.shape}"
        raise ValueError(f"{path}: 'data' must be uint8 of shape (N, {_PIXELS}); it {found}; get the file anew")
    for column in ("filenames", "fine_labels", "coarse_labels"):
        if not isinstance(data[column], list) or len(data[column]) != len(pixels):
            raise ValueError(f"{path}: {column!r} must be a list, of one entry for each of the {len(pixels)} images")
    columns = (data["filenames"], data["coarse_labels"], data["fine_labels"], pixels)
    for row, (name, coarse, fine, planes) in enumerate(zip(*columns, strict=True)):
        where = f"{path}: image {row}"
        if not isinstance(name, str) or not _SAFE_NAME.fullmatch(name):
            raise ValueError(f"{where}: a file name is of letters, digits and ._+- alone; this one is {name!r}")
        label = tuple(_class_name(names[level], i, where) for level, i in zip(_LEVELS, (coarse, fine), strict=True))
        check_parent(parents, "class", label[1], label[0], where)
        folder = f"{split}/{label[1]}"
        stem = name.removesuffix(".png")
        image = f"{folder}/{stem}.png"
        if os.path.exists(os.path.join(target, image)):  # nothing promises that names differ
            image = f"{folder}/{stem}-{row}.png"
        os.makedirs(os.path.join(target, folder), exist_ok=True)
        picture = Image.fromarray(planes.reshape(3, 32, 32).transpose(1, 2, 0))  # red, green and blue are planes
        with open(os.path.join(target, image), "xb") as file:
            picture.save(file, format="PNG")
        rows.writerow((image, split, *label))


def _class_names(path: str, meta: dict[str, Any], level: str) -> list[str]:
    names = meta[f"{level}_label_names"]
    wrong = not isinstance(names, list) or not all(
        isinstance(name, str) and _SAFE_NAME.fullmatch(name) for name in names
    )
    if wrong or len(set(names)) < len(names):
        raise ValueError(
            f"{path}: '{level}_label_names' must be different names of letters, digits and ._+-; get the file anew"
        )
    return names


def _class_name(names: list[str], i: Any, where: str) -> str:
    if not isinstance(i, int) or not 0 <= i < len(names):
        raise ValueError(
            f"{where}: a label must be 0 to {len(names) - 1}, as in 'meta'; it is {i!r}; get the files anew"
        )
    return names[i]


# ---------------------------------------------------------------- pickled files
class _Bytes:
    """Stands in for ``numpy.dtype``: numbers of one byte, whatever state a file gives their type."""

    def __init__(self, code: Any, *_: Any) -> None:
        if code not in ("u1", "|u1"):
            raise ValueError(f"it has an array of numbers of type {short(code)}; only uint8 ('u1') is in these files")

    def __setstate__(self, state: Any) -> None:
        pass


class _Array:
    """Stands in for ``numpy.ndarray``: an array of bytes, made from no more than its shape and its content."""

    values = np.empty(0, np.uint8)

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _Bytes) or not isinstance(shape, tuple) or not all(map(_is_length, shape)):
            raise ValueError(f"it has an array that is not of uint8 or has the shape {short(shape)}")
        raw = raw.encode("latin-1") if isinstance(raw, str) else raw
        self.values = np.frombuffer(raw, np.uint8).reshape(shape, order="F" if fortran else "C")


def _is_length(value: Any) -> bool:
    return isinstance(value, int) and value >= 0


def _encode(text: str, code: str) -> bytes:
    """Stands in for ``_codecs.encode``, by which Python 3 writes bytes in protocol 2."""
    if code not in ("latin1", "latin-1"):
        raise ValueError(f"it has bytes in the code {short(code)}; only latin1 is in these files")
    return text.encode("latin-1")


# What a pickled array is made of, by its names before and since numpy 2. None is numpy's own: its types take whatever
# state a file gives them, such as numbers that are pointers.
_STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Bytes,
    ("_codecs", "encode"): _encode,
}


class _PlainUnpickler(pickle.Unpickler):
    """Loads plain values and arrays of bytes and refuses everything else, so that a file cannot run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise ValueError(f"it asks for {module}.{name}, which an array of numbers does not need: do not use it")
        return _STAND_INS[module, name]


def _load(path: str, keys: tuple[str, ...]) -> dict[str, Any]:
    """Reads a pickled dict, in which Python 2's strings become text by Latin-1."""
    try:
        with open(path, "rb") as file:
            data = _PlainUnpickler(file, encoding="latin1").load()
    except Exception as error:  # a broken pickle raises nearly anything
        raise ValueError(
            f"cannot read the pickled file {path}: {error or type(error).__name__}; get {_ARCHIVE} anew"
        ) from error
    if not isinstance(data, dict) or (missing := [key for key in keys if key not in data]):
        lack = f"has no {missing[0]!r}" if isinstance(data, dict) else f"is a {type(data).__name__}, no dict"
        raise ValueError(f"the pickled file {path} {lack}; get {_ARCHIVE} anew")
    return data


@DATASETS.register_module()
class CIFAR100(HierarchicalDataset):
    """CIFAR-100: 50,000 training and 10,000 test images of 32 x 32, in 20 superclasses and 100 classes.

    On first use the images are written out as files, see :func:`read_cifar100`. Some superclasses are no kinds
    (``household_furniture`` is one, ``large_man-made_outdoor_things`` hardly).

    Args:
        data_root: The folder that holds ``cifar-100-python``, or this folder itself.
        images: The folder for the image files; ``<data_root>/images`` by default.
        options: Those of :class:`HierarchicalDataset`; ``split`` is of ``'train'`` and ``'test'``.
    """

    def __init__(self, *, data_root: str, images: str | None = None, **options: Any) -> None:
        self.images = images
        super().__init__(data_root=data_root, **options)

    def read(self) -> Annotations:
        """Reads the list of the image files, after writing them if need be."""
        return read_cifar100(self.data_root, self.images)
