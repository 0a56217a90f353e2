"""iNaturalist 2017, 2018, 2019 and 2021 from the official annotation files, with the papers' levels and splits."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from hierpretrain.checks import check_from_0, check_number, check_one_of
from hierpretrain.datasets.annotations import Annotations
from hierpretrain.datasets.base import HierarchicalDataset
from hierpretrain.datasets.published import find_home, find_images
from hierpretrain.datasets.safe_paths import unsafe_reason
from hierpretrain.datasets.text_files import numbered_lines, read_json_file
from hierpretrain.registry import DATASETS

_FILES = {  # year -> training and validation annotations
    "2017": ("train2017.json", "val2017.json"),
    "2018": ("train2018.json", "val2018.json"),
    "2019": ("train2019.json", "val2019.json"),
    "2021": ("train.json", "val.json"),
    "2021_mini": ("train_mini.json", "val.json"),
}
_OBFUSCATED = ("2018", "2019")  # their taxa have made-up names; categories.json has the real ones
_RANKS = ("kingdom", "phylum", "class", "order", "family", "genus")
_LEVELS = {"full": (*_RANKS, "species"), "super": ("supercategory", "species"), "genus": ("genus", "species")}
_SPLITS = ("retrieval", "official", "dml")
_DML = {"train": "Inaturalist_train_set1.txt", "test": "Inaturalist_test_set1.txt"}
_DML_FOLDERS = ("Inat_dataset_splits", "2018/Inat_dataset_splits")
_KINDS = {int: "an integer", str: "a string"}
_ANEW = "it is damaged or not the official one: download it anew"


def read_inaturalist(
    root: str,
    year: str = "2017",
    levels: str | Sequence[str] = "super",
    splits: str = "retrieval",
    query_share: float = 0.2,
    query_seed: int = 0,
    query_file: str | None = None,
) -> Annotations:
    """Reads the training and validation annotations of a year; the test sets have no labels.

    The annotation files are in ``root`` or in one of its folders ``annotations``, ``train_val<year>``, ``<year>`` or
    ``<year>/annotations``. Images are looked for in the same folder, then in the folder above, as the archives unpack.
    The annotation files of 2018 and 2019 have made-up names; the real ones are taken from ``categories.json`` (of
    ``categories.json.tar.gz``) if it is in the same folder.

    A species is named by its category id and its name, as ``'00042 Lumbricus terrestris'``; every category is a node. A
    taxon is told from others of the same name by all ranks above it: where ``levels`` leave out the ranks that differ,
    they are added to its name.

    Args:
        root: The folder of the year.
        year: ``'2017'``, ``'2018'``, ``'2019'``, ``'2021'`` or ``'2021_mini'``.
        levels: The levels of the tree. ``'super'``: super-category and species, as in paper A (2017, 2018, 2021).
            ``'full'``: kingdom to genus, and species (2018, 2019, 2021). ``'genus'``: genus and species; for 2017, the
            genus is the first word of the Latin name. Or a list of fields of the files' categories, the coarsest first,
            with ``'species'`` last.
        splits: ``'retrieval'``: ``'train'``, and the validation images as ``'query'`` and ``'gallery'``.
            ``'official'``: ``'train'`` and ``'val'``. ``'dml'``: ``'train'`` and ``'test'`` of different species, by
            the two lists in the folder ``Inat_dataset_splits`` (2018 only; Brown et al., "Smooth-AP", ECCV 2020).
        query_share: The fraction of each species' validation images that are drawn as queries, rounded down; above 0
            and below 1.
        query_seed: The seed of this draw, from 0.
        query_file: A list of the validation images that are queries, one ``file_name`` a line, instead of a draw;
            relative to ``root`` or absolute.

    Returns:
        The images of the training file, then the images of the validation file, in the files' order; with ``'dml'``, in
        the lists' order.

        Paper A has 17K query and 78K gallery images, "20 %" of the validation images, and gives neither a list nor a
        seed. 20 % of all 95,986 images would be 19,197. 20 % of each species' images, rounded down, are about 17,200.
        Queries are therefore drawn species by species here. This is a draw of the paper's kind, not the paper's own.

    Raises:
        ValueError: With file and record, if a file is truncated or lacks a key, if ids repeat, an image has no
            annotation or several, or a category is unknown; if files or lists are missing or contradict each other; if
            an option does not fit the year; and as :class:`Annotations`.
    """
    check_one_of("year", year, _FILES)
    names = _level_names(levels)
    if splits not in _SPLITS or (splits == "dml" and year != "2018"):
        raise ValueError(f"splits must be 'retrieval', 'official' or, for 2018, 'dml'; it is {splits!r} for {year}")
    check_number(query_share=query_share)
    check_from_0(query_seed=query_seed)
    if not 0 < query_share < 1:
        raise ValueError(f"query_share must be between 0 and 1; it is {query_share}")
    if query_file is not None and splits != "retrieval":
        raise ValueError(f"query_file is for splits='retrieval' alone; splits are {splits!r}: leave it out")
    title = f"iNaturalist {year}"
    remedy = "download the annotations from https://github.com/visipedia/inat_comp and unpack them"
    folders = ["annotations", f"train_val{year}", year, os.path.join(year, "annotations")]
    home = find_home(root, folders, _FILES[year], title, remedy)
    train_path, val_path = (os.path.join(home, name) for name in _FILES[year])
    train, val = _read(train_path, year), _read(val_path, year)
    for category in train.taxa.keys() & val.taxa.keys():
        if train.taxa[category] != val.taxa[category]:
            raise ValueError(
                f"category {category} is {train.taxa[category]} in {train_path} but {val.taxa[category]} in "
                f"{val_path}; the files are of different releases: download both anew"
            )
    label_of = _labels({**train.taxa, **val.taxa}, names, title)
    images = train.images + val.images
    labels = [label_of[category] for category in train.categories + val.categories]
    if splits == "dml":
        images, labels, tags = _dml(root, dict(zip(images, labels, strict=True)))
    else:
        tags = ["train"] * len(train.images)
        if splits == "official":
            tags += ["val"] * len(val.images)
        elif query_file is not None:
            tags += _listed_queries(os.path.join(root, os.path.expanduser(query_file)), val.images, val_path)
        else:
            tags += _drawn_queries(val.images, val.categories, query_share, query_seed)
    above = root if home == root else os.path.dirname(home)  # never above root
    image_root = find_images((home, above, root), images)
    try:
        return Annotations(images, labels, tags, names, image_root, source=f"{title} ({train_path}, {val_path})")
    except ValueError as error:
        # Only now is the wrong record looked for, because there are 675,000 and nearly always all are right.
        if reason := _wrong_file_name({train_path: train.images, val_path: val.images}):
            raise ValueError(f"{reason}; {_ANEW}") from error
        raise


def _level_names(levels: str | Sequence[str]) -> tuple[str, ...]:
    if isinstance(levels, str) and levels in _LEVELS:
        return _LEVELS[levels]
    names = (levels,) if isinstance(levels, str) else tuple(levels)
    order = ("supercategory", *_RANKS, "species")
    if names[-1:] != ("species",) or names != tuple(name for name in order if name in names):
        raise ValueError(
            f"levels must be {', '.join(map(repr, _LEVELS))} or some of {order} in this order, 'species' last; they "
            f"are {levels!r}"
        )
    return names


# ---------------------------------------------------------------- the annotation files
class _File(NamedTuple):
    images: list[str]
    categories: list[int]  # of the images
    taxa: dict[int, dict[str, str]]  # category id -> field -> name


def _read(path: str, year: str) -> _File:
    """Reads an annotation file."""
    data = read_json_file(path, _ANEW)
    if not isinstance(data, dict):
        raise ValueError(f"{path}: the file must be a JSON object; it is a {type(data).__name__}; {_ANEW}")
    missing = [key for key in ("images", "annotations", "categories") if not isinstance(data.get(key), list)]
    if missing:
        raise ValueError(
            f"{path}: there is no list {missing[0]!r}; the training and validation files have images, annotations and "
            "categories, the test files have no labels: use the right file, or download it anew"
        )
    taxa = _taxa(data["categories"], f"{path}: categories")
    real = os.path.join(os.path.dirname(path), "categories.json")
    if year in _OBFUSCATED and os.path.isfile(real):
        taxa = _real_taxa(real, taxa, path)
    if not data["images"]:
        raise ValueError(f"{path}: the list 'images' is empty; {_ANEW}")
    ids = _column(data["images"], "id", int, f"{path}: images")
    images = _column(data["images"], "file_name", str, f"{path}: images")
    _refuse_repeated(ids, f"{path}: images", "has the id {}, as an earlier one; every image must have its own")
    annotated = _column(data["annotations"], "image_id", int, f"{path}: annotations")
    categories = _column(data["annotations"], "category_id", int, f"{path}: annotations")
    _refuse_repeated(annotated, f"{path}: annotations", "is a further one of the image {}; every image must have one")
    known = set(ids)
    for number, (image, category) in enumerate(zip(annotated, categories, strict=True), start=1):
        if image not in known or category not in taxa:
            name, value = ("image_id", image) if image not in known else ("category_id", category)
            raise ValueError(f"{path}: annotations: record {number} has the unknown {name} {value}; {_ANEW}")
    category_of = dict(zip(annotated, categories, strict=True))
    if len(category_of) < len(ids):
        number, image = next((i, image) for i, image in enumerate(ids, start=1) if image not in category_of)
        raise ValueError(
            f"{path}: images: {len(ids) - len(category_of)} of {len(ids)} have no annotation, record {number} (id "
            f"{image}) the first; {_ANEW}"
        )
    return _File(images, [category_of[image] for image in ids], taxa)


def _column(records: list[Any], field: str, kind: type, where: str) -> list[Any]:
    """Returns a field of all records, and raises unless all its values are of a type.

    Good records are handled by built-in containers at once; only wrong ones are looked at one by one.
    """
    try:
        column = [record[field] for record in records]
    except (KeyError, TypeError, IndexError):
        column = []
    if len(column) == len(records) and set(map(type, column)) <= {kind}:
        return column
    for number, record in enumerate(records, start=1):
        value = record.get(field) if isinstance(record, dict) else None
        if type(value) is not kind:
            raise ValueError(
                f"{where}: record {number} must be an object with {field!r}, {_KINDS[kind]}; it is {record!r:.80}; "
                f"{_ANEW}"
            )
    return column


def _refuse_repeated(values: list[int], where: str, rule: str) -> None:
    if len(set(values)) == len(values):
        return
    seen: set[int] = set()
    for number, value in enumerate(values, start=1):
        if value in seen:
            raise ValueError(f"{where}: record {number} {rule.format(value)}; {_ANEW}")
        seen.add(value)


def _wrong_file_name(images: dict[str, list[str]]) -> str:
    """Returns what is wrong with the first file_name that leaves the root or repeats; an empty string if none does."""
    seen: dict[str, str] = {}
    for path, names in images.items():
        for number, name in enumerate(names, start=1):
            where = f"{path}: images: record {number}"
            if reason := unsafe_reason(name):
                return f"{where} has the file_name {name!r}, which {reason}"
            if seen.setdefault(name, where) != where:
                return f"{where} has the file_name {name!r} of {seen[name]}; every image must have its own"
    return ""


def _taxa(records: list[Any], where: str) -> dict[int, dict[str, str]]:
    """Returns category id -> field -> name: super-category and ranks, as far as the file has them, and ``name``."""
    ids = _column(records, "id", int, where)
    _refuse_repeated(ids, where, "has the id {}, as an earlier one; every category must have its own")
    fields = [field for field in ("supercategory", *_RANKS, "name") if field == "name" or field in (records or [{}])[0]]
    columns = [_column(records, field, str, where) for field in fields]
    taxa: dict[int, dict[str, str]] = {}
    for number, (category, *names) in enumerate(zip(ids, *columns, strict=True), start=1):
        if not all(name.strip() for name in names):
            raise ValueError(f"{where}: record {number} (id {category}) has an empty name among {fields}; {_ANEW}")
        taxa[category] = {field: name.strip() for field, name in zip(fields, names, strict=True)}
    return taxa


def _real_taxa(path: str, taxa: dict[int, dict[str, str]], annotations: str) -> dict[int, dict[str, str]]:
    """Reads the real names of the categories of an annotation file that has made-up ones."""
    records = read_json_file(path, "unpack categories.json.tar.gz anew")
    records = records.get("categories") if isinstance(records, dict) else records
    if not isinstance(records, list):
        raise ValueError(f"{path}: the file must be a list of categories; unpack categories.json.tar.gz anew")
    real = _taxa(records, path)
    if real.keys() != taxa.keys():
        raise ValueError(
            f"{path} has {len(real)} categories, {len(real.keys() & taxa.keys())} of the {len(taxa)} of {annotations}; "
            "it must have the same: take the categories.json.tar.gz of the same year, or remove the file to go on "
            "with made-up names"
        )
    return real


def _labels(taxa: dict[int, dict[str, str]], levels: Sequence[str], title: str) -> dict[int, tuple[str, ...]]:
    """Returns the label path of every category."""
    # For each category and level: the name there, and all ranks above it.
    chains = {category: _chain(category, names, levels, title) for category, names in taxa.items()}
    meanings: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for chain in chains.values():
        for level in range(1, len(levels)):
            meanings.setdefault(tuple(name for name, _ in chain[:level]), set()).add(chain[level - 1][1])
    # A name that stands for several taxa below the same path gets the ranks above it added.
    labels = {}
    for category, chain in chains.items():
        path = []
        for level, (name, above) in enumerate(chain, start=1):
            several = len(meanings.get(tuple(name for name, _ in chain[:level]), ())) > 1
            path.append(f"{name} ({' '.join(above)})" if several else name)
        labels[category] = (*path, f"{category:05d} {taxa[category]['name']}")
    return labels


def _chain(
    category: int, names: dict[str, str], levels: Sequence[str], title: str
) -> list[tuple[str, tuple[str, ...]]]:
    """Returns for each level above the species the category's name there, and the names of all ranks above it."""
    ranks = [rank for rank in _RANKS if rank in names]
    chain = []
    for level in levels[:-1]:
        if level in names:
            above = ranks[: ranks.index(level)] if level in ranks else []
            chain.append((names[level], tuple(names[rank] for rank in above)))
        elif level == "genus" and not names["name"].isdecimal():
            chain.append((names["name"].split()[0], (names["supercategory"],) if "supercategory" in names else ()))
        else:
            raise ValueError(
                f"the categories of {title} have no field {level!r}: category {category} is {names}; choose "
                "other levels"
            )
    return chain


