"""A few kills of each command; tools/benchmarks/kills.py does more."""

import runpy
import sys

import pytest

from tests.processes import ROOT

TOOLS = ROOT / "tools/benchmarks"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "embed", "index", "unpack"])
def test_a_command_that_is_killed_leaves_whole_files_and_the_next_write_clears_up(command, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    tool = runpy.run_path(str(TOOLS / "kills.py"))
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    inside = 0
    for seed in range(1, 7):  # a kill of two strikes inside a write, by chance
        place = tmp_path / str(seed)
        place.mkdir()
        tool["prepare"](place)
        counts = tool["kill"](command, place, 4, seed=seed, log=lambda line: None)
        assert counts["kills"] == 4
        if inside := counts["inside"]:
            break
    assert inside
