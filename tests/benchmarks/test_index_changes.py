import json
import runpy
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools/benchmarks"


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    return lambda name: runpy.run_path(str(TOOLS / name))


@pytest.mark.slow
def test_changes_are_timed(tool, monkeypatch, tmp_path):
    options = "--images 300 --new 3 --side 32 --rounds 1 --save"
    monkeypatch.setattr(sys, "argv", ["index_changes.py", *options.split(), str(tmp_path)])
    found = tool("index_changes.py")
    found["main"]()
    data = json.loads((tmp_path / "index_changes.json").read_text())
    names = [found[name] for name in ("EMBED", "ADD", "REMOVE", "UPDATE", "OPEN")]
    assert [row["name"] for row in data["rows"]] == names
    assert data["rows"][1]["ratio"] > 0
    assert data["bars"][0].startswith("adding 3 images to 300, in times of embedding them: ")


def test_a_mixed_index_would_be_noticed(tool, tmp_path):
    kills = tool("index_kills.py")
    index = kills["made"](kills["random_images"](20, "base", 0))
    index.save(tmp_path / "index")
    assert kills["check_whole"](tmp_path / "index") == 20
    index.remove("base/3")
    with pytest.raises(AssertionError, match="19 of 20 images of base"):
        kills["check_whole"](tmp_path / "index")
    (tmp_path / "index/.vectors.new.0123456789abcdef").touch()
    assert kills["leftovers"](tmp_path / "index") == {".vectors.new.0123456789abcdef"}


@pytest.mark.slow
def test_the_kills_as_a_command(tool, monkeypatch, capsys):
    options = ["--kills", "2", "--reads", "20", "--images", "50"]
    monkeypatch.setattr(sys, "argv", ["index_kills.py", *options])
    tool("index_kills.py")["main"]()
    *_, kills, reads = capsys.readouterr().out.splitlines()
    assert kills.startswith("2 kills: whole each time; ")
    assert reads.startswith("20 reads beside a writer: {")
