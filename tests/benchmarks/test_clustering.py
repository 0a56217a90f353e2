import json
import runpy
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools/benchmarks"


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    return runpy.run_path(str(TOOLS / "clustering.py"))


def test_ours_is_as_good_as_scikit_learn_s_and_better_than_the_limit(tool):
    made = tool["contenders"](*tool["embedded"](400, 40, 16, 0.15))
    (ours, our_nmi), (theirs, their_nmi), (least, _) = (made[tool[name]]() for name in ("OURS", "SKLEARN", "LIMIT"))
    assert ours == pytest.approx(theirs, rel=0.05)
    assert our_nmi == pytest.approx(their_nmi, abs=0.03)
    assert ours < least


@pytest.mark.slow
def test_the_whole_of_it(tool, monkeypatch, tmp_path):
    options = "--sizes 60x3 120x5 --dim 8 --rounds 1"
    monkeypatch.setattr(sys, "argv", ["clustering.py", *options.split(), "--save", str(tmp_path)])
    tool["main"]()
    rows = json.loads((tmp_path / "clustering.json").read_text())["rows"]
    assert [row["case"]["items"] for row in rows] == [60] * 3 + [120] * 3
    assert all(0 <= row["nmi"] <= 1 + 1e-9 and row["inertia"] > 0 for row in rows)
    assert (tmp_path / "clustering.png").stat().st_size > 10_000
