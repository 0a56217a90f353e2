"""openclipart96, a folder tree of ragged depth that comes with the toolbox: drawings, some in several folders."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np

from hierpretrain.datasets.annotations import Annotations
from hierpretrain.datasets.archive import unpack_own
from hierpretrain.datasets.base import HierarchicalDataset
from hierpretrain.datasets.copies import content_hash, merge_copies
from hierpretrain.datasets.folders import read_folder
from hierpretrain.registry import DATASETS

_SHARES = {"test": 0.2, "val": 0.1, "small": 0.05, "medium": 0.15, "large": 0.5}
# of a blank white picture under 125 names: drawings that whoever rendered them had failed at
_BLANK_BYTES = 76
_BLANK = "2451df10276c5eb6ca29c76897c1a0aa9d98892c27c1d4a6a7bf9d359e69985e"


def read_openclipart96(root: str) -> Annotations:
    """Reads openclipart96 from its folder, which is unpacked from ``<root>.zip`` if it is not there yet.

    Files of the same bytes are one image, in all their folders. The blank picture, which 125 drawings became, is left
    out. Images are dealt to the splits at random, always alike.

    Args:
        root: The folder.

    Returns:
        Levels ``'level1'`` to ``'level5'``; splits ``'test'`` (20 %), ``'val'`` (10 %), and, for training, ``'small'``
        (5 %), ``'medium'`` (15 %) and ``'large'`` (50 %), to be joined; and, beside the tree, the label ``'folder'``:
        the whole path of an image's folder, however deep it is, for images that are in one folder alone.

    Raises:
        ValueError: If neither the folder nor the archive is there, or as :func:`read_folder`.
    """
    unpack_own(root, "openclipart96")
    annotations = merge_copies(read_folder(root, expected=["README.md"]))
    images = [os.path.join(root, image) for image in annotations.images]
    kept = [index for index, image in enumerate(images) if not _is_blank(image)]
    order = np.random.default_rng(0).permutation(len(kept))
    ends = np.round(np.cumsum(list(_SHARES.values())) * len(kept)).astype(int)
    splits = np.array(list(_SHARES))[np.searchsorted(ends, np.argsort(order), side="right")].tolist()
    annotations = replace(annotations.take(kept), splits=splits, source=f"openclipart96 at {root!r}")
    paths = [annotations.paths(index) for index in range(len(kept))]
    folders = ["/".join(its[0]) if len(its) == 1 else "" for its in paths]
    return replace(annotations, extra_labels={"folder": folders})


def _is_blank(path: str) -> bool:
    return os.path.getsize(path) == _BLANK_BYTES and content_hash(path) == _BLANK


@DATASETS.register_module()
class OpenClipart96(HierarchicalDataset):
    """openclipart96: 6,266 drawings of 96 x 96 in a ragged tree of folders, up to five deep; comes with the toolbox.

    Images hang on inner folders as well as on leaves, and some in several: their labels are (N, P, L), see ``paths``.

    Args:
        data_root: The folder. It is unpacked from ``<data_root>.zip`` on first use, by whichever process is first.
        options: The options of :class:`HierarchicalDataset`; ``split`` is of ``'small'``, ``'medium'``, ``'large'``,
            ``'val'`` and ``'test'``, see :func:`read_openclipart96`.
    """

    def __init__(self, *, data_root: str = "data/openclipart96", **options: Any) -> None:
        super().__init__(data_root=data_root, **options)

    def read(self) -> Annotations:
        """Reads the folders, after unpacking the archive if need be."""
        return read_openclipart96(self.data_root)
