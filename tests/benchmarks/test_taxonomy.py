import importlib
import sys
from collections import Counter
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools/benchmarks"


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    yield importlib.import_module("taxonomy")
    for name in ("taxonomy", "measure"):
        sys.modules.pop(name, None)


def test_the_paths_have_the_shape_of_a_catalogue_of_species(tool):
    paths = tool.write_paths(3_000)
    assert len(paths) == 3_000
    lengths = Counter(map(len, paths))
    assert set(lengths) == {6, 7}
    assert 0.01 < lengths[6] / 3_000 < 0.03
    counts = [len({path[:level] for path in paths if len(path) >= level}) for level in range(1, 8)]
    assert counts == sorted(counts)
    assert counts[5] == 500
    for path in paths:
        if len(path) == 7:
            genus, epithet = path[6].split()
            assert genus == path[5]
            assert epithet.islower()


def test_ours_and_the_limits_find_the_same(tool, tmp_path):
    paths = tool.write_paths(500)
    of_kind = {kind: list(tool.contenders_of(kind, paths, str(tmp_path)).values()) for kind in tool.KINDS}
    results = {kind: (ours(), limit()) for kind, (ours, limit) in of_kind.items()}
    tree, ids = results["build"]
    assert [set(tree.node_paths(level)) for level in range(1, 8)] == [set(of_level) for of_level in ids]
    labels, rows = results["encode"]
    padded = [row + [-1] * (7 - len(row)) for row in rows]
    for ours, theirs in zip(labels.T.tolist(), zip(*padded, strict=True), strict=True):
        assert len(set(zip(ours, theirs, strict=True))) == len(set(ours)) == len(set(theirs))  # one to one
    assert results["load"][0] == tree
    assert results["load"][1] == results["pickle"][1] == tree.to_dict()
    assert results["pickle"][0] == tree
    for kind in ("decode", "look up"):
        ours, limit = results[kind]
        assert ours == limit


@pytest.mark.slow
def test_it_races_and_saves_the_figures(tool, monkeypatch, capsys, tmp_path):
    words = ["--rounds", "1", "--species", "100", "200", "--save", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["taxonomy.py", *words])
    tool.main()
    printed = capsys.readouterr().out
    assert printed.count("build: ours") == printed.count("look up: lists alone") == 2
    assert printed.count("in times of plain numbering") == 4
    assert {path.name for path in tmp_path.iterdir()} == {"taxonomy.json", "taxonomy.md", "taxonomy.png"}
