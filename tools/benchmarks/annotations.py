"""Races the loading of annotations, up to the size of iNaturalist 2017, and times the start of a training on it.

Each kind of data set is written in the real form, without pictures, at several sizes, and loaded by

- iNaturalist's JSON files: our data set; the index of all images, annotations and categories that the COCO API makes;
  the limit, ``json.load`` alone;
- a tree of folders of tiny files: our ``FolderDataset``, with and without looking for missing files; torchvision's
  ``ImageFolder`` and mmpretrain's ``CustomDataset``, all of which take a file for an image by its extension; the limit,
  ``os.walk``;
- a CSV list, with a hundred images of a species or with one: our ``ListDataset``; the limit, ``csv.reader`` alone.

Ours end with checked paths, a label tree and a label matrix; the others do not check. At iNaturalist 2017's size, a
fresh process then loads the data set, makes the hierarchical sampler, and draws the first batch of indices, and of a
DataLoader with workers, whose pipeline gives every item the same picture of 8 x 8. With --images, empty files stand for
the images, to measure check_files too.

Examples:
    python tools/benchmarks/annotations.py
    python tools/benchmarks/annotations.py --json 675170 --folders 1000000 --csv 5000000
"""

import argparse
import csv
import json
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import Report, command, parse, peak_memory, per_second, race
from mmengine.dataset import pseudo_collate
from mmpretrain.datasets import CustomDataset
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from hierpretrain.datasets import FolderDataset, HierarchicalBatchSampler, INaturalist, ListDataset

SUPERS = 13
INATURALIST_2017 = 675_170
VAL_FRACTION = 95_986 / INATURALIST_2017
OURS, COCO, TORCHVISION, MMPRETRAIN, LIMIT = "ours", "COCO's index", "torchvision", "mmpretrain", "limit"


def write_json(root: str, name: str, number: int, num_categories: int, with_files: bool = False) -> None:
    """Writes one annotation file; every category has an image, the others are spread unevenly, as the real ones."""
    generator = np.random.default_rng(number)
    weights = generator.pareto(1.2, num_categories) + 0.1
    drawn = generator.choice(num_categories, number, p=weights / weights.sum())
    drawn[:num_categories] = np.arange(num_categories)[:number]
    categories = [
        {"id": i, "name": f"Genus{i // 2} species{i}", "supercategory": f"Super{i % SUPERS}"}
        for i in range(num_categories)
    ]
    folders = [f"train_val_images/{category['supercategory']}/{category['name']}" for category in categories]
    files = [f"{folders[category]}/{generator.bytes(16).hex()}.jpg" for category in drawn]
    image = {"width": 800, "height": 600, "license": 3, "rights_holder": "An Observer of Some Name"}
    first = 0 if name == "train" else 1 << 30
    data = {
        "info": {"year": 2017},
        "images": [{"id": first + i, "file_name": file, **image} for i, file in enumerate(files)],
        "licenses": [],
        "annotations": [{"id": first + i, "image_id": first + i, "category_id": int(c)} for i, c in enumerate(drawn)],
        "categories": categories,
    }
    Path(root, f"{name}2017.json").write_text(json.dumps(data))
    if with_files:
        for folder in folders:
            os.makedirs(os.path.join(root, folder), exist_ok=True)
        for file in files:
            Path(root, file).touch()


