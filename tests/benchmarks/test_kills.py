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
    tool["prepare"](tmp_path)
    counts = tool["kill"](command, tmp_path, 4, seed=1, log=lambda line: None)
    assert counts["kills"] == 4
    assert counts["inside"] >= 2
