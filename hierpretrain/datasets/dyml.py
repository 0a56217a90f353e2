"""DyML (Dynamic Metric Learning): vehicles, animals and products with coarse, middle and fine labels."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from hierpretrain.datasets.annotations import Annotations, read_text
from hierpretrain.datasets.base import HierarchicalDataset
from hierpretrain.datasets.published import find_home, report_second_parents
from hierpretrain.registry import DATASETS

_SUBSETS = ("vehicle", "animal", "product")
_LEVELS = ("coarse", "middle", "fine")
_TREE_COLUMNS = ("coarse_id", "middle_id", "fine_id")
_TEST_COLUMNS = ("labels",)
_ALL = "mini-bmk_all_in_one"  # the product subset's one test set
_REMEDY = (
    "get the archive of the subset by the links of https://github.com/SupetZYK/DynamicMetricLearning and unpack it"
)


def read_dyml(root: str, subset: str, benchmark: str | None = None) -> Annotations:
    """Reads one part of DyML: the training set, or one of its test sets.

    Each part has a tree of its own: the files do not say that ids of the training and the test files go together, and
    the test files of ``'vehicle'`` and ``'animal'`` give one level alone.

    Args:
        root: The folder ``dyml_<subset>``, or the folder that it is in.
        subset: ``'vehicle'``, ``'animal'`` or ``'product'``.
        benchmark: ``None`` for the training set; ``'fine'``, ``'middle'`` or ``'coarse'`` for a test set of vehicles or
            animals; ``'all'`` for the test set of products.

    Returns:
        Levels ``('coarse', 'middle', 'fine')`` and split ``'train'``, or ``'test'`` for the benchmark ``'all'``, whose
        images are both query and gallery; for another benchmark its one level and splits ``'query'`` and
        ``'gallery'``.

    Raises:
        ValueError: With file and line, if a list is not as published: another header, or a wrong number of columns;
            if a list is missing; and if the subset does not have the benchmark.
    """
    if subset not in _SUBSETS:
        raise ValueError(f"subset must be one of {_SUBSETS}; it is {subset!r}")
    benchmarks = (None, "all") if subset == "product" else (None, *reversed(_LEVELS))
    if benchmark not in benchmarks:
        raise ValueError(f"the benchmark of DyML-{subset} must be one of {benchmarks}; it is {benchmark!r}")
    home = find_home(root, [f"dyml_{subset}"], ["train/label.csv"], f"DyML-{subset}", _REMEDY)
    images: list[str] = []
    labels: list[tuple[str, ...]] = []
    splits: list[str] = []
    levels = _LEVELS
    if benchmark in (None, "all"):
        folder, tag = ("train", "train") if benchmark is None else (_ALL, "test")
        parts = {tag: (f"{folder}/label.csv", f"{folder}/imgs", _TREE_COLUMNS)}
    else:
        levels = (benchmark,)
        parts = {
            tag: (f"bmk_{benchmark}/{tag}.csv", f"bmk_{benchmark}/{tag}", _TEST_COLUMNS) for tag in ("query", "gallery")
        }
    for tag, (file, folder, columns) in parts.items():
        for name, *ids in _records(os.path.join(home, file), columns):
            images.append(f"{folder}/{name}")
            labels.append(tuple(ids))
            splits.append(tag)
    source = f"DyML-{subset} at {home!r}"
    report_second_parents(labels, levels, source)
    return Annotations(images, labels, splits, levels, home, source=source)


def _records(path: str, columns: tuple[str, ...]) -> Iterator[list[str]]:
    """Yields the file name and the ids of every record; the first one stands in the header's line, glued to it."""
    text = read_text(path)
    header = re.compile(r"\s*,\s*".join((r"\s*fname", *columns)) + r"\s*")
    match = header.match(text)
    if not match:
        first = text.partition("\n")[0]
        raise ValueError(
            f"{path}:1: the list must begin with {', '.join(('fname', *columns))!r}; it begins with {first[:60]!r}; "
            "download it anew"
        )
    first_line = text.count("\n", 0, match.end()) + 1  # 1 as published; 2 where the line end was put in
    for number, line in enumerate(text[match.end() :].split("\n"), start=first_line):
        if not line.strip():
            continue
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != 1 + len(columns) or not all(field.isdecimal() for field in fields[1:]):
            raise ValueError(
                f"{path}:{number}: a record is {', '.join(('<file>', *(f'<{name}>' for name in columns)))!r} with "
                f"whole numbers, not {line.strip()!r}; download the list anew"
            )
        yield fields


@DATASETS.register_module()
class DyML(HierarchicalDataset):
    """DyML-Vehicle, DyML-Animal or DyML-Product: the training set or one test set, see :func:`read_dyml`.

    A comment in the authors' code says that the stored files have red and blue swapped. Pixels are given as they are
    stored, in training and in test alike.

    Args:
        data_root: The folder ``dyml_<subset>``, or the folder that it is in.
        subset: ``'vehicle'``, ``'animal'`` or ``'product'``.
        benchmark: ``None`` for the training set; ``'fine'``, ``'middle'`` or ``'coarse'`` for a test set of vehicles or
            animals; ``'all'`` for the test set of products.
        options: Those of :class:`HierarchicalDataset`; ``split`` is of ``'train'``; or of ``'query'`` and
            ``'gallery'``; or of ``'test'``, as the benchmark has them.
    """

    def __init__(self, *, data_root: str, subset: str, benchmark: str | None = None, **options: Any) -> None:
        self.subset = subset
        self.benchmark = benchmark
        super().__init__(data_root=data_root, **options)

    def read(self) -> Annotations:
        """Reads the lists of the benchmark."""
        return read_dyml(self.data_root, self.subset, self.benchmark)
