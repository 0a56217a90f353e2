"""Races the hierarchical sampler, from In-Shop's 25,882 images to five million.

The labels are a tree of four levels: 13 nodes, then one for every 5,000, every 100 and every five images (at five
million: 13, 1,000, 50,000 and about 950,000). ``--tree inshop`` has the shape of In-Shop instead, three levels: 17
categories, 6.5 images to a product, about two to a variation. Raced are

- ours: whole epochs, with the shuffling that comes before the first batch;
- the hierarchical sampler of pytorch-metric-learning as it is documented (``super_classes_per_batch=2``,
  ``batches_per_super_tuple=4``), coarsest level outside, finest inside, 4 images to a class; its batches may repeat
  images and know two levels;
- the design of the released code, in which every anchor looks through all images: label columns are compared with its
  own, and images already drawn are left out. This one does so in NumPy, for the first 64 images only; the released
  code, with Python's lists and sets, draws about 1,000 samples a second at In-Shop's size;
- the limit: torch's ``BatchSampler`` of a ``RandomSampler``, which shuffles without looking at labels.

Times are for a million samples, so a line that is flat in the plot costs the same at any size. Then follow the times of
our construction, of the first batch of an epoch, and of resuming in the middle of an epoch, which plans its first half
anew.

Examples:
    python tools/benchmarks/sampler.py
    python tools/benchmarks/sampler.py --images 25882 250000 --tree inshop
"""

import argparse
import itertools
import statistics
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from measure import Report, command, parse, peak_memory, per_second, race
from numpy.typing import NDArray
from pytorch_metric_learning.samplers import HierarchicalSampler
from torch import Tensor
from torch.utils.data import BatchSampler, RandomSampler

from hierpretrain.datasets import HierarchicalBatchSampler

MILLION = 1_000_000
OURS, PEER, RELEASED, LIMIT = (
    "ours",
    "pytorch-metric-learning",
    "all images looked at",
    "limit: shuffled",
)


def four_levels(images: int) -> Tensor:
    """Returns (images, 4) labels, ids counted through within a level, in no particular order."""
    rng = np.random.default_rng(0)
    leaf = rng.integers(max(images * 19 // 100, 1), size=images)
    third = leaf % max(images // 100, 1)
    second = third % max(images // 5_000, 26)
    return torch.from_numpy(np.stack([second % 13, second, third, leaf], 1))


def inshop(images: int) -> Tensor:
    """Returns (images, 3) labels: category, product, variation."""
    rng = np.random.default_rng(0)
    product = rng.integers(max(images * 2 // 13, 1), size=images)
    return torch.from_numpy(np.stack([product % 17, product, 3 * product + rng.integers(3, size=images)], 1))


TREES = {"four-levels": four_levels, "inshop": inshop}


def looked_at_all(columns: NDArray[np.int64], batch_size: int, rng: np.random.Generator) -> Iterator[list[int]]:
    """Yields batches of tuples like ours, all images being looked at for every anchor; those that do not fill one, too.

    Args:
        columns: (L, N) labels, contiguous.
        batch_size: Images in a batch.
        rng: What images are drawn with.
    """
    unused = np.ones(columns.shape[1], bool)
    batch: list[int] = []
    while len(candidates := np.flatnonzero(unused)):
        drawn = [anchor := rng.choice(candidates)]
        unused[anchor] = False
        alike, partners = unused, []
        for column in columns:
            below = alike & (column == column[anchor])
            partners.append(alike & ~below)  # share the node above this level, and no more
            alike = below
        for shared in [alike, *partners[:0:-1]]:  # without those that share the root alone
            if len(candidates := np.flatnonzero(shared)):
                drawn.append(rng.choice(candidates))
        drawn = drawn[: batch_size - len(batch)]
        unused[drawn] = False
        batch += map(int, drawn)
        if len(batch) == batch_size:
            yield batch
            batch = []
    if batch:
        yield batch


def epoch_of_ours(sampler: HierarchicalBatchSampler) -> Callable[[], Iterable[list[int]]]:
    """Returns what plans another epoch at every call."""
    epochs = itertools.count(1)

    def plan() -> Iterable[list[int]]:
        sampler.set_epoch(next(epochs))
        return sampler

    return plan


def measure(report: Report, images: int, args: argparse.Namespace) -> dict[str, float]:
    """Races everything at one size; returns samples a second."""
    labels = TREES[args.tree](images)
    case = {"images": images, "levels": labels.shape[1], "batch_size": args.batch_size}

    def construct() -> HierarchicalBatchSampler:
        return HierarchicalBatchSampler(labels, args.batch_size)

    ours = construct()
    plans: dict[str, Callable[[], Iterable[list[int]]]] = {OURS: epoch_of_ours(ours)}
    if images <= args.peer_up_to:
        inner_and_outer = labels[:, [-1, 0]].numpy()
        peer = HierarchicalSampler(inner_and_outer, args.batch_size, samples_per_class=4)
        plans[PEER] = lambda: peer
    rng, columns = np.random.default_rng(0), labels.T.contiguous().numpy()
    plans[RELEASED] = lambda: itertools.islice(looked_at_all(columns, 64, rng), 1)
    plans[LIMIT] = lambda: BatchSampler(RandomSampler(range(images)), args.batch_size, drop_last=False)

    planned = {}

    def contender(name: str) -> Callable[[], None]:
        def run() -> None:
            planned[name] = sum(map(len, plans[name]()))

        return run

    seconds = race({name: contender(name) for name in plans}, rounds=args.rounds, warm_up=1)
    seconds = {name: [value / planned[name] * MILLION for value in values] for name, values in seconds.items()}
    rates = per_second(MILLION, seconds)
    print("times for a million samples:")
    report.add(case, seconds, against=OURS, samples_per_second=rates)

    def first_batch() -> None:
        ours.set_epoch(ours.epoch + 1)
        next(iter(ours))

    def resume() -> None:
        ours.load_state_dict({"epoch": 0, "position": len(ours) // 2, "batches": len(ours)})
        next(iter(ours))

    steps = {"construction": construct, "first batch": first_batch, "going on in the middle": resume}
    named = {f"{OURS}: {name}": step for name, step in steps.items()}
    built = race(named, rounds=args.rounds, warm_up=0)
    memory = {name: peak_memory(step, device="cpu") for name, step in itertools.islice(named.items(), 2)}
    report.add(case, built, memory=memory)
    name = f"{OURS}: construction"
    if images >= 5 * MILLION:
        report.bar(f"construction at {images:,} images, s", statistics.median(built[name]), 10)
        report.bar(f"construction at {images:,} images, MiB", memory[name] / 2**20, 1024)
    return rates


def main() -> None:
    """Races at each size."""
    parser = command(__doc__)
    parser.set_defaults(rounds=3)
    parser.add_argument("--images", nargs="+", type=int, default=[25_882, 250_000, 1_000_000, 5_000_000])
    parser.add_argument("--tree", choices=list(TREES), default="four-levels")
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--peer-up-to", type=int, default=MILLION, help="images up to which the peer is raced")
    args = parse(parser)
    report = Report("sampler", "What a million samples cost a batch sampler", "images")
    rates = {images: measure(report, images, args) for images in args.images}
    for images, found in rates.items():
        report.bar(f"samples a second at {images:,} images", found[OURS], 200_000, at_least=True)
    for name in (OURS, PEER, RELEASED, LIMIT):
        if found := [rate[name] for rate in rates.values() if name in rate]:
            print(f"fastest size against slowest, {name}: {max(found) / min(found):.2f}")
    report.save(args.save)


if __name__ == "__main__":
    main()
