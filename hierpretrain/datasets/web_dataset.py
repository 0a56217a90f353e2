"""Shards as WebDataset has them: tar files in which the files of one name are a sample."""

from __future__ import annotations

import glob
import os
import posixpath
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hierpretrain._json import parse_json
from hierpretrain.checks import check_flag
from hierpretrain.datasets.annotations import NO_SPLIT, Annotations
from hierpretrain.datasets.base import HierarchicalDataset
from hierpretrain.datasets.class_paths import ClassPaths, class_path, warn_of_merged
from hierpretrain.datasets.encodings import decode
from hierpretrain.datasets.image_files import ENDINGS, is_clutter
from hierpretrain.datasets.list_columns import as_names
from hierpretrain.datasets.lists import annotations_of
from hierpretrain.datasets.messages import some
from hierpretrain.datasets.safe_paths import check_inside
from hierpretrain.datasets.stored_images import ImageStore
from hierpretrain.datasets.tables import Table, column_name, table_of_records
from hierpretrain.registry import DATASETS

_LARGEST = 1 << 24  # bytes of what describes one image
_BLOCK = 512  # bytes of tar
_TEXTS = (".json", ".txt", ".cls")
_OURS = ("image", "split", "folder")  # columns that do not come from a text
_REMEDY = "make the shard anew"


@DATASETS.register_module()
class WebDataset(HierarchicalDataset):
    """Images in shards as WebDataset has them, read where they are: plain tar files, nothing of which is unpacked.

    The files of a shard that are called the same up to the first dot are one sample: an image, and beside it texts,
    which are columns. The fields of ``.json`` are columns of their own names; ``.cls`` and ``.txt`` are the columns
    ``cls`` and ``txt``, and the name of the sample is ``key``. Anything else, pickled files above all, is not looked
    at.

    Args:
        data_root: The folder of the shards.
        shards: A pattern such as ``'train-*.tar'``, relative to ``data_root``, several of them, or split -> patterns.
        levels: The columns of the labels, the coarsest first. By default the folders of the samples' names are the
            labels, as in a folder tree.
        class_paths: From the value of the one column in ``levels`` to its path in the tree: a mapping, or a function of
            it, to a sequence of names or a text with slashes. The numbers of ``.cls`` are texts: ``'3'``.
        key_column, extra_labels, level_separator, path_separator, on_gap, need_labels: As for
            :class:`~hierpretrain.datasets.ListDataset`.
        options: The options of :class:`HierarchicalDataset`.

    Raises:
        ValueError: With the shard, if none is found, one is a link out of ``data_root``, damaged, compressed or has a
            sample of two images or none, and as :class:`~hierpretrain.datasets.ListDataset`.
    """

    def __init__(
        self,
        *,
        data_root: str,
        shards: str | Sequence[str] | Mapping[str, str | Sequence[str]] = "*.tar",
        levels: Sequence[str] | str | None = None,
        class_paths: ClassPaths = None,
        key_column: str = "",
        extra_labels: Sequence[str] | str = (),
        level_separator: str = "",
        path_separator: str = "",
        on_gap: str = "error",
        need_labels: bool = True,
        **options: Any,
    ) -> None:
        check_flag(need_labels=need_labels)
        self.shards, self.class_paths = shards, class_paths
        self.image_stores = []
        self._table_options = {
            "levels": levels,
            "key_column": key_column,
            "extra_labels": extra_labels,
            "level_separator": level_separator,
            "path_separator": path_separator,
            "on_gap": on_gap,
            "need_labels": need_labels,
        }
        super().__init__(data_root=data_root, **options)
        self.class_paths = None  # which may be a function that no worker could be given

    def read(self) -> Annotations:
        """Reads the names and the texts of all shards."""
        rows: list[dict[str, Any]] = []
        where: list[str] = []
        names: list[str] = []
        for split, shard in matching_files(self.data_root, self.shards, "shards"):
            names.append(shard)
            path = os.path.join(self.data_root, shard)
            places: dict[str, tuple[int, int]] = {}
            for sample in _samples(path, places):
                rows.append({**sample, "image": f"{shard}/{sample['image']}", "split": split})
                where.append(f"{path}: sample {sample['key']!r}")
            self.image_stores.append(ImageStore(path, _Shard(path, places)))
        source = f"the shards in {self.data_root!r}, {some(names)}"
        return annotations_of_rows(
            rows, where, self.data_root, source=source, class_paths=self.class_paths, **self._table_options
        )


def annotations_of_rows(
    rows: Sequence[Mapping[str, Any]],
    where: Sequence[str],
    root: str,
    *,
    source: str,
    class_paths: ClassPaths,
    levels: Sequence[str] | str | None,
    **options: Any,
) -> Annotations:
    """Returns the annotations of rows with ``image``, ``split``, ``folder`` (where ``levels`` are None) and more."""
    columns = dict(table_of_records(source, rows, where.__getitem__).columns)
    folders = columns.pop("folder", [])
    if levels is None:
        columns["folder"], levels = folders, ["folder"]
    else:
        levels = as_names("levels", levels)
    if class_paths is not None:
        columns |= pathed(columns, levels, class_paths, source)
    table = Table(source, columns, where.__getitem__)
    return annotations_of(table, root, source=source, levels=levels, found=True, **options)


