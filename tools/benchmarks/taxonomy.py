"""Races the label tree of up to 1.11 million species, as large as the tree of life's catalogues, with plain numbering.

The tree is drawn with the seven ranks of biology. As in GBIF's backbone and iNaturalist, there are about six species to
a genus, 18 genera to a family and a few groups to each group above, a few groups hold most of what is below, and
species carry the name of their genus. One path in fifty ends at its genus. The paths are in no order. Raced are

- build: ``Taxonomy(paths)``; plain numbering: for each level a dict from the prefix of a path to its id, in the order
  of first occurrence, without a check, a parent or a name that could be looked up;
- encode: the first ``Taxonomy.encode`` of a tree, of all paths, a label matrix; plain numbering: the ids as lists,
  looked up in these dicts;
- save and load: the file of the tree; the ``json`` module alone on the same lists, without a check;
- pickle, as a worker process is sent the tree: there and back; the same lists pickled;
- decode: 10,000 label rows to names; the same names taken from lists;
- look up: name, parent and children of 10,000 nodes; the same from lists.

Memory is measured in a fresh process for each contender.

Examples:
    python tools/benchmarks/taxonomy.py
    python tools/benchmarks/taxonomy.py --species 10000 --rounds 9
"""

import argparse
import copy
import json
import multiprocessing
import pickle
import statistics
import tempfile
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from measure import Report, command, parse, peak_memory, race

from hierpretrain.taxonomy import Taxonomy

RANKS = ("kingdom", "phylum", "class", "order", "family", "genus", "species")
BELOW = (12, 4, 4, 7, 18, 6)
"""How many groups of the next rank a group has on average, from the kingdoms down."""
LOOK_UPS = 10_000
IN_MEMORY = ("build", "encode")

LabelPath = tuple[str, ...]
Contenders = dict[str, Callable[[], Any]]


