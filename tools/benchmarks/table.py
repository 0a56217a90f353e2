"""Trains the methods on a data set with several seeds, runs all downstream tasks and writes tables.

Every row is a run of tools/train.py with configs/<method>_<data set>.py and what the row overrides, followed by
tools/test.py with configs/linear_<data set>.py, where there is one, on its last checkpoint. Runs that are done are not
done again, unless what they override has changed, and one that was cut off resumes from its last checkpoint.

Below --work-dir it leaves table.md (means and deviations), table.csv (every metric of every run), recall_*.png
(recall@k for k = 1 to 1000) with the numbers beside, and bars.png. Numbers of papers, from
tools/benchmarks/paper_a.csv, stand below the measured ones, marked as the paper's.

Examples:
    python tools/benchmarks/table.py emoji_seen                     # all of paper A's methods, seen and unseen classes
    python tools/benchmarks/table.py emoji_seen --rows methods hierarchical
    python tools/benchmarks/table.py deepfashion_seen --data-root path/to/inshop --seeds 0
    python tools/benchmarks/table.py emoji --development --rows constraints --seeds 0 1   # see docs/losses.md
"""

import argparse
import csv
import io
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from table_rows import AS_IT_IS, COLUMNS, GROUPS, published

from hierpretrain.engine import newest_checkpoint
from hierpretrain.files import write_whole
from hierpretrain.visualization import plot_recall_curves, save_figure, write_curves
from hierpretrain.visualization.tsne import PALETTE

ROOT = Path(__file__).resolve().parents[2]
# of a row's overrides, what the test must know as well; it has no loss and no projection
OF_THE_TEST = ("model.backbone.", "model.neck.", "model.data_preprocessor.", "model.channels_last", "test_")
Results = Mapping[tuple[str, int], Mapping[str, float]]  # (row, seed) -> metrics


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=list(COLUMNS), help="the last part of the configs' names")
    parser.add_argument("--rows", nargs="+", choices=list(GROUPS), default=["methods"], help="groups of rows")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--development", action="store_true", help="emoji: split the training emoji; leave the test emoji alone"
    )
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, each with an equal share of the cores")
    parser.add_argument("--work-dir", default="work_dirs/table", help="where the runs and the tables go")
    parser.add_argument("--data-root", help="where the data set is")
    parser.add_argument("--cfg-options", nargs="+", default=[], help="overrides for all rows, such as another schedule")
    args = parser.parse_args()
    if args.development and args.dataset != "emoji":
        parser.error("--development is for the data set emoji; others have validation splits")
    return args


def run(command: list[object], log: Path, threads: int) -> None:
    """Runs a tool with its output in a file."""
    with open(log, "w") as output:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        code = subprocess.run(
            [sys.executable, *map(str, command)], env=environment, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT
        ).returncode
    if code:
        raise SystemExit(f"a run failed; see {log}")


def measure(config: str, linear: str | None, options: list[str], data: list[str], folder: Path, threads: int) -> dict:
    """Trains and tests one run unless it is done, and returns its metrics."""
    done = folder / "done.json"  # unlike metrics.json, it is there only when the run has ended
    begun = folder / "options.json"
    what = [config, linear, *options]
    if not done.exists() or json.loads(done.read_text())["options"] != what:
        if not begun.exists() or json.loads(begun.read_text()) != what:
            shutil.rmtree(folder, ignore_errors=True)
            write_whole(begun, json.dumps(what).encode())
        train = ["tools/train.py", f"configs/{config}.py", "--work-dir", folder, "--resume", *data]
        run([*train, "--cfg-options", *options], folder / "train.txt", threads)
        if linear:
            test = ["tools/test.py", f"configs/{linear}.py", newest_checkpoint(folder), "--work-dir", folder / "test"]
            if of_the_test := [option for option in options if option.startswith(OF_THE_TEST)]:
                data = [*data, "--cfg-options", *of_the_test]
            run([*test, *data], folder / "test.txt", threads)
            folder_of_metrics = folder / "test"
        else:
            folder_of_metrics = folder
        metrics = json.loads((folder_of_metrics / "metrics.json").read_text())["metrics"]
        write_whole(done, json.dumps({"options": what, "metrics": metrics}, indent=2).encode())
    return json.loads(done.read_text())["metrics"]


def slug(name: str) -> str:
    """Returns a name as part of a path."""
    return re.sub(r"\W+", "_", name).strip("_")


