import json
import runpy
import sys
from pathlib import Path

import pytest

from hierpretrain.functional import retrieval_metrics

TOOLS = Path(__file__).parents[2] / "tools/benchmarks"


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    return runpy.run_path(str(TOOLS / "retrieval.py"))


@pytest.mark.parametrize("per_class", [3, 25])
def test_contenders_agree(tool, per_class):
    sets = tool["embedded"](60, 300, 16, per_class, 0.3)
    made = tool["contenders"](sets, "cpu")
    ours, theirs = made[tool["OURS"]](), made[tool["PML"]]()
    assert ours == retrieval_metrics(*sets, ks=(1, 10))
    for name, their_name in tool["SAME"].items():
        assert 0.05 < ours[name] < 0.999
        assert ours[name] == pytest.approx(theirs[their_name], abs=1e-6)
    without = made[tool["NO_MAP"]]()
    assert without == pytest.approx({name: value for name, value in ours.items() if name != "map"}, abs=1e-12)
    first = made[tool["LIMIT"]]()[1][:, 0]
    among = [label in sets[3] for label in sets[1]]
    right = (sets[3][first] == sets[1]).sum().item() / sum(among)
    assert ours["recall@1"] == pytest.approx(right)


@pytest.mark.slow
def test_the_whole_of_it(tool, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(tool["main"].__globals__, "BAR_SIZE", (20, 100, 8))
    options = "--sizes 10x50 20x100 --per-class 5 30 --dim 8 --rounds 1"
    monkeypatch.setattr(sys, "argv", ["retrieval.py", *options.split(), "--save", str(tmp_path)])
    tool["main"]()
    rows = json.loads((tmp_path / "retrieval.json").read_text())["rows"]
    assert {(row["case"]["queries"], row["case"]["per_class"]) for row in rows} == {(10, 5), (20, 5)}  # 30 are too many
    assert {row["name"] for row in rows} >= {tool[name] for name in ("OURS", "NO_MAP", "PML", "LIMIT")}
    assert (tmp_path / "retrieval.png").stat().st_size > 10_000
    assert capsys.readouterr().out.count("1.3 wanted") == 2
