"""Data sets of your own images: a folder tree, or a list."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from hierpretrain.checks import check_flag
from hierpretrain.datasets.annotations import Annotations
from hierpretrain.datasets.base import HierarchicalDataset
from hierpretrain.datasets.copies import merge_copies
from hierpretrain.datasets.folders import read_folder
from hierpretrain.datasets.lists import read_list
from hierpretrain.files import as_called
from hierpretrain.registry import DATASETS


@DATASETS.register_module()
class FolderDataset(HierarchicalDataset):
    """A tree of folders whose names are the labels, see :func:`read_folder`; its one split is ``'all'``.

    To give a training and a test folder the same node ids, save the ``taxonomy`` of one and pass the file to the other.

    Args:
        data_root: The folder.
        merge_copies: Whether files with the same bytes are one image with the label paths of all their folders, see
            :func:`hierpretrain.datasets.copies.merge_copies`. Files of equal size are then read once, at load.
        need_labels: Whether it is an error if no image is in a sub-folder, and so has a label.
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

    def __init__(self, *, data_root: str, merge_copies: bool = False, need_labels: bool = True, **options: Any) -> None:
        check_flag(merge_copies=merge_copies, need_labels=need_labels)
        self.merge_copies, self.need_labels = merge_copies, need_labels
        super().__init__(data_root=data_root, **options)

    def read(self) -> Annotations:
        """Reads the folder tree."""
        annotations = read_folder(self.data_root, on_error=self.on_error, need_labels=self.need_labels)
        return merge_copies(annotations) if self.merge_copies else annotations


@DATASETS.register_module()
class ListDataset(HierarchicalDataset):
    """Images in a list: CSV, JSON, JSON Lines, Excel or Parquet; see :func:`read_list`.

    Args:
        data_root: The folder that the list's images are relative to.
        ann_file: The list, relative to ``data_root`` or absolute. Its extension gives its format.
        levels: The label columns, the coarsest first, and ``()`` for none; by default all columns of no other use, in
            the order of the file, if all look like levels.
        extra_labels: The columns of labels outside the tree.
        flat_labels: An older name of ``extra_labels``.
        image_column: The column of the images.
        key_column: The column by which people know an image or a product; see ``keys``.
        split_column: The column of the split tags.
        level_separator: What separates the names of a path, where ``levels`` is one column of whole paths.
        path_separator: What separates several places in one cell.
        on_gap: ``'error'``, or ``'cut'``: a path ends at an empty level, also if one below it is not empty.
        delimiter: What separates the fields of CSV; by default it is found out.
        encoding: The encoding of a text file; by default it is found out.
        need_labels: Whether it is an error if no image has a label.
        options: The options of :class:`HierarchicalDataset`.

    Raises:
        ValueError: As :func:`read_list` and :class:`HierarchicalDataset`.
    """

    def __init__(
        self,
        *,
        data_root: str,
        ann_file: str,
        levels: Sequence[str] | str | None = None,
        extra_labels: Sequence[str] | str = (),
        flat_labels: Sequence[str] | str = (),
        image_column: str = "image",
        key_column: str = "",
        split_column: str = "split",
        level_separator: str = "",
        path_separator: str = "",
        on_gap: str = "error",
        delimiter: str | None = None,
        encoding: str | None = None,
        need_labels: bool = True,
        **options: Any,
    ) -> None:
        check_flag(need_labels=need_labels)
        self.ann_file = ann_file
        self._list_options = {
            "levels": levels,
            "extra_labels": extra_labels or flat_labels,
            "image_column": image_column,
            "key_column": key_column,
            "split_column": split_column,
            "level_separator": level_separator,
            "path_separator": path_separator,
            "on_gap": on_gap,
            "delimiter": delimiter,
            "encoding": encoding,
            "need_labels": need_labels,
        }
        super().__init__(data_root=data_root, **options)

    def read(self) -> Annotations:
        """Reads the list."""
        path = as_called(os.path.join(self.data_root, os.path.expanduser(self.ann_file)))
        return read_list(path, self.data_root, **self._list_options)