def pathed(
    columns: Mapping[str, Sequence[Any]], levels: Sequence[str], class_paths: ClassPaths, source: str
) -> dict[str, list[Any]]:
    """Returns the one label column with the path of each class in place of its name."""
    there = {column_name(name): name for name in columns}
    level = there.get(column_name(levels[0])) if len(levels) == 1 else None
    if level is None:
        raise ValueError(
            f"class_paths are for one column of classes; levels are {list(levels)} and the columns of {source} "
            f"{list(columns)}: name one"
        )
    known: dict[Any, Any] = {None: None, "": None}
    column = []
    for value in columns[level]:
        key = str(value) if value is not None else None
        if key not in known:
            known[key] = [list(class_path(key, class_paths, source))]
        column.append(known[key])
    warn_of_merged({key: tuple(paths[0]) for key, paths in known.items() if paths is not None}, source)
    return {level: column}


def matching_files(
    root: str, patterns: str | Sequence[str] | Mapping[str, str | Sequence[str]], option: str
) -> Iterator[tuple[str, str]]:
    """Yields (split, path below the root) of the files that patterns match, in the order of their names.

    Raises:
        ValueError: If a pattern matches none, leaves the root, matches a link out of it, or a file is of two splits.
    """
    by_split = patterns if isinstance(patterns, Mapping) else {NO_SPLIT: patterns}
    seen: dict[str, str] = {}
    real_root = os.path.realpath(root)
    for split, chosen in by_split.items():
        for pattern in [chosen] if isinstance(chosen, str) else chosen:
            if os.path.isabs(pattern) or ".." in pattern.split("/"):
                raise ValueError(f"{option} must be below data_root, {root}; {pattern!r} is not")
            found = sorted(glob.glob(pattern, root_dir=root, recursive=True))
            if not found:
                raise ValueError(f"no file matches {pattern!r} below {root!r}; correct {option} or data_root")
            for name in found:
                check_inside(os.path.join(root, name), real_root)
                if seen.setdefault(name, split) != split:
                    raise ValueError(f"{option} have {name!r} in two splits, {seen[name]!r} and {split!r}")
    yield from ((split, name.replace(os.sep, "/")) for name, split in seen.items())


class _Shard:
    """Gives the images of a shard by their names."""

    def __init__(self, path: str, places: Mapping[str, tuple[int, int]]) -> None:
        self.path, self.places = path, places

    def __call__(self, name: str) -> bytes:
        start, size = self.places[name]
        with open(self.path, "rb") as file:
            file.seek(start)
            return file.read(size)


def _samples(path: str, places: dict[str, tuple[int, int]]) -> Iterator[dict[str, Any]]:
    """Yields the samples of a shard as rows, and notes where the images are: name -> first byte and size."""
    sample: dict[str, Any] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                folder, name = posixpath.split(member.name)
                parts = [part for part in member.name.split("/") if part not in ("", ".")]
                if not member.isreg() or any(part != ".." and is_clutter(part) for part in parts):
                    continue
                stem, _, kind = name.partition(".")
                key, ending = posixpath.join(folder, stem), "." + kind.rpartition(".")[2].lower()
                if sample and sample["key"] != key:
                    yield _checked(sample, path)
                    sample = {}
                sample = sample or {"key": key, "folder": [parts[:-1]] if parts[1:] else []}
                if ending in ENDINGS:
                    if "image" in sample:
                        raise ValueError(f"{path}: the sample {key!r} has two images, {name!r} the second; {_REMEDY}")
                    sample["image"] = member.name.removeprefix("./")
                    if sample["image"] in places:
                        raise ValueError(
                            f"{path}: the image {sample['image']!r} is there twice, and a name stands for one alone; "
                            f"{_REMEDY}"
                        )
                    places[sample["image"]] = (member.offset_data, member.size)
                elif ending in _TEXTS:
                    _add_text(sample, ending, tar, member, f"{path}: {member.name}")
            _check_end(path)
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(
            f"the shard {path} is damaged, compressed or no tar file: {error}; unpack it if it is a .tar.gz, or get it "
            "anew"
        ) from error
    except OSError as error:
        raise ValueError(f"cannot open the shard {path}: {error.strerror or error}; correct its path") from error
    if sample:
        yield _checked(sample, path)


def _check_end(path: str) -> None:
    """Raises unless a tar file ends as such files do; one that is cut off between two members seems whole else."""
    with open(path, "rb") as file:
        file.seek(-min(_BLOCK, os.path.getsize(path)), os.SEEK_END)
        if any(file.read()):
            raise tarfile.ReadError("it is cut off")


def _checked(sample: dict[str, Any], path: str) -> dict[str, Any]:
    if "image" not in sample:
        raise ValueError(
            f"{path}: the sample {sample['key']!r} has no image; images end in {some(ENDINGS)}, and the files of a "
            f"sample must stand together: {_REMEDY}"
        )
    return sample


def _add_text(sample: dict[str, Any], ending: str, tar: tarfile.TarFile, member: tarfile.TarInfo, where: str) -> None:
    if member.size > _LARGEST:
        raise ValueError(f"{where}: {member.size} bytes are too many for what describes one image; {_REMEDY}")
    file = tar.extractfile(member)
    text = decode(file.read() if file else b"", where, "utf-8")
    if ending != ".json":
        _add_fields(sample, {ending[1:]: text.strip()}, where)
        return
    fields = parse_json(text, where, _REMEDY, any_number=True)
    if not isinstance(fields, dict):
        fields = {"json": fields}
    for name, value in fields.items():
        column = column_name(name)
        if column != "key":  # which is the name of the sample
            _add_fields(sample, {f"json_{column}" if column in _OURS else name: value}, where)


def _add_fields(sample: dict[str, Any], fields: Mapping[str, Any], where: str) -> None:
    if twice := fields.keys() & sample.keys():
        raise ValueError(f"{where}: the sample has {min(twice)!r} already; {_REMEDY}")
    sample.update(fields)
