import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "tools/benchmarks"
OWN = ("gpu", "gpu_page", "gpu_checks", "gpu_figures", "step", "losses", "retrieval", "data_path", "gradient_caching")
MACHINE = {"processor": "a", "gpu": "none"}


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    yield importlib.import_module("gpu")
    for name in (*OWN, "measure", "processes"):
        sys.modules.pop(name, None)


class InProcess:
    """A worker without a process."""

    def call(self, function, *args, seconds):
        try:
            return function(*args)
        except Exception:
            from processes import CallFailed

            raise CallFailed(traceback.format_exc()) from None

    def close(self):
        pass


def checked(folder, name, error):
    """A part that checks: leaves a file, so that it shows how often it ran."""
    with open(Path(folder, name), "a") as file:
        file.write("x")
    return [{"what": f"the {name} values", "error": error, "bar": 0.1, "passed": error <= 0.1}]


def measured(folder, name):
    checked(folder, name, 0)
    row = {"case": {"rows": 4}, "name": name, "seconds": 0.5, "fastest": 0.5, "slowest": 0.5, "rounds": 1}
    return [row, {"case": {"rows": 4}, "name": "too large", "seconds": None}]


def raises(folder, name):
    checked(folder, name, 0)
    raise ValueError("of three | of four")


def no_memory(folder, name):
    checked(folder, name, 0)
    raise MemoryError


@pytest.fixture
def parts(gpu, monkeypatch, tmp_path):
    """Parts that leave a file each, on a machine without a GPU."""
    made = {
        "check-good": (checked, 0.0),
        "check-bad": (checked, 0.2),
        "losses-1": (measured, "check-good"),
        "step-1": (measured, "check-good", "check-bad"),
        "loader": (no_memory, "check-good"),
        "retrieval-5": (raises, "check-good"),
    }
    found = []
    for name, (function, *more) in made.items():
        args = (str(tmp_path), name, *(more if function is checked else ()))
        found.append(gpu.Part(name, function, args, 2.0, () if function is checked else tuple(more)))
    monkeypatch.setattr(gpu, "plan", lambda device, small: found)
    monkeypatch.setattr(gpu, "gpus", lambda: MACHINE)
    monkeypatch.setattr(gpu, "Worker", InProcess)
    return found


def ran(folder):
    return {path.name: len(path.read_text()) for path in folder.iterdir() if path.is_file()}


def test_what_is_wrong_is_told_and_only_its_figures_are_withheld(gpu, parts, tmp_path, capsys):
    command = ["--device", "cpu", "--small", "--out", str(tmp_path / "out")]
    assert gpu.main(command) == 1
    once = {"check-good": 1, "check-bad": 1, "losses-1": 1, "loader": 1, "retrieval-5": 1}
    assert ran(tmp_path) == once  # step-1 needs a check that failed
    printed = capsys.readouterr().out
    assert "FAILED: the check-bad values: 0.2, at most 0.1 wanted" in printed
    assert "wrong: check-bad, loader, retrieval-5" in printed
    page = (tmp_path / "out/gpu.md").read_text()
    assert "| check-good | the check-good values | 0 | 0.1 | passed |" in page
    assert "| check-bad | the check-bad values | 0.2 | 0.1 | **failed** |" in page
    assert "| 4 | losses-1 | 500.00 ms | 500.00 ms to 500.00 ms |" in page
    assert "| 4 | too large | out of memory |  |" in page
    assert "`step-1`: withheld, since what it needs is wrong: check-bad." in page
    assert "`loader`: ended with an error, MemoryError." in page
    assert r"`retrieval-5`: ended with an error, ValueError: of three \| of four." in page

    # what is there stays, what was wrong is tried again
    before = json.loads((tmp_path / "out/gpu.json").read_text())["parts"]
    assert gpu.main([*command, "--again", "losses-1"]) == 1
    assert ran(tmp_path) == {"check-good": 1, "check-bad": 2, "losses-1": 2, "loader": 2, "retrieval-5": 2}
    after = json.loads((tmp_path / "out/gpu.json").read_text())["parts"]
    assert after["check-good"] == before["check-good"]
    assert list(after) == list(before)

    parts[1] = parts[1]._replace(args=(str(tmp_path), "check-bad", 0.1))  # now it is right
    assert gpu.main(command) == 1
    assert ran(tmp_path) == {**ran(tmp_path), "check-bad": 3, "step-1": 1, "losses-1": 2}
    assert "withheld" not in (tmp_path / "out/gpu.md").read_text()


