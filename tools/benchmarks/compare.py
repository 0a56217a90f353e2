"""Compares the methods fairly: equally many trials for each, chosen on seen classes, then seeds on test images.

A search comes first. Every method gets the same number of short trials of its own settings (comparison.py has them):
half the epochs, seed 0. A trial trains without a fifth of the seen classes and is scored on those, by the mean of four
metrics: MAP@R, NMI inside the parent, NMI of the level above, H-AP. No test image and no unseen class plays a part.
Then every method trains with its best settings, all epochs, on all seen classes, once per seed, and is measured on
images of the unseen classes. Methods that come close have more seeds: the first six by the search's score.

--given has settings for the methods instead of a search, for a question that the search did not ask.

Runs that are done are in --results, a file with a line per run, and are not done again; what is missing is run, --jobs
at a time. So the comparison can be stopped at any moment and continued, on another machine too; several processes may
work on one. --again METHOD forgets the runs of a method, as it must when its code has changed.

Beside --results are then the tables: <protocol>.md, and what was tried in <protocol>_trials.md.

Examples:
    python tools/benchmarks/compare.py emoji_pretrained                   # search, runs and tables
    python tools/benchmarks/compare.py emoji_scratch --methods HiMulCon "SupCon, finest level" --seeds 0
    python tools/benchmarks/compare.py emoji_pretrained --batch-size 256  # the first six, with their own settings
    python tools/benchmarks/compare.py emoji_pretrained --table           # the tables of what is done, no runs
    python tools/benchmarks/compare.py emoji_pretrained --methods HiMulCon --given '{"model.projection": null}'
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from comparison import METHODS, PROTOCOLS, RATE, Overrides
from comparison_config import run_config
from comparison_runs import BATCH_SIZE, FIRST, MORE_SEEDS, SEEDS, Results, Run, best_scores, in_form
from comparison_tables import tables, trials_table
from mmengine.config import Config
from table import ROOT, slug

from hierpretrain._endings import ends_without_traceback
from hierpretrain.apis import build_runner
from hierpretrain.files import in_turn, write_whole

# ------------------------------------------------------------------ one run
MEASURED = "measured.json"
# A step frees what the next one needs again. glibc gives it back to the system meanwhile, which costs a tenth of a run.
_KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(2**36), "MALLOC_MMAP_THRESHOLD_": str(2**36)}


def measure(config: Config, folder: Path) -> dict[str, float]:
    """Trains and evaluates in a process of its own, and returns the metrics; none if the embedding collapsed.

    Raises:
        SystemExit: If the run fails.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config.work_dir = str(folder)
    config.dump(folder / "config.py")
    environment = {**_KEEP_MEMORY, "OMP_NUM_THREADS": "1", **os.environ}
    with open(folder / "log.txt", "w") as log:
        command = [sys.executable, __file__, "--one", str(folder)]
        if subprocess.run(command, env=environment, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT).returncode:
            message = f"a run failed; see {folder / 'log.txt'}"
            print(message, flush=True)  # other runs go on, and the command ends with the error when they are done
            raise SystemExit(message)
    metrics = json.loads((folder / MEASURED).read_text())
    for path in folder.iterdir():  # checkpoints and scalars of hundreds of runs
        if path.is_dir():
            shutil.rmtree(path)
    return metrics


