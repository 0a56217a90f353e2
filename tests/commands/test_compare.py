"""``hierpretrain compare``: three files and a table; errors in one line."""

import sys

import pytest

from hierpretrain.commands.compare import main
from tests.report.work_dirs import write_run


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["compare", *map(str, words)])
    main()


def test_runs_are_compared(tmp_path, monkeypatch, capsys):
    folders = [write_run(tmp_path / f"run{seed}", seed, {"map": 0.5 + seed / 4}) for seed in (0, 1)]
    run(monkeypatch, *folders, "--out", tmp_path / "new/out", "--names", "Ours")
    out = capsys.readouterr().out
    assert "|  | Ours |\n| --- | ---: |\n| seeds | 0, 1 |\n| map | 0.6250 ± 0.1768 |" in out
    assert f"wrote {tmp_path}/new/out.md, {tmp_path}/new/out.csv and {tmp_path}/new/out.html" in out
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["out.csv", "out.html", "out.md"]


def test_errors_are_one_line(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, tmp_path / "nowhere", "--out", tmp_path / "out")
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/nowhere is no folder; give the work directory")
    (tmp_path / "out.csv").mkdir()
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, tmp_path / "nowhere", "--out", tmp_path / "out")
    assert "out.csv cannot be written: it is a folder" in capsys.readouterr().err
