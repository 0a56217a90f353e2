"""The report: all that is worth knowing of a set of embedded images, as one HTML file that opens offline."""

from hierpretrain.report.page import write_report

__all__ = ["write_report"]
