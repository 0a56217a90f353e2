"""Data sets of your own images: a folder tree, or a CSV, JSON or JSON Lines list."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from hierpretrain.datasets.annotations import Annotations
from hierpretrain.datasets.base import HierarchicalDataset
from hierpretrain.datasets.copies import merge_copies
from hierpretrain.datasets.folders import read_folder
from hierpretrain.datasets.lists import read_csv, read_json, read_jsonl
from hierpretrain.registry import DATASETS

_READERS = {".csv": read_csv, ".json": read_json, ".jsonl": read_jsonl}


@DATASETS.register_module()
class FolderDataset(HierarchicalDataset):
    """A tree of folders whose names are the labels, see :func:`read_folder`; its one split is ``'all'``.

    To give a training and a test folder the same node ids, save the ``taxonomy`` of one and pass the file to the other.

    Args:
        data_root: The folder.
        merge_copies: Whether files with the same bytes are one image with the label paths of all their folders, see
            :func:`hierpretrain.datasets.copies.merge_copies`. Files of equal size are then read once, at load.
        options: The options of :class:`HierarchicalDataset`; ``level_names`` are ``level1`` (coarsest) to ``levelL`` by
            default.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name in ("animal/cat/tom.png", "animal/any.png", "tool/saw.png"):
        ...         Path(root, name).parent.mkdir(parents=True, exist_ok=True)
        ...         Image.new("RGB", (8, 8)).save(Path(root, name))
        ...     pets = FolderDataset(data_root=root, level_names=("kind", "animal"), pipeline=[dict(type="LoadRGB")])
        ...     pets, pets.labels.tolist(), pets[1]["img"].size
        (FolderDataset(3 images of all; Taxonomy(kind: 2, animal: 1)), [[0, -1], [0, 0], [1, -1]], (8, 8))
    """

    def __init__(self, *, data_root: str, merge_copies: bool = False, **options: Any) -> None:
        self.merge_copies = merge_copies
        super().__init__(data_root=data_root, **options)

    def read(self) -> Annotations:
        """Reads the folder tree."""
        annotations = read_folder(self.data_root)
        return merge_copies(annotations) if self.merge_copies else annotations


@DATASETS.register_module()
class ListDataset(HierarchicalDataset):
    """Images in a CSV, JSON or JSON Lines list, see :func:`read_csv`, :func:`read_json` and :func:`read_jsonl`.

    Args:
        data_root: The folder that the list's images are relative to.
        ann_file: The list, relative to ``data_root`` or absolute. Its extension gives its format: ``.csv``, ``.json``
            or ``.jsonl``.
        levels: The label columns, the coarsest first; by default all columns but ``image``, ``split`` and
            ``extra_labels``, in the order of the file.
        extra_labels: The columns of labels outside the tree.
        flat_labels: An older name of ``extra_labels``.
        options: The options of :class:`HierarchicalDataset`.

    Raises:
        ValueError: If the extension is another one; and as :func:`read_csv` and :class:`HierarchicalDataset`.
    """

    def __init__(
        self,
        *,
        data_root: str,
        ann_file: str,
        levels: Sequence[str] = (),
        extra_labels: Sequence[str] = (),
        flat_labels: Sequence[str] = (),
        **options: Any,
    ) -> None:
        self.ann_file = ann_file
        self._columns = levels, extra_labels or flat_labels
        super().__init__(data_root=data_root, **options)

    def read(self) -> Annotations:
        """Reads the list."""
        extension = os.path.splitext(self.ann_file)[1].lower()
        if extension not in _READERS:
            raise ValueError(f"ann_file must end in {', '.join(_READERS)}; it is {self.ann_file!r}")
        levels, extra_labels = self._columns
        path = os.path.join(self.data_root, os.path.expanduser(self.ann_file))
        return _READERS[extension](path, self.data_root, levels=levels, extra_labels=extra_labels)
