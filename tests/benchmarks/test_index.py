import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

TOOLS = Path(__file__).parents[2] / "tools/benchmarks"


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    return runpy.run_path(str(TOOLS / "index.py"))


def test_the_fraction_that_is_found(tool, tmp_path):
    images = tool["embedded"](300, 16, seed=1, classes=6)
    query = tool["embedded"](20, 16, seed=2, classes=6)
    makers = tool["builders"](images, tmp_path)
    makers["ours, flat"]()
    index = tool["EmbeddingIndex"].load(tmp_path / "ours, flat")
    exact = tool["searches"]({}, images, query)[tool["FAISS"]]()
    assert tool["fraction_found"](index, query, exact) == 1
    others = exact.clone()
    others[:, :5] = (query.features @ images.features.T).topk(5, largest=False).indices
    assert tool["fraction_found"](index, query, others) == 0.5
    assert torch.equal(exact, tool["searches"]({}, images, query)[tool["LIMIT"]]().topk(10).indices)


@pytest.mark.slow
def test_the_whole_of_it(tool, monkeypatch, tmp_path):
    options = "--sizes 400 --dim 8 --queries 5 --rounds 1 --save"
    monkeypatch.setattr(sys, "argv", ["index.py", *options.split(), str(tmp_path)])
    tool["main"]()
    rows = json.loads((tmp_path / "index.json").read_text())["rows"]
    building, searching = rows[:6], rows[6:]
    assert [row["name"] for row in searching] == [*(row["name"] for row in building), tool["FAISS"], tool["LIMIT"]]
    assert all(row["MB_on_disk"] > 0 for row in building)
    assert searching[0]["found"] == 1
