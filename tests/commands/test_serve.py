"""``hierpretrain serve``: what it says of options that cannot be, and how it starts and ends."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager

import pytest

from hierpretrain.commands import serve as serve_command
from tests.processes import ROOT
from tests.serve.conftest import write_index


@pytest.fixture
def refused(monkeypatch, capsys):
    """Returns a function that runs the command on words, and returns the error in which it ends."""

    def refused(*words):
        monkeypatch.setattr(sys, "argv", ["serve", *map(str, words)])
        with pytest.raises(SystemExit, match="2"):
            serve_command.main()
        printed = capsys.readouterr()
        assert printed.out == ""
        return printed.err

    return refused


def test_options_that_cannot_be(refused, tmp_path):
    assert "error: --host 0.0.0.0 lets other machines ask; say by which names" in refused("x", "--host", "0.0.0.0")
    assert "error: --port must be from 0 to 65535; it is 65536" in refused("x", "--port", 65536)
    assert "error: files must be at least 1; it is 0" in refused("x", "--max-files", 0)
    assert "error: --model-threads must be at least 1; it is 0" in refused("x", "--port", 0, "--model-threads", 0)
    (tmp_path / "token").write_text(" \n")
    assert "token must hold the token, a line of text; it is empty" in refused("x", "--token-file", tmp_path / "token")
    assert "No such file" in refused("x", "--token-file", tmp_path / "none")
    assert f"error: there is no index in {tmp_path}" in refused(tmp_path, "--port", 0)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert f"error: 127.0.0.1:{port} cannot be listened at: " in refused("x", "--port", port)


def test_help_teaches(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["serve", "--help"])
    with pytest.raises(SystemExit, match="0"):
        serve_command.main()
    text = capsys.readouterr().out
    for part in ("Examples:", "Common mistakes:", "--allow-host", "bytes of an image (default: 20,971,520)"):
        assert part in text


@contextmanager
def serving(*words, **environment):
    """Runs the command, and gives the process and the address that it printed."""
    command = [sys.executable, "-m", "hierpretrain", "serve", *map(str, words), "--port", "0", "--device", "cpu"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        line = process.stdout.readline()
        assert line.startswith("serving "), process.stderr.read()
        yield process, re.search(r"http://\S+(?=;)", line)[0], line
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_it_ends_when_it_is_told_to(tmp_path, number, status):
    with serving(write_index(tmp_path), HIERPRETRAIN_TOKEN="0123456789abcdef") as (process, address, line):
        assert "serving 8 images of" in line
        assert "changes with the token" in line
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{address}/api/health") as answer:
            assert answer.read() == b'{"status":"ok"}'
            assert "server" not in answer.headers
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == status
        assert "Traceback" not in errors


@pytest.mark.slow
def test_beyond_this_machine_it_answers_to_its_names_and_warns(tmp_path):
    words = (write_index(tmp_path), "--host", "0.0.0.0", "--allow-host", "photos.example")
    with serving(*words) as (process, address, line):
        assert "changes off, for there is no token" in line
        port = address.rpartition(":")[2]
        for host, status in (("photos.example", 200), ("127.0.0.1", 200), ("other.example", 421)):
            request = urllib.request.Request(f"http://127.0.0.1:{port}/api/info", headers={"Host": host})
            try:
                found = urllib.request.urlopen(request).status
            except urllib.error.HTTPError as error:
                found = error.code
            assert found == status
        process.terminate()
        assert f"warning: every machine that reaches 0.0.0.0:{port} can search this index" in process.communicate()[1]