def run_one(folder: str) -> None:
    """Trains and evaluates as the config in a folder says, and in each form of its embeddings.

    Where training made an embedding of nothing but zeros, as triplets may, no metrics are left.
    """
    # to lay out the config for the log takes seconds
    runner = build_runner(Config.fromfile(Path(folder) / "config.py", format_python_code=False))
    if runner.cfg.get("train_cfg"):
        runner.train()
    else:
        runner._init_model_weights()
    found: dict[tuple[float, float], dict[str, float]] = {}
    for form in map(tuple, runner.cfg.forms):
        if form not in found:
            runner.model.power = form[0]
            if runner.model.pretrained is not None:
                runner.model.pretrained.share = form[1]
            try:
                found[form] = runner.test()
            except ValueError as error:
                if "must have a direction" not in str(error):
                    raise
                print(f"the embedding collapsed: {error}", flush=True)
                (Path(folder) / MEASURED).write_text("{}")
                return
    own, *forms = map(tuple, runner.cfg.forms)
    metrics = found[own] | {f"{in_form(form)}/{name}": its for form in forms for name, its in found[form].items()}
    numbers = {name: value for name, value in metrics.items() if isinstance(value, float | int)}
    (Path(folder) / MEASURED).write_text(json.dumps(numbers))


# ------------------------------------------------------------------ all runs
class Comparison:
    """A protocol, its results and where the runs go.

    Args:
        name: The protocol.
        results: The runs that are done.
        root: The folder of those that are not.
    """

    def __init__(self, name: str, results: Results, root: Path) -> None:
        self.protocol, self.results, self.root = PROTOCOLS[name], results, root

    def measured(self, run: Run) -> dict[str, float]:
        """Returns the metrics of a run, which is run if it was not. A run that is under way elsewhere is waited for."""
        if run.key in self.results.metrics:
            return self.results.metrics[run.key]
        which = hashlib.sha256(run.key.encode()).hexdigest()[:8]  # the options themselves can be too long for a name
        folder = self.root / f"{slug(run.method)}_{run.stage}_{run.seed}_{run.batch_size}_{which}"
        with in_turn(folder):
            self.results.read()
            if run.key in self.results.metrics:
                return self.results.metrics[run.key]
            draws = self.protocol.trial_seeds if run.stage == "trial" else (0,)
            method = self.protocol.methods[run.method]
            measured = [measure(run_config(self.protocol, method, run, self.root, draw), folder) for draw in draws]
            if all(measured):
                metrics = {key: statistics.mean(its[key] for its in measured) for key in measured[0]}
            elif run.stage == "trial":
                metrics = dict.fromkeys(self.protocol.columns.values(), 0.0)  # the worst of all
            else:
                raise SystemExit(f"the embedding of {run.method}, seed {run.seed}, collapsed; see {folder / 'log.txt'}")
            self.results.add(run, metrics)
        told = f"{run.method}, {run.stage}, seed {run.seed}, batches of {run.batch_size}, {dict(run.options)}"
        print(f"{told}: {100 * self.protocol.score(metrics):.2f}", flush=True)
        return metrics

    def best(self, runs: Sequence[Run]) -> tuple[float, Run]:
        """Returns the best of some trials, of equals the first, and its score."""
        return max(((self.protocol.score(self.measured(run)), run) for run in runs), key=lambda pair: pair[0])

    def search(self, name: str) -> Overrides:
        """Returns the best settings of a method: each stage starts from the best of the stages before."""
        chosen: Overrides = {}
        score = -1.0
        for alternatives in self.protocol.methods[name].stages:
            its, run = self.best([Run(name, "trial", 0, {**chosen, **change}) for change in alternatives])
            if its > score:
                score, chosen = its, run.options
        return chosen

    def search_batch_size(self, name: str, batch_size: int) -> Overrides:
        """Returns settings for another size of batches: the rate times 1, 2 and 4, the rest as in the usual ones."""
        chosen = self.search(name)
        usual = chosen.get(RATE, self.protocol.methods[name].options.get(RATE, 1))
        rates = [usual * factor for factor in (1, 2, 4)]
        return self.best([Run(name, "trial", 0, {**chosen, RATE: rate}, batch_size) for rate in rates])[1].options

    def run(
        self,
        methods: Sequence[str] | None = None,
        *,
        batch_size: int = BATCH_SIZE,
        seeds: Sequence[int] | None = None,
        jobs: int = 1,
        search_only: bool = False,
        given: Overrides | None = None,
    ) -> None:
        """Searches, and trains with what was found.

        Args:
            methods: The rows; ``None``: all, or with another size of batches the first by the search.
            batch_size: The images in a batch.
            seeds: The seeds of all rows; ``None``: ``SEEDS``, and ``MORE_SEEDS`` of the first.
            jobs: How many runs at a time.
            search_only: Whether to only search.
            given: Settings for all rows, which are then not searched for.
        """
        of_method, rows = self.protocol.methods, methods
        methods = list(of_method) if rows is None else rows
        with ThreadPoolExecutor(jobs) as pool:
            if given is not None:
                runs = [Run(name, "given", seed, given, batch_size) for seed in seeds or SEEDS for name in methods]
                list(pool.map(self.measured, runs))
                return
            found: dict[str, Any] = dict(zip(methods, pool.map(self.search, methods), strict=True))
            first = list(best_scores(self.protocol, self.results))[:FIRST]
            if batch_size != BATCH_SIZE:
                methods = first if rows is None else rows
                searched = pool.map(lambda name: self.search_batch_size(name, batch_size), methods)
                found = dict(zip(methods, searched, strict=True))
            if search_only:
                return
            seeds_of = {name: seeds or (MORE_SEEDS if name in first else SEEDS) for name in methods}
            for name in methods:
                if not of_method[name].trained:  # nothing depends on the seed
                    seeds_of[name] = seeds_of[name][:1]
            every = sorted({seed for its in seeds_of.values() for seed in its})
            runs = [
                Run(name, "final", seed, found[name], batch_size)
                for seed in every
                for name in methods
                if seed in seeds_of[name]
            ]
            list(pool.map(self.measured, runs))


