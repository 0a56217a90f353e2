"""Compares the methods fairly: equally many trials for each, chosen on seen classes, then seeds on test images.

A search comes first. Every method gets the same number of short trials of its own settings (comparison.py has them):
half the epochs, seed 0. A trial trains without a fifth of the seen classes and is scored on those, by the mean of four
metrics: MAP@R, NMI inside the parent, NMI of the level above, H-AP. No test image and no unseen class plays a part.
Then every method trains with its best settings, all epochs, on all seen classes, once per seed, and is measured on
images of the unseen classes. Methods that come close have more seeds: the first six by the search's score.

Runs that are done are in --results, a file with a line per run, and are not done again; what is missing is run, --jobs
at a time. So the comparison can be stopped at any moment and continued, on another machine too. --again METHOD forgets
the runs of a method, as it must when its code has changed.

Examples:
    python tools/benchmarks/compare.py emoji_pretrained                   # search, runs and tables
    python tools/benchmarks/compare.py emoji_scratch --methods HiMulCon "SupCon, finest level" --seeds 0
    python tools/benchmarks/compare.py emoji_pretrained --batch-size 256  # the first six, settings of batches of 64
    python tools/benchmarks/compare.py emoji_pretrained --table           # the tables of what is done, no runs
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from comparison import LESS_IS_BETTER, METHODS, OURS, PROTOCOLS, RATE, Method, Overrides, Protocol
from mmengine.config import Config
from table import ROOT, cells, markdown_table, slug

from hierpretrain import registry
from hierpretrain.apis import build_runner
from hierpretrain.datasets.splits import Split
from hierpretrain.files import write_whole

HELD_OUT = 0.2  # of the seen classes, in trials
FIRST = 6  # the methods with more seeds
SEEDS, MORE_SEEDS = (0, 1, 2), (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Run:
    """One training and its evaluation.

    Args:
        method: The name of the row.
        stage: ``'trial'`` or ``'final'``.
        seed: The seed.
        options: What the run overrides, beside the row's own options.
        batch_size: Images in a batch.
    """

    method: str
    stage: str
    seed: int
    options: Overrides
    batch_size: int = 64

    @property
    def key(self) -> str:
        """The run in a line of JSON."""
        return json.dumps([self.method, self.stage, self.seed, self.options, self.batch_size], sort_keys=True)


class Results:
    """The runs that are done, in a file of one line per run, which is appended to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics: dict[str, dict[str, float]] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                record = json.loads(line)
                self.metrics[json.dumps(record["run"], sort_keys=True)] = record["metrics"]

    def add(self, run: Run, metrics: Mapping[str, float]) -> None:
        """Keeps the metrics of a run."""
        self.metrics[run.key] = dict(metrics)
        self._write()

    def forget(self, method: str) -> None:
        """Drops the runs of a method."""
        self.metrics = {key: metrics for key, metrics in self.metrics.items() if json.loads(key)[0] != method}
        self._write()

    def _write(self) -> None:
        lines = [json.dumps({"run": json.loads(key), "metrics": self.metrics[key]}) for key in sorted(self.metrics)]
        write_whole(self.path, "".join(f"{line}\n" for line in lines).encode())


# ------------------------------------------------------------------ the config of a run
def run_config(protocol: Protocol, method: Method, run: Run, root: Path) -> Config:
    """Returns the config of a run: the method's, with the protocol's start, and evaluation after the training.

    Args:
        protocol: The protocol.
        method: The row.
        run: The run.
        root: Where the trials' split lies.
    """
    config = Config.fromfile(ROOT / f"configs/{method.config}_{protocol.dataset}.py")
    tested = Config.fromfile(ROOT / f"configs/linear_{protocol.dataset}.py")
    config.test_dataloader = tested.test_dataloader
    config.test_dataloader.dataset.split = [f"unseen_{part}" for part in ("train", "val", "test")]
    config.test_evaluator = [metric for metric in tested.test_evaluator if metric.get("prefix") == "unseen"]
    config.test_cfg = dict(type="TestLoop")
    config.val_dataloader = config.val_evaluator = config.val_cfg = None
    epochs = protocol.epochs if run.stage == "final" else protocol.epochs // 2
    config.train_cfg.update(max_epochs=epochs, val_interval=epochs)
    if protocol.base:
        _start_from(config, Config.fromfile(ROOT / f"configs/_base_/{protocol.base}.py"), root)
    for key in ("in_channels", "num_classes"):  # they follow from the encoder and the tree
        config.model.loss.pop(key, None)
    images = 3 if "triplets_per_epoch" in (config.train_dataloader.get("batch_sampler") or {}) else 2
    config.train_dataloader.batch_size = 2 * run.batch_size // images
    if run.stage == "trial":
        _hold_out(config, protocol, root)
    for key, value in {**method.options, **run.options}.items():
        if key == RATE:
            config.optim_wrapper.optimizer.lr *= value
        else:
            _set(config, key, value)
    if not method.trained:
        config.model.update(loss=None, projection=None)
        config.train_dataloader = config.train_cfg = config.optim_wrapper = config.param_scheduler = None
        config.auto_scale_lr = None
    hooks = {key: hook for key, hook in config.default_hooks.items() if key in _HOOKS}
    config.default_hooks = {**hooks, "checkpoint": None, "frozen_features": hooks.get("frozen_features")}
    config.randomness = dict(seed=run.seed)
    return config


