"""Measures the start of a training on iNaturalist 2017: from the annotation files to the first batches.

It writes files of the real ones' form and size, without images, and loads them in a fresh process: the built data set,
the highest memory use, the hierarchical sampler and its first batch of indices, and the first batch of a DataLoader
with workers whose pipeline gives every item the same picture of 8 x 8. With --images, empty files stand for the
images, to measure check_files too.

Example:
    python tools/benchmarks/annotations.py
"""

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader

from hierpretrain.datasets import HierarchicalBatchSampler, INaturalist

SUPERS = 13


def main() -> None:
    """Prints a table of seconds and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=579_184)
    parser.add_argument("--val", type=int, default=95_986)
    parser.add_argument("--categories", type=int, default=5_089)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--images", action="store_true", help="write empty image files and check that they are there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        for name, images in (("train", args.train), ("val", args.val)):
            write(root, name, images, args.categories, args.images)
        size = sum(path.stat().st_size for path in Path(root).glob("*.json"))
        print(f"{args.train + args.val:,} images of {args.categories:,} categories, {size / 2**20:.0f} MiB of JSON\n")
        process = multiprocessing.get_context("spawn").Process(target=measure, args=(root, args))
        process.start()
        process.join()


def write(root: str, name: str, number: int, num_categories: int, with_files: bool) -> None:
    """Writes one annotation file; every category has an image, the others are spread unevenly, as the real ones."""
    generator = np.random.default_rng(number)
    share = generator.pareto(1.2, num_categories) + 0.1
    drawn = generator.choice(num_categories, number, p=share / share.sum())
    drawn[:num_categories] = np.arange(num_categories)
    categories = [
        {"id": i, "name": f"Genus{i // 2} species{i}", "supercategory": f"Super{i % SUPERS}"}
        for i in range(num_categories)
    ]
    folders = [f"train_val_images/{category['supercategory']}/{category['name']}" for category in categories]
    files = [f"{folders[category]}/{generator.bytes(16).hex()}.jpg" for category in drawn]
    image = {"width": 800, "height": 600, "license": 3, "rights_holder": "An Observer of Some Name"}
    data = {
        "info": {"year": 2017},
        "images": [{"id": i, "file_name": file, **image} for i, file in enumerate(files)],
        "licenses": [],
        "annotations": [{"id": i, "image_id": i, "category_id": int(c)} for i, c in enumerate(drawn)],
        "categories": categories,
    }
    Path(root, f"{name}2017.json").write_text(json.dumps(data))
    if with_files:
        for folder in folders:
            os.makedirs(os.path.join(root, folder), exist_ok=True)
        for file in files:
            Path(root, file).touch()


def measure(root: str, args: argparse.Namespace) -> None:
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


def picture(item: dict) -> dict:
    """Stands for the opening of an image."""
    return {"inputs": torch.zeros(3, 8, 8, dtype=torch.uint8), "gt_label": item["gt_label"]}


if __name__ == "__main__":
    main()
