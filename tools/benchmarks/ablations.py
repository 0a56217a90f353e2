"""Runs the three ablations of paper B (its figure 5) and draws them: number of levels, amount of data, replay.

A setting is the config leveltriplet_<data set>.py with one thing changed; the encoder without training is measured
beside. Runs lie in the folders of table.py: a row that both tools have is run once, by the tool that comes first, as
long as both get the same --cfg-options. All sizes of the data are trained for the same number of steps.

Below --work-dir/<data set> it leaves ablations.png (mean average precision, with deviations over the seeds),
ablations.md (means and deviations) and ablations.csv (every metric of every run).

Examples:
    python tools/benchmarks/ablations.py openclipart
    python tools/benchmarks/ablations.py openclipart --only replay --seeds 0
    python tools/benchmarks/ablations.py wikiscenes --data-root path/to/wikiscenes --levels 1 2 3 4 5 --jobs 1
"""

import argparse
from pathlib import Path

from table import Results, argument_parser, cells, measure_rows, measured_columns
from table_rows import ABLATIONS, GROUPS, PAPER_B, Row, ablations

from hierpretrain.files import write_whole
from hierpretrain.report.run_table import markdown_table, metrics_csv
from hierpretrain.visualization import plot_ablations

DRAWN = ("mAP", "mAP*")  # headings of a data set's first table
UNTRAINED = "No training"
Settings = dict[str, dict[str, tuple[str, Row]]]  # ablation -> {setting: (name of the row, row)}


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argument_parser(__doc__, list(PAPER_B))
    parser.add_argument("--only", nargs="+", choices=list(ABLATIONS), default=list(ABLATIONS), help="which ablations")
    parser.add_argument("--levels", nargs="+", type=int, help="numbers of levels; all of them always follow")
    parser.add_argument("--replay", nargs="+", type=float, help="replay probabilities")
    return parser.parse_args()


def markdown(settings: Settings, columns: dict[str, str], seeds: list[int], results: Results) -> str:
    """Returns a table for each ablation, in the order of its settings."""
    tables = []
    for ablation, named in settings.items():
        rows = {UNTRAINED: UNTRAINED, **{setting: row for setting, (row, _) in named.items()}}
        lines = [[label, *cells(columns, [results[row, seed] for seed in seeds])] for label, row in rows.items()]
        tables.append(markdown_table(ABLATIONS[ablation].capitalize(), ["", *columns], lines))
    return "\n\n".join(tables) + "\n"


def draw(
    path: Path, dataset: str, settings: Settings, columns: dict[str, str], seeds: list[int], results: Results
) -> None:
    """Draws the ablations side by side."""

    def measured(row: str) -> dict[str, list[float]]:
        return {heading: [results[row, seed][columns[heading]] for seed in seeds] for heading in DRAWN}

    panels = {
        ABLATIONS[ablation]: {setting: measured(row) for setting, (row, _) in named.items()}
        for ablation, named in settings.items()
    }
    over = f"mean and deviation of {len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds[0]}"
    title = f"Level-by-level triplets on {dataset}, {over}"
    plot_ablations(panels, path, ylabel="average precision, %", title=title, reference=measured(UNTRAINED))


def main() -> None:
    """Runs what is missing and writes the table, the numbers and the picture."""
    args = parse_args()
    every = ablations(args.dataset, args.levels, args.replay)
    settings = {ablation: every[ablation] for ablation in ABLATIONS if ablation in args.only}
    rows = {UNTRAINED: GROUPS["paper_b"][UNTRAINED]}
    rows.update(named for of_one in settings.values() for named in of_one.values())
    root = Path(args.work_dir).resolve() / args.dataset
    _, results = measure_rows(args, rows, f"linear_{args.dataset}", list(args.cfg_options), root)

    _, columns = next(measured_columns(args.dataset, results))
    table = markdown(settings, columns, args.seeds, results)
    write_whole(root / "ablations.md", table.encode())
    runs = {("", UNTRAINED, seed): results[UNTRAINED, seed] for seed in args.seeds}
    for ablation, named in settings.items():
        runs.update({(ablation, s, seed): results[row, seed] for s, (row, _) in named.items() for seed in args.seeds})
    write_whole(root / "ablations.csv", metrics_csv(["ablation", "setting", "seed"], runs).encode())
    draw(root / "ablations.png", args.dataset, settings, columns, args.seeds, results)
    print(table)


if __name__ == "__main__":
    main()
