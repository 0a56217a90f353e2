import json
import runpy
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools/benchmarks"


@pytest.mark.slow
def test_searches_by_a_service_are_timed(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(TOOLS)
    found = runpy.run_path(str(TOOLS / "serve.py"))
    options = "--images 300 --side 32 --rounds 1 --searches 10 --clients 4 --save"
    monkeypatch.setattr(sys, "argv", ["serve.py", *options.split(), str(tmp_path)])
    found["main"]()
    rows = json.loads((tmp_path / "serve.json").read_text())["rows"]
    seconds = {row["name"]: row["seconds"] for row in rows}
    assert next(iter(seconds)) == found["LIMIT"]
    assert seconds["1 client, p50"] <= seconds["1 client, p99"]
    assert seconds["4 clients, p50"] <= seconds["4 clients, p99"]
    assert all(row["ratio"] > 0 for row in rows)
