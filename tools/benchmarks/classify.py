"""Measures how far the confidences of a classification down the tree can be trusted, on the config's own test data.

The gallery is indexed and the queries are classified by it. For every threshold and level a row says how many queries
get a name there and how many of those names are right. Where confidences are honest, the fraction of right names is
above the threshold.

Example:
    python tools/benchmarks/classify.py configs/himulcone_emoji.py work_dirs/himulcone_emoji/epoch_5.pth
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from hierpretrain.apis import Classification, EmbeddingInferencer, config_dataset
from hierpretrain.apis.branches import label_paths
from hierpretrain.apis.index import EmbeddingIndex


def main() -> None:
    """Embeds both splits, classifies the queries and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="the config file, with a test data set of the splits query and gallery")
    parser.add_argument("checkpoint", help="its checkpoint")
    parser.add_argument("--data-root", help="where the data set is")
    parser.add_argument("--votes", type=int, default=20, help="neighbours that vote (default: 20)")
    parser.add_argument("--temperature", type=float, default=0.07, help="of the votes (default: 0.07)")
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.3, 0.5, 0.8, 0.95])
    args = parser.parse_args()
    inferencer = EmbeddingInferencer(args.config, args.checkpoint)
    query, gallery = (
        inferencer.embed(config_dataset(inferencer.config, args.data_root, [split])) for split in ("query", "gallery")
    )
    index = EmbeddingIndex.build(gallery, model=inferencer.name, fingerprint=inferencer.fingerprint)
    truth = [label_paths(query.taxonomy, row) for row in query.labels]
    print(f"{len(query.paths):,} queries, {len(index):,} images in the index, {args.votes} votes")
    print(f"{'threshold':>9}  {'level':<14} {'named':>6} {'right':>6}  right of the named")
    for threshold in args.thresholds:
        found = index.classify(query, k=args.votes, temperature=args.temperature, threshold=threshold)
        for level, name in enumerate(index.taxonomy.level_names, start=1):
            named, right = count_names(found, truth, level)
            fraction = f"{right / named:.1%}" if named else "-"
            print(f"{threshold:9.2f}  {name:<14} {named:6,} {right:6,}  {fraction}")


def count_names(
    found: Sequence[Classification], truth: Sequence[Sequence[tuple[str, ...]]], level: int
) -> tuple[int, int]:
    """Returns how many queries were given a name at a level, and how many of these names are right.

    Args:
        found: Classification of each query.
        truth: Label paths of each query.
        level: Number of the level, from 1.
    """
    named = [(one.path[:level], paths) for one, paths in zip(found, truth, strict=True) if len(one.path) >= level]
    return len(named), sum(any(path[:level] == name for path in paths) for name, paths in named)


if __name__ == "__main__":
    main()
