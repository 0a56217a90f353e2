"""A few kills of each command; tools/benchmarks/kills.py does more."""

import runpy
import sys

import pytest

from tests.processes import ROOT

TOOLS = ROOT / "tools/benchmarks"


@pytest.mark.slow
@pytest.mark.parametrize("own_ids", [False, True], ids=["ordinary ids", "all with id 1"])
@pytest.mark.parametrize("command", ["train", "embed", "index", "unpack"])
def test_a_killed_command_leaves_whole_files_and_the_next_write_clears_up(command, own_ids, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    tool = runpy.run_path(str(TOOLS / "kills.py"))
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    if own_ids:
        skip_without_namespaces(tool["in_child"], tmp_path / "log.txt")
    tool["prepare"](tmp_path)
    counts = tool["kill"](command, tmp_path, 4, seed=1, log=lambda line: None, own_ids=own_ids)
    assert counts["kills"] == 4
    assert counts["inside"] >= 2


def skip_without_namespaces(in_child, log):
    try:
        process = in_child(lambda: None, log, own_ids=True)
    except OSError as error:
        pytest.skip(f"processes cannot have ids of their own here: {error}")
    process.join()
    if process.exitcode:
        pytest.skip(f"processes cannot have a /proc of their own here: {log.read_text().splitlines()[-1]}")
