"""The report, of a set of embedded images, and the comparison of runs: HTML files that open offline."""

from hierpretrain.report.comparison import compare_runs
from hierpretrain.report.page import write_report

__all__ = ["compare_runs", "write_report"]
