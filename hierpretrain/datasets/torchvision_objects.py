"""Data sets as torchvision has them: items (picture, class), or ``samples`` that are files."""

from __future__ import annotations

import hashlib
import itertools
import os
import pickle
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torchvision
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from hierpretrain.datasets.annotations import NO_SPLIT, Annotations
from hierpretrain.datasets.base import HierarchicalDataset
from hierpretrain.datasets.class_paths import ClassPaths, class_path, level_names_of, warn_of_merged
from hierpretrain.datasets.orientation import orientation_of
from hierpretrain.datasets.stored_images import ImageStore
from hierpretrain.registry import DATASETS

_FEW = 16  # pictures that tell a data set from others of the same targets


@DATASETS.register_module()
class TorchvisionDataset(HierarchicalDataset):
    """A data set as torchvision has them, with its classes as the finest nodes of a tree.

    Of an object with ``samples``, as ``ImageFolder`` has, the files are read as any others. Of any other,
    ``dataset[i]`` must be (a picture of Pillow's, a class), and is asked for whenever the image is used. Its own
    transforms must be left out: the ``pipeline`` is for them. The paths of its images are made of its content, so that
    an index knows them again in another process.

    Args:
        dataset: The data set; or the name of a class of ``torchvision.datasets`` with its arguments:
            ``dict(type='CIFAR10', root='data')``.
        class_paths: From the name of a class to its path in the tree: a mapping, or a function of it. A path is a
            sequence of names, the coarsest first, or a text with slashes. By default a class is a path of one name.
        data_root: The folder that ``samples`` are below; by default the data set's ``root``.
        options: The options of :class:`HierarchicalDataset`; ``level_names`` are ``class``, or ``level1`` (coarsest) to
            ``levelL``. The one split is ``'all'``.

    Raises:
        ValueError: If the data set is no such one, ``class_paths`` lack a class, or as :class:`HierarchicalDataset`.

    Example:
        >>> class Pets(list):
        ...     classes, targets = ["cat", "dog"], [0, 1, 1]
        >>> pets = Pets((Image.new("RGB", (8, 8)), target) for target in Pets.targets)
        >>> paths = {"cat": "animal/cat", "dog": "animal/dog"}
        >>> data = TorchvisionDataset(dataset=pets, class_paths=paths, pipeline=[dict(type="LoadRGB")])
        >>> data, data[2]["img"].size
        (TorchvisionDataset(3 images of all; Taxonomy(level1: 1, level2: 2)), (8, 8))
    """

    def __init__(
        self,
        *,
        dataset: Any,
        class_paths: ClassPaths = None,
        data_root: str | None = None,
        level_names: Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        self.source = _built(dataset) if isinstance(dataset, Mapping) else dataset
        self.class_paths = class_paths
        self._name = type(self.source).__name__
        self._level_names = level_names
        root = data_root or getattr(self.source, "root", None) or "."
        super().__init__(data_root=os.fspath(root), **options)
        self.class_paths = None  # which may be a function that no worker could be given

    def read(self) -> Annotations:
        """Reads the classes of all items."""
        samples = getattr(self.source, "samples", None)
        if samples is None:
            targets = getattr(self.source, "targets", None)
            if targets is None:
                raise ValueError(
                    f"{self._name} has neither samples nor targets, as torchvision's data sets do; give it a list "
                    "`targets` with the class of every item"
                )
            if len(targets) != len(self.source):
                raise ValueError(f"{self._name} has {len(self.source)} items but {len(targets)} targets")
            images = [f"{i:08d}" for i in range(len(targets))]
            root, pictures = _named(self.source, targets)
            self.image_stores = [ImageStore(root, pictures)]
        else:
            files, targets = [sample[0] for sample in samples], [sample[1] for sample in samples]
            root = self.data_root
            images = [os.path.relpath(file, root).replace(os.sep, "/") for file in files]
        classes = getattr(self.source, "classes", None)
        numbers = [int(target) if hasattr(target, "__index__") else target for target in targets]
        paths = {}
        for target in dict.fromkeys(numbers):
            paths[target] = class_path(self._class(target, classes), self.class_paths, self._name)
        known = {f"{self._class(target, classes)} (target {target})": path for target, path in paths.items()}
        warn_of_merged(known, self._name)
        labels = [paths[target] for target in numbers]
        names = level_names_of(list(paths.values()), self._level_names)
        return Annotations(
            images, labels, [NO_SPLIT] * len(images), names, root, source=self._name, found=samples is None
        )

    def _class(self, target: Any, classes: Sequence[str] | None) -> str:
        if isinstance(target, str) or classes is None:
            return str(target)
        if not isinstance(target, int) or not 0 <= target < len(classes):
            raise ValueError(f"{self._name} has the target {target!r}, but {len(classes)} classes; correct its targets")
        return str(classes[target])


class _Pictures:
    """Gives the pictures of a data set by the numbers of its items."""

    def __init__(self, source: Any) -> None:
        self.source = source

    def __call__(self, name: str) -> Image.Image:
        picture = self.source[int(name)][0]
        if not isinstance(picture, Image.Image):
            raise ValueError(
                f"item {int(name)} of {type(self.source).__name__} must be (a picture of Pillow's, a class); it has a "
                f"{type(picture).__name__}: leave its transforms out, the pipeline is for them"
            )
        return picture


_NAMED: weakref.WeakValueDictionary[str, _Pictures] = weakref.WeakValueDictionary()
"""The data sets of this process by the roots of their images."""


def _named(source: Any, targets: Any) -> tuple[str, _Pictures]:
    """Returns the root of a data set's images, which is the same for the same content in any process, and its pictures.

    A number behind the root tells two data sets of this process apart whose few pictures are the same and others not.
    """
    root = name = f"{type(source).__name__}-{_fingerprint(source, targets)}"
    for number in itertools.count(2):
        there = _NAMED.get(root)
        if there is None or _same_pictures(there.source, source):
            break
        root = f"{name}-{number}"
    return root, there or _NAMED.setdefault(root, _Pictures(source))


def _fingerprint(source: Any, targets: Any) -> str:
    """Returns 16 hex digits for the split, the targets, a few pictures and, where an array has them, all pictures.

    To read all pictures one by one may take minutes.
    """
    split = {name: getattr(source, name, None) for name in ("split", "train")}  # as torchvision calls it
    split = {name: value for name, value in split.items() if isinstance(value, str | bool)}
    numbers = [int(target) if hasattr(target, "__index__") else target for target in targets]
    found = hashlib.sha256(repr((split, numbers)).encode(errors="surrogatepass"))
    for i in np.unique(np.linspace(0, len(numbers) - 1, _FEW).astype(int)).tolist() if numbers else ():
        found.update(_pixels(source, i))
    if (pictures := _array(source)) is not None:
        found.update(f"{pictures.shape}".encode() + pictures.tobytes())
    return found.hexdigest()[:16]


def _array(source: Any) -> NDArray[np.uint8] | None:
    """Returns the (N, H, W) or (N, H, W, 3) array of all pictures, as CIFAR10 and MNIST have; None if there is none."""
    data = getattr(source, "data", None)
    if not isinstance(data, np.ndarray | Tensor) or data.ndim not in (3, 4) or len(data) != len(source):
        return None
    array = np.asarray(data)
    return array if array.dtype == np.uint8 else None


def _pixels(source: Any, i: int) -> bytes:
    """Returns what tells a picture from others; of what is no picture, which is an error when it is used, its type."""
    try:
        picture = source[i][0]
        if not isinstance(picture, Image.Image):
            return type(picture).__name__.encode()
        picture.load()  # which may change the mode
        shown = (picture.mode, picture.size, picture.getpalette(), picture.info.get("transparency"))
        return repr((*shown, orientation_of(picture))).encode() + picture.tobytes()
    except Exception as error:  # which is told when the image is used, by the policy for what cannot be read
        return type(error).__name__.encode()


def _same_pictures(one: Any, other: Any) -> bool:
    """Returns whether two data sets of one fingerprint have all pictures in common, which is seldom asked."""
    if one is other or _array(one) is not None:  # the fingerprint is of all pictures
        return True
    with suppress(Exception):  # what cannot be pickled is looked at
        if pickle.dumps(one) == pickle.dumps(other):  # as of two that read the same files: none is opened
            return True
    return all(_pixels(one, i) == _pixels(other, i) for i in range(len(one)))


def _built(config: Mapping[str, Any]) -> Any:
    options = {key: value for key, value in config.items() if key not in ("type", "_scope_")}
    kind = getattr(torchvision.datasets, str(config.get("type")), None)
    if not isinstance(kind, type) or not issubclass(kind, torchvision.datasets.VisionDataset):
        raise ValueError(
            f"dataset.type must be a data set of torchvision.datasets, such as 'CIFAR10'; it is {config.get('type')!r}"
        )
    return kind(**options)