# ---------------------------------------------------------------- splits
def _drawn_queries(images: list[str], categories: list[int], fraction: float, seed: int) -> list[str]:
    """Draws a fraction of every category's images, rounded down, as queries; the order of the images has no effect."""
    order = np.array(sorted(range(len(images)), key=images.__getitem__), dtype=np.int64)
    _, group, sizes = np.unique(np.array(categories)[order], return_inverse=True, return_counts=True)
    shuffled = np.lexsort((np.random.default_rng(seed).random(len(images)), group))  # group by group
    rank = np.arange(len(images)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    chosen = rank < np.repeat(np.floor(fraction * sizes + 1e-9), sizes)  # 0.29 * 100 is a little below 29
    tags = ["gallery"] * len(images)
    for i in order[shuffled[chosen]].tolist():
        tags[i] = "query"
    return tags


def _listed_queries(path: str, images: list[str], annotations: str) -> list[str]:
    tags = dict.fromkeys(images, "gallery")
    for where, name in numbered_lines(path):
        if name not in tags:
            raise ValueError(f"{where}: {name!r} is no image of {annotations}; list validation images by file_name")
        if tags[name] == "query":
            raise ValueError(f"{where}: {name!r} is listed twice; list every query once")
        tags[name] = "query"
    return [tags[image] for image in images]


def _dml(root: str, label_of: dict[str, tuple[str, ...]]) -> tuple[list[str], list[tuple[str, ...]], list[str]]:
    """Returns the images, labels and splits of the two lists of Smooth-AP."""
    remedy = "get Inat_dataset_splits by the link of https://github.com/Andrew-Brown1/Smooth_AP and unpack it there"
    home = find_home(root, _DML_FOLDERS, tuple(_DML.values()), "split for metric learning", remedy)
    images: list[str] = []
    tags: list[str] = []
    listed: set[str] = set()
    split_of: dict[tuple[str, ...], str] = {}
    for tag, name in _DML.items():
        path = os.path.join(home, name)
        for where, image in numbered_lines(path):
            if image not in label_of:
                raise ValueError(f"{where}: {image!r} is no image of train2018.json or val2018.json; {_ANEW}")
            if split_of.setdefault(label_of[image], tag) != tag:
                raise ValueError(
                    f"{where}: the species {label_of[image][-1]!r} of {image!r} is in {_DML['train']} too; the lists "
                    "must share none: download them anew"
                )
            if image in listed:
                raise ValueError(f"{where}: {image!r} is listed twice; list every image once")
            listed.add(image)
            images.append(image)
            tags.append(tag)
    return images, [label_of[image] for image in images], tags


@DATASETS.register_module()
class INaturalist(HierarchicalDataset):
    """iNaturalist of one year, see :func:`read_inaturalist`; paper A uses 2017 with its super-categories.

    2017 has 579,184 training and 95,986 validation images of 5,089 categories, most of which are species.

    Args:
        data_root: The folder of the year.
        year: ``'2017'``, ``'2018'``, ``'2019'``, ``'2021'`` or ``'2021_mini'``.
        levels: The levels of the tree. ``'super'``: super-category and species. ``'full'``: kingdom to genus, and
            species. ``'genus'``: genus and species. Or a list of fields of the files' categories, ``'species'`` last.
        splits: ``'retrieval'``: ``'train'``, ``'query'`` and ``'gallery'``. ``'official'``: ``'train'`` and ``'val'``.
            ``'dml'``: ``'train'`` and ``'test'``, of different species (2018 only).
        query_share: The fraction of each species' validation images that are drawn as queries, above 0 and below 1.
        query_seed: The seed of this draw, from 0.
        query_file: A list of the queries, one ``file_name`` a line, instead of a draw.
        options: The options of :class:`HierarchicalDataset`; the splits are the ones that ``splits`` gives.
    """

    def __init__(
        self,
        *,
        data_root: str,
        year: str = "2017",
        levels: str | Sequence[str] = "super",
        splits: str = "retrieval",
        query_share: float = 0.2,
        query_seed: int = 0,
        query_file: str | None = None,
        **options: Any,
    ) -> None:
        self.year = year
        self._read_options = levels, splits, query_share, query_seed, query_file
        super().__init__(data_root=data_root, **options)

    def read(self) -> Annotations:
        """Reads the annotation files."""
        return read_inaturalist(self.data_root, self.year, *self._read_options)
