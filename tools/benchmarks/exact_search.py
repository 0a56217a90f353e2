"""Times exact searches that cannot be a plain product with all vectors: of float16, and in a branch of the tree.

The plain search is of an index of float32, the whole of it. A tenth of the images hangs below the node whose branch is
searched, spread over the whole index; a plain search of these images in an index of their own is the limit for it. All
searches are for the ten nearest images, names and files included.

Examples:
    python tools/benchmarks/exact_search.py
    python tools/benchmarks/exact_search.py --sizes 5000 --dims 64 --queries 20
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from measure import Report, command, features_of_classes, parse, race
from torch import Tensor

from hierpretrain.apis import EmbeddingIndex
from hierpretrain.evaluation import Embeddings
from hierpretrain.taxonomy import Taxonomy

PLAIN, ALONE, HALF, BRANCH, HALF_BRANCH = (
    "plain: float32, all images",
    "plain: the images of the branch alone",
    "float16, all images",
    "float32, a branch of a tenth",
    "float16, a branch of a tenth",
)
BRANCHES, CLASSES, NUM_NEIGHBORS = 10, 1000, 10
BRANCH_NAME = "branch 3"


def embedded(items: int, dim: int, *, seed: int) -> Embeddings:
    """Returns images around the random centres of their classes, a tenth of the classes below each top node."""
    labels = torch.randint(CLASSES, (items,), generator=torch.Generator().manual_seed(seed))
    features = features_of_classes(labels, CLASSES, dim, dim**-0.5, seed=seed)
    tree = Taxonomy([(f"branch {i % BRANCHES}", f"class {i}") for i in range(CLASSES)], ("branch", "class"))
    paths = [(f"branch {i % BRANCHES}", f"class {i}") for i in labels.tolist()]
    files = [f"{'/'.join(path)}/{i}.jpg" for i, path in enumerate(paths)]
    return Embeddings(features, tree.encode(paths), torch.empty(items, 0), ["all"] * items, files, tree, ())


def searches(images: Embeddings, query: Embeddings) -> dict[str, Callable[[], object]]:
    """Returns functions that search for the neighbours of all queries, each in another way."""
    about = dict(model="random", fingerprint="0", kind="flat", log=lambda line: None)
    whole, half = (EmbeddingIndex.build(images, half=half, **about) for half in (False, True))
    inside = (images.labels[:, 0] == images.taxonomy.encode([(BRANCH_NAME,)])[0, 0]).nonzero()[:, 0]
    alone = EmbeddingIndex.build(chosen(images, inside), **about)
    return {
        PLAIN: lambda: whole.search(query, NUM_NEIGHBORS),
        ALONE: lambda: alone.search(query, NUM_NEIGHBORS),
        HALF: lambda: half.search(query, NUM_NEIGHBORS),
        BRANCH: lambda: whole.search(query, NUM_NEIGHBORS, within=BRANCH_NAME),
        HALF_BRANCH: lambda: half.search(query, NUM_NEIGHBORS, within=BRANCH_NAME),
    }


def chosen(images: Embeddings, rows: Tensor) -> Embeddings:
    """Returns some of the images."""
    paths = [images.paths[row] for row in rows.tolist()]
    none, splits = torch.empty(len(rows), 0), ["all"] * len(rows)
    return Embeddings(images.features[rows], images.labels[rows], none, splits, paths, images.taxonomy, ())


def main() -> None:
    """Runs the comparison for each size, width and number of queries, prints it and saves it on request."""
    parser = command(__doc__)
    parser.add_argument("--sizes", nargs="+", type=int, default=[100_000], help="images of the index")
    parser.add_argument("--dims", nargs="+", type=int, default=[128, 256], help="sizes D of an embedding")
    parser.add_argument("--queries", nargs="+", type=int, default=[1, 100, 1000], help="images that are searched for")
    args = parse(parser)
    report = Report("exact_search", "Exact searches of float16 and of branches", "queries")
    for items in args.sizes:
        for dim in args.dims:
            images, query = embedded(items, dim, seed=1), embedded(max(args.queries), dim, seed=2)
            for number in args.queries:
                case = {"images": items, "dim": dim, "queries": number}
                seconds = race(searches(images, chosen(query, torch.arange(number))), rounds=args.rounds)
                report.add(case, seconds, against=PLAIN)
    report.save(args.save)


if __name__ == "__main__":
    main()