def test_figures_are_withheld_too_when_their_check_fails_later(gpu, parts):
    good = {"kind": "checks", "checks": [{"passed": True}]}
    bad = {"kind": "checks", "checks": [{"passed": True}, {"passed": False}]}
    results = {"check-good": good, "check-bad": good, "step-1": {"kind": "figures", "figures": []}}
    (step,) = (part for part in parts if part.name == "step-1")
    assert gpu.state(step, results) == "measured"
    assert gpu.state(step, {**results, "check-bad": bad}) == "withheld"
    assert gpu.state(step, {"check-good": good, "step-1": results["step-1"]}) == "missing"


def test_what_does_not_fit_is_left_for_the_next_call(gpu, parts):
    def chosen(results, tried, left):
        part = gpu.next_part(parts, results, tried, left)
        return part and part.name

    good, bad = ({"checks": [{"passed": passed}]} for passed in (True, False))
    assert chosen({}, set(), 9) == "check-good"
    assert chosen({}, set(), 1.9) is None
    assert chosen({"check-good": good}, {"check-good"}, 9) == "check-bad"
    assert chosen({"check-good": good, "check-bad": bad}, set(), 9) == "losses-1"  # missing before failed
    rest = {part.name: {"figures": []} for part in parts[2:]}
    assert chosen({"check-good": good, "check-bad": bad, **rest}, set(), 9) == "check-bad"
    assert chosen({"check-good": good, "check-bad": bad, **rest}, {"check-bad"}, 9) is None
    assert chosen({"check-bad": good}, {"check-good"}, 9) is None  # all else waits for a check that has not come


def test_a_part_that_the_end_of_the_time_stops_is_left_for_the_next_call(gpu, parts, tmp_path, monkeypatch, capsys):
    from processes import CallTimedOut

    class Slow(InProcess):
        def call(self, function, *args, seconds):
            if "check-bad" in args:
                assert seconds <= 6
                raise CallTimedOut("it took more than 5 s")
            return super().call(function, *args, seconds=seconds)

    monkeypatch.setattr(gpu, "Worker", Slow)
    command = ["--device", "cpu", "--small", "--out", str(tmp_path / "out")]
    assert gpu.main([*command, "--minutes", "0.1"]) == 0
    assert ran(tmp_path) == {"check-good": 1}
    printed = capsys.readouterr().out
    assert "check-bad\nthe time is over: it is left for the next call" in printed
    assert "not done yet, call again: check-bad, losses-1, step-1, loader, retrieval-5" in printed
    assert json.loads((tmp_path / "out/gpu.json").read_text())["parts"].keys() == {"check-good"}


def test_a_part_that_hangs_is_an_error(gpu, parts, monkeypatch):
    from processes import CallTimedOut

    class Hanging(InProcess):
        def call(self, function, *args, seconds):
            assert seconds == 3 * 2 + 60
            raise CallTimedOut("it took more than 66 s")

    results = {}
    gpu.run(parts[:1], results, lambda: None, Hanging(), end=time.monotonic() + 600, patience=60)
    assert results["check-good"]["error"] == "it took more than 66 s"
    assert gpu.state(parts[0], results) == "error"