def write_inaturalist(root: str, images: int, with_files: bool = False) -> None:
    """Writes both annotation files, with as many images to a category as in 2017."""
    categories = max(SUPERS, images * 5_089 // INATURALIST_2017)
    val = max(int(images * VAL_FRACTION), 1)
    for name, number in (("train", images - val), ("val", val)):
        write_json(root, name, number, categories, with_files)


def write_folders(root: str, images: int) -> None:
    """Writes two levels of folders, a hundred files to each of the finer ones, that begin as a JPEG does."""
    for first in range(0, images, 100):
        folder = Path(root, f"coarse{first // 100 % SUPERS}", f"fine{first // 100}")
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(first, min(first + 100, images)):
            (folder / f"{i}.jpg").write_bytes(b"\xff\xd8\xff\xe0\0\x10JFIF\0\1")


def write_csv(root: str, images: int, of_species: int = 100) -> None:
    """Writes ``list.csv``: the image, its split, and three levels; so many images are of a species."""
    with open(os.path.join(root, "list.csv"), "w", encoding="utf-8") as file:
        file.write("image,split,kind,family,species\n")
        for i in range(images):
            species = i % max(images // of_species, 1)
            split = "test" if i % 5 == 0 else "train"
            file.write(f"pictures/{species}/{i:08d}.jpg,{split},kind{species % 13},family{species // 10},{species}\n")


def coco_index(path: str) -> dict[str, dict[Any, Any]]:
    """Reads an annotation file and indexes its records by id, and annotations by image and category, as COCO's API."""
    data = json.loads(Path(path).read_bytes())
    index: dict[str, dict[Any, Any]] = {
        name: {record["id"]: record for record in data[name]} for name in ("images", "annotations", "categories")
    }
    index |= {"of_image": defaultdict(list), "of_category": defaultdict(list)}
    for annotation in data["annotations"]:
        index["of_image"][annotation["image_id"]].append(annotation)
        index["of_category"][annotation["category_id"]].append(annotation["image_id"])
    return index


def of_json(root: str) -> dict[str, Callable[[], Any]]:
    """Returns the contenders for iNaturalist's files."""
    paths = [os.path.join(root, f"{name}2017.json") for name in ("train", "val")]
    return {
        OURS: lambda: INaturalist(data_root=root, check_files=False),
        COCO: lambda: [coco_index(path) for path in paths],
        LIMIT: lambda: [json.loads(Path(path).read_bytes()) for path in paths],
    }


def of_folders(root: str) -> dict[str, Callable[[], Any]]:
    """Returns the contenders for a tree of folders."""
    return {
        OURS: lambda: FolderDataset(data_root=root),
        f"{OURS}, check_files=False": lambda: FolderDataset(data_root=root, check_files=False),
        TORCHVISION: lambda: ImageFolder(root),
        MMPRETRAIN: lambda: CustomDataset(data_root=root),
        LIMIT: lambda: [name for _, _, files in os.walk(root) for name in files],
    }


def of_csv(root: str) -> dict[str, Callable[[], Any]]:
    """Returns the contenders for a list."""

    def read() -> list[list[str]]:
        with open(os.path.join(root, "list.csv"), encoding="utf-8", newline="") as file:
            return list(csv.reader(file))

    options = dict(data_root=root, ann_file="list.csv", levels=["kind", "family", "species"], check_files=False)
    return {OURS: lambda: ListDataset(**options), LIMIT: read}


def compare(report: Report, kind: str, images: int, contenders: dict[str, Callable[[], Any]], rounds: int) -> float:
    """Races the contenders of one kind at one size; returns our seconds."""
    named = {f"{kind}: {name}": contender for name, contender in contenders.items()}
    seconds = race(named, rounds=rounds, warm_up=1)
    memory = {name: peak_memory(contender, device="cpu") for name, contender in named.items()}
    rates = per_second(images, seconds)
    report.add({"images": images}, seconds, against=f"{kind}: {LIMIT}", memory=memory, images_per_second=rates)
    return statistics.median(seconds[f"{kind}: {OURS}"])


def start_of_training(root: str, args: argparse.Namespace) -> None:
    """Loads the files and draws the first batches."""
    rows: list[tuple[str, float]] = []
    start = time.perf_counter()

    def note(name: str) -> None:
        nonlocal start
        rows.append((name, time.perf_counter() - start))
        start = time.perf_counter()

    data = INaturalist(data_root=root, split="train", pipeline=[picture], check_files=False)
    note("data set, check_files=False")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if args.images:
        INaturalist(data_root=root, split="train", pipeline=[picture])
        note("data set, check_files=True")
    sampler = HierarchicalBatchSampler(data.labels, args.batch_size)
    note("sampler")
    next(iter(sampler))
    note("first batch of indices")
    loader = DataLoader(
        data,
        batch_sampler=sampler,
        num_workers=args.workers,
        collate_fn=pseudo_collate,
        multiprocessing_context="fork" if args.workers else None,  # as in a training; this process itself is spawned
    )
    next(iter(loader))
    note(f"first batch of a DataLoader with {args.workers} workers")
    print(f"{data}\n\n| step | seconds |\n| --- | ---: |")
    for name, seconds in rows:
        print(f"| {name} | {seconds:.2f} |")
    print(f"\nhighest memory use of the process with the data set built: {peak:.2f} GiB")


def picture(item: dict[str, Any]) -> dict[str, Any]:
    """Stands for the opening of an image."""
    return {"inputs": torch.zeros(3, 8, 8, dtype=torch.uint8), "gt_label": item["gt_label"]}


KINDS = {
    "JSON": (write_inaturalist, of_json),
    "folders": (write_folders, of_folders),
    "CSV": (write_csv, of_csv),
    "species a row": (partial(write_csv, of_species=1), of_csv),
}


def main() -> None:
    """Races all kinds at all sizes, then starts a training."""
    parser = command(__doc__)
    parser.set_defaults(rounds=3)
    parser.add_argument("--json", nargs="*", type=int, default=[6_000, 60_000, INATURALIST_2017])
    parser.add_argument("--folders", nargs="*", type=int, default=[1_000, 10_000, 100_000])
    parser.add_argument("--csv", nargs="*", type=int, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--species-a-row", nargs="*", type=int, default=[10_000, 100_000, 1_000_000])
    parser.add_argument(
        "--start", type=int, default=INATURALIST_2017, help="images with which a training starts; 0: none does"
    )
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--images", action="store_true", help="write empty image files and check that they are there")
    args = parse(parser)
    report = Report("annotations", "Loading annotations", "images")
    for kind, (write, contenders) in KINDS.items():
        for images in getattr(args, kind.lower().replace(" ", "_")):
            with tempfile.TemporaryDirectory() as root:
                write(root, images)
                seconds = compare(report, kind, images, contenders(root), args.rounds)
            if kind == "JSON" and images == INATURALIST_2017:
                report.bar("iNaturalist 2017, s", seconds, 5)
    report.save(args.save)
    if args.start:
        with tempfile.TemporaryDirectory() as root:
            write_inaturalist(root, args.start, args.images)
            process = multiprocessing.get_context("spawn").Process(target=start_of_training, args=(root, args))
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(f"the start of a training failed, with exit code {process.exitcode}; see above")


if __name__ == "__main__":
    main()
