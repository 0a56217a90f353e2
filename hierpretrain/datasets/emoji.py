"""emoji64, the data set that comes with the toolbox: three levels, up to six designs of an emoji."""

from __future__ import annotations

import os
from collections import defaultdict
from typing import Any

import numpy as np

from hierpretrain.checks import check_flag
from hierpretrain.datasets.annotations import Annotations
from hierpretrain.datasets.archive import unpack_own
from hierpretrain.datasets.base import HierarchicalDataset
from hierpretrain.datasets.text_files import numbered_lines
from hierpretrain.registry import DATASETS

_SPLITS = ("train", "query", "gallery")
_LEVELS = ("category", "subcategory", "emoji")
_UNSEEN = 0.2  # of a subcategory's emoji, as in the data set's own split


def read_emoji64(root: str, development: bool = False) -> Annotations:
    """Reads emoji64 from its folder, which is unpacked from ``<root>.zip`` if it is not there yet.

    Args:
        root: The folder.
        development: Whether to read the splits of :func:`development_splits` instead of the data set's own. They divide
            the training images alone, under the same three names.

    Returns:
        Levels ``('category', 'subcategory', 'emoji')``; splits ``'train'``, ``'query'`` and ``'gallery'``.

    Raises:
        ValueError: If neither the folder nor the archive is there, or the folder's lists are damaged.
    """
    unpack_own(root, "emoji64")
    images, splits = [], []
    lists = ", ".join(f"meta/{split}.txt" for split in _SPLITS)
    for split in _SPLITS:
        path = os.path.join(root, "meta", f"{split}.txt")
        if not os.path.isfile(path):
            raise ValueError(f"{path} is missing; remove the folder {root} to have it unpacked anew")
        for where, name in numbered_lines(path):
            if name.count("/") != len(_LEVELS):
                raise ValueError(
                    f"{where}: a line is <category>/<subcategory>/<emoji>/<design>.webp, not {name!r}; remove "
                    f"the folder {root} to have it unpacked anew"
                )
            images.append(name)
            splits.append(split)
    if development:
        tags = development_splits([name for name, split in zip(images, splits, strict=True) if split == "train"])
        images, splits = list(tags), list(tags.values())
    labels = [tuple(name.split("/")[:-1]) for name in images]
    return Annotations(images, labels, splits, _LEVELS, root, source=f"emoji64 at {root!r}", lists=lists)


def development_splits(images: list[str]) -> dict[str, str]:
    """Splits training images once more as emoji64 itself is split, to choose settings without a look at the test emoji.

    Of every subcategory, 20 % of the emoji (rounded) are unseen; only emoji of two designs or more can be. A third of
    an unseen emoji's designs (rounded down, at least one) are query, the rest gallery; every other image is for
    training. The draw is always the same.

    Args:
        images: Paths ``<category>/<subcategory>/<emoji>/<design>.webp``, in any order.

    Returns:
        Image -> ``'train'``, ``'query'`` or ``'gallery'``, in the order of the names.

    Example:
        >>> tags = development_splits([f"food/fruit/{name}/{i}.webp" for name in "abcde" for i in range(3)])
        >>> sorted(tags.values()).count("train"), [image for image in tags if tags[image] == "query"]
        (12, ['food/fruit/e/1.webp'])
    """
    designs: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for image in sorted(images):
        emoji = image.rpartition("/")[0]
        designs[emoji.rpartition("/")[0]][emoji].append(image)
    tags = dict.fromkeys(sorted(images), "train")
    generator = np.random.default_rng(0)
    for emoji in (designs[subcategory] for subcategory in sorted(designs)):
        pairs = sorted(name for name in emoji if len(emoji[name]) > 1)
        number = min(int(_UNSEEN * len(emoji) + 0.5), len(pairs))
        for chosen in sorted(generator.choice(len(pairs), number, replace=False).tolist()):
            unseen = emoji[pairs[chosen]]
            queries = generator.choice(len(unseen), max(1, len(unseen) // 3), replace=False).tolist()
            tags.update({image: "query" if i in queries else "gallery" for i, image in enumerate(unseen)})
    return tags


@DATASETS.register_module()
class Emoji64(HierarchicalDataset):
    """emoji64: 9,301 images of 64 x 64 in 9 categories, 98 subcategories and 1,906 emoji; comes with the toolbox.

    7,461 images to train; 586 query and 1,254 gallery images of emoji that training never sees, 20 % of every
    subcategory.

    Args:
        data_root: The folder. It is unpacked from ``<data_root>.zip`` on first use, by whichever process is first.
        development: Whether to split the training images once more, into ``'train'``, ``'query'`` and ``'gallery'``,
            and to leave the real query and gallery out: to choose settings by, see :func:`development_splits`.
        options: The options of :class:`HierarchicalDataset`; ``split`` is of ``'train'``, ``'query'`` and
            ``'gallery'``.
    """

    def __init__(self, *, data_root: str = "data/emoji64", development: bool = False, **options: Any) -> None:
        check_flag(development=development)
        self.development = development
        super().__init__(data_root=data_root, **options)

    def read(self) -> Annotations:
        """Reads the lists, after unpacking the archive if need be."""
        return read_emoji64(self.data_root, self.development)
