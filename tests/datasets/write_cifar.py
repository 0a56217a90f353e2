"""Writes a small CIFAR-100 as the official one was pickled: by Python 2, protocol 2, with numpy before version 2."""

import hashlib
import pickle
import struct
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np

from hierpretrain.datasets import read_cifar100

FINE = ("apple", "aquarium_fish", "beaver", "dolphin", "maple_tree")
COARSE = ("aquatic_mammals", "fish", "fruit_and_vegetables", "large_man-made_outdoor_things", "trees")
PARENT = (2, 1, 0, 0, 4)  # of every class; one superclass is unused


class _Python2Pickler(pickle._Pickler):
    """Writes text and bytes as the one string type of Python 2, and numpy's parts by their old names."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def save_string(self, value):
        data = value.encode("latin1") if isinstance(value, str) else value
        if len(data) < 256:
            self.write(pickle.SHORT_BINSTRING + struct.pack("<B", len(data)) + data)
        else:
            self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    def save_global(self, obj, name=None):
        module = obj.__module__.replace("numpy._core", "numpy.core")
        self.write(pickle.GLOBAL + f"{module}\n{name or obj.__qualname__}\n".encode())
        self.memoize(obj)

    dispatch[str] = dispatch[bytes] = save_string
    dispatch[type] = dispatch[type(len)] = dispatch[type(lambda: None)] = save_global


def write_pickle(path, value):
    """Writes a value as Python 2 pickled it."""
    with open(path, "wb") as file:
        _Python2Pickler(file, protocol=2).dump(value)


def write_cifar100(root, seed=0, num_test=3):
    """Writes eight training images and some test images of five classes in four superclasses.

    Args:
        root: The folder to write to; the files come to ``<root>/cifar-100-python``.
        seed: Of the pixels and labels.
        num_test: How many test images.

    Returns:
        Split -> the pickled dict, whose images are rows of a red, a green and a blue plane.
    """
    folder = Path(root, "cifar-100-python")
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    splits = {}
    for split, count in (("train", 8), ("test", num_test)):
        fine = [i % len(FINE) for i in range(count)]
        splits[split] = {
            "filenames": [f"{FINE[label]}_s_{i:06d}.png" for i, label in enumerate(fine)],
            "batch_label": f"{split}ing batch 1 of 1",
            "fine_labels": fine,
            "coarse_labels": [PARENT[label] for label in fine],
            "data": rng.integers(0, 256, (count, 3072), dtype=np.uint8),
        }
        write_pickle(folder / split, splits[split])
    write_pickle(folder / "meta", {"fine_label_names": list(FINE), "coarse_label_names": list(COARSE)})
    (folder / "file.txt~").write_text("")  # is in the archive
    return splits


def checksums(root):
    """Returns the name and the MD5 of each file that is pickled in ``<root>/cifar-100-python``."""
    files = [Path(root, "cifar-100-python", name) for name in ("train", "test", "meta")]
    return {file.name: hashlib.md5(file.read_bytes()).hexdigest() for file in files}


def write_images(root, **options):
    """Writes what the first use of a small CIFAR-100 leaves in its ``data_root``: the image files and their list."""
    with tempfile.TemporaryDirectory() as folder:
        write_cifar100(folder, **options)
        with mock.patch.dict("hierpretrain.datasets.cifar._MD5", checksums(folder)):
            read_cifar100(folder, f"{root}/images")


CONFIG_TREES = {"CIFAR100": lambda root: write_images(root, num_test=10)}
