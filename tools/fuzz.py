"""Damages files at random and reads them: what is told, what is taken for good, what hangs or eats memory?

For every reader and every file that the toolbox writes, small files are written and mutated: bits and bytes, spans,
lines, encodings, nodes of JSON, members of archives, headers of arrays, files of another kind. They are read
in processes of their own, with limits on memory and time, and the outcomes are counted:

    same                    what is read is as before
    undetectable            it is another, and nothing in the file tells: a letter for another, a line less
    detectable              it is another, and a checksum, a count or a rule could have told: a fault of the reader
    message                 an error in one line that names the file, or a warning that does
    other message           an error in one line that does not
    traceback               an error of Python or of a library, or a crash
    hang                    more than 20 s of a processor
    memory                  more than 1 GiB

The last five columns must be empty. A mutation is known by its target, seed and number, and the same every time:

    python tools/fuzz.py --mutations 10000
    python tools/fuzz.py --target checkpoint taxonomy --mutations 500 --seed 1
    python tools/fuzz.py --target checkpoint --seed 1 --only 17 --keep damaged

It runs in a clone, on Linux: the files are written by the tests' own writers.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(threads, "1")  # before NumPy is imported: a process with threads is not to be forked
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from fuzzing.children import Child  # noqa: E402
from fuzzing.mutations import mutate  # noqa: E402
from fuzzing.outcomes import CLASSES, FAULTS, Outcome, judge  # noqa: E402
from fuzzing.targets import Target, targets  # noqa: E402

_AT_A_TIME = 25
_TARGETS: dict[str, Target] = {}
_WRITTEN: dict[str, tuple[Path, list[Path], str, Child]] = {}  # of this process


def main() -> None:
    """Fuzzes, and prints a table and the faults; the exit status is 1 if there is one."""
    _TARGETS.update(targets())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=10_000, help="of all targets together (default: 10000)")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations (default: 0)")
    parser.add_argument("--target", nargs="+", choices=list(_TARGETS), help="these alone; all by default")
    parser.add_argument("--only", type=int, nargs="+", metavar="NUMBER", help="these mutations of each target alone")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave the damaged files of --only there")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--verbose", action="store_true", help="print every outcome")
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    counts = run(
        args.target or list(_TARGETS), args.mutations, args.seed, args.only, args.jobs, args.keep, args.verbose
    )
    print(table(counts))
    raise SystemExit(any(count[name] for count in counts.values() for name in FAULTS))


def run(
    names: list[str],
    mutations: int,
    seed: int = 0,
    only: list[int] | None = None,
    jobs: int = 1,
    keep: Path | None = None,
    verbose: bool = False,
) -> dict[str, Counter[str]]:
    """Fuzzes targets, prints the faults, and returns the outcomes: target -> class -> number."""
    whole = sum(_TARGETS[name].share for name in names)
    chunks = []
    for name in names:
        numbers = only or range(max(1, round(mutations * _TARGETS[name].share / whole)))
        chunks += [(name, seed, numbers[i : i + _AT_A_TIME], keep) for i in range(0, len(numbers), _AT_A_TIME)]
    counts: dict[str, Counter[str]] = {name: Counter() for name in names}
    with ExitStack() as stack:
        tempfile.tempdir = stack.enter_context(tempfile.TemporaryDirectory(prefix="fuzz."))  # of the processes too
        each: Callable[..., Iterable[tuple[str, list[Outcome]]]] = map
        if jobs > 1:
            each = stack.enter_context(multiprocessing.get_context("fork").Pool(jobs)).imap_unordered
        for name, outcomes in each(_fuzzed, chunks):
            for outcome in outcomes:
                counts[name][outcome.kind] += 1
                if outcome.kind in FAULTS or verbose or only:
                    print(f"{name} --seed {seed} --only {outcome.number}: {outcome}", flush=True)
    return counts


def _fuzzed(chunk: tuple[str, int, range, Path | None]) -> tuple[str, list[Outcome]]:
    name, seed, numbers, keep = chunk
    if name not in _WRITTEN:
        folder = Path(tempfile.mkdtemp(prefix="fuzz."))
        _TARGETS[name].write(folder)
        files = sorted({p for pattern in _TARGETS[name].files for p in folder.glob(pattern) if p.is_file()})
        child = Child(lambda: _TARGETS[name].read(folder))
        before = child.ask()
        if before.how != "read" or not files:
            raise RuntimeError(f"{name} cannot be read before it is damaged: {before.text}")
        _WRITTEN[name] = (folder, files, before.digest, child)
    outcomes = [_one(name, seed, number, keep) for number in numbers]
    _WRITTEN[name][-1].close()
    return name, outcomes


def _one(name: str, seed: int, number: int, keep: Path | None) -> Outcome:
    """Damages one file, reads, and puts the file back."""
    target, (folder, files, digest, child) = _TARGETS[name], _WRITTEN[name]
    draw = random.Random(f"{name}/{seed}/{number}")
    file = draw.choice(files)
    before = {path: path.read_bytes() for path in files}
    data, words = mutate(before[file], file.suffix, draw, [before[path] for path in files if path != file] or [b""])
    if data is None:
        file.unlink()
    else:
        file.write_bytes(data)
    if target.seal is not None:
        target.seal(folder, file)
    if keep:
        shutil.copytree(folder, keep / f"{name}.{number}", symlinks=True, dirs_exist_ok=True)
    ended = child.ask()
    for path in set(folder.rglob("*")) - set(files) if target.seal is not None else ():
        if path.is_file() and path.parent in {file.parent for file in files}:
            path.unlink()  # a part under its new name
    for path, content in before.items():
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
    return judge(target, number, file.relative_to(folder), before[file], data, words, ended, digest)


def table(counts: dict[str, Counter[str]]) -> str:
    """Returns the counts as a table in Markdown."""
    lines = [f"| target | mutations | {' | '.join(CLASSES)} |", "| --- | ---: |" + " ---: |" * len(CLASSES)]
    whole: Counter[str] = sum(counts.values(), Counter())
    for name, count in {**counts, "**all**": whole}.items():
        cells = [str(count[kind] or "") for kind in CLASSES]
        lines.append(f"| {name} | {count.total()} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
