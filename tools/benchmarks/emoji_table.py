"""Trains every method on emoji64 under one budget, with several seeds, and prints a table of means and deviations.

Every row is a run of tools/train.py with a config of configs/ and what the row says. Runs that are done are not done
again, unless what they override has changed, so an interrupted table goes on where it was.

Examples:
    python tools/benchmarks/emoji_table.py                        # the table of the README: the unseen emoji
    python tools/benchmarks/emoji_table.py --development          # the same on held-out training emoji, for choosing
    python tools/benchmarks/emoji_table.py --development --rows constraints options --seeds 0 1
"""

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

HICONE, HIMULCON, HIMULCONE, SUPCON, SIMCLR = (
    f"{method}_emoji" for method in ("hicone", "himulcon", "himulcone", "supcon", "simclr")
)
TABLES = {  # name -> {row: (config, what it overrides)}
    "methods": {
        "SimCLR": (SIMCLR, []),
        "SupCon (category)": (SUPCON, ["model.loss.level=1"]),
        "SupCon (emoji)": (SUPCON, []),
        "HiMulCon": (HIMULCON, []),
        "HiConE": (HICONE, []),
        "HiMulConE": (HIMULCONE, []),
    },
    "constraints": {
        f"HiConE, {constraint}, bound {'with gradient' if grad else 'constant'}": (
            HICONE,
            [f"model.loss.constraint={constraint}", f"model.loss.constraint_grad={grad}"],
        )
        for constraint in ("pair", "anchor", "level")
        for grad in (False, True)
    },
    "options": {
        "HiMulCon": (HIMULCON, []),
        "HiMulCon, positives that diverge": (HIMULCON, ["model.loss.positives=diverge"]),
        "HiMulCon, uniform weights": (HIMULCON, ["model.loss.level_weights=uniform"]),
        "HiMulCon, shuffled batches": (SIMCLR, ["model.loss.type=HiMulConLoss"]),
        "SupCon (emoji)": (SUPCON, []),
        "SupCon (emoji), shuffled batches": (SIMCLR, ["model.loss.type=SupConLoss"]),
        "released code's loss (hmce)": (HIMULCONE, ["model.loss._delete_=True", "model.loss.type=ReleasedHMLCLoss"]),
    },
}
COLUMNS = {  # heading -> metric
    "MAP@R emoji": "emoji/map@r",
    "R@1 emoji": "emoji/recall@1",
    "R@1 category": "category/recall@1",
    "NMI category": "category/nmi",
    "NMI emoji in category": "emoji/nmi_in_category",
}


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=list(TABLES), default=["methods"], help="groups of rows")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--development", action="store_true", help="split the training emoji; leave the test emoji alone"
    )
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, each with an equal share of the cores")
    parser.add_argument("--work-dir", default="work_dirs/emoji_table", help="where the runs and the table go")
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], help="overrides for all rows, such as a longer schedule"
    )
    return parser.parse_args()


def train(config: str, options: list[str], seed: int, work_dir: Path, threads: int) -> dict[str, float]:
    """Trains one run unless it is done, and returns its metrics."""
    command = [sys.executable, ROOT / "tools/train.py", ROOT / f"configs/{config}.py", "--work-dir", work_dir]
    command = [*map(str, command), "--cfg-options", f"randomness.seed={seed}", *options]
    done = work_dir / "done.json"  # unlike metrics.json, it is there only when the run has ended
    if not done.exists() or json.loads(done.read_text())["options"] != [config, *options]:
        shutil.rmtree(work_dir, ignore_errors=True)
        work_dir.mkdir(parents=True)
        with open(work_dir / "output.txt", "w") as output:
            environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
            code = subprocess.run(command, env=environment, stdout=output, stderr=subprocess.STDOUT).returncode
        if code:
            raise SystemExit(f"{config} with seed {seed} failed; see {output.name}")
        metrics = json.loads((work_dir / "metrics.json").read_text())["metrics"]
        done.write_text(json.dumps({"options": [config, *options], "metrics": metrics}, indent=2))
    return json.loads(done.read_text())["metrics"]


def main() -> None:
    """Runs what is missing and writes the table."""
    args = parse_args()
    common = list(args.cfg_options)
    if args.development:
        common += [f"{part}_dataloader.dataset.development=True" for part in ("train", "val", "test")]
    root = Path(args.work_dir) / ("development" if args.development else "test")
    rows = {name: row for group in args.rows for name, row in TABLES[group].items()}
    threads = max(1, (os.cpu_count() or 1) // args.jobs)
    with ThreadPoolExecutor(args.jobs) as pool:
        runs = {
            (name, seed): pool.submit(
                train, config, [*common, *options], seed, root / f"{name.replace(' ', '_')}_{seed}", threads
            )
            for seed in args.seeds
            for name, (config, options) in rows.items()
        }
        results = {key: run.result() for key, run in runs.items()}

    lines = [["", *COLUMNS]]
    with open(root / "table.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "seed", *COLUMNS.values()])
        writer.writerows([name, seed, *map(metrics.get, COLUMNS.values())] for (name, seed), metrics in results.items())
    for name in rows:
        cells = []
        for metric in COLUMNS.values():
            values = [100 * results[name, seed][metric] for seed in args.seeds]
            spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.1f}{spread}")
        lines.append([name, *cells])
    lines.insert(1, ["---", *["---:"] * len(COLUMNS)])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    (root / "table.md").write_text(table + "\n")
    print(table)


if __name__ == "__main__":
    main()
