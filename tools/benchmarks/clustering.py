"""Times the clustering of embeddings beside scikit-learn's and the limit, and measures how good the clusters are.

Contenders: ours (``clustering_metrics``: the best of 3 starts by greedy k-means++, up to 50 iterations, its NMI and
AMI); scikit-learn's ``KMeans`` with as many starts and iterations and its k-means++; and the limit, one bare
``faiss.Kmeans`` from random items with as many iterations. Timed are the clustering, its NMI and, for ours, its AMI.

The features of a class are its random centre plus noise.

Examples:
    python tools/benchmarks/clustering.py
    python tools/benchmarks/clustering.py --sizes 12612x3985 --rounds 1
"""

from __future__ import annotations

from collections.abc import Callable

import faiss
import torch
from measure import Report, command, features_of_classes, parse, peak_memory, race
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor

from hierpretrain.functional.clustering import best_clustering

OURS, SKLEARN, LIMIT = "ours", "KMeans of scikit-learn", "limit: faiss.Kmeans, one start"
STARTS, ITERATIONS = 3, 50


def embedded(items: int, classes: int, dim: int, noise: float) -> tuple[Tensor, Tensor]:
    """Returns (N, D) unit features and their (N,) labels, every class of which has an item."""
    labels = torch.arange(items) % classes
    return features_of_classes(labels, classes, dim, noise), labels


def contenders(features: Tensor, labels: Tensor) -> dict[str, Callable[[], tuple[float, float]]]:
    """Returns what is compared, by name: functions that return the sum of squared distances and the NMI."""
    classes = len(labels.unique())

    def ours() -> tuple[float, float]:
        (inertia, _), metrics = best_clustering(features, labels)
        return inertia, metrics["nmi"]

    def sklearn() -> tuple[float, float]:
        kmeans = KMeans(classes, n_init=STARTS, max_iter=ITERATIONS, random_state=0).fit(features.numpy())
        return float(kmeans.inertia_), float(normalized_mutual_info_score(labels, kmeans.labels_))

    def limit() -> tuple[float, float]:
        counts = dict(min_points_per_centroid=1, max_points_per_centroid=len(features))
        kmeans = faiss.Kmeans(features.shape[1], classes, niter=ITERATIONS, seed=0, **counts)
        kmeans.train(features.numpy())
        distance, clusters = kmeans.index.search(features.numpy(), 1)
        return float(distance.sum()), float(normalized_mutual_info_score(labels, clusters[:, 0]))

    return {OURS: ours, SKLEARN: sklearn, LIMIT: limit}


def main() -> None:
    """Runs the comparison, prints it and saves it on request."""
    parser = command(__doc__)
    parser.set_defaults(rounds=3)
    sizes = ["2000x9", "2000x500", "6000x1500", "20000x100"]
    parser.add_argument("--sizes", nargs="+", default=sizes, metavar="NxC", help="items x classes")
    parser.add_argument("--dim", type=int, default=128, help="size D of an embedding")
    parser.add_argument("--noise", type=float, default=0.1, help="of each number of an embedding")
    args = parse(parser)
    report = Report("clustering", "k-means of embeddings, and its NMI", "items")
    for size in args.sizes:
        items, classes = map(int, size.split("x"))
        made = contenders(*embedded(items, classes, args.dim, args.noise))
        found = {name: contender() for name, contender in made.items()}
        seconds = race(made, rounds=args.rounds, warm_up=0)
        report.add(
            {"items": items, "classes": classes, "dim": args.dim},
            seconds,
            against=LIMIT,
            memory={name: peak_memory(contender, device="cpu") for name, contender in made.items()}
            if items <= 2000
            else None,
            inertia={name: inertia for name, (inertia, _) in found.items()},
            nmi={name: nmi for name, (_, nmi) in found.items()},
        )
    report.save(args.save)


if __name__ == "__main__":
    main()
