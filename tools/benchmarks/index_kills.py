"""Kills processes that change an index, and reads it while another one replaces it: is it ever anything but whole?

*Kills*: a process adds, removes and updates images without end, each change recognisable: its images know how many they
are, and of all images that an update renews the pixels say which one. It is killed at random moments (SIGKILL). Each
time the index must open, answer, and hold all or none of every change; the next change must leave no file behind.

*Reads*: a process replaces the index as a whole by one of two, in turn. Each opening must give the one or the other.

Examples:
    python tools/benchmarks/index_kills.py --kills 50 --reads 5000
    python tools/benchmarks/index_kills.py --kills 500 --seed 1 --images 20000
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from hierpretrain.apis import EmbeddingIndex
from hierpretrain.apis.image_digests import image_digest
from hierpretrain.apis.images import ImageSet
from hierpretrain.evaluation import Embeddings
from hierpretrain.taxonomy import Taxonomy

WIDTH = 16
UPDATED = 5  # images that an update renews
_FORK = multiprocessing.get_context("fork")


class Pixels:
    """Embeds pictures of one value without a network: what an index needs of an inferencer, and no more."""

    name, fingerprint, width, on_error = "pixels", "0", WIDTH, "error"

    def embed_set(self, found: ImageSet, *, need_one: bool = True) -> Embeddings:
        """Returns a random direction for each value."""
        values = [int(np.asarray(source).flat[0]) for source in found.sources]
        features = [np.random.default_rng(value).standard_normal(WIDTH) for value in values]
        return Embeddings(
            torch.from_numpy(np.float32(features).reshape(-1, WIDTH)),
            found.labels,
            found.extra_labels,
            found.splits,
            found.paths,
            found.taxonomy,
            (),
            digests=[image_digest(source) for source in found.sources],
        )


def pictures(value: int) -> list[np.ndarray]:
    """Returns the pictures of an update, all of one value."""
    return [np.full((2, 2, 3), value % 256, np.uint8) + np.uint8(i) for i in range(UPDATED)]


def random_images(number: int, name: str, seed: int) -> Embeddings:
    """Returns random images under 50 nodes, whose keys, files and metadata say to what they belong."""
    generator = np.random.default_rng(seed)
    tree = Taxonomy([(f"{i % 5}", f"{i}") for i in range(50)], ("top", "leaf"))
    return Embeddings(
        features=torch.from_numpy(generator.standard_normal((number, WIDTH), np.float32)),
        labels=tree.node_labels(2)[torch.from_numpy(generator.integers(0, 50, number))],
        extra_labels=torch.empty(number, 0, dtype=torch.int64),
        splits=["all"] * number,
        paths=[f"{name}/{i}.jpg" for i in range(number)],
        taxonomy=tree,
        extra_names=(),
        keys=[f"{name}/{i}" for i in range(number)],
        metadata={"of": [f"{name} {number}"] * number},
    )


def change_without_end(folder: Path, seed: int) -> None:
    """Adds, removes and updates at random, and for ever."""
    generator = np.random.default_rng(seed)
    index = EmbeddingIndex.open(folder)
    index.use_model(Pixels())  # type: ignore[arg-type]
    step = 0
    while True:
        step += 1
        groups = sorted({text for text in index.metadata["of"] if text and not text.startswith("base")})
        what = generator.integers(3)
        if what == 0 or (what == 1 and not groups):
            number = int(generator.integers(1, 200))
            index.add(random_images(number, f"{seed}-{step}", seed * 1000 + step))
        elif what == 1:
            group = groups[generator.integers(len(groups))]
            index.remove([key for key, text in zip(index.keys, index.metadata["of"], strict=True) if text == group])
        else:
            index.update(pictures(int(generator.integers(0, 250))))


def check_whole(folder: Path) -> int:
    """Opens the index and returns the number of its images, after checking that each change is there or not at all.

    Raises:
        AssertionError: If a part of a change is there.
    """
    index = EmbeddingIndex.open(folder)
    for text, count in Counter(index.metadata["of"]).items():
        if text:
            name, wanted = text.split()
            assert count == int(wanted), f"{count} of {wanted} images of {name}"
    now = index._now
    updated = [digest for path, digest in zip(index.paths, now.digests, strict=True) if path.startswith("<image ")]
    wholes = [[image_digest(one) for one in pictures(value)] for value in range(250)]
    assert not updated or updated in wholes, f"an update is there in part: {updated}"
    query = index._now.embeddings()
    for row in (0, len(index) - 1):
        one = Embeddings(
            query.features[row][None],
            query.labels[row][None],
            query.extra_labels[:1],
            ["all"],
            ["q"],
            query.taxonomy,
            (),
        )
        (found,) = index.search(one, 1)
        assert found.neighbours[0].score > 0.9999
    return len(index)


def kill(folder: Path, kills: int, seed: int, log: Callable[[str], None] = print) -> int:
    """Lets a process change the index and kills it, so many times; returns how many kills left files behind.

    Raises:
        AssertionError: If the index is not whole, or files are left after the next change.
    """
    generator = np.random.default_rng(seed)
    left = 0
    for number in range(kills):
        process = _FORK.Process(target=change_without_end, args=(folder, seed * 10_000 + number))
        process.start()
        time.sleep(generator.uniform(0.05, 0.6))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, f"the process ended by itself: {process.exitcode}"
        count = check_whole(folder)
        left += bool(leftovers(folder))
        log(f"kill {number + 1}: {count:,} images, whole; {len(leftovers(folder))} files left")
    EmbeddingIndex.open(folder).parts["done"] = kills
    assert not leftovers(folder), f"left behind: {leftovers(folder)}"
    return left


def leftovers(folder: Path) -> set[str]:
    """Returns the files that the manifest does not name."""
    about = json.loads((folder / "index.json").read_text())
    named = {name for segment in about["segments"] for name in segment["parts"].values()}
    return set(os.listdir(folder)) - named - set(about["parts"].values()) - {"index.json"}


def replace_without_end(folder: Path, sizes: tuple[int, int]) -> None:
    """Replaces the index by one of two, in turn and for ever."""
    indexes = [made(random_images(size, f"base{size}", size)) for size in sizes]
    while True:
        for index in indexes:
            index.save(folder)


def read(folder: Path, reads: int, sizes: tuple[int, int] = (300, 500)) -> Counter[int]:
    """Opens the index beside a process that replaces it, so many times; returns how often it was which.

    Raises:
        AssertionError: If an index is mixed of two.
    """
    wanted = {size: random_images(size, f"base{size}", size) for size in sizes}
    made(wanted[sizes[0]]).save(folder)
    process = _FORK.Process(target=replace_without_end, args=(folder, sizes))
    process.start()
    found: Counter[int] = Counter()
    try:
        for _ in range(reads):
            index = EmbeddingIndex.open(folder)
            one = wanted[len(index)]
            assert index.paths == one.paths
            assert index.labels.equal(one.labels)
            assert index.metadata == one.metadata
            found[len(index)] += 1
    finally:
        process.kill()
        process.join()
    return found


def made(images: Embeddings) -> EmbeddingIndex:
    """Returns an index of images that :class:`Pixels` is said to have embedded."""
    return EmbeddingIndex.build(images, model=Pixels.name, fingerprint=Pixels.fingerprint, log=lambda line: None)


def main() -> None:
    """Kills and reads as often as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--reads", type=int, default=5000)
    parser.add_argument("--images", type=int, default=2000, help="of the index that is changed, to begin with")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "index")
        made(random_images(args.images, "base", args.seed)).save(folder)
        left = kill(folder, args.kills, args.seed)
        print(f"{args.kills} kills: whole each time; {left} left files, which the next change removed")
        found = read(Path(place, "other"), args.reads)
        print(f"{args.reads} reads beside a writer: {dict(found)} images, none mixed, no error")


if __name__ == "__main__":
    main()