def write_paths(species: int) -> list[LabelPath]:
    """Returns the paths of species in no order; one in fifty ends at its genus."""
    rng = np.random.default_rng(species)
    counts = [species]
    for below in reversed(BELOW):
        counts.insert(0, max(counts[0] // below, 3))
    names = [words(count, rng) for count in counts[:-1]]
    nodes = np.arange(species)
    columns = [nodes]
    for count in reversed(counts[:-1]):
        weights = rng.pareto(1.2, count) + 0.1
        parents = rng.choice(count, nodes.max() + 1, p=weights / weights.sum())
        parents[:count] = np.arange(count)[: len(parents)]
        nodes = parents[nodes]
        columns.insert(0, nodes)
    epithets = words(min(species, 50_000), rng)
    epithet_of = rng.integers(len(epithets), size=species).tolist()
    ends = (rng.random(species) < 0.02).tolist()
    groups = ([of_rank[i] for i in ids.tolist()] for of_rank, ids in zip(names, columns, strict=False))
    paths = [
        path if end else (*path, f"{path[-1]} {epithets[epithet].lower()}")
        for path, epithet, end in zip(zip(*groups, strict=True), epithet_of, ends, strict=True)
    ]
    return [paths[i] for i in rng.permutation(species).tolist()]


def words(count: int, rng: np.random.Generator) -> list[str]:
    """Returns names of three to five syllables, the first letter a capital; a few occur twice, as in nature."""
    syllables = [consonant + vowel for consonant in "bcdfglmnprstvz" for vowel in ("a", "e", "i", "o", "u", "us", "ae")]
    drawn = rng.integers(len(syllables), size=(count, 5)).tolist()
    lengths = rng.integers(3, 6, size=count).tolist()
    return ["".join(syllables[i] for i in of_word[:n]).capitalize() for of_word, n in zip(drawn, lengths, strict=True)]


def plain_numbering(paths: Sequence[LabelPath]) -> list[dict[LabelPath, int]]:
    """Returns the ids of the nodes of each level, by their paths, in the order of their first occurrence."""
    ids: list[dict[LabelPath, int]] = [{} for _ in RANKS]
    for path in paths:
        for level in range(len(path)):
            prefix = path[: level + 1]
            if prefix not in ids[level]:
                ids[level][prefix] = len(ids[level])
    return ids


def plain_labels(paths: Sequence[LabelPath], ids: Sequence[dict[LabelPath, int]]) -> list[list[int]]:
    """Returns the ids along each path."""
    return [[ids[level][path[: level + 1]] for level in range(len(path))] for path in paths]


def plain_names(rows: Sequence[Sequence[int]], names: Sequence[Sequence[str]]) -> list[LabelPath]:
    """Returns the names of label rows."""
    return [tuple(of_level[i] for of_level, i in zip(names, row, strict=True) if i >= 0) for row in rows]


def children_of(parents: Sequence[int], count: int) -> list[list[int]]:
    """Returns the children of each of ``count`` nodes."""
    children: list[list[int]] = [[] for _ in range(count)]
    for node, parent in enumerate(parents):
        children[parent].append(node)
    return children


def contenders_of(kind: str, paths: list[LabelPath], folder: str) -> Contenders:
    """Returns ours and the limit of one kind."""
    ours, plain = f"{kind}: ours", f"{kind}: plain numbering"
    if kind == "build":
        return {ours: lambda: Taxonomy(paths, RANKS), plain: lambda: plain_numbering(paths)}
    tree = Taxonomy(paths, RANKS)
    if kind == "encode":
        ids = plain_numbering(paths)
        return {ours: lambda: copy.copy(tree).encode(paths), plain: lambda: plain_labels(paths, ids)}
    data, file = tree.to_dict(), Path(folder, "tree.json")
    if kind == "save":
        return {
            ours: lambda: tree.save(file),
            f"{kind}: json alone": lambda: file.write_bytes(json.dumps(data, ensure_ascii=False).encode()),
        }
    if kind == "load":
        tree.save(file)
        return {ours: lambda: Taxonomy.load(file), f"{kind}: json alone": lambda: json.loads(file.read_bytes())}
    if kind == "pickle":
        return {
            ours: lambda: pickle.loads(pickle.dumps(tree)),
            f"{kind}: lists alone": lambda: pickle.loads(pickle.dumps(data)),
        }
    if kind == "decode":
        rows = tree.encode(paths[:LOOK_UPS]).tolist()
        return {
            ours: lambda: list(map(tree.decode, rows)),
            f"{kind}: lists alone": lambda: plain_names(rows, data["names"]),
        }
    genera = len(RANKS) - 1
    nodes = np.random.default_rng(0).integers(tree.num_nodes(genera), size=LOOK_UPS).tolist()
    names, parents = data["names"][genera - 1], data["parents"][genera - 1]
    children = children_of(data["parents"][genera], len(names))
    return {
        ours: lambda: [(tree.name(genera, i), tree.parent(genera, i), tree.children(genera, i)) for i in nodes],
        f"{kind}: lists alone": lambda: [(names[i], parents[i], tuple(children[i])) for i in nodes],
    }


KINDS = ("build", "encode", "save", "load", "pickle", "decode", "look up")


def memory_of(kind: str, name: str, species: int) -> int:
    """Returns the peak bytes of a contender in a process of its own."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=send_memory, args=(sender, kind, name, species))
    process.start()
    sender.close()
    try:
        return int(receiver.recv())
    except EOFError:
        raise SystemExit(f"the memory of {name!r} could not be measured; see above") from None
    finally:
        process.join()


def send_memory(sender: Connection, kind: str, name: str, species: int) -> None:
    """Measures the memory of a contender."""
    with tempfile.TemporaryDirectory() as folder:
        small = contenders_of(kind, write_paths(100), folder)[name]
        contender = contenders_of(kind, write_paths(species), folder)[name]
        sender.send(peak_memory(contender, device="cpu", warm_up=small))


def compare(report: Report, kind: str, paths: list[LabelPath], args: argparse.Namespace) -> dict[str, float]:
    """Races one kind at one size; returns the figures of ours that have a bar."""
    with tempfile.TemporaryDirectory() as folder:
        contenders = contenders_of(kind, paths, folder)
        seconds = race(contenders, rounds=args.rounds, warm_up=args.warm_up)
    ours, limit = contenders
    del contenders
    measured = args.memory and kind in IN_MEMORY
    memory = {name: memory_of(kind, name, len(paths)) for name in (ours, limit)} if measured else {}
    report.add({"species": len(paths)}, seconds, against=limit, memory=memory)
    ratios = [a / b for a, b in zip(seconds[ours], seconds[limit], strict=True)]
    return {"ratio": statistics.median(ratios), "MiB": memory.get(ours, 0) / 2**20}


def main() -> None:
    """Races all kinds at all sizes."""
    parser = command(__doc__)
    parser.set_defaults(rounds=3)
    parser.add_argument("--species", nargs="+", type=int, default=[10_000, 100_000, 1_110_000])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--warm-up", type=int, default=1, help="calls of each contender that are not timed")
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="do not measure memory")
    args = parse(parser)
    report = Report("taxonomy", "Label trees of species", "species")
    for species in args.species:
        paths = write_paths(species)
        for kind in args.kinds:
            figures = compare(report, kind, paths, args)
            if kind in ("build", "encode"):
                report.bar(f"{kind} of {species:,} species, in times of plain numbering", figures["ratio"], 2)
    report.save(args.save)


if __name__ == "__main__":
    main()