_HOOKS = (
    "timer", "logger", "param_scheduler", "sampler_seed", "exact_resume", "taxonomy", "metrics_file", "curriculum",
    "frozen_features",
)  # fmt: skip


def _start_from(config: Config, base: Config, root: Path) -> None:
    """Puts the encoder, the pipelines and the schedule of a base into a config."""
    config.model.backbone = base.model.backbone
    config.model.data_preprocessor = base.model.data_preprocessor
    views = next(step for step in config.train_dataloader.dataset.pipeline if step.type == "Views").num_views
    pipeline = base.train_pipeline
    next(step for step in pipeline if step.type == "Views").num_views = views
    config.train_dataloader.dataset.pipeline = pipeline
    config.test_dataloader.dataset.pipeline = base.test_pipeline
    config.train_dataloader.num_workers = config.test_dataloader.num_workers = 0  # kept features are read, not made
    config.optim_wrapper, config.param_scheduler = base.optim_wrapper, base.param_scheduler
    config.default_hooks.frozen_features = dict(base.default_hooks.frozen_features, folder=str(root / "features"))


def _hold_out(config: Config, protocol: Protocol, root: Path) -> None:
    """Has a config train without some seen classes, and evaluate on their images."""
    path = root / "trials.json"
    data = config.train_dataloader.dataset
    _write_trial_split(path, Path(data.split_file), protocol, data)
    splits = dict(query="unseen_val", gallery="unseen_train", prefix="unseen")
    both = ["unseen_train", "unseen_val"]
    data.split_file = config.test_dataloader.dataset.split_file = str(path)
    config.test_dataloader.dataset.split = both
    inside = [(protocol.finest, protocol.above)]
    config.test_evaluator = [
        dict(type="RetrievalMetric", levels=[protocol.finest], ks=(1,), **splits),
        dict(type="HierarchicalRetrievalMetric", **splits),
        dict(type="ClusteringMetric", levels=[protocol.above], within=inside, splits=both, prefix="unseen"),
    ]


def _write_trial_split(path: Path, source: Path, protocol: Protocol, data: Mapping[str, Any]) -> None:
    """Writes the split of the trials: a fifth of the seen classes are its unseen ones; all test images are left out."""
    if path.exists():
        return
    options = {key: value for key, value in data.items() if key not in ("pipeline", "split")}
    dataset = registry.DATASETS.build({"_scope_": "hierpretrain", "keep_annotations": True, **options})
    depth, tags, classes = dataset.taxonomy.level(protocol.above), {}, {}
    for index, image in enumerate(dataset.annotations.images):
        tags[image] = dataset.annotations.splits[index]
        if tags[image] in ("seen_train", "seen_val"):
            paths = dataset.annotations.paths(index)
            classes[image] = {label[:depth] for label in paths if len(label) >= depth}
    seen = sorted(set().union(*classes.values()))
    chosen = np.random.default_rng(0).choice(len(seen), round(HELD_OUT * len(seen)), replace=False)
    held_out = {seen[i] for i in chosen}
    for image, tag in tags.items():
        if not (its := classes.get(image)) or (its & held_out and its - held_out):
            tags[image] = "left_out"
        elif its <= held_out:
            tags[image] = tag.replace("seen", "unseen")
    replace(Split.load(source), tags=tags, unseen=tuple(sorted(held_out))).save(path)


def _set(config: Config, key: str, value: Any) -> None:
    """Sets a dotted key of a config; a dict replaces what was there."""
    *parents, last = key.split(".")
    part = config
    for parent in parents:
        part = part[parent]
    part[last] = value


