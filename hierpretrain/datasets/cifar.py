"""CIFAR-100: the pickled arrays, written out once as image files; superclass and class."""

from __future__ import annotations

import csv
import hashlib
import os
import pickle
import warnings
from pathlib import Path
from typing import Any

from PIL import Image
from torchvision.datasets import CIFAR100 as Published

from hierpretrain.datasets.annotations import Annotations
from hierpretrain.datasets.base import HierarchicalDataset
from hierpretrain.datasets.lists import read_csv
from hierpretrain.datasets.published import find_home
from hierpretrain.files import sha256, whole_folder
from hierpretrain.registry import DATASETS

_LEVELS = ("coarse", "fine")
_SPLITS = ("train", "test")
_LIST = "list.csv"
_DIGEST = "list.csv.sha256"
_FOLDER = Published.base_folder
_ARCHIVE = Published.filename
# of the published files, the only ones that are unpickled; no other file can be made to have one of them
_MD5 = dict([*Published.train_list, *Published.test_list, (Published.meta["filename"], Published.meta["md5"])])


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
        ValueError: If there is neither the folder of images nor the pickled files, if a pickled file is any other than
            the published one, or if the list is damaged.
    """
    images = images or os.path.join(root, "images")
    if not os.path.isdir(images):
        _write_images(root, images)
    path = os.path.join(images, _LIST)
    if not os.path.isfile(path):
        raise ValueError(f"{images} holds no {_LIST}: it is no folder of CIFAR-100's image files; move it away")
    digest = Path(images, _DIGEST)  # which folders of older versions have not
    if digest.is_file() and digest.read_bytes().strip() != sha256(path).encode():
        raise ValueError(
            f"{path} is not the list that was written: it is damaged; remove {images} to have it written anew"
        )
    return read_csv(path, images, _LEVELS)


def _write_images(root: str, images: str) -> None:
    """Writes CIFAR-100's images as PNG files, and the list of them, see :func:`read_cifar100`."""
    remedy = f"download {_ARCHIVE} from https://www.cs.toronto.edu/~kriz/cifar.html and unpack it there"
    for folder in (root, os.path.dirname(os.path.abspath(root))):  # of cifar-100-python, or where it shall be
        if os.path.isfile(archive := os.path.join(folder, _ARCHIVE)):
            remedy = f"unpack the archive by: tar -xzf {archive} -C {folder}"
            break
    home = Path(find_home(root, (_FOLDER,), tuple(_MD5), "CIFAR-100", remedy))
    meta, *splits = (_load(home / name) for name in ("meta", *_SPLITS))
    with whole_folder(images) as folder, open(folder / _LIST, "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("image", "split", *_LEVELS))
        for split, data in zip(_SPLITS, splits, strict=True):
            columns = (data["filenames"], data["coarse_labels"], data["fine_labels"], data["data"])
            for row, (name, coarse, fine, planes) in enumerate(zip(*columns, strict=True)):
                label = (meta["coarse_label_names"][coarse], meta["fine_label_names"][fine])
                image = Path(split, label[1], name)
                if (folder / image).exists():  # nothing promises that names differ
                    image = image.with_stem(f"{image.stem}-{row}")
                (folder / image).parent.mkdir(parents=True, exist_ok=True)
                pixels = planes.reshape(3, 32, 32).transpose(1, 2, 0)  # red, green and blue are planes
                Image.fromarray(pixels).save(folder / image, format="PNG")
                rows.writerow((image.as_posix(), split, *label))
        file.flush()
        (folder / _DIGEST).write_text(sha256(folder / _LIST) + "\n", encoding="ascii")


def _load(path: Path) -> dict[str, Any]:
    """Unpickles a published file: torchvision's reader drops the superclasses, and checks other bytes than it reads."""
    data = path.read_bytes()
    if (found := hashlib.md5(data, usedforsecurity=False).hexdigest()) != _MD5[path.name]:
        raise ValueError(
            f"{path} is not the published file: its MD5 is {found}, not {_MD5[path.name]}; get {_ARCHIVE} anew. "
            "No other is read, for a pickled file can run code"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, of how numpy wrote arrays in 2009
        return pickle.loads(data, encoding="latin1")


@DATASETS.register_module()
class CIFAR100(HierarchicalDataset):
    """CIFAR-100: 50,000 training and 10,000 test images of 32 x 32, in 20 superclasses and 100 classes.

    On first use the images are written out as files, see :func:`read_cifar100`. Some superclasses are no kinds
    (``household_furniture`` is one, ``large_man-made_outdoor_things`` hardly).

    Args:
        data_root: The folder that holds ``cifar-100-python``, or this folder itself.
        images: The folder for the image files; ``<data_root>/images`` by default.
        options: The options of :class:`HierarchicalDataset`; ``split`` is of ``'train'`` and ``'test'``.
    """

    def __init__(self, *, data_root: str, images: str | None = None, **options: Any) -> None:
        self.images = images
        super().__init__(data_root=data_root, **options)

    def read(self) -> Annotations:
        """Reads the list of the image files, after writing them if need be."""
        return read_cifar100(self.data_root, self.images)
