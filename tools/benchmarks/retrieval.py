"""Times retrieval metrics against a bare search for the same nearest neighbours, and measures their memory.

Contenders: our ``retrieval_metrics``, with average precision over the whole gallery and without it;
pytorch-metric-learning's ``AccuracyCalculator`` for R-precision and MAP@R, as it is documented: ``k="max_bin_count"``,
as many neighbours as the largest class has items, found by faiss's inner product; and the limit, faiss's exact search
for the nearest ten. Where the largest class has more than ten items, faiss's search for as many, which is what MAP@R
looks at, is timed too.

The features of a class are its random centre plus noise, so much that about half of the queries find their class
first. Without ``--noise`` the noise is chosen for each size of class. ``--noise 1`` gives embeddings that know nothing,
for which all of the gallery has to be ranked.

Examples:
    python tools/benchmarks/retrieval.py
    python tools/benchmarks/retrieval.py --sizes 20000x100000 --per-class 5 25 2000 --rounds 3
    python tools/benchmarks/retrieval.py --noise 1
    python tools/benchmarks/retrieval.py --device cuda
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import faiss
import torch
from measure import Report, command, features_of_classes, parse, peak_memory, race
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import FaissKNN
from torch import Tensor

from hierpretrain.functional import retrieval_metrics

KS = (1, 10)
BAR_SIZE = (20_000, 100_000, 128)
OURS, NO_MAP, PML, LIMIT = "ours", "ours, without map", "AccuracyCalculator", "limit: faiss, nearest 10"
SAME = {"precision@1": "precision_at_1", "r_precision": "r_precision", "map@r": "mean_average_precision_at_r"}


def embedded(queries: int, gallery: int, dim: int, per_class: int, noise: float | None) -> list[Tensor]:
    """Returns (Q, D) queries, their (Q,) labels, the (G, D) gallery and its (G,) labels; all of unit length."""
    classes = max(1, gallery // per_class)
    noise = (0.13 if per_class < 100 else 0.2) if noise is None else noise
    found = []
    for seed, number in enumerate((queries, gallery)):
        labels = torch.randint(classes, (number,), generator=torch.Generator().manual_seed(seed))
        found += [features_of_classes(labels, classes, dim, noise, seed=seed), labels]
    return found


def contenders(sets: list[Tensor], device: str) -> dict[str, Callable[[], object]]:
    """Returns what is compared, by name, as functions of nothing."""
    query, _, gallery, gallery_labels = sets
    on_device = [tensor.to(device) for tensor in sets]
    most = int(gallery_labels.bincount().max())
    calculator = AccuracyCalculator(
        include=tuple(SAME.values()),
        k="max_bin_count",  # what its documentation asks for where the metrics are R-precision and MAP@R
        device=torch.device(device),
        knn_func=FaissKNN(index_init_fn=faiss.IndexFlatIP),  # of unit rows, as ours and the limit
    )

    def search(num_neighbors: int) -> object:
        index = faiss.IndexFlatIP(gallery.shape[1])
        index.add(gallery.numpy())
        return index.search(query.numpy(), min(num_neighbors, len(gallery)))

    made = {
        OURS: lambda: retrieval_metrics(*on_device, ks=KS),
        NO_MAP: lambda: retrieval_metrics(*on_device, ks=KS, average_precision=False),
        PML: lambda: calculator.get_accuracy(*on_device),
        LIMIT: lambda: search(max(KS)),
    }
    return made | ({f"faiss, nearest {most}": lambda: search(most)} if most > max(KS) else {})


def main() -> None:
    """Runs the comparison, prints it with its bars, and saves it on request."""
    parser = command(__doc__)
    parser.set_defaults(rounds=3)
    sizes = ["2000x10000", "6000x30000", "20000x100000"]
    parser.add_argument("--sizes", nargs="+", default=sizes, metavar="QxG", help="queries x gallery")
    parser.add_argument("--per-class", nargs="+", type=int, default=[5, 25, 2000], help="gallery items of a class")
    parser.add_argument("--slow", type=float, default=4e8, help="pairs at which classes of 100 or more end")
    parser.add_argument("--dim", type=int, default=128, help="size D of an embedding")
    parser.add_argument("--noise", type=float, help="of each number of an embedding")
    parser.add_argument("--device", default="cpu", help="where the embeddings are: cpu or cuda")
    args = parse(parser)
    report = Report("retrieval", "Retrieval metrics", "gallery")
    for size in args.sizes:
        queries, gallery = map(int, size.split("x"))
        for per_class in args.per_class:
            if per_class > gallery // 4 or (per_class >= 100 and queries * gallery > args.slow):
                continue
            made = contenders(embedded(queries, gallery, args.dim, per_class, args.noise), args.device)
            seconds = race(made, rounds=args.rounds, warm_up=1)
            memory = {name: peak_memory(made[name]) for name in (OURS, NO_MAP, PML, LIMIT)}
            case = {"queries": queries, "gallery": gallery, "dim": args.dim, "per_class": per_class}
            report.add(case, seconds, against=LIMIT, memory=memory)
            if (queries, gallery, args.dim) == BAR_SIZE:
                for name in (OURS, NO_MAP):
                    for search in [limit for limit in seconds if "faiss" in limit]:
                        ratios = [ours / limit for ours, limit in zip(seconds[name], seconds[search], strict=True)]
                        what = f"{name}, classes of {per_class}, times {search.removeprefix('limit: ')}"
                        report.bar(what, statistics.median(ratios), 1.3)
    report.save(args.save)


if __name__ == "__main__":
    main()
