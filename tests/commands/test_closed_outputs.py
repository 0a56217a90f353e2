"""A standard output that is a closed pipe, a full disk or nothing at all ends a command with one line at most."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hierpretrain._endings import ends_without_traceback
from hierpretrain.commands import errors_in_one_line
from hierpretrain.engine import shorten_terminal
from tests.processes import ROOT

PRINTS = (
    "from hierpretrain._endings import ends_without_traceback\nfrom hierpretrain.commands import errors_in_one_line\n"
    "with ends_without_traceback(), errors_in_one_line():\n    {}"
)
FULL = "error: the standard output cannot be written: [Errno 28] No space left on device\n"


@pytest.fixture
def closed_pipe():
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


@pytest.fixture
def full_disk():
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    with open("/dev/full", "w") as file:
        yield file


def ended(words, output, unbuffered="", error=subprocess.PIPE):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(
        [sys.executable, *words], stdout=output, stderr=error, env=environment, text=True, check=False
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [[], ["--help"], ["--version"], ["plot", "--help"], ["compare", "--help"]])
def test_help_that_nobody_reads(words, unbuffered, closed_pipe):
    assert ended(["-m", "hierpretrain", *words], closed_pipe, unbuffered) == (0, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("code", ["print('x')", "[print('x' * 99) for _ in range(999)]"])
def test_a_command_whose_reader_has_seen_enough_or_whose_disk_is_full(code, unbuffered, closed_pipe, full_disk):
    words = ["-c", PRINTS.format(code)]
    assert ended(words, closed_pipe, unbuffered) == (0, "")
    assert ended(words, full_disk, unbuffered) == (2, FULL)


def test_an_error_counts_more_than_a_reader_that_is_gone(closed_pipe):
    words = ["-c", PRINTS.format("print('x')\n    raise ValueError('no image')")]
    assert ended(words, closed_pipe) == (2, "error: no image\n")
    status, _ = ended(words, closed_pipe, error=closed_pipe)
    assert status != 0


def test_an_output_that_a_shell_has_closed():
    words = ["-c", "import sys; sys.stdout = None\n" + PRINTS.format("print('x')")]
    assert ended(words, subprocess.DEVNULL) == (0, "")


def test_another_pipe_that_is_closed_is_an_error(capsys):
    with pytest.raises(SystemExit, match="2"), ends_without_traceback(), errors_in_one_line():
        raise BrokenPipeError(32, "Broken pipe")
    assert capsys.readouterr().err == "error: [Errno 32] Broken pipe\n"
    with pytest.raises(BrokenPipeError), ends_without_traceback():
        raise BrokenPipeError(32, "Broken pipe")


def test_the_log_of_a_run_whose_terminal_is_gone(closed_pipe, full_disk, capsys):
    """Python would print a traceback for each line."""
    for output, told in ((os.fdopen(os.dup(closed_pipe), "w"), ""), (full_disk, "warning: the lines of the log")):
        logger = logging.Logger("run")
        logger.addHandler(logging.StreamHandler(output))
        shorten_terminal(logger)
        logger.info("one")
        logger.info("two")
        said = capsys.readouterr().err
        assert said.startswith(told)
        assert said.count("\n") == bool(told)
        with pytest.raises(OSError):  # noqa: PT011  what it held back
            output.close()
