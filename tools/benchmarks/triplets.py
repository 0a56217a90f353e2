"""Measures how many triplets a second LevelTripletSampler draws, and how long it takes to start.

The tree is ragged, five levels deep, with images on inner nodes. With --several a fraction of the images has two paths.

Example:
    python tools/benchmarks/triplets.py --images 10000 100000 1000000 --several 0.08
"""

import argparse
import itertools
import statistics
import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hierpretrain.datasets import LevelTripletSampler

LEVELS = 5


def ragged_labels(images: int, several: float) -> tuple[Tensor, int]:
    """Returns labels of a random tree with a tenth as many nodes as images, and the number of nodes."""
    rng = np.random.default_rng(0)
    counts = [max(2, int(images / 10 * fraction)) for fraction in (0.0002, 0.005, 0.05, 0.3, 0.6448)]
    parents = [np.zeros(counts[0], np.int64)]
    parents += [rng.integers(above, size=here) for above, here in itertools.pairwise(counts)]
    labels = np.stack([_paths(rng, images, counts, parents) for _ in range(2 if several else 1)], 1)  # (N, P, L)
    labels[rng.random(images) >= several, 1:] = -1
    return torch.from_numpy(labels if several else labels[:, 0]), sum(counts)


def _paths(
    rng: np.random.Generator, images: int, counts: list[int], parents: list[NDArray[np.int64]]
) -> NDArray[np.int64]:
    depth = rng.choice(LEVELS, images, p=[0.02, 0.08, 0.2, 0.3, 0.4])
    labels = np.full((images, LEVELS), -1)
    for level in range(LEVELS):
        rows = np.nonzero(depth == level)[0]
        node = rng.integers(counts[level], size=len(rows))
        for column in range(level, -1, -1):
            labels[rows, column] = node
            node = parents[column][node]
    return labels


def main() -> None:
    """Prints a line per size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", nargs="+", type=int, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--batch-size", type=int, default=16, help="triplets in a batch")
    parser.add_argument("--several", type=float, default=0.0, help="fraction of the images that have two paths")
    parser.add_argument("--repeats", type=int, default=5, help="samplers of each size (default: 5)")
    args = parser.parse_args()
    print("| images | nodes | start and first batch, s | triplets/s, median | min to max |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for images in args.images:
        labels, nodes = ragged_labels(images, args.several)
        starts, rates = [], []
        for repeat in range(args.repeats):
            start = time.perf_counter()
            sampler = LevelTripletSampler(labels, args.batch_size, seed=repeat, triplets_per_epoch=200_000)
            sampler.set_level(sampler.levels[-1])
            batches = iter(sampler)
            next(batches)
            starts.append(time.perf_counter() - start)
            start = time.perf_counter()
            triplets = sum(len(batch) // 3 for batch in batches)
            rates.append(triplets / (time.perf_counter() - start))
        print(
            f"| {images:,} | {nodes:,} | {statistics.median(starts):.2f} | {statistics.median(rates):,.0f} "
            f"| {min(rates):,.0f} to {max(rates):,.0f} |"
        )


if __name__ == "__main__":
    main()
