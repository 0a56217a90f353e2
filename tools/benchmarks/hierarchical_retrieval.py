"""Times metrics over all levels of a tree, hierarchical retrieval and violations, against a bare search.

The tree has classes of ``--per-class`` gallery items, ten of them in each node above, and the given number of nodes at
the top. The features of a class are the centre of its top node, plus those of the nodes below, plus noise. The limit is
faiss's exact search for the nearest ten, of the same queries, or of as many as there are anchors.

Examples:
    python tools/benchmarks/hierarchical_retrieval.py --threads 1
    python tools/benchmarks/hierarchical_retrieval.py --sizes 2000x10000 --rounds 9
"""

from __future__ import annotations

import statistics

import faiss
import torch
from measure import Report, command, parse, peak_memory, race
from torch import Tensor
from torch.nn.functional import normalize

from hierpretrain.functional import hierarchical_retrieval_metrics, hierarchy_violations

BAR_SIZE = (20_000, 100_000)
METRICS, VIOLATIONS, LIMIT = "H-AP, ASI, NDCG", "violations", "limit: faiss, nearest 10"


def embedded(number: int, classes: tuple[int, ...], dim: int, noise: float, seed: int) -> tuple[Tensor, Tensor]:
    """Returns (N, D) unit features and their (N, 3) labels, of a tree with so many nodes on its levels."""
    generator = torch.Generator().manual_seed(seed)
    leaves = torch.randint(classes[-1], (number,), generator=generator)
    labels = torch.stack([leaves * of_level // classes[-1] for of_level in classes], 1)
    features = noise * torch.randn(number, dim, generator=generator)
    for level, of_level in enumerate(classes):
        centres = torch.randn(of_level, dim, generator=torch.Generator().manual_seed(level))
        features += normalize(centres, dim=1)[labels[:, level]]
    return normalize(features, dim=1), labels


def search(query: Tensor, gallery: Tensor) -> object:
    """Finds the nearest ten of each query."""
    index = faiss.IndexFlatIP(gallery.shape[1])
    index.add(gallery.numpy())
    return index.search(query.numpy(), 10)


def main() -> None:
    """Runs the comparison, prints it with its bars, and saves it on request."""
    parser = command(__doc__)
    parser.set_defaults(rounds=3)
    sizes = ["2000x10000", "6000x30000", "20000x100000"]
    parser.add_argument("--sizes", nargs="+", default=sizes, metavar="QxG", help="queries x gallery")
    parser.add_argument("--per-class", type=int, default=5, help="gallery items of a class")
    parser.add_argument("--top", nargs="+", type=int, default=[1000, 50], help="nodes of the top level")
    parser.add_argument("--anchors", type=int, default=2000, help="of violations")
    parser.add_argument("--dim", type=int, default=128, help="size D of an embedding")
    parser.add_argument("--noise", type=float, default=0.13, help="of each number of an embedding")
    args = parse(parser)
    report = Report("hierarchical_retrieval", "Metrics over all levels", "gallery")
    for size in args.sizes:
        queries, gallery = map(int, size.split("x"))
        for top in args.top:
            leaves = gallery // args.per_class
            if leaves // 10 < top:
                continue
            classes = top, leaves // 10, leaves
            query, offered = (
                embedded(number, classes, args.dim, args.noise, seed) for seed, number in ((8, queries), (9, gallery))
            )
            case = {"queries": queries, "gallery": gallery, "dim": args.dim, "top nodes": top}
            made = {
                METRICS: lambda query=query, offered=offered: hierarchical_retrieval_metrics(*query, *offered),
                LIMIT: lambda query=query, offered=offered: search(query[0], offered[0]),
            }
            few = {
                VIOLATIONS: lambda offered=offered: hierarchy_violations(*offered, max_anchors=args.anchors),
                LIMIT: lambda offered=offered: search(offered[0][: args.anchors], offered[0]),
            }
            for of_case, contenders, bar in (
                (case, made, 2),
                ({**case, "queries": min(args.anchors, gallery)}, few, 1),
            ):
                seconds = race(contenders, rounds=args.rounds, warm_up=1)
                memory = {name: peak_memory(contender) for name, contender in contenders.items()}
                report.add(of_case, seconds, against=LIMIT, memory=memory)
                if (queries, gallery) == BAR_SIZE:
                    ours = next(iter(contenders))
                    ratios = [mine / limit for mine, limit in zip(seconds[ours], seconds[LIMIT], strict=True)]
                    report.bar(f"{ours}, {top} top nodes, times a search", statistics.median(ratios), bar)
    report.save(args.save)


if __name__ == "__main__":
    main()
