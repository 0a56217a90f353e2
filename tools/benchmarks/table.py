"""Trains the methods on a data set with several seeds, runs all downstream tasks and writes tables.

Every row is a run of tools/train.py with configs/<method>_<data set>.py and what the row overrides, followed by
tools/test.py with configs/linear_<data set>.py, where there is one, on its last checkpoint; an encoder without training
is only tested. What qualifies a method qualifies its test, too, where there is such a config: leveltriplet_lite0 is
tested with linear_<data set>_lite0. Runs that are done are not done again, unless what they override has changed, and
one that was cut off resumes from its last checkpoint. ablations.py shares the runs of openclipart and wikiscenes.

Below --work-dir it leaves table.md (means and deviations), table.csv (every metric of every run), recall_*.png
(recall@k for k = 1 to 1000) with the numbers beside, and bars.png. Numbers of papers, from
tools/benchmarks/paper_a.csv, stand below the measured ones, marked as the paper's.

Examples:
    python tools/benchmarks/table.py emoji_seen                     # all of paper A's methods, seen and unseen classes
    python tools/benchmarks/table.py emoji_seen --rows methods hierarchical
    python tools/benchmarks/table.py deepfashion_seen --data-root path/to/inshop --seeds 0
    python tools/benchmarks/table.py emoji --development --rows constraints --seeds 0 1   # see docs/losses.md
    python tools/benchmarks/table.py openclipart                    # paper B's method and its baselines
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from table_rows import AS_IT_IS, COLUMNS, GROUPS, ONLY_FOR, Row, config_name, default_groups, published

from hierpretrain.engine import newest_checkpoint
from hierpretrain.files import write_whole
from hierpretrain.report.run_table import markdown_table, mean_and_deviation, metrics_csv
from hierpretrain.visualization import plot_recall_curves, save_figure, write_curves
from hierpretrain.visualization.tsne import PALETTE

ROOT = Path(__file__).resolve().parents[2]
# overrides of a row that the test needs as well; it has no loss and no projection
OF_THE_TEST = (
    "model.backbone.",
    "model.neck.",
    "model.data_preprocessor.",
    "model.channels_last",
    "default_hooks.frozen_features.folder",
    "test_",
)
Results = Mapping[tuple[str, int], Mapping[str, float]]  # (row, seed) -> metrics


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argument_parser(__doc__, list(COLUMNS))
    parser.add_argument(
        "--rows",
        nargs="+",
        choices=list(GROUPS),
        help="groups of rows; by default methods, or the groups of the data set",
    )
    parser.add_argument(
        "--development", action="store_true", help="emoji: split the training emoji; leave the test emoji alone"
    )
    args = parser.parse_args()
    args.rows = args.rows or default_groups(args.dataset)
    for group in args.rows:
        if args.dataset not in ONLY_FOR.get(group, COLUMNS):
            parser.error(f"--rows {group} is for {' and '.join(ONLY_FOR[group])}, not for {args.dataset}")
    if args.development and args.dataset != "emoji":
        parser.error("--development is for the data set emoji; others have validation splits")
    return args


def argument_parser(description: str, datasets: list[str]) -> argparse.ArgumentParser:
    """Returns a parser of the arguments that :func:`measure_rows` needs."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=datasets, help="the last part of the configs' names")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, each with equally many cores")
    parser.add_argument("--work-dir", default="work_dirs/table", help="where the runs and the tables go")
    parser.add_argument("--data-root", help="where the data set is")
    parser.add_argument("--cfg-options", nargs="+", default=[], help="overrides for all rows, such as another schedule")
    return parser


def run(command: list[object], log: Path, threads: int) -> None:
    """Runs a tool with its output in a file."""
    with open(log, "w") as output:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        code = subprocess.run(
            [sys.executable, *map(str, command)], env=environment, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT
        ).returncode
    if code:
        raise SystemExit(f"a run failed; see {log}")


