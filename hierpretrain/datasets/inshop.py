"""DeepFashion In-Shop: category, product and variation from the official partition file."""

from __future__ import annotations

import os
import re
from typing import Any

from hierpretrain.checks import check_flag, check_one_of
from hierpretrain.datasets.annotations import Annotations
from hierpretrain.datasets.base import HierarchicalDataset
from hierpretrain.datasets.text_files import read_text
from hierpretrain.registry import DATASETS

_LIST = "list_eval_partition.txt"
_HEADER = ["image_name", "item_id", "evaluation_status"]
_STATUS = ("train", "query", "gallery")
_IMAGES = ("img", "img_highres")
_NAME = re.compile(r"img/(WOMEN|MEN)/([^/]+)/(id_\d{8})/(\d{2})_\d_[a-z]+\.jpg")
_REMEDY = (
    "download the 'In-shop Clothes Retrieval Benchmark' of DeepFashion from "
    "https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html: Eval/list_eval_partition.txt, and "
    "Img/img.zip, unpacked in its folder Img to img/WOMEN and img/MEN"
)


def find_inshop(root: str, images: str = "auto") -> tuple[str, str, str]:
    """Finds the partition file and the images of the benchmark, in every layout that public code uses.

    The benchmark's folder is ``root``, or the one folder in it that has a partition file. The partition file is
    ``Eval/list_eval_partition.txt`` or ``list_eval_partition.txt``. The images are in ``Img/img`` or ``img``, or the
    same with ``img_highres``.

    Args:
        root: The benchmark's folder, or the folder that it is in.
        images: ``'img'`` (256 x 256), ``'img_highres'``, or ``'auto'``: the first of the two that is there.

    Returns:
        The path of the partition file, the folder that image names are relative to, and ``'img'`` or ``'img_highres'``.

    Raises:
        ValueError: If the partition file or the images are missing, with the paths that were tried and what to
            download; or if two folders have a partition file.
    """
    check_one_of("images", images, ("auto", *_IMAGES))
    homes = [root] if _partition(root) else [folder for folder in _folders(root) if _partition(folder)]
    if not homes:
        tried = [os.path.join(root, *parts, _LIST) for parts in (("Eval",), (), ("*", "Eval"), ("*",))]
        raise ValueError(f"no In-Shop partition is at {', '.join(tried)}; {_REMEDY}; or correct data_root")
    if len(homes) > 1:
        raise ValueError(f"{root} holds In-Shop more than once: {', '.join(homes)}; give one of them as data_root")
    kinds = _IMAGES if images == "auto" else (images,)
    candidates = [(os.path.join(homes[0], *above), kind) for kind in kinds for above in (("Img",), ())]
    for folder, kind in candidates:
        if os.path.isdir(os.path.join(folder, kind)):
            return _partition(homes[0]), folder, kind
    tried = [os.path.join(folder, kind) for folder, kind in candidates]
    raise ValueError(f"no In-Shop images are at {', '.join(tried)}; {_REMEDY}")


def _folders(root: str) -> list[str]:
    if not os.path.isdir(root):
        return []
    with os.scandir(root) as entries:
        return sorted(entry.path for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _partition(home: str) -> str:
    """Returns the path of the partition file in a folder, an empty string if there is none."""
    return next((path for above in (("Eval",), ()) if os.path.isfile(path := os.path.join(home, *above, _LIST))), "")


def read_inshop(root: str, images: str = "auto", gender_level: bool = False) -> Annotations:
    """Reads DeepFashion In-Shop: splits from the official partition file, labels from the images' paths.

    99 products occur in two categories. Such a product is two nodes of the tree, but one value of the extra label
    ``product_id``, which is what the benchmark counts. Variations are numbered inside each product.

    Args:
        root: The benchmark's folder, or the folder that it is in, see :func:`find_inshop`.
        images: ``'auto'``, ``'img'`` or ``'img_highres'``.
        gender_level: Whether there is a level above the category, WOMEN and MEN. There are 23 categories with it, and
            17, as in the papers, without it.

    Returns:
        Splits ``'train'``, ``'query'`` and ``'gallery'``; levels ``('category', 'product', 'variation')``, with
        ``gender_level`` preceded by ``'gender'``.

    Raises:
        ValueError: With file and line, if the partition file has a wrong header, number of records, status or image
            name, or an item id that differs from the path; and as :func:`find_inshop`.
    """
    partition, image_root, kind = find_inshop(root, images)
    lines = read_text(partition).rstrip().split("\n")
    if not lines[0].strip().isdecimal():
        raise ValueError(f"{partition}:1: the first line must be the number of records; it is {lines[0].strip()!r}")
    if lines[1:2] == [] or lines[1].split() != _HEADER:
        raise ValueError(f"{partition}:2: the second line must be {' '.join(_HEADER)!r}; it is {lines[1:2]}")
    if int(lines[0]) != len(lines) - 2:
        raise ValueError(
            f"{partition}:1: the first line declares {int(lines[0])} records, but {len(lines) - 2} follow; the file is "
            "truncated or edited: download it anew"
        )
    records, products = [], []
    for number, line in enumerate(lines[2:], start=3):
        where = f"{partition}:{number}"
        columns = line.split()
        if len(columns) != len(_HEADER):
            raise ValueError(f"{where}: a record has the columns {' '.join(_HEADER)!r}; this line has {len(columns)}")
        name, item, status = columns
        if not (match := _NAME.fullmatch(name)):
            raise ValueError(
                f"{where}: images are named img/<WOMEN or MEN>/<category>/id_<8 digits>/<2 digits>_<digit>_<view>.jpg, "
                f"not {name!r}"
            )
        gender, category, product, variation = match.groups()
        if item != product:
            raise ValueError(
                f"{where}: the item id {item!r} differs from the path's, {product!r}; download the file anew"
            )
        if status not in _STATUS:
            raise ValueError(f"{where}: the evaluation_status must be train, query or gallery; it is {status!r}")
        label = (gender, category, product, variation)
        records.append((kind + name.removeprefix("img"), label if gender_level else label[1:], status))
        products.append(product)
    levels = ("gender", "category", "product", "variation")
    return Annotations.from_records(
        records,
        levels if gender_level else levels[1:],
        image_root,
        extra_labels={"product_id": products},
        source=f"the partition {partition!r}",
    )


@DATASETS.register_module()
class InShop(HierarchicalDataset):
    """DeepFashion In-Shop Clothes Retrieval: 52,712 images, 7,982 products, see :func:`read_inshop`.

    25,882 images of 3,997 products to train; 14,218 query and 12,612 gallery images of the other 3,985 products. The
    benchmark counts a retrieved image as right if the extra label ``product_id`` is the same. The images are for
    non-commercial research only.

    Args:
        data_root: The benchmark's folder, or the folder that it is in, in any usual layout, see :func:`find_inshop`.
        images: ``'img'`` (256 x 256), ``'img_highres'``, or ``'auto'``: the first of the two that is there.
        gender_level: Whether there is a level above the category, WOMEN and MEN.
        options: The options of :class:`HierarchicalDataset`; the splits are ``'train'``, ``'query'`` and ``'gallery'``.
    """

    def __init__(self, *, data_root: str, images: str = "auto", gender_level: bool = False, **options: Any) -> None:
        check_flag(gender_level=gender_level)
        self.images = images
        self.gender_level = gender_level
        super().__init__(data_root=data_root, **options)

    def read(self) -> Annotations:
        """Reads the partition."""
        return read_inshop(self.data_root, self.images, self.gender_level)