# ------------------------------------------------------------------ the command
def main() -> None:
    """Runs what is missing and writes the tables."""
    if sys.argv[1:2] == ["--one"]:
        return run_one(sys.argv[2])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocol", choices=list(PROTOCOLS))
    rows = dict(nargs="+", choices=list(METHODS), metavar="METHOD")
    parser.add_argument("--methods", **rows, help=f"rows, by default the protocol's: {', '.join(map(repr, METHODS))}")
    parser.add_argument("--seeds", nargs="+", type=int, help=f"by default {SEEDS}, and {MORE_SEEDS} for the first six")
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE, help="another one: by default the first six")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--work-dir", default="work_dirs/comparison", help="where runs go until they are done")
    parser.add_argument("--results", help="the file of the runs that are done; docs/comparison/<protocol>.jsonl")
    parser.add_argument("--again", **rows, default=[], help="forget the runs of these first")
    parser.add_argument("--search-only", action="store_true", help="only choose settings")
    parser.add_argument("--given", type=json.loads, metavar="JSON", help="settings instead of a search")
    parser.add_argument("--table", action="store_true", help="run nothing")
    args = parser.parse_args()
    protocol = PROTOCOLS[args.protocol]
    methods = args.methods or list(protocol.methods)
    if foreign := [name for name in methods if name not in protocol.methods]:
        parser.error(f"{args.protocol} has no row {foreign[0]!r}; its rows are {', '.join(protocol.methods)}")
    path = Path(args.results) if args.results else ROOT / f"docs/comparison/{args.protocol}.jsonl"
    results = Results(path)
    for method in args.again:
        results.forget(method)
    if not args.table:
        comparison = Comparison(args.protocol, results, (Path(args.work_dir) / args.protocol).resolve())
        options = dict(batch_size=args.batch_size, seeds=args.seeds, jobs=args.jobs, search_only=args.search_only)
        comparison.run(args.methods, **options, given=args.given)
    table = tables(protocol, results, methods)
    for name, text in (("", table), ("_trials", trials_table(protocol, results))):
        title = f"# {args.protocol}{', what was tried' if name else ''}"
        write_whole(path.with_name(f"{args.protocol}{name}.md"), f"{title}\n\n{text.strip()}\n".encode())
    print(table)


if __name__ == "__main__":
    with ends_without_traceback():
        main()
