"""Stanford Online Products: twelve kinds of product and 22,634 products from the official lists."""

from __future__ import annotations

import os

from hierpretrain.datasets.annotations import Annotations
from hierpretrain.datasets.base import HierarchicalDataset
from hierpretrain.datasets.published import check_any, find_home, find_images, report_second_parents
from hierpretrain.datasets.text_files import numbered_lines
from hierpretrain.registry import DATASETS

_HEADER = ["image_id", "class_id", "super_class_id", "path"]
_LISTS = {"train": "Ebay_train.txt", "test": "Ebay_test.txt"}
_FOLDERS = ("Stanford_Online_Products", "online_products", "sop")
_REMEDY = "download Stanford_Online_Products.zip from https://cvgl.stanford.edu/projects/lifted_struct/ and unpack it"


def read_sop(root: str) -> Annotations:
    """Reads Stanford Online Products from its two official lists.

    The lists are looked for beside the folders of images, and in ``Info_Files``, with the folders of images in
    ``images``; public code uses both layouts.

    Args:
        root: ``Stanford_Online_Products``, or the folder that it is in.

    Returns:
        Splits ``'train'`` and ``'test'``; the test images are both query and gallery. Levels ``('super', 'product')``:
        a kind of product is named by its folder without ``_final``, a product by its ``class_id``.

    Raises:
        ValueError: With file and line, if a list is not as published: no header, too few columns, an id that is no
            number, a ``super_class_id`` of two folders, or a product in both lists; and if a list is missing.
    """
    homes = ("", *_FOLDERS)
    folders = [*_FOLDERS, *(os.path.join(home, "Info_Files") for home in homes)]
    lists = find_home(root, folders, tuple(_LISTS.values()), "Stanford Online Products", _REMEDY)
    home = os.path.dirname(lists) if os.path.basename(lists) == "Info_Files" else lists
    records = []
    supers: dict[str, tuple[str, str]] = {}
    split_of: dict[str, str] = {}
    for split, name in _LISTS.items():
        path = os.path.join(lists, name)
        lines = numbered_lines(path)
        _, header = next(lines, ("", ""))
        if header.split() != _HEADER:
            raise ValueError(f"{path}:1: the first line must be {' '.join(_HEADER)!r}; it is {header!r}")
        before = len(records)
        for where, line in lines:
            fields = line.split()
            if len(fields) != len(_HEADER):
                raise ValueError(f"{where}: a record is {' '.join(_HEADER)!r}, not {line!r}; download the file anew")
            image_id, product, super_id, image = fields
            if not (image_id.isdecimal() and product.isdecimal() and super_id.isdecimal()):
                raise ValueError(
                    f"{where}: image_id, class_id and super_class_id must be numbers; they are {image_id!r}, "
                    f"{product!r} and {super_id!r}; download the file anew"
                )
            folder = image.partition("/")[0]
            other, other_where = supers.setdefault(super_id, (folder, where))
            if other != folder:
                raise ValueError(
                    f"{where}: the super_class_id {super_id} is of the folder {other!r} at {other_where}, but this "
                    f"image is {image!r}; download the files anew"
                )
            if split_of.setdefault(product, split) != split:
                raise ValueError(
                    f"{where}: the product {product} is in {_LISTS['train']} too; the lists must share none: "
                    "download them anew"
                )
            records.append((image, (folder.removesuffix("_final"), product), split))
        check_any(records[before:], path)
    image_root = find_images((home, os.path.join(home, "images")), [image for image, _, _ in records[:1]])
    source = f"Stanford Online Products at {home!r}"
    annotations = Annotations.from_records(
        records, ("super", "product"), image_root, source=source, lists=", ".join(_LISTS.values())
    )
    report_second_parents(annotations)
    return annotations


@DATASETS.register_module()
class StanfordOnlineProducts(HierarchicalDataset):
    """Stanford Online Products: 120,053 images of 22,634 products of 12 kinds, see :func:`read_sop`.

    59,551 images of 11,318 products to train; 60,502 images of the other 11,316 to test, where each image is a query to
    all others. All 12 kinds are in both. Six images are GIF files named ``.JPG``, and some are grey; ``LoadRGB`` goes
    by the content of a file.

    Args:
        data_root: ``Stanford_Online_Products``, or the folder that it is in.
        options: The options of :class:`HierarchicalDataset`; the splits are ``'train'`` and ``'test'``.
    """

    def read(self) -> Annotations:
        """Reads the lists."""
        return read_sop(self.data_root)
