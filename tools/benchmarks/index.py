"""Builds, keeps and searches an index of each kind, beside faiss's own search and the limit: one product of matrices.

There are two comparisons for each size. *Building*: the time to make, tune and save an index, its peak memory, and the
size of its folder. *Searching*: the time of a search for the ten nearest images of new queries, all at once, names and
files included, and how many of the ten that an exact search finds are among them.

The features of a class are its random centre plus noise of the same length, so that their cosines are about 0.5. The
queries are of the same classes.

Examples:
    python tools/benchmarks/index.py
    python tools/benchmarks/index.py --sizes 5000 --dim 64
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from measure import Report, command, features_of_classes, parse, peak_memory, race
from torch import Tensor

from hierpretrain.apis import EmbeddingIndex
from hierpretrain.evaluation import Embeddings
from hierpretrain.functional.approximate import build_index
from hierpretrain.taxonomy import Taxonomy

KINDS = {
    f"ours, {kind}{', half' if half else ''}": (kind, half)
    for kind in ("flat", "hnsw", "ivf")
    for half in (False, True)
}
FAISS, LIMIT = "faiss's flat search", "limit: one product of matrices"
PER_CLASS, NOISE, NUM_NEIGHBORS = 50, 1.0, 10


def embedded(items: int, dim: int, *, seed: int, classes: int) -> Embeddings:
    """Returns images around the random centres of their classes; another seed gives others of the same classes."""
    labels = torch.randint(classes, (items,), generator=torch.Generator().manual_seed(seed))
    features = features_of_classes(labels, classes, dim, NOISE / dim**0.5, seed=seed)
    tree = Taxonomy([(f"class {i}",) for i in range(classes)], ("class",))
    paths = [f"class {label}/{i}.jpg" for i, label in enumerate(labels.tolist())]
    return Embeddings(features, labels[:, None], labels[:, None][:, :0], ["all"] * items, paths, tree, ())


def fraction_found(index: EmbeddingIndex, query: Embeddings, exact: Tensor) -> float:
    """Returns the mean fraction of the (Q, K) neighbours of an exact search that an index finds."""
    files = [{index.paths[row] for row in rows} for rows in exact.tolist()]
    found = [{neighbour.path for neighbour in result.neighbours} for result in index.search(query, NUM_NEIGHBORS)]
    return sum(len(a & b) for a, b in zip(files, found, strict=True)) / exact.numel()


def builders(images: Embeddings, folder: Path) -> dict[str, Callable[[], None]]:
    """Returns functions that build an index of each kind and save it in a folder of its name."""

    def builder(name: str) -> Callable[[], None]:
        kind, half = KINDS[name]
        options = dict(model="random", fingerprint="0", kind=kind, half=half, log=lambda line: None)
        return lambda: EmbeddingIndex.build(images, **options).save(folder / name)

    return {name: builder(name) for name in KINDS}


def searches(
    indexes: Mapping[str, EmbeddingIndex], images: Embeddings, query: Embeddings
) -> dict[str, Callable[[], object]]:
    """Returns functions that search each index, and what they are compared with."""
    flat = build_index(images.features, "flat")
    ours = {name: functools.partial(index.search, query, NUM_NEIGHBORS) for name, index in indexes.items()}
    theirs = {
        FAISS: lambda: torch.from_numpy(flat.search(query.features.numpy(), NUM_NEIGHBORS)[1]),
        LIMIT: lambda: query.features @ images.features.T,
    }
    return {**ours, **theirs}


def main() -> None:
    """Runs both comparisons for each size, prints them and saves them on request."""
    parser = command(__doc__)
    parser.set_defaults(rounds=3)
    parser.add_argument("--sizes", nargs="+", type=int, default=[50_000], help="images of the index")
    parser.add_argument("--queries", type=int, default=1000, help="images that are searched for")
    parser.add_argument("--dim", type=int, default=512, help="size D of an embedding")
    args = parse(parser)
    report = Report("index", "Indexes: building and searching", "images")
    for items in args.sizes:
        classes = max(1, items // PER_CLASS)
        images = embedded(items, args.dim, seed=1, classes=classes)
        query = embedded(args.queries, args.dim, seed=2, classes=classes)
        case = {"images": items, "dim": args.dim}
        with tempfile.TemporaryDirectory() as folder:
            makers = builders(images, Path(folder))
            report.add(
                {**case, "what": "building"},
                race(makers, rounds=1, warm_up=0),
                memory={name: peak_memory(make, device="cpu") for name, make in makers.items()},
                MB_on_disk={
                    name: sum(file.stat().st_size for file in Path(folder, name).iterdir()) / 1e6 for name in makers
                },
            )
            indexes = {name: EmbeddingIndex.load(Path(folder, name)) for name in makers}
        finders = searches(indexes, images, query)
        report.add(
            {**case, "what": f"{args.queries} queries"},
            race(finders, rounds=args.rounds, warm_up=1),
            against=LIMIT,
            found={name: fraction_found(index, query, finders[FAISS]()) for name, index in indexes.items()},
        )
    report.save(args.save)


if __name__ == "__main__":
    main()