def test_the_command_starts_as_it_stands_and_leaves_the_threads_alone():
    """Without a PYTHONPATH: a package of others may have the name of our tests."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "OMP_NUM_THREADS")}
    command = [sys.executable, str(TOOLS / "gpu.py"), "--help"]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (found.returncode, "--minutes" in found.stdout) == (0, True), found.stderr
    script = "import gpu_checks, os; print(os.environ.get('OMP_NUM_THREADS'), gpu_checks.random_labels.__module__)"
    command = [sys.executable, "-c", script]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=TOOLS, check=False)
    assert found.stdout.split() == ["None", "tests.conftest"], found.stderr


def test_results_of_other_processors_with_the_same_gpu_are_put_together(gpu, parts, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    other = {"machine": {**MACHINE, "processor": "b"}, "device": "cpu", "small": True, "parts": {}}
    (out / "gpu.json").write_text(json.dumps(other))
    gpu.main(["--device", "cpu", "--small", "--out", str(out)])
    assert json.loads((out / "gpu.json").read_text())["machine"] == MACHINE


def test_results_of_another_machine_are_not_mixed(gpu, parts, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    out.mkdir()
    other = {"machine": {**MACHINE, "gpu": "H200"}, "device": "cpu", "small": True, "parts": {}}
    (out / "gpu.json").write_text(json.dumps(other))
    with pytest.raises(SystemExit):
        gpu.main(["--device", "cpu", "--small", "--out", str(out)])
    assert "are of another machine: {'processor': 'a', 'gpu': 'H200'}, and here it is" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "cpu"], "--out FOLDER is needed: docs/benchmarks is for the figures of a GPU"),
        (["--out", "x"], "torch finds no GPU; --device cpu --small --out FOLDER tries the command without one"),
        (["--out", "x", "--again", "los"], "--again: no part is named los; there are check-good, check-bad, losses-1,"),
    ],
)
def test_wrong_options(gpu, parts, words, message, capsys):
    with pytest.raises(SystemExit):
        gpu.main(words)
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_after_a_call_that_failed_the_next_has_a_process_of_its_own(gpu):
    from processes import CallFailed, Worker

    worker = Worker()
    try:
        first = worker.call(os.getpid, seconds=60)
        assert worker.call(os.getpid, seconds=60) == first != os.getpid()
        with pytest.raises(CallFailed, match="it took more than 1 s"):
            worker.call(time.sleep, 60, seconds=1)
        with pytest.raises(CallFailed, match="its process ended with 7"):
            worker.call(os._exit, 7, seconds=60)
        with pytest.raises(CallFailed, match=r"(?s)Traceback.*FileNotFoundError"):
            worker.call(os.stat, "no such file", seconds=60)
        assert worker.call(os.getpid, seconds=60) != first
        with pytest.raises(ProcessLookupError):
            os.kill(first, 0)
    finally:
        worker.close()


def group_sum(value):
    import torch
    import torch.distributed as dist

    if value is None and dist.get_rank() == 1:
        raise ValueError("on purpose")
    total = torch.tensor([dist.get_rank() + (value or 0)])
    dist.all_reduce(total)
    return dist.get_rank(), total.item()


@pytest.mark.slow
@pytest.mark.ddp
def test_ranks_return_in_their_order_and_an_error_on_one_ends_all(gpu):
    from processes import CallFailed, run_ranks

    assert run_ranks(group_sum, 2, "gloo", 10) == [(0, 21), (1, 21)]
    with pytest.raises(CallFailed, match=r"(?s)on rank 1:.*ValueError: on purpose"):
        run_ranks(group_sum, 2, "gloo", None)


def test_memory_that_a_gpu_lacks_leaves_a_contender_out(gpu):
    import torch
    from measure import fitting

    def raising(error):
        raise error

    calls = []
    contenders = {
        "a": lambda: calls.append("a"),
        "b": lambda: raising(torch.OutOfMemoryError("on purpose")),
        "c": lambda: raising(RuntimeError("nonzero is not supported for tensors with more than INT_MAX elements")),
        "d": lambda: calls.append("d"),
    }
    fit, left_out = fitting(contenders)
    assert (list(fit), left_out, calls) == (["a", "d"], ["b", "c"], ["a", "d"])
    with pytest.raises(RuntimeError, match="something else"):
        fitting({"a": lambda: raising(RuntimeError("something else"))})


@pytest.mark.slow
def test_the_whole_of_it_killed_and_going_on(tmp_path):
    command = [sys.executable, str(TOOLS / "gpu.py"), *"--device cpu --small --minutes 20 --out".split(), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    results = tmp_path / "gpu.json"

    def done():
        return json.loads(results.read_text())["parts"] if results.exists() else {}

    with open(tmp_path / "log.txt", "w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + 300
        while len(done()) < 3:
            assert process.poll() is None, (tmp_path / "log.txt").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = done()
    assert "not done yet" in (tmp_path / "gpu.md").read_text()
    whole = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    after = done()
    assert before.items() <= after.items()
    page = (tmp_path / "gpu.md").read_text()
    for word in ("not done yet", "withheld", "failed", "error"):
        assert word not in page
    assert page.count("| passed |") >= 20
    for name in ("HiMulConE, anchor", "Runner, HiMulConE, pair", "optimizer ms", "grad_cache=4", "AccuracyCalculator"):
        assert name in page
    assert "the loader gives" in page