def measure(
    config: str | None, linear: str | None, options: list[str], data: list[str], folder: Path, threads: int
) -> dict:
    """Trains, if there is a config to train with, and tests one run unless it is done, and returns its metrics."""
    done = folder / "done.json"  # unlike metrics.json, it is there only when the run has ended
    begun = folder / "options.json"
    of_the_test = [option for option in options if option.startswith(OF_THE_TEST)]
    if not config:  # the weights are those that the seed gives
        options = of_the_test = [option for option in options if option.startswith(("randomness.", *OF_THE_TEST))]
    what = [config, linear, *options]
    if not done.exists() or json.loads(done.read_text())["options"] != what:
        if not begun.exists() or json.loads(begun.read_text()) != what:
            shutil.rmtree(folder, ignore_errors=True)
            write_whole(begun, json.dumps(what).encode())
        if config:
            train = ["tools/train.py", f"configs/{config}.py", "--work-dir", folder, "--resume", *data]
            run([*train, "--cfg-options", *options], folder / "train.txt", threads)
        if linear:
            checkpoint = [newest_checkpoint(folder)] if config else []
            test = ["tools/test.py", f"configs/{linear}.py", *checkpoint, "--work-dir", folder / "test", *data]
            run([*test, *(["--cfg-options", *of_the_test] if of_the_test else [])], folder / "test.txt", threads)
            folder_of_metrics = folder / "test"
        else:
            folder_of_metrics = folder
        metrics = json.loads((folder_of_metrics / "metrics.json").read_text())["metrics"]
        write_whole(done, json.dumps({"options": what, "metrics": metrics}, indent=2).encode())
    return json.loads(done.read_text())["metrics"]


