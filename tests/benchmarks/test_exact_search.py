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
    return runpy.run_path(str(TOOLS / "exact_search.py"))


def test_a_branch_has_a_tenth_and_is_searched_alone(tool):
    images, query = tool["embedded"](2000, 16, seed=1), tool["embedded"](4, 16, seed=2)
    searches = tool["searches"](images, query)
    inside = images.labels[:, 0] == images.taxonomy.encode([("branch 3",)])[0, 0]
    assert 0.07 < inside.double().mean() < 0.13
    similarities = query.features @ images.features.T
    wanted = {tool["PLAIN"]: similarities, tool["BRANCH"]: similarities.masked_fill(~inside, -2)}
    wanted[tool["ALONE"]] = wanted[tool["BRANCH"]]
    for name, values in wanted.items():
        paths = [[images.paths[row] for row in rows] for rows in values.topk(10).indices.tolist()]
        assert [[found.path for found in result.neighbours] for result in searches[name]()] == paths, name
    for name in (tool["HALF"], tool["HALF_BRANCH"]):
        assert [len(result.neighbours) for result in searches[name]()] == [10] * 4


@pytest.mark.slow
def test_the_whole_of_it(tool, monkeypatch, tmp_path):
    options = "--sizes 1200 --dims 8 --queries 1 9 --rounds 1 --save"
    monkeypatch.setattr(sys, "argv", ["exact_search.py", *options.split(), str(tmp_path)])
    tool["main"]()
    rows = json.loads((tmp_path / "exact_search.json").read_text())["rows"]
    assert [row["case"]["queries"] for row in rows] == [1] * 5 + [9] * 5
    assert torch.tensor([row["ratio"] for row in rows]).gt(0).all()
