"""Times changes of a large index beside the work that cannot be spared: embedding the images that come.

The index has random vectors; the images are noise, and the encoder is untrained: times do not depend on either. Each
round adds images that are new, and takes them out again.

Examples:
    python tools/benchmarks/index_changes.py
    python tools/benchmarks/index_changes.py --images 1000000 --kind flat
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from measure import Report, command, parse, race
from mmengine.config import Config
from PIL import Image

from hierpretrain.apis import EmbeddingIndex, EmbeddingInferencer
from hierpretrain.evaluation import Embeddings
from hierpretrain.taxonomy import Taxonomy

EMBED, ADD, REMOVE, UPDATE, OPEN = "embed", "embed and add", "remove", "update, all unchanged", "open"
BAR = 1.2  # times embedding


def encoder(side: int) -> EmbeddingInferencer:
    """Returns an untrained MobileNetV3 (small) for pictures of some pixels a side."""
    pipeline = [dict(type="LoadRGB"), dict(type="torchvision/Resize", size=(side, side))]
    model = dict(type="HierarchicalContrastive", backbone=dict(type="MobileNetV3", arch="small"))
    config = Config(dict(model=model, test_dataloader=dict(dataset=dict(pipeline=pipeline))))
    torch.manual_seed(0)
    return EmbeddingInferencer(config, checkpoint="", device="cpu", progress=False)


def random_vectors(number: int, width: int) -> Embeddings:
    """Returns random vectors under 1,000 nodes, with keys and a column of metadata."""
    tree = Taxonomy([(f"{i % 20}", f"{i}") for i in range(1000)], ("top", "leaf"))
    return Embeddings(
        features=torch.randn(number, width, generator=torch.Generator().manual_seed(0)),
        labels=tree.node_labels(2)[torch.arange(number) % 1000],
        extra_labels=torch.empty(number, 0, dtype=torch.int64),
        splits=["all"] * number,
        paths=[f"photos/{i % 1000}/{i}.jpg" for i in range(number)],
        taxonomy=tree,
        extra_names=(),
        keys=[f"S{i}" for i in range(number)],
        metadata={"price": [str(i % 97) for i in range(number)]},
    )


def write_images(folder: Path, number: int, side: int, seed: int) -> Path:
    """Writes pictures of noise, which no round has had before."""
    folder.mkdir()
    generator = np.random.default_rng(seed)
    for i in range(number):
        Image.fromarray(generator.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def contenders(
    index: EmbeddingIndex, inferencer: EmbeddingInferencer, fresh: Callable[[], Path], kept: Path
) -> dict[str, Callable[[], object]]:
    """Returns the changes to be timed, each of which leaves as many images as there were."""
    added: list[Path] = []

    def add() -> None:
        added.append(fresh())
        index.add(str(added[-1]))

    def remove() -> None:
        folder = added.pop() if added else None
        if folder is not None:
            index.remove([str(path) for path in folder.iterdir()])

    return {
        EMBED: lambda: inferencer.embed(str(fresh())),
        ADD: add,
        REMOVE: remove,
        UPDATE: lambda: index.update(str(kept)),
        OPEN: lambda: EmbeddingIndex.open(str(index.folder)),
    }


def main() -> None:
    """Runs the comparison, prints it and saves it on request."""
    parser = command(__doc__)
    parser.set_defaults(rounds=5)
    parser.add_argument("--images", type=int, default=100_000, help="of the index")
    parser.add_argument("--new", type=int, default=100, help="images that are added")
    parser.add_argument("--side", type=int, default=224, help="pixels of a side of them")
    parser.add_argument("--kind", default="auto", help="of the index")
    args = parse(parser)
    report = Report("index_changes", "Indexes: changing a large one", "images")
    inferencer = encoder(args.side)
    with tempfile.TemporaryDirectory() as place:
        vectors = random_vectors(args.images, inferencer.width)
        index = inferencer.build_index(vectors, f"{place}/index", kind=args.kind)
        del vectors
        numbers = itertools.count()
        pool = [write_images(Path(place, f"new{i}"), args.new, args.side, i) for i in range(2 * args.rounds + 4)]
        kept = write_images(Path(place, "kept"), args.new, args.side, 10_000)
        index.add(str(kept))
        makers = contenders(index, inferencer, lambda: pool[next(numbers)], kept)
        seconds = race(makers, rounds=args.rounds, warm_up=1)
        case = {"images": args.images, "new": args.new, "dim": inferencer.width, "side": args.side}
        report.add(case, seconds, against=EMBED)
        ratio = next(row["ratio"] for row in report.rows if row["name"] == ADD)
        report.bar(f"adding {args.new} images to {args.images:,}, in times of embedding them", ratio, BAR)
        assert len(index) in (args.images + args.new, args.images + 2 * args.new)
    report.save(args.save)


if __name__ == "__main__":
    main()