def measure_rows(
    args: argparse.Namespace, rows: Mapping[str, Row], linear: str | None, common: list[str], root: Path
) -> tuple[dict[tuple[str, int], Path], Results]:
    """Runs what is missing of some rows, and returns the folder and the metrics of each run.

    Args:
        args: What :func:`argument_parser` reads.
        rows: Name -> (method, overrides).
        linear: The config that trained encoders are tested with, if there is one; methods with a qualifier may have
            their own.
        common: Overrides for all rows.
        root: Where the runs go.

    Raises:
        SystemExit: If there is no config for a row, or a run fails.
    """
    configs = {name: config_name(method, args.dataset) for name, (method, _) in rows.items()}
    if missing := [config for config in configs.values() if not (ROOT / f"configs/{config}.py").exists()]:
        raise SystemExit(f"there is no configs/{missing[0]}.py; choose other --rows or add it")
    data = ["--data-root", args.data_root] if args.data_root else []
    threads = max(1, (os.cpu_count() or 1) // args.jobs)
    folders = {(name, seed): root / f"{slug(name)}_{seed}" for seed in args.seeds for name in rows}
    with ThreadPoolExecutor(args.jobs) as pool:
        runs = {}
        for (name, seed), folder in folders.items():
            method, overrides = rows[name]
            trained, tested = configs[name], linear
            own = config_name("_".join(["linear", *method.split("_")[1:]]), args.dataset)
            if linear and (ROOT / f"configs/{own}.py").exists():
                tested = own
            if method.startswith("linear"):
                trained, tested = None, trained
            options = [f"randomness.seed={seed}", *common, *overrides]
            runs[name, seed] = pool.submit(measure, trained, tested, options, data, folder, threads)
        return folders, {key: future.result() for key, future in runs.items()}


def slug(name: str) -> str:
    """Returns a name as part of a path."""
    return re.sub(r"\W+", "_", name).strip("_")


def cell(values: list[float], heading: str) -> str:
    """Returns mean and deviation, in percent unless the heading is of another kind."""
    scale, digits = (1, 2) if heading.startswith(AS_IT_IS) else (100, 1)
    return mean_and_deviation([scale * value for value in values], digits)


def cells(columns: Mapping[str, str], runs: list[Mapping[str, float]]) -> list[str]:
    """Returns a row's cells: heading -> metric, over its runs."""
    return [cell([metrics[key] for metrics in runs], heading) for heading, key in columns.items()]


def measured_columns(dataset: str, results: Results) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the title of each table and the columns, heading -> metric, that the runs have measured."""
    metrics = next(iter(results.values()))
    for title, columns in COLUMNS[dataset].items():
        if measured := {heading: key for heading, key in columns.items() if key in metrics}:
            yield title, measured


def markdown(dataset: str, rows: list[str], seeds: list[int], results: Results) -> str:
    """Returns the tables of a data set."""
    parts, papers, sources = [], published(dataset), []
    for title, columns in measured_columns(dataset, results):
        lines = [[row, *cells(columns, [results[row, seed] for seed in seeds])] for row in rows]
        for row, numbers in papers.items():
            if set(columns.values()) & set(numbers):
                theirs = [f"{100 * numbers[key][0]:.1f} †" if key in numbers else "" for key in columns.values()]
                lines.append([f"*{row}* †", *theirs])
                sources += [source for _, source in numbers.values() if source not in sources]
        parts.append(markdown_table(title, ["", *columns], lines))
    if sources:
        quoted = "; ".join(source.rstrip(".") for source in sources)
        parts.append(f"† published, not measured here; on splits that may differ. From: {quoted}.")
    return "\n\n".join(parts) + "\n"


def draw_recall(root: Path, folders: Mapping[tuple[str, int], Path], rows: list[str], seeds: list[int]) -> None:
    """Draws each recall curve that the tests left, all rows in one picture, for the first level of the config."""
    first = folders[rows[0], seeds[0]] / "test"
    for name in sorted(path.stem for path in first.glob("recall*.csv")):
        means, spreads = {}, {}
        for row in rows:
            curves = [
                np.genfromtxt(folders[row, seed] / "test" / f"{name}.csv", delimiter=",", skip_header=1)[:, 1]
                for seed in seeds
            ]
            means[row], spreads[row] = np.mean(curves, 0), np.std(curves, 0, ddof=int(len(seeds) > 1))
        level = (first / f"{name}.csv").read_text().split(",")[1].split()[0]
        what = " ".join([level, *name.split("_")[1:]])
        title = f"Recall@k, {what}; mean and deviation of {len(seeds)} seeds"
        plot_recall_curves(means, root / f"{name}.png", title=title, spreads=spreads)
        write_curves(means, root / f"{name}.csv")


def draw_bars(path: Path, dataset: str, rows: list[str], seeds: list[int], results: Results) -> None:
    """Draws the percentages of every table as bars with deviations; a dashed line is the paper's number."""
    tables = []
    for title, columns in measured_columns(dataset, results):
        if kept := {h: key for h, key in columns.items() if not h.startswith(AS_IT_IS)}:
            tables.append((title, kept))
    papers = published(dataset)
    figure = Figure(figsize=(14, 3.6 * len(tables)), dpi=100, layout="constrained", facecolor="white")
    for axes, (title, columns) in zip(figure.subplots(len(tables), squeeze=False)[:, 0], tables, strict=True):
        width = 0.8 / len(rows)
        for i, row in enumerate(rows):
            values = np.array([[100 * results[row, seed][key] for seed in seeds] for key in columns.values()])
            positions = np.arange(len(columns)) + (i - (len(rows) - 1) / 2) * width
            error = values.std(1, ddof=1) if len(seeds) > 1 else None
            axes.bar(positions, values.mean(1), width, yerr=error, color=PALETTE[i], label=row, error_kw=dict(lw=0.8))
        for position, key in enumerate(columns.values()):
            for numbers in papers.values():
                if key in numbers:
                    axes.hlines(100 * numbers[key][0], position - 0.45, position + 0.45, "#222222", "dashed", lw=1)
        axes.set_xticks(range(len(columns)), [heading.replace(" ", "\n", 1) for heading in columns], fontsize=10)
        axes.set_title(title, loc="left", fontsize=12)
        axes.set_ylabel("%")
        axes.grid(axis="y", color="#E5E5E5", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(8, len(rows)), frameon=False)
    save_figure(figure, path)


def main() -> None:
    """Runs what is missing and writes the tables."""
    args = parse_args()
    rows = {name: row for group in args.rows for name, row in GROUPS[group].items()}
    linear = f"linear_{args.dataset}"
    if args.development or not (ROOT / f"configs/{linear}.py").exists() or args.dataset == "emoji":
        linear = None
    common = list(args.cfg_options)
    if args.development:
        common += [f"{split}_dataloader.dataset.development=True" for split in ("train", "val", "test")]
    root = Path(args.work_dir).resolve() / (args.dataset + ("_development" if args.development else ""))
    folders, results = measure_rows(args, rows, linear, common, root)
    table = markdown(args.dataset, list(rows), args.seeds, results)
    write_whole(root / "table.md", table.encode())
    write_whole(root / "table.csv", metrics_csv(["row", "seed"], results).encode())
    if linear:
        draw_recall(root, folders, list(rows), args.seeds)
    draw_bars(root / "bars.png", args.dataset, list(rows), args.seeds, results)
    print(table)


if __name__ == "__main__":
    main()
