import json
import runpy
import sys
from pathlib import Path

import torch

from hierpretrain.taxonomy import prefix_ids

TOOLS = Path(__file__).parents[2] / "tools/benchmarks"


def test_the_whole_of_it(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(TOOLS)
    tool = runpy.run_path(str(TOOLS / "hierarchical_retrieval.py"))
    features, labels = tool["embedded"](300, (2, 4, 40), 8, 0.1, 3)
    assert torch.linalg.norm(features, dim=1).allclose(torch.ones(300))
    assert prefix_ids(labels).amax(0).tolist() == [1, 3, 39]  # each node is below one other

    monkeypatch.setitem(tool["main"].__globals__, "BAR_SIZE", (20, 400))
    options = "--sizes 10x200 20x400 --top 2 30 --dim 8 --rounds 1 --anchors 7"
    monkeypatch.setattr(sys, "argv", ["hierarchical_retrieval.py", *options.split(), "--save", str(tmp_path)])
    tool["main"]()
    rows = json.loads((tmp_path / "hierarchical_retrieval.json").read_text())["rows"]
    assert {(row["name"], row["case"]["queries"], row["case"]["top nodes"]) for row in rows} == {
        *((tool["METRICS"], number, 2) for number in (10, 20)),
        *((tool["LIMIT"], number, 2) for number in (7, 10, 20)),
        (tool["VIOLATIONS"], 7, 2),  # 30 nodes are too many
    }
    assert capsys.readouterr().out.count("wanted") == 2
