"""The report, of a set of embedded images, and the comparison of runs: HTML files that open offline."""

from typing import TYPE_CHECKING

from hierpretrain._lazy import imported_on_demand

if TYPE_CHECKING:
    from hierpretrain.report.comparison import compare_runs
    from hierpretrain.report.page import write_report

__all__ = ["compare_runs", "write_report"]

__getattr__ = imported_on_demand(__name__)
