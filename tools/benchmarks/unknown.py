"""How well an index knows what it does not know: calibration error, AUROC of unknown classes, accuracy by coverage.

Images of seen classes that the encoder was trained on are the index. The others are in two halves, the validation and
the test images, and so are the unseen classes. One half of each is held out and calibrates the index, the others are
the test; each half takes each place, and numbers are means of the four. So the index is calibrated with unknown images,
but never with images of the unknown classes that it is tested with.

Run by    python tools/train.py configs/finetune_emoji_known.py        (and finetune_openclipart_known.py)
          python tools/benchmarks/unknown.py emoji openclipart
Needs     a minute and a half for each data set on two idle cores, after the trainings
Writes    a table of each data set to the standard output; with --out all numbers, as JSON
"""

import argparse
import json
import statistics
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hierpretrain.apis import EmbeddingInferencer, config_dataset
from hierpretrain.apis.answers import right_answers
from hierpretrain.apis.index import EmbeddingIndex
from hierpretrain.evaluation import Embeddings
from hierpretrain.files import write_whole
from hierpretrain.functional.calibration import calibration_noise
from hierpretrain.functional.open_set import answer_metrics, correct_nodes, is_known, is_unknown, unknown_auroc
from hierpretrain.functional.selective import coverage_curve
from hierpretrain.taxonomy import PAD, depth

DATA = {"emoji": ("seen", "unseen"), "openclipart": ("seen", "unseen", "catalogue")}
PRECISION = 0.95
COVERAGES = (0.5, 0.7, 0.9, 1.0)
FEWEST = 90  # known images of a level that is shown


