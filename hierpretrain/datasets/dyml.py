"""DyML (Dynamic Metric Learning): vehicles, animals and products with coarse, middle and fine labels."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from hierpretrain.checks import check_one_of
from hierpretrain.datasets.annotations import Annotations
from hierpretrain.datasets.base import HierarchicalDataset
from hierpretrain.datasets.published import check_any, find_home, report_second_parents
from hierpretrain.datasets.text_files import read_text
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
    """Reads the training set or one test set of a subset of DyML.

    Each has a tree of its own, because the files do not say whether ids of the training set and the test sets mean the
    same, and the test sets of ``'vehicle'`` and ``'animal'`` have labels of one level only.

    Args:
        root: The folder ``dyml_<subset>``, or the folder that it is in.
        subset: ``'vehicle'``, ``'animal'`` or ``'product'``.
        benchmark: ``None`` for the training set; ``'fine'``, ``'middle'`` or ``'coarse'`` for a test set of vehicles or
            animals; ``'all'`` for the test set of products.

    Returns:
        The training set has levels ``('coarse', 'middle', 'fine')`` and the split ``'train'``. The benchmark ``'all'``
        has the same levels and the split ``'test'``, whose images are both query and gallery. Any other benchmark has
        its one level and the splits ``'query'`` and ``'gallery'``.

    Raises:
        ValueError: With file and line, if a list is not as published: another header, or a wrong number of columns;
            if a list is missing; and if the subset does not have the benchmark.
    """
    check_one_of("subset", subset, _SUBSETS)
    benchmarks = (None, "all") if subset == "product" else (None, *reversed(_LEVELS))
    check_one_of(f"the benchmark of DyML-{subset}", benchmark, benchmarks)
    home = find_home(root, [f"dyml_{subset}"], ["train/label.csv"], f"DyML-{subset}", _REMEDY)
    levels = _LEVELS
    if benchmark in (None, "all"):
        folder, tag = ("train", "train") if benchmark is None else (_ALL, "test")
        lists = {tag: (f"{folder}/label.csv", f"{folder}/imgs", _TREE_COLUMNS)}
    else:
        levels = (benchmark,)
        lists = {
            tag: (f"bmk_{benchmark}/{tag}.csv", f"bmk_{benchmark}/{tag}", _TEST_COLUMNS) for tag in ("query", "gallery")
        }
    records = [
        (f"{folder}/{name}", tuple(ids), tag)
        for tag, (file, folder, columns) in lists.items()
        for name, *ids in _records(os.path.join(home, file), columns)
    ]
    files = ", ".join(file for file, _, _ in lists.values())
    annotations = Annotations.from_records(records, levels, home, source=f"DyML-{subset} at {home!r}", lists=files)
    report_second_parents(annotations)
    return annotations


def _records(path: str, columns: tuple[str, ...]) -> list[list[str]]:
    """Returns the file name and the ids of every record, of which there must be one at least."""
    records = list(_read_list(path, columns))
    check_any(records, path)
    return records


def _read_list(path: str, columns: tuple[str, ...]) -> Iterator[list[str]]:
    """Yields the file name and the ids of every record.

    In the published lists, the line break behind the header is missing, so that the first record follows it directly.
    """
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
        options: The options of :class:`HierarchicalDataset`. The split of the training set is ``'train'``; the test
            sets have ``'query'`` and ``'gallery'``, the one of products ``'test'``.
    """

    def __init__(self, *, data_root: str, subset: str, benchmark: str | None = None, **options: Any) -> None:
        self.subset = subset
        self.benchmark = benchmark
        super().__init__(data_root=data_root, **options)

    def read(self) -> Annotations:
        """Reads the lists of the benchmark."""
        return read_dyml(self.data_root, self.subset, self.benchmark)