def cell(values: list[float], heading: str) -> str:
    """Returns mean and deviation, in percent unless the heading is of another kind."""
    scale, digits = (1, 2) if heading.startswith(AS_IT_IS) else (100, 1)
    values = [scale * value for value in values]
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def measured_columns(dataset: str, results: Results) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the title of each table with those of its columns, heading -> metric, that the runs have measured."""
    metrics = next(iter(results.values()))
    for title, columns in COLUMNS[dataset].items():
        if measured := {heading: key for heading, key in columns.items() if key in metrics}:
            yield title, measured


def markdown(dataset: str, rows: list[str], seeds: list[int], results: Results) -> str:
    """Returns the tables of a data set."""
    parts, papers, sources = [], published(dataset), []
    for title, columns in measured_columns(dataset, results):
        lines = [["", *columns], ["---", *["---:"] * len(columns)]]
        for row in rows:
            lines.append([row, *(cell([results[row, s][key] for s in seeds], h) for h, key in columns.items())])
        for row, numbers in papers.items():
            if set(columns.values()) & set(numbers):
                cells = [f"{100 * numbers[key][0]:.1f} †" if key in numbers else "" for key in columns.values()]
                lines.append([f"*{row}* †", *cells])
                sources += [source for _, source in numbers.values() if source not in sources]
        parts.append(f"**{title}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
    if sources:
        quoted = "; ".join(source.rstrip(".") for source in sources)
        parts.append(f"† published, not measured here; on splits that may differ. From: {quoted}.")
    return "\n\n".join(parts) + "\n"


def write_csv(path: Path, results: Results) -> None:
    """Writes every metric of every run."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", "seed", "metric", "value"])
    for (row, seed), metrics in results.items():
        writer.writerows([row, seed, name, value] for name, value in metrics.items())
    write_whole(path, text.getvalue().encode())


def draw_recall(root: Path, folders: Mapping[tuple[str, int], Path], rows: list[str], seeds: list[int]) -> None:
    """Draws each recall curve that the tests left, all rows in one picture, for the finest level."""
    first = folders[rows[0], seeds[0]] / "test"
    for name in sorted(path.stem for path in first.glob("recall*.csv")):
        means, spreads = {}, {}
        for row in rows:
            curves = [
                np.genfromtxt(folders[row, seed] / "test" / f"{name}.csv", delimiter=",", skip_header=1)[:, 1]
                for seed in seeds
            ]
            means[row], spreads[row] = np.mean(curves, 0), np.std(curves, 0, ddof=int(len(seeds) > 1))
        what = name.removeprefix("recall_").replace("_", " ")
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
            place = np.arange(len(columns)) + (i - (len(rows) - 1) / 2) * width
            error = values.std(1, ddof=1) if len(seeds) > 1 else None
            axes.bar(place, values.mean(1), width, yerr=error, color=PALETTE[i], label=row, error_kw=dict(lw=0.8))
        for place, key in enumerate(columns.values()):
            for numbers in papers.values():
                if key in numbers:
                    axes.hlines(100 * numbers[key][0], place - 0.45, place + 0.45, "#222222", "dashed", lw=1)
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
    configs = {method: f"{method}_{args.dataset}" for method, _ in rows.values()}
    if missing := [config for config in configs.values() if not (ROOT / f"configs/{config}.py").exists()]:
        raise SystemExit(f"there is no configs/{missing[0]}.py; choose other --rows or add it")
    linear = f"linear_{args.dataset}"
    if args.development or not (ROOT / f"configs/{linear}.py").exists() or args.dataset == "emoji":
        linear = None
    common, data = list(args.cfg_options), ["--data-root", args.data_root] if args.data_root else []
    if args.development:
        common += [f"{part}_dataloader.dataset.development=True" for part in ("train", "val", "test")]
    root = Path(args.work_dir).resolve() / (args.dataset + ("_development" if args.development else ""))
    threads = max(1, (os.cpu_count() or 1) // args.jobs)
    folders = {(name, seed): root / f"{slug(name)}_{seed}" for seed in args.seeds for name in rows}
    with ThreadPoolExecutor(args.jobs) as pool:
        runs = {}
        for (name, seed), folder in folders.items():
            method, overrides = rows[name]
            options = [f"randomness.seed={seed}", *common, *overrides]
            runs[name, seed] = pool.submit(measure, configs[method], linear, options, data, folder, threads)
        results = {key: future.result() for key, future in runs.items()}

    table = markdown(args.dataset, list(rows), args.seeds, results)
    write_whole(root / "table.md", table.encode())
    write_csv(root / "table.csv", results)
    if linear:
        draw_recall(root, folders, list(rows), args.seeds)
    draw_bars(root / "bars.png", args.dataset, list(rows), args.seeds, results)
    print(table)


if __name__ == "__main__":
    main()