def main() -> None:
    """Measures the data sets that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", choices=DATA)
    parser.add_argument("--checkpoint", help="'' for the encoder without training; by default the eighth epoch's")
    parser.add_argument("--out", help="write all numbers as JSON")
    args = parser.parse_args()
    found = {}
    for name in args.data:
        config = f"finetune_{name}_known"
        checkpoint = f"work_dirs/{config}/epoch_8.pth" if args.checkpoint is None else args.checkpoint
        inferencer = EmbeddingInferencer(f"configs/{config}.py", checkpoint, progress=False)
        splits = [f"{part}_{split}" for part in DATA[name] for split in ("train", "val", "test")]
        found[name] = measure(inferencer.embed(config_dataset(inferencer.config, splits=splits)))
        print(f"\n{name}, {inferencer.name}\n\n{table(found[name])}")
    if args.out:
        write_whole(args.out, (json.dumps(found, indent=1) + "\n").encode())


def measure(images: Embeddings) -> dict[str, dict[str, float]]:
    """Returns the metrics of each level, means over the halves of the known images and of the unseen classes."""
    index = EmbeddingIndex.build(images.of("seen_train"), model="", fingerprint="", log=lambda line: None)
    unseen = images.of(["unseen_val", "unseen_test"])
    unknown = [unseen.select(half) for half in in_halves(unseen, index)]
    known = [images.of("seen_val"), images.of("seen_test")]
    apart = images.of("catalogue_test") if "catalogue_test" in images.splits else None
    folds = [_fold(index, known[i], unknown[j], known[1 - i], unknown[1 - j], apart) for i in (0, 1) for j in (0, 1)]
    levels = {}
    for name in index.taxonomy.level_names:
        of = [fold[name] for fold in folds]
        levels[name] = {key: statistics.mean(one[key] for one in of) for key in of[0] if all(key in one for one in of)}
    return levels


def in_halves(unseen: Embeddings, index: EmbeddingIndex) -> tuple[list[int], list[int]]:
    """Returns the indices of the images of one half of the unknown nodes, and of the other: as many images as can be.

    The largest node goes first, each to the side that has fewer images.
    """
    truth, _ = right_answers(unseen.taxonomy, unseen.labels, index.taxonomy, index.labels)
    first = unseen.labels.view(len(truth), -1, truth.shape[2])[:, 0]  # of several paths the first
    deepest = depth(truth[:, 0])
    nodes: dict[tuple[int, ...], list[int]] = {}
    for i, (row, end) in enumerate(zip(first.tolist(), deepest.tolist(), strict=True)):
        nodes.setdefault(tuple(row[: end + 1]), []).append(i)
    sides: tuple[list[int], list[int]] = ([], [])
    for _, of in sorted(nodes.items(), key=lambda item: (-len(item[1]), item[0])):
        min(sides, key=len).extend(of)
    return sides


def _fold(
    index: EmbeddingIndex,
    held_out: Embeddings,
    held_out_unknown: Embeddings,
    known_test: Embeddings,
    test_unknown: Embeddings,
    apart: Embeddings | None,
) -> dict[str, dict[str, float]]:
    """Measures with one half of the images held out and the other half tested, and a branch that neither has."""
    test = joined(known_test, test_unknown)
    index.calibrate(held_out, precision=PRECISION)
    closed = index.answer(known_test)
    votes = index.answer(test, k=20)
    index.calibrate(joined(held_out, held_out_unknown), precision=PRECISION)
    answers = index.answer(test)
    cosines = nearest_cosines(index, test)
    truth, depths = right_answers(test.taxonomy, test.labels, index.taxonomy, index.labels)
    tables = (truth, depths)
    levels = answer_metrics(answers.nodes, answers.confidences, answers.num_named, *tables)
    of_votes = answer_metrics(votes.nodes, votes.confidences, votes.num_named, *tables)
    of_closed = answer_metrics(
        closed.nodes, closed.confidences, closed.num_named, *(of[: len(known_test.paths)] for of in tables)
    )
    right, known, unknown = correct_nodes(answers.nodes, truth), is_known(truth), is_unknown(truth, depths)
    found: dict[str, dict[str, float]] = {}
    for level, name in enumerate(index.taxonomy.level_names):
        metrics: dict[str, Any] = dict(levels[level])
        asked = answers.nodes[:, level] != PAD
        metrics["num_answers"] = int(asked.sum())
        metrics["auroc_cosine"] = unknown_auroc(cosines, known[:, level], unknown[:, level])
        metrics["auroc_votes"] = of_votes[level].get("auroc_unknown")
        metrics["ece_votes"], metrics["ece_known"] = of_votes[level].get("ece"), of_closed[level].get("ece")
        if asked.any():
            sure, ok = answers.confidences[asked, level], right[asked, level]
            metrics["ece_noise"] = calibration_noise(sure)
            _, coverage, accuracy = coverage_curve(sure, ok)
            for wanted in COVERAGES:
                metrics[f"accuracy@{wanted:g}"] = float(accuracy[(coverage >= wanted - 1e-9).nonzero()[0, 0]])
        found[name] = {key: value for key, value in metrics.items() if value is not None}
    if apart is not None:
        both = joined(known_test, apart)
        is_apart = torch.arange(len(both.paths)) >= len(known_test.paths)
        answers = index.answer(both)
        for level, name in enumerate(index.taxonomy.level_names):
            known = is_known(truth)[: len(known_test.paths), level]
            some = torch.cat([known, torch.zeros(len(apart.paths), dtype=torch.bool)])
            for key, scores in (
                ("confidence", answers.confidences[:, level]),
                ("cosine", nearest_cosines(index, both)),
            ):
                auroc = unknown_auroc(scores, some, is_apart)
                found[name] |= {} if auroc is None else {f"apart_auroc_{key}": auroc}
            found[name]["apart_caught"] = float((answers.num_named[is_apart] <= level).double().mean())
    return found


def nearest_cosines(index: EmbeddingIndex, query: Embeddings) -> Tensor:
    """Returns the (Q,) cosine of the nearest image of the index: the score of who has no other."""
    return torch.tensor([one.neighbours[0].score for one in index.search(query, 1)], dtype=torch.float64)


def joined(one: Embeddings, other: Embeddings) -> Embeddings:
    """Returns the images of two sets of one data set."""
    paths = one.paths + other.paths
    return Embeddings(
        features=torch.cat([one.features, other.features]),
        labels=torch.cat([one.labels, other.labels]),
        extra_labels=torch.empty(len(paths), 0),
        splits=one.splits + other.splits,
        paths=paths,
        taxonomy=one.taxonomy,
        extra_names=(),
    )


_ROWS = {
    "num_known": "known images",
    "num_unknown": "unknown images",
    "accuracy": "best guess right, of known",
    "ece_votes": "calibration error: fractions of votes",
    "ece": "calibration error",
    "ece_noise": "(of true probabilities, for so few answers)",
    "ece_known": "calibration error, known images alone",
    "auroc_cosine": "AUROC of unknown: nearest cosine",
    "auroc_votes": "AUROC of unknown: fraction of votes",
    "auroc_unknown": "AUROC of unknown: confidence",
    "coverage": f"named at a stated precision of {PRECISION:.0%}, of known",
    "precision": "of all names right",
    "caught": "of unknown not named",
    **{f"accuracy@{coverage:g}": f"right among the surest {coverage:.0%}" for coverage in COVERAGES},
    "apart_auroc_cosine": "a branch apart, AUROC: nearest cosine",
    "apart_auroc_confidence": "a branch apart, AUROC: confidence",
    "apart_caught": "a branch apart, not named",
}


def table(levels: Mapping[str, Mapping[str, float]]) -> str:
    """Returns a Markdown table, a level a column."""
    shown = {name: of for name, of in levels.items() if of["num_known"] >= FEWEST}
    lines = ["| | " + " | ".join(shown) + " |", "| --- |" + " ---: |" * len(shown)]
    for key, title in _ROWS.items():
        if any(key in of for of in shown.values()):
            cells = [_cell(key, of.get(key)) for of in shown.values()]
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(key: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if key.startswith("num_") else f"{100 * value:.1f} %"


if __name__ == "__main__":
    main()
