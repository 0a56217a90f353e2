import json
import runpy
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools/benchmarks"


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    return runpy.run_path(str(TOOLS / "check.py"))


def test_the_images_that_are_written(tool, tmp_path):
    tool["write_images"](tmp_path, 203)
    files = {path.name: path.read_bytes() for path in tmp_path.rglob("*.jpg")}
    assert len(files) == 203
    assert files["0.jpg"] == files["1.jpg"] != files["2.jpg"]
    assert len(set(files.values())) == 203 - 2  # 1 and 201 are copies
    assert (tmp_path / "coarse0/fine1/150.jpg").exists()


def test_numbers_of_the_output(tool):
    text = "warning: 1,234 x copies (the same bytes)\n    a.jpg\nnote: 7 x look-alikes (nearly)"
    assert [tool["found"](text, kind) for kind in ("copies", "look-alikes", "broken image")] == [1234, 7, 0]


@pytest.mark.slow
def test_the_whole_of_it(tool, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["check.py", "--images", "410", "--save", str(tmp_path)])
    tool["main"]()
    (row,) = json.loads((tmp_path / "check.json").read_text())["rows"]
    assert row["copies"] == 3
    assert row["CPU_seconds"] > 0
    assert row["bytes"] > 50 * 2**20
