"""Writes, for every config, a small tree in its data set's exact format, and says where it is."""

import importlib
import pkgutil
import shutil
from pathlib import Path

import torch
import torchvision

import tests.datasets
from hierpretrain.datasets import seen_unseen_split
from hierpretrain.registry import DATASETS
from tests.datasets.trees import write_image, write_inshop


def write_emoji(root):
    """Writes an emoji64 of three categories, nine subcategories and 36 emoji, of which 27 are for training."""
    lists = {"train": [], "query": [], "gallery": []}
    for i in range(108):
        category, subcategory, emoji, design = i // 36, i // 12, i // 3 % 4, i % 3
        name = f"category{category}/subcategory{subcategory}/emoji{emoji}/design{design}.webp"
        write_image(root / name, (100 * category, 25 * subcategory, 60 * emoji + 20 * design), size=(64, 64))
        lists["train" if emoji < 3 else "gallery" if design else "query"].append(name)
    (root / "meta").mkdir()
    for split, names in lists.items():
        (root / f"meta/{split}.txt").write_text("".join(f"{name}\n" for name in names))


def write_openclipart(root):
    """Writes an openclipart96 of 108 drawings in a ragged tree, of which 8 hang in two or three folders."""
    folders = [f"group{i}/part{j}" for i in range(4) for j in range(3)]
    folders += [folders[0] + "/detail0", folders[0] + "/detail1", "group0", "group1"]
    folders += [folders[6] + "/detail0", folders[6] + "/detail1"]
    for i, folder in enumerate(folders):
        for j in range(6):
            image = root / folder / f"drawing{j}.webp"
            write_image(image, (50 * (i // 3), 80 * (i % 3), 40 * j), size=(96, 96))
            if i < 8 and j == 0:  # in the next group as well, and in every second case on an inner folder besides
                copies = [root / folders[i + 3] / f"from_{i}.webp", root / f"group3/from_{i}.webp"]
                for copy in copies[: 1 + i % 2]:
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(image, copy)


def write_towers(path, depth):
    """Writes a random encoder in the format of the authors of Towers of Babel, and returns the file.

    Args:
        path: The file.
        depth: Of the ResNet; theirs has 50 layers.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = getattr(torchvision.models, f"resnet{depth}")().state_dict()
    del weights["fc.weight"], weights["fc.bias"]
    torch.save({**weights, "aspp.conv1.weight": torch.zeros(2), "fc8_skip.0.weight": torch.zeros(2)}, path)
    return path


WRITERS = {  # type of the data set -> what writes it to its data_root, a new folder of the right name
    "Emoji64": write_emoji,
    "InShop": lambda root: write_inshop(root, num_products=24, num_views=2, size=32),
    "OpenClipart96": write_openclipart,
}
for module in pkgutil.iter_modules(tests.datasets.__path__, "tests.datasets."):
    if module.name.startswith("tests.datasets.write_"):  # each says in CONFIG_TREES what a config needs
        WRITERS |= importlib.import_module(module.name).CONFIG_TREES
SPLITS = {  # how the configs' own split files are made, see _base_/datasets; of ModelNet40 there are no chairs here
    "Emoji64": dict(level="subcategory", unseen=0.4, shares=(0.6, 0.2, 0.2)),
    "InShop": dict(level="category", unseen=0.3, shares=None, val_share=0.4, unit="product"),
    "OpenClipart96": dict(
        level="level2",
        unseen=["group0/part1", "group0/part2", "group1/part1"],
        held_out=["group2", "group3"],
        held_out_tag="catalogue",
    ),
    "ModelNet40": dict(level="category", unseen=["bed", "night_stand"], shares=None, val_share=0.2, unit="model"),
}


def write_tree(folder, dataset):
    """Writes the tree of a data set's config, and the split file if it names one, unless they are there.

    Args:
        folder: Where all trees go.
        dataset: The config of a data set.

    Returns:
        The settings of the data set that name the files: key -> value.
    """
    kind = dataset["type"]
    root = Path(folder, kind, Path(dataset["data_root"]).name)
    options = {"data_root": str(root)}
    if kind == "ImageNet":
        options["hierarchy"] = str(root / "data.noun")
    if not root.parent.exists():
        root.parent.mkdir()
        WRITERS[kind](root)
    if "split_file" in dataset:
        options["split_file"] = str(root.parent / "split.json")
        if not Path(options["split_file"]).exists():
            whole = DATASETS.build({"type": kind, "_scope_": "hierpretrain", "data_root": str(root)})
            seen_unseen_split(whole.read(), **SPLITS[kind]).save(options["split_file"])
    return options
