"""Measures how many samples a second the hierarchical sampler plans, from In-Shop's size upwards.

The tree is of In-Shop's shape: 17 categories, 6.5 images to a product, 2 images to a variation.

Example:
    python tools/benchmarks/sampler.py --images 25882 250000 2500000
"""

import argparse
import statistics
import time

import numpy as np
import torch

from hierpretrain.datasets import HierarchicalBatchSampler


def main() -> None:
    """Prints a line per size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", nargs="+", type=int, default=[25_882, 250_000])
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    print("| images | construction, s | first batch, s | samples/s, median | min to max |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for images in args.images:
        rng = np.random.default_rng(0)
        product = rng.integers(0, images * 2 // 13, images)
        variation = 3 * product + rng.integers(0, 3, images)
        labels = torch.from_numpy(np.stack([product % 17, product, variation], 1))
        start = time.perf_counter()
        sampler = HierarchicalBatchSampler(labels, args.batch_size)
        construction = time.perf_counter() - start
        rates, firsts = [], []
        for epoch in range(args.repeats):
            sampler.set_epoch(epoch)
            start = time.perf_counter()
            plan = iter(sampler)
            planned = len(next(plan))
            firsts.append(time.perf_counter() - start)
            planned += sum(map(len, plan))
            rates.append(planned / (time.perf_counter() - start))
        print(
            f"| {images:,} | {construction:.2f} | {statistics.median(firsts):.2f} | {statistics.median(rates):,.0f} "
            f"| {min(rates):,.0f} to {max(rates):,.0f} |"
        )


if __name__ == "__main__":
    main()