# ------------------------------------------------------------------ running
def measure(run: Run, config: Config, folder: Path) -> dict[str, float]:
    """Trains and evaluates in a process of its own, and returns the metrics.

    Raises:
        SystemExit: If the run fails.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config.work_dir = str(folder)
    config.dump(folder / "config.py")
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    with open(folder / "log.txt", "w") as log:
        command = [sys.executable, __file__, "--one", str(folder)]
        if subprocess.run(command, env=environment, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT).returncode:
            raise SystemExit(f"a run failed; see {folder / 'log.txt'}")
    metrics = json.loads((folder / "metrics.json").read_text())["metrics"]
    for path in folder.iterdir():  # checkpoints and scalars of hundreds of runs
        if path.is_dir():
            shutil.rmtree(path)
    return {name: value for name, value in metrics.items() if isinstance(value, float | int)}


def run_one(folder: str) -> None:
    """Trains and evaluates as the config in a folder says."""
    runner = build_runner(Config.fromfile(Path(folder) / "config.py"))
    if runner.cfg.get("train_cfg"):
        runner.train()
    runner.test()


def score(protocol: Protocol, metrics: Mapping[str, float]) -> float:
    """Returns what trials are chosen by."""
    finest, above = protocol.finest, protocol.above
    names = (f"{finest}/map@r", f"{finest}/nmi_in_{above}", f"{above}/nmi", "h_ap")
    return statistics.mean(metrics[f"unseen/{name}"] for name in names)


class Comparison:
    """A protocol, its results and where the runs go."""

    def __init__(self, name: str, results: Results, root: Path) -> None:
        self.protocol, self.results, self.root = PROTOCOLS[name], results, root

    def measured(self, run: Run) -> dict[str, float]:
        """Returns the metrics of a run, which is run if it was not."""
        if run.key not in self.results.metrics:
            method = METHODS[run.method]
            config = run_config(self.protocol, method, run, self.root)
            folder = self.root / slug(f"{run.method} {run.stage} {run.seed} {json.dumps(run.options)} {run.batch_size}")
            metrics = measure(run, config, folder)
            self.results.add(run, metrics)
            kept = score(self.protocol, metrics)
            print(f"{run.method}, {run.stage}, seed {run.seed}, {dict(run.options)}: {100 * kept:.2f}", flush=True)
        return self.results.metrics[run.key]

    def search(self, name: str) -> tuple[dict[str, Any], float]:
        """Returns the best settings of a method and their score, by all of its trials."""
        best: dict[str, Any] = {}
        score_of_best = -1.0
        for alternatives in METHODS[name].stages:
            start = best
            for change in alternatives:
                run = Run(name, "trial", 0, {**start, **change})
                if (its := score(self.protocol, self.measured(run))) > score_of_best:
                    best, score_of_best = dict(run.options), its
        return best, score_of_best


def search_batch_size(comparison: Comparison, name: str, options: Overrides, batch_size: int) -> Overrides:
    """Returns settings for another size of batches: the rate times 1, 2 and 4, the rest as for batches of 64."""
    tried = []
    for factor in (1, 2, 4):
        its = {**options, RATE: options.get(RATE, 1) * factor}
        tried.append((score(comparison.protocol, comparison.measured(Run(name, "trial", 0, its, batch_size))), its))
    return max(tried, key=lambda pair: pair[0])[1]


# ------------------------------------------------------------------ tables
def tables(comparison: Comparison, methods: Sequence[str], batch_size: int = 64) -> str:
    """Returns the tables of the runs that are done: metrics, differences to ours, and the settings that were chosen."""
    columns = comparison.protocol.columns
    done: dict[str, dict[int, dict[str, float]]] = {}
    chosen: dict[str, Any] = {}
    for key, metrics in comparison.results.metrics.items():
        method, stage, seed, options, size = json.loads(key)
        if stage == "final" and size == batch_size and method in methods:
            done.setdefault(method, {})[seed] = metrics
            chosen[method] = options
    rows = [name for name in methods if name in done]
    lines = [[name, str(len(done[name])), *cells(columns, list(done[name].values()))] for name in rows]
    parts = [markdown_table("Test images of unseen classes, percent", ["", "seeds", *columns], lines)]
    if OURS in done and len(rows) > 1:
        parts.append(markdown_table(*_differences(columns, rows, done)))
    settings = [[name, _told(chosen[name])] for name in rows]
    parts.append("**Settings**\n\n| | chosen |\n| --- | --- |\n" + "\n".join(f"| {' | '.join(s)} |" for s in settings))
    return "\n\n".join(parts) + "\n"


def _differences(columns: Mapping[str, str], rows: list[str], done: Mapping[str, Mapping[int, Any]]) -> tuple:
    """Returns title, header and lines of what ours is ahead of each row, seed by seed."""
    lines = []
    for name in rows:
        theirs = done[name] if METHODS[name].trained else dict.fromkeys(done[OURS], *done[name].values())
        if name != OURS and (seeds := sorted(set(done[OURS]) & set(theirs))):
            differences = []
            for heading, key in columns.items():
                sign = -100 if heading.startswith(LESS_IS_BETTER) else 100
                values = [sign * (done[OURS][seed][key] - theirs[seed][key]) for seed in seeds]
                spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
                differences.append(f"{statistics.mean(values):+.1f}{spread}")
            lines.append([name, *differences])
    title = f"How far {OURS} is ahead, seed by seed: mean and deviation of the difference (violations: fewer)"
    return title, ["", *columns], lines


def _told(options: Mapping[str, Any]) -> str:
    """Returns chosen settings for people."""
    told = []
    for key, value in options.items():
        name = key.removeprefix("model.").removeprefix("loss.").removeprefix("train_dataloader.")
        shown = value.get("type", value) if isinstance(value, Mapping) else value
        told.append(f"`{name}={shown}`")
    return ", ".join(told) or "as in the config"


# ------------------------------------------------------------------ the command
def main() -> None:
    """Runs what is missing and writes the tables."""
    if sys.argv[1:2] == ["--one"]:
        return run_one(sys.argv[2])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocol", choices=list(PROTOCOLS))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), help="rows; by default the protocol's")
    parser.add_argument("--seeds", nargs="+", type=int, help=f"by default {SEEDS}, and {MORE_SEEDS} for the first six")
    parser.add_argument("--batch-size", type=int, default=64, help="another one: the first six alone")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--work-dir", default="work_dirs/comparison", help="where runs go until they are done")
    parser.add_argument("--results", help="the file of the runs that are done; docs/comparison/<protocol>.jsonl")
    parser.add_argument("--again", nargs="+", choices=list(METHODS), default=[], help="forget the runs of these first")
    parser.add_argument("--search-only", action="store_true", help="only choose settings")
    parser.add_argument("--table", action="store_true", help="run nothing")
    args = parser.parse_args()
    path = Path(args.results) if args.results else ROOT / f"docs/comparison/{args.protocol}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    results = Results(path)
    for method in args.again:
        results.forget(method)
    comparison = Comparison(args.protocol, results, (Path(args.work_dir) / args.protocol).resolve())
    comparison.root.mkdir(parents=True, exist_ok=True)
    methods = args.methods or list(comparison.protocol.methods)
    if not args.table:
        run_all(args, comparison, methods)
    table = tables(comparison, methods, args.batch_size)
    size = "" if args.batch_size == 64 else f"_{args.batch_size}"
    write_whole(path.with_name(f"{args.protocol}{size}.md"), table.encode())
    print(table)


def run_all(args: argparse.Namespace, comparison: Comparison, methods: Sequence[str]) -> None:
    """Searches, and trains with what was found."""
    with ThreadPoolExecutor(args.jobs) as pool:
        found = dict(zip(methods, pool.map(comparison.search, methods), strict=True))
        ranked = sorted((name for name in methods if METHODS[name].trained), key=lambda name: -found[name][1])
        first = ranked[:FIRST]
        if args.batch_size != 64:
            methods = first
            search = lambda name: search_batch_size(comparison, name, found[name][0], args.batch_size)  # noqa: E731
            found = {name: (options, 0) for name, options in zip(methods, pool.map(search, methods), strict=True)}
        if args.search_only:
            return
        seeds_of = {name: args.seeds or (MORE_SEEDS if name in first else SEEDS) for name in methods}
        runs = [
            Run(name, "final", seed, found[name][0], args.batch_size)
            for seed in MORE_SEEDS if args.seeds is None or seed in args.seeds
            for name in methods if seed in seeds_of[name] and (METHODS[name].trained or seed == MORE_SEEDS[0])
        ]  # fmt: skip
        list(pool.map(comparison.measured, runs))


if __name__ == "__main__":
    main()
