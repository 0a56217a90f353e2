"""Data sets of Hugging Face's library ``datasets``, and Parquet files that hold the images themselves."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from hierpretrain._extras import needed
from hierpretrain.checks import check_flag
from hierpretrain.datasets.annotations import NO_SPLIT, Annotations
from hierpretrain.datasets.base import HierarchicalDataset
from hierpretrain.datasets.cells import short_floats
from hierpretrain.datasets.class_paths import ClassPaths
from hierpretrain.datasets.list_columns import as_names, check_texts
from hierpretrain.datasets.lists import annotations_of
from hierpretrain.datasets.safe_paths import check_inside
from hierpretrain.datasets.stored_images import ImageStore, Stored, bytes_of
from hierpretrain.datasets.tables import Table, named_columns
from hierpretrain.datasets.web_dataset import matching_files, pathed
from hierpretrain.registry import DATASETS

_PLAIN = ("string", "large_string", "int", "uint", "float", "decimal", "bool", "date", "time", "duration")
"""How the types of plain columns begin; lists are of the first two."""


@DATASETS.register_module()
class HuggingFaceDataset(HierarchicalDataset):
    """A data set of Hugging Face's library ``datasets``; of Parquet files with images, too.

    The library keeps what it reads in a memory-mapped file, so that millions of images take no memory. It reads what is
    on this machine: nothing is downloaded, and no code of a data set is run. It comes with
    ``pip install 'hierpretrain[datasets]'``.

    Args:
        data_root: A folder that ``save_to_disk`` wrote; or, with ``files``, the folder of these.
        files: Parquet files with a column of images, as a pattern such as ``'train-*.parquet'``, several patterns, or
            split -> patterns. The library writes a copy of them into its cache.
        dataset: In place of ``data_root``, a ``datasets.Dataset``, or a ``DatasetDict`` of several splits.
        image_column: The column of the images: a feature ``Image``, bytes, or objects with ``bytes`` or ``path``.
            Paths are below ``data_root``, and any files' in ``dataset``.
        levels: The columns of the labels, the coarsest first; by default all of the type ``ClassLabel``. A list in
            a cell holds several places, and a list of lists several paths.
        class_paths: From the value of the one column in ``levels`` to its path in the tree: a mapping, or a function of
            it, to a sequence of names or a text with slashes.
        key_column, extra_labels, level_separator, path_separator, on_gap, need_labels: As for
            :class:`~hierpretrain.datasets.ListDataset`. Other columns of texts, numbers and times are metadata.
        cache_dir: Where the copy of ``files`` goes; by default where the library has it.
        options: The options of :class:`HierarchicalDataset`. Splits are those of the library, ``'all'`` if there is
            none.

    Raises:
        ImportError: If ``datasets`` is not installed.
        ValueError: If there is no such data set, a file of it is a link out of ``data_root``, splits have different
            columns, a column is missing, and as :class:`~hierpretrain.datasets.ListDataset`.
    """

    def __init__(
        self,
        *,
        data_root: str | None = None,
        files: str | Sequence[str] | Mapping[str, str | Sequence[str]] | None = None,
        dataset: Any = None,
        image_column: str = "image",
        levels: Sequence[str] | str | None = None,
        class_paths: ClassPaths = None,
        key_column: str = "",
        extra_labels: Sequence[str] | str = (),
        level_separator: str = "",
        path_separator: str = "",
        on_gap: str = "error",
        need_labels: bool = True,
        cache_dir: str | None = None,
        **options: Any,
    ) -> None:
        if (dataset is None) == (data_root is None):
            raise ValueError("give either data_root, a folder, or dataset, an object of the library datasets")
        if files is not None and data_root is None:
            raise ValueError(f"files are below data_root, and dataset has none: leave out dataset or files={files!r}")
        if cache_dir is not None and files is None:
            raise ValueError(f"cache_dir is of files alone, which are not given: leave out cache_dir={cache_dir!r}")
        check_texts(image_column=image_column)
        check_flag(need_labels=need_labels)
        self.files, self.image_column, self.cache_dir = files, image_column, cache_dir
        self.class_paths, self._given = class_paths, dataset
        self._levels = None if levels is None else as_names("levels", levels)
        self._table_options = {
            "key_column": key_column,
            "extra_labels": extra_labels,
            "level_separator": level_separator,
            "path_separator": path_separator,
            "on_gap": on_gap,
            "need_labels": need_labels,
        }
        super().__init__(data_root=data_root or ".", **options)
        self._given = self.class_paths = None  # a worker that is spawned gets none of them

    def read(self) -> Annotations:
        """Reads all columns but the images."""
        library = needed("datasets", "a data set of Hugging Face, or Parquet with images,")
        parts, source = self._parts(library)
        features = next(iter(parts.values())).features
        if self.image_column not in features:
            raise ValueError(
                f"{source} has no column {self.image_column!r}; the columns are {list(features)}: say which holds the "
                "images, image_column='...'"
            )
        whole = library.concatenate_datasets(list(parts.values())) if len(parts) > 1 else next(iter(parts.values()))
        if isinstance(features[self.image_column], library.Image):
            whole = whole.cast_column(self.image_column, library.Image(decode=False))
        splits = [split for split, part in parts.items() for _ in range(len(part))]
        names = [
            name for name, feature in features.items() if name != self.image_column and _is_plain(feature, library)
        ]
        columns = _columns(whole.select_columns(names).with_format(None), features, library, source)
        columns = named_columns(list(columns), list(columns.values()), source)
        levels: Sequence[str] | None = self._levels
        if levels is None:
            levels = [name for name in names if isinstance(_inner(features[name]), library.ClassLabel)] or None
        if self.class_paths is not None:
            columns |= pathed(columns, levels or (), self.class_paths, source)
        split_column = "split" if "split" not in columns else "its split"
        columns = {
            self.image_column: [f"{row:08d}" for row in range(len(whole))],
            split_column: splits,
            **columns,
        }
        root = None if self._given is not None else self.data_root
        store = ImageStore(self._root(whole), _Rows(whole.select_columns([self.image_column]), source, root))
        self.image_stores = [store]
        table = Table(source, columns, lambda row: f"{source}: row {row + 1}")
        return annotations_of(
            table,
            store.root,
            source=source,
            image_column=self.image_column,
            levels=levels,
            split_column=split_column,
            found=True,
            **self._table_options,
        )

    def _root(self, whole: Any) -> str:
        if self._given is not None:
            return f"datasets:{whole._fingerprint}"
        return f"{self.data_root}/{'dataset' if self.files is None else 'parquet'}-{whole._fingerprint}"

    def _parts(self, library: Any) -> tuple[dict[str, Any], str]:
        """Returns the data set as split -> data set, and what to call it."""
        if self._given is not None:
            found, source = self._given, f"the {type(self._given).__name__}"
        elif self.files is not None:
            found, source = self._of_parquet(library), f"the Parquet files in {self.data_root!r}"
        else:
            source = f"the data set {self.data_root!r}"
            if not os.path.isdir(self.data_root):
                raise ValueError(f"there is no folder {self.data_root!r} to read a data set from; correct data_root")
            try:
                found = library.load_from_disk(self.data_root)
            except Exception as error:  # nearly anything at a damaged folder
                raise ValueError(
                    f"{self.data_root} holds no data set as save_to_disk writes it, or a damaged one: {error}; correct "
                    "data_root, or name files='*.parquet'"
                ) from error
        if isinstance(found, dict):
            parts = {str(split): part for split, part in found.items()}
        elif isinstance(found, library.Dataset):
            parts = {str(found.split or NO_SPLIT): found}
        else:
            raise ValueError(
                f"dataset must be a datasets.Dataset or DatasetDict, not {type(found).__name__}; load it without "
                "streaming"
            )
        if not any(map(len, parts.values())):
            raise ValueError(f"{source} has no image; a data set needs at least one")
        if self._given is None and self.files is None:  # the library opens whatever its own files name
            real_root = os.path.realpath(self.data_root)
            for file in (file for part in parts.values() for file in part.cache_files):
                check_inside(file["filename"], real_root)
        _check_alike({split: part.features for split, part in parts.items()}, source)
        return parts, source

    def _of_parquet(self, library: Any) -> dict[str, Any]:
        by_split: dict[str, list[str]] = {}
        for split, name in matching_files(self.data_root, self.files or (), "files"):
            by_split.setdefault(split, []).append(os.path.abspath(os.path.join(self.data_root, name)))
        try:
            return {
                split: library.load_dataset("parquet", data_files=names, split="train", cache_dir=self.cache_dir)
                for split, names in by_split.items()
            }
        except Exception as error:
            reason = error.__cause__ or error
            raise ValueError(
                f"the Parquet files below {self.data_root!r} cannot be read: {reason}; correct files, or write them "
                "anew"
            ) from error


def _check_alike(features: Mapping[str, Mapping[str, Any]], source: str) -> None:
    """Raises unless all splits have the same columns: the library would fill others with nothing."""
    for split, its in features.items():
        for other, theirs in features.items():
            if missing := [name for name in theirs if name not in its]:
                raise ValueError(
                    f"{source}: all splits must have the same columns; {split!r} has no {missing[0]!r}, which "
                    f"{other!r} has: add it, with None where nothing is known, or give the splits apart"
                )
            for name, feature in theirs.items():
                if its[name] != feature:
                    raise ValueError(
                        f"{source}: a column must have one type in all splits; {name!r} is {its[name]} in {split!r} "
                        f"and {feature} in {other!r}: cast it (cast_column), or give the splits apart"
                    )


class _Rows:
    """Gives the images of a table by the numbers of their rows."""

    def __init__(self, table: Any, source: str, root: str | None) -> None:
        self.table, self.source, self.root = table, source, root

    def __call__(self, name: str) -> Stored:
        ((_, value),) = self.table[int(name)].items()
        return bytes_of(value, f"{self.source}: row {int(name) + 1}", self.root)


def _columns(table: Any, features: Mapping[str, Any], library: Any, source: str) -> dict[str, Any]:
    try:
        return {name: _named(table[name][:], features[name], library) for name in table.column_names}
    except Exception as error:  # nearly anything: Arrow trusts the lengths that a file gives
        raise ValueError(f"{source} has damaged columns: {error}; write it anew") from error


def _inner(feature: Any) -> Any:
    """Returns the feature of a list's entries, of a list of lists too; of any other the feature itself."""
    while (inner := getattr(feature, "feature", None)) is not None or isinstance(feature, list):
        feature = feature[0] if isinstance(feature, list) else inner
    return feature


def _is_plain(feature: Any, library: Any) -> bool:
    """Returns whether a column holds texts, numbers or classes, or lists of texts or classes."""
    inner = _inner(feature)
    if isinstance(inner, library.ClassLabel):
        return True
    kinds = _PLAIN if inner is feature else _PLAIN[:2]
    return isinstance(inner, library.Value) and inner.dtype.startswith(kinds)


def _named(column: Sequence[Any], feature: Any, library: Any) -> list[Any]:
    """Returns a column with the names of classes in place of their numbers; -1 is none."""
    inner = _inner(feature)
    if not isinstance(inner, library.ClassLabel):
        return short_floats(column, getattr(feature, "pa_type", None))

    def name(value: Any) -> Any:
        if isinstance(value, list):
            return [name(one) for one in value]
        return None if value is None or value < 0 else inner.names[value]

    return [name(value) for value in column]
