"""Compares runs: their metrics side by side over seeds, what differs in their settings, and their curves.

Examples:
    hierpretrain compare work_dirs/himulcon_0 work_dirs/himulcon_1 work_dirs/supcon_0 work_dirs/supcon_1
    hierpretrain compare work_dirs/* --metrics "*/recall@1" "*/map@r" --out recall
    hierpretrain compare work_dirs/* --baseline supcon_emoji --ignore "*.data_root" "*.num_workers"

What comes out: <out>.md, the tables, which are printed, too; <out>.csv, every metric of every run; <out>.html, one page
with the tables and the curves, which loads nothing from anywhere.

RUN is a work directory, of training or of a test of its checkpoint. Runs whose configs differ in randomness.seed alone
are one row: mean and standard deviation over its seeds. Rows are compared with the first, seed by seed.

Mistakes that are easy to make: a folder of work directories (give folder/*); the same seed for all runs of a row, which
is refused (train with --cfg-options randomness.seed=1); runs on two machines that become two rows, because data_root or
num_workers differ (the table of settings says so; --ignore them).
"""

from __future__ import annotations

from hierpretrain._parser import Parser
from hierpretrain.commands import check_outputs, errors_in_one_line, page_head
from hierpretrain.files import check_writable

_OUT = "comparison"


def main() -> None:
    """Reads the runs, writes the comparison and prints it."""
    parser = Parser(description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="work directories")
    parser.add_argument("--out", help="the files to write, without suffix (default: comparison)")
    parser.add_argument("--metrics", nargs="+", metavar="PATTERN", help="the metrics that tables have; all by default")
    parser.add_argument("--baseline", help="the name of the row that others are compared with; the first by default")
    parser.add_argument("--names", nargs="+", help="names of the rows, in order; by default the names of their configs")
    parser.add_argument(
        "--ignore", nargs="+", default=[], metavar="PATTERN", help="settings that may differ in a row: *.num_workers"
    )
    parser.add_argument("--title", default="Comparison of runs", help="the heading of the page")
    args = parser.parse_args()
    with errors_in_one_line():
        by_default, args.out = not args.out, args.out or _OUT
        for suffix in ("md", "csv", "html"):
            check_writable(f"{args.out}.{suffix}")
        if by_default:
            tables = {f"{_OUT}.md": b"**Metrics: mean and standard", f"{_OUT}.csv": b"row,seed,folder,metric,value"}
            check_outputs(args, ours={**tables, f"{_OUT}.html": page_head("comparison")})
        from hierpretrain.report import compare_runs

        text = compare_runs(
            args.runs,
            args.out,
            metrics=args.metrics,
            ignore=args.ignore,
            names=args.names,
            baseline=args.baseline,
            title=args.title,
        )
        print(text)
        print(f"wrote {args.out}.md, {args.out}.csv and {args.out}.html")
