"""Ctrl-C ends a command with one line and status 130, wherever it is."""

import os
import signal
import time

import pytest

from hierpretrain.__main__ import commands, run
from tests.commands.test_train import CONFIG
from tests.datasets.trees import write_image
from tests.processes import PATIENCE, ROOT, start


@pytest.mark.parametrize("name", commands())
def test_whatever_a_command_does(name, monkeypatch, capsys):
    def interrupted(command):
        raise KeyboardInterrupt

    monkeypatch.setattr("hierpretrain.__main__.import_module", interrupted)
    with pytest.raises(SystemExit, match="130"):
        run(name)
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["train", "test"])
def test_a_run_with_workers(tmp_path, tool):
    """The terminal sends the signal to the workers too."""
    for colour in ("red", "blue"):
        for i in range(400):
            write_image(tmp_path / f"photos/{colour}/{i}.png", colour)
    config = CONFIG.replace("num_workers=0", "num_workers=2, persistent_workers=True").replace("ERROR", "INFO")
    (tmp_path / "mine.py").write_text(config + "default_hooks = dict(logger=dict(interval=1))\n")
    log = tmp_path / "log.txt"
    words = (ROOT / f"tools/{tool}.py", "mine.py", *([""] if tool == "test" else []))
    process = start(log, *words, cwd=tmp_path, PYTHONPATH=str(ROOT))
    deadline = time.monotonic() + PATIENCE
    while (
        f"({tool}) " not in log.read_text()
        and f"({tool})  " not in log.read_text()
        and f"({tool})[" not in log.read_text()
    ):
        assert process.is_alive(), log.read_text()
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    process.join(PATIENCE)
    told = log.read_text()
    assert process.exitcode == 130, told[-3000:]
    assert told.endswith("interrupted\n"), told[-3000:]
    assert "Traceback" not in told
