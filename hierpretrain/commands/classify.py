"""Says where in the tree of an index images belong, with confidences, and where it does not know.

Examples:
    hierpretrain classify photos.index new --csv out.csv
    hierpretrain classify photos.index new.csv --key-column sku --csv out.csv
    hierpretrain classify photos.index test --json measured.json
    hierpretrain classify emoji.index configs/finetune_emoji_known.py CHECKPOINT --splits seen_test unseen_test

An image gets the names of the nodes that are sure enough, the broadest first: of a known branch but no known leaf, it
stops at the branch, and of nothing known it is unknown. How sure that is, the index has learned by the command
calibrate; without that, confidences are fractions of the neighbours' votes, and a name needs half of them.

What comes out: a line an image, or with --csv a file with a row an image:
    image, key                 the file, and what you know it by (--key-column)
    path, named                the names, joined by '/', 'unknown' for none; and how many there are
    then                       the next name, which is not sure enough
    confidence LEVEL           how sure the node of each level is, of the next and of those below it too
    nearest 1, 2, 3            the keys, or the files, of the nearest images of the index
    label, grade               where images have labels: the right path as far as the index knows it, and whether the
                               answer is it (right), a part of it (short), or has a node that is not on it (wrong)
For images with labels it prints two tables: by level, as the command calibrate explains it, and by branch, with the
severity of mistakes, which is the height of the lowest node above both the answer and the truth: 1 for a sibling.

Common mistakes:
    - A query that is in the index is its own nearest image.
    - An index that was made of other images since: calibrate it anew.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from hierpretrain.commands import check_outputs, embed_images, errors_in_one_line, printable
from hierpretrain.commands._index_options import MODEL_BEFORE_IMAGES, index_parser, model_of, open_index
from hierpretrain.files import write_json, write_whole

if TYPE_CHECKING:
    from torch import Tensor

    from hierpretrain.apis.answers import Answers
    from hierpretrain.apis.images import ImageSet
    from hierpretrain.apis.index import EmbeddingIndex
    from hierpretrain.evaluation import Embeddings


def main() -> None:
    """Classifies the images, and prints and writes the answers."""
    parser = index_parser(__doc__, test_data=True)
    parser.add_argument("--nearest", type=int, default=3, help="nearest images in the CSV file (default: 3)")
    parser.add_argument("--csv", metavar="FILE.csv", help="write the answers, a row an image")
    parser.add_argument("--json", metavar="FILE.json", help="write what the tables say, for images with labels")
    args = parser.parse_intermixed_args()
    with errors_in_one_line():
        check_outputs(args, "csv", "json")
        index = open_index(args)
        index.check_classify()
        index.check_search(args.nearest)
        if index.calibration is None:
            note = "the index was not calibrated: confidences are fractions of votes; see hierpretrain calibrate --help"
            print(note, file=sys.stderr)
        check = partial(_check_labelled, args.json)  # before the work, and of what could be read
        queries = embed_images(args, model_of(index, MODEL_BEFORE_IMAGES), check)
        check(queries)
        _write(args, index, queries)


def _check_labelled(json: str | None, images: ImageSet | Embeddings) -> None:
    from hierpretrain.taxonomy import PAD  # not before --help: it imports torch

    if json and not (images.labels != PAD).any():
        raise ValueError("--json writes what is measured, and no image has a label; leave it out, or give labels")


def _write(args: argparse.Namespace, index: EmbeddingIndex, queries: Embeddings) -> None:
    from hierpretrain.apis.answer_tables import branch_metrics, branch_table, level_table
    from hierpretrain.apis.answers import right_answers
    from hierpretrain.functional.open_set import answer_metrics

    answers = index.answer(queries)
    truth, depths = right_answers(queries.taxonomy, queries.labels, index.taxonomy, index.labels)
    if args.csv:
        write_whole(
            args.csv,
            answers_csv(index, queries, answers, truth, depths, args.nearest).encode("utf-8", "surrogateescape"),
        )
        counts = Counter(answers.num_named.tolist())
        names = ["unknown", *index.taxonomy.level_names]
        found = ", ".join(f"{names[number]} {counts[number]:,}" for number in sorted(counts, reverse=True))
        print(f"wrote {args.csv}: {len(queries.paths):,} images, named down to {found}")
    else:
        for one in index.in_words(queries, answers):
            print(f"{printable(one.query)}: {printable(str(one))}")
    labelled = depths > 0
    if labelled.any():
        found = [table[labelled] for table in (answers.nodes, answers.confidences, answers.num_named, truth, depths)]
        levels = answer_metrics(*found)
        branches = branch_metrics(answers.taxonomy, type(answers)(*found[:3], answers.taxonomy), truth[labelled])
        print("\n" + "\n".join(level_table(index.taxonomy.level_names, levels)))
        print("\n" + printable_lines(branch_table(branches)))
        if args.json:
            measured = dict(zip(index.taxonomy.level_names, levels, strict=True))
            write_json(args.json, {"levels": measured, "branches": branches})


def printable_lines(lines: list[str]) -> str:
    """Returns lines, of which none can upset a terminal, as one text."""
    return "\n".join(map(printable, lines))


def answers_csv(
    index: EmbeddingIndex, queries: Embeddings, answers: Answers, truth: Tensor, depths: Tensor, nearest: int
) -> str:
    """Returns the answers as a CSV file, which the command's help describes.

    Args:
        index: The index.
        queries: The Q images.
        answers: The answers for them.
        truth: (Q, P, L) the right ones.
        depths: (Q,) the depths of the images' own labels; 0 for none.
        nearest: How many images of the index to name, from 1.
    """
    from hierpretrain.apis.branches import label_paths
    from hierpretrain.functional.open_set import RIGHT, SHORT, WRONG, grade_answers

    tree, graded = index.taxonomy, bool((depths > 0).any())
    words = {RIGHT: "right", SHORT: "short", WRONG: "wrong"}
    grades = grade_answers(answers.named(), truth).tolist()
    heads = ["image", *(["key"] if queries.keys else []), "path", "named", "then"]
    heads += [*(f"confidence {name}" for name in tree.level_names), *(f"nearest {i + 1}" for i in range(nearest))]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(heads + (["label", "grade"] if graded else []))
    found = index.search(queries, nearest)
    for row, (one, near) in enumerate(zip(index.in_words(queries, answers), found, strict=True)):
        cells = [one.query, *([queries.keys[row]] if queries.keys else [])]
        cells += ["/".join(one.path) or "unknown", len(one.path), one.next[0] if one.next else ""]
        sure = zip(answers.nodes[row].tolist(), answers.confidences[row].tolist(), strict=True)
        cells += [f"{confidence:.4f}" if node >= 0 else "" for node, confidence in sure]
        names = [neighbour.key or neighbour.path for neighbour in near.neighbours]
        cells += names + [""] * (nearest - len(names))
        if graded:
            right = ", ".join("/".join(path) for path in label_paths(tree, truth[row]))
            cells += [right or "unknown", words[grades[row]]] if depths[row] else ["", ""]
        table.writerow(cells)
    return text.getvalue()
