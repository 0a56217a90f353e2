"""DeepFashion In-Shop: category, product and variation from the official partition file."""

from __future__ import annotations

import os
import re
from typing import Any

from hierpretrain.datasets.annotations import Annotations, read_text
from hierpretrain.datasets.base import HierarchicalDataset
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
    """Finds the parts of the benchmark in every layout that public code uses.

    The benchmark's folder is ``root`` or, if that holds none, the one folder in it that does. There, the partition is
    ``Eval/list_eval_partition.txt`` or beside ``Eval``; the images are ``Img/img``, ``img`` or the same of
    ``img_highres``.

    Args:
        root: The benchmark's folder, or the folder that it is in.
        images: ``'img'`` (256 x 256), ``'img_highres'``, or ``'auto'``: the first of the two that is there.

    Returns:
        The path of the partition, the folder that the images' names are relative to, and ``'img'`` or
        ``'img_highres'``.

    Raises:
        ValueError: If a part is missing, with the places looked at and what to download, or if two folders qualify.
    """
    if images not in ("auto", *_IMAGES):
        raise ValueError(f"images must be 'auto', 'img' or 'img_highres'; it is {images!r}")
    homes = [root] if _partition(root) else [folder for folder in _folders(root) if _partition(folder)]
    if not homes:
        places = [os.path.join(root, *parts, _LIST) for parts in (("Eval",), (), ("*", "Eval"), ("*",))]
        raise ValueError(f"no In-Shop partition is at {', '.join(places)}; {_REMEDY}; or correct data_root")
    if len(homes) > 1:
        raise ValueError(f"{root} holds In-Shop more than once: {', '.join(homes)}; give one of them as data_root")
    kinds = _IMAGES if images == "auto" else (images,)
    places = [(os.path.join(homes[0], *above), kind) for kind in kinds for above in (("Img",), ())]
    for folder, kind in places:
        if os.path.isdir(os.path.join(folder, kind)):
            return _partition(homes[0]), folder, kind
    tried = ", ".join(os.path.join(folder, kind) for folder, kind in places)
    raise ValueError(f"no In-Shop images are at {tried}; {_REMEDY}")


def _folders(root: str) -> list[str]:
    if not os.path.isdir(root):
        return []
    with os.scandir(root) as entries:
        return sorted(entry.path for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _partition(home: str) -> str:
    """Returns the partition file of the benchmark's folder; an empty string if there is none."""
    return next((path for above in (("Eval",), ()) if os.path.isfile(path := os.path.join(home, *above, _LIST))), "")


def read_inshop(root: str, images: str = "auto", gender_level: bool = False) -> Annotations:
    """Reads the official partition; labels come from the images' paths.

    A product that occurs in two categories (99 do) is two nodes, one in each; the flat label ``product_id`` remains
    one, as the benchmark counts it. Variation numbers count inside their product alone, so they are nodes below it.

    Args:
        root: The benchmark's folder, or the folder that it is in, see :func:`find_inshop`.
        images: ``'auto'``, ``'img'`` or ``'img_highres'``.
        gender_level: Whether the coarsest level is WOMEN and MEN (23 categories below them) or the category (17,
            whoever wears it, as in the papers).

    Returns:
        Splits ``'train'``, ``'query'`` and ``'gallery'``; levels ``('category', 'product', 'variation')``, after
        ``'gender'`` where that is asked for.

    Raises:
        ValueError: With file and line, if the partition is not as published: a wrong header, number of records, status
            or image name, or an item id that is not the path's; and as :func:`find_inshop`.
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
    names, labels, splits, products = [], [], [], []
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
                f"{where}: the item id {item!r} is not that of the path, {product!r}; download the file anew"
            )
        if status not in _STATUS:
            raise ValueError(f"{where}: the evaluation_status must be train, query or gallery; it is {status!r}")
        names.append(kind + name.removeprefix("img"))
        labels.append((gender, category, product, variation) if gender_level else (category, product, variation))
        splits.append(status)
        products.append(product)
    levels = ("gender", "category", "product", "variation") if gender_level else ("category", "product", "variation")
    return Annotations(
        names, labels, splits, levels, image_root, flat={"product_id": products}, source=f"the partition {partition!r}"
    )


@DATASETS.register_module()
class InShop(HierarchicalDataset):
    """DeepFashion In-Shop Clothes Retrieval: 52,712 images, 7,982 products, see :func:`read_inshop`.

    25,882 images of 3,997 products to train; 14,218 query and 12,612 gallery images of the other 3,985. Retrieval as
    the benchmark counts it compares the flat label ``product_id``. The images are for non-commercial research only.

    Args:
        data_root: The benchmark's folder, or the folder that it is in; every usual layout is found, see
            :func:`find_inshop`.
        images: ``'img'`` (256 x 256), ``'img_highres'``, or ``'auto'``: the first of the two that is there.
        gender_level: Whether WOMEN and MEN are a level above the category.
        options: Those of :class:`HierarchicalDataset`; ``split`` is of ``'train'``, ``'query'`` and ``'gallery'``.
    """

    def __init__(self, *, data_root: str, images: str = "auto", gender_level: bool = False, **options: Any) -> None:
        self.images = images
        self.gender_level = gender_level
        super().__init__(data_root=data_root, **options)

    def read(self) -> Annotations:
        """Reads the partition."""
        return read_inshop(self.data_root, self.images, self.gender_level)
