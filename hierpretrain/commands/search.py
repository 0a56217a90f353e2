"""Finds the images of an index that are most like given ones, and says where these belong in its tree.

Examples:
    hierpretrain search photos.index new.jpg
    hierpretrain search photos.index 'new/*.jpg' -k 5 --sheet found.png
    hierpretrain search photos.index new.jpg --within food-drink/food-fruit
    hierpretrain search shop.index new.jpg --level product --where colour=red
    hierpretrain search photos.index new.jpg --classify --json -
    hierpretrain search photos.index configs/finetune_emoji.py CHECKPOINT new.jpg

What comes out: for every query a table of its neighbours, the most similar first: the cosine similarity (1 is the same
direction, 0 unrelated), the path in the tree, the key (of an index that was made of a list with --key-column) and the
file. --json writes the same for programs, with the list's other columns as metadata; --sheet a picture: a row a query.
There, a neighbour is coloured by the levels that it shares with the query, where this has a label of the index's tree
(it lies in a folder of that name, or a list gives it one).

--classify goes down the tree as far as the neighbours agree: after every name stands the fraction of the neighbours'
votes, and it stops where that falls below --threshold. A higher threshold gives fewer and surer names. An index that
was calibrated (hierpretrain calibrate) goes by what it learned instead, unless --votes or --threshold is given.

Common mistakes:
    - An index that was made with --no-model does not carry its model: give CONFIG and CHECKPOINT before the images.
      They must be the ones that made the index, or it says that embeddings cannot be compared.
    - A query that is in the index finds itself first, with a score of 1.
    - A pattern needs quotes, or the shell replaces it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hierpretrain._texts import read_branch, read_where
from hierpretrain.apis.addresses import is_address
from hierpretrain.apis.quick_search import quick_search
from hierpretrain.commands import check_outputs, embed_images, errors_in_one_line, printable
from hierpretrain.commands._index_options import MODEL_BEFORE_IMAGES, index_parser, model_of, open_index
from hierpretrain.files import write_json

if TYPE_CHECKING:
    from hierpretrain.apis.index import EmbeddingIndex
    from hierpretrain.apis.neighbours import Classification, SearchResult
    from hierpretrain.evaluation import Embeddings

_OF_QUICK_SEARCH = {"index", "images", "k", "json"}  # all other options need torch, or say how it runs


def main() -> None:
    """Searches for the queries, and prints and writes what was found."""
    parser = index_parser(__doc__, "QUERIES")
    parser.add_argument("-k", type=int, default=10, help="how many neighbours (default: 10)")
    parser.add_argument("--level", help="one neighbour for each node of a level of the tree, by its name or number")
    parser.add_argument("--within", metavar="BRANCH", help="search below a node: its path, its name, or a JSON list")
    parser.add_argument(
        "--where",
        nargs="+",
        action="extend",
        metavar="NAME=TEXT",
        help="search images with this metadata, from a list's columns",
    )
    parser.add_argument("--classify", action="store_true", help="say where each query belongs in the tree")
    parser.add_argument(
        "--votes",
        type=int,
        help="neighbours that vote on it; fewer for classes of few images (default: 20)",
    )
    parser.add_argument("--threshold", type=float, help="fraction of votes for a name (default: 0.5)")
    parser.add_argument("--json", metavar="FILE", help="write what was found as JSON; - for the standard output")
    parser.add_argument("--sheet", metavar="FILE.png", help="draw the queries with their neighbours")
    args = parser.parse_intermixed_args()
    with errors_in_one_line():
        talk = sys.stderr if args.json == "-" else sys.stdout
        with contextlib.redirect_stdout(talk):
            quick = _find_quickly(args, parser)
            results, classes, index, queries = (quick, [], None, None) if quick is not None else _find(args)
            for i, result in enumerate(results):
                print(f"\n{printable(result.query)}{f': {printable(str(classes[i]))}' if classes else ''}")
                print("\n".join(table(result)))
            if args.sheet:
                _draw(args.sheet, results, index, queries)
        if args.json:
            _write_json(args.json, results, classes)


def table(result: SearchResult) -> list[str]:
    r"""Returns the neighbours of a query as lines of text.

    Example:
        >>> from hierpretrain.apis.neighbours import Neighbour, SearchResult
        >>> found = Neighbour("photos/1.jpg", 0.91234, (("animal", "cat"), ("toy",)))
        >>> print("\n".join(table(SearchResult("new.jpg", (found, Neighbour("2.jpg", 0.5))))))
          rank   score  label              file
             1   0.912  animal/cat, toy    photos/1.jpg
             2   0.500  -                  2.jpg
    """
    labels = [
        printable("/".join(found.node) or ", ".join("/".join(path) for path in found.labels) or "-")
        for found in result.neighbours
    ]
    width = max(map(len, [*labels, "label"]))
    keys = [printable(found.key) for found in result.neighbours]
    wide = max(map(len, [*keys, "key"])) + 4 if any(keys) else 0  # no column where there is no key
    lines = [f"  rank   score  {'label':<{width}}    {'key'[:wide]:<{wide}}file"]
    for rank, (found, label, key) in enumerate(zip(result.neighbours, labels, keys, strict=True), start=1):
        lines.append(f"  {rank:4}  {found.score:6.3f}  {label:<{width}}    {key:<{wide}}{printable(found.path)}")
    return lines


def _find_quickly(args: argparse.Namespace, parser: argparse.ArgumentParser) -> list[SearchResult] | None:
    """Searches without torch, if nothing is asked for that needs it and the index has its encoder in ONNX."""
    others = {name: value for name, value in vars(args).items() if name not in _OF_QUICK_SEARCH}
    if any(value != parser.get_default(name) for name, value in others.items()) or is_address(args.index):
        return None
    check_outputs(args, "json")
    found = quick_search(args.index, args.images, args.k)
    if found is None:
        return None
    print(f"embedded {len(found.results):,} images with {found.model}")
    return found.results


def _find(
    args: argparse.Namespace,
) -> tuple[list[SearchResult], list[Classification], EmbeddingIndex, Embeddings]:
    from hierpretrain.apis import read_level

    votes = {"k": args.votes, "threshold": args.threshold}
    votes = {name: value for name, value in votes.items() if value is not None}
    if votes and not args.classify:
        raise ValueError("--votes and --threshold are for --classify; add it, or leave them out")
    check_outputs(args, "json", "sheet")
    index = open_index(args)
    where = read_where(args.where or (), "--where")
    level = None if args.level is None else read_level(args.level)
    within = None if args.within is None else read_branch(args.within, "--within")
    index.check_search(args.k, level=level, within=within, where=where)  # not after embedding many queries
    index.check_fits(where, within)
    if args.classify:
        index.check_classify(**votes)
    queries = embed_images(args, model_of(index, MODEL_BEFORE_IMAGES))
    results = index.search(queries, args.k, level=level, within=within, where=where)
    classes = index.classify(queries, **votes) if args.classify else []
    return results, classes, index, queries


def _write_json(path: str, results: Sequence[SearchResult], classes: Sequence[Classification]) -> None:
    entries: list[dict[str, Any]] = [asdict(result) for result in results]
    for entry, found in zip(entries, classes, strict=False):  # none, unless --classify
        entry["classification"] = {name: value for name, value in asdict(found).items() if name != "query"}
    if path == "-":
        print(json.dumps(entries, indent=1))
    else:
        write_json(path, entries)


def _draw(path: str, results: Sequence[SearchResult], index: EmbeddingIndex, queries: Embeddings) -> None:
    from hierpretrain.apis.branches import label_paths
    from hierpretrain.datasets.copies import fold_copies
    from hierpretrain.visualization import SheetNeighbour, SheetRow, plot_retrieval_sheet

    rows = []
    for result, labels in zip(results, queries.labels, strict=True):
        wanted = label_paths(queries.taxonomy, labels)
        known = index.taxonomy.known_depths(wanted).tolist()
        wanted = [path for path, depth in zip(wanted, known, strict=True) if depth == len(path)]
        neighbours = []
        found_of = result.neighbours
        for first, *copies in fold_copies([found.path for found in found_of], [found.labels for found in found_of]):
            found = found_of[first]
            paths = (found.node,) if found.node else found.labels
            # one neighbour a node shares no more than the node's path
            asked = [path[: len(found.node) or None] for path in wanted]
            common = [(_in_common(path, other), path) for path in asked for other in paths]
            shared = max((number for number, _ in common), default=0) if wanted else None
            whole = any(number == len(path) > 0 for number, path in common)
            names = tuple(map(printable, paths[0] if paths else (Path(found.path).stem,)))
            caption = (*names[:-1], f"{names[-1]} {found.score:.3f}")
            neighbours.append(SheetNeighbour(found.path, caption, shared, whole, 1 + len(copies)))
        rows.append(SheetRow(result.query, (printable(Path(result.query).name),), neighbours))
    plot_retrieval_sheet(rows, path, levels=index.taxonomy.level_names)


def _in_common(path: Sequence[str], other: Sequence[str]) -> int:
    """Returns how many leading names two paths share."""
    differ = (at for at, (name, others) in enumerate(zip(path, other, strict=False)) if name != others)
    return next(differ, min(len(path), len(other)))
