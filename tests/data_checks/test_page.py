"""docs/checking.md lists every kind of problem, as the command tells it."""

import re
from pathlib import Path

from hierpretrain.data_checks.problems import KINDS


def test_the_page_has_every_kind_with_its_severity_and_advice():
    page = (Path(__file__).parents[2] / "docs/checking.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (error|warning|note) \| (.+?) \| (.+) \|$", page, re.MULTILINE)
    assert rows == [(kind.severity, name, kind.advice) for name, kind in KINDS.items()]
