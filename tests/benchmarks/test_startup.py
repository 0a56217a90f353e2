import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools/benchmarks"


@pytest.fixture
def startup(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    import startup

    yield startup
    sys.modules.pop("startup")


STAMPS = """
import json, sys, time
stamps = [["interpreter", time.perf_counter()]]
print("what a library says")
time.sleep(0.2)
stamps.append([sys.argv[1], time.perf_counter()])
print(json.dumps(stamps), flush=True)
time.sleep(0.4)
"""


def test_the_clock_stops_at_the_stamps_and_the_parts_add_up(startup):
    seconds, parts = startup.run(STAMPS, ["sleep"])
    assert list(parts) == ["interpreter", "sleep"]
    assert 0.2 <= parts["sleep"] < 0.2 + 0.4
    assert sum(parts.values()) <= seconds < sum(parts.values()) + 0.4


def test_a_process_that_fails_says_why(startup):
    with pytest.raises(RuntimeError, match=r"(?s)the process failed:.*ZeroDivisionError"):
        startup.run("1 / 0")


@pytest.mark.slow
def test_a_training_starts_in_a_fresh_process(startup):
    seconds, parts = startup.first_step(unpacked=False)
    assert list(parts)[-3:] == ["data set, sampler and hooks", "first batch", "first step"]
    assert min(parts.values()) > 0
    assert sum(parts.values()) == pytest.approx(seconds, abs=1.0)


def test_contenders_take_turns(startup):
    calls = []
    contenders = {name: lambda name=name: calls.append(name) or len(calls) for name in "ab"}
    assert startup.in_turn(contenders, 2) == {"a": [2, 3], "b": [1, 4]}
    assert calls == ["b", "a", "a", "b"]


def test_a_process_is_timed_whole(startup):
    seconds, of_processors = startup.whole("-c", "import time; time.sleep(0.5)")
    assert 0.5 <= seconds < 20
    assert 0 < of_processors < seconds
    with pytest.raises(RuntimeError, match=r"(?s)the process failed:.*ZeroDivisionError"):
        startup.whole("-c", "1 / 0")


@pytest.mark.slow
def test_a_search_is_timed_both_ways(startup, tmp_path):
    contenders = startup.search_contenders(tmp_path)
    (encoder,) = (tmp_path / "emoji.index").glob("encoder-*.onnx")
    (_, quick), (_, full) = contenders[startup.QUICK](), contenders[startup.FULL]()
    assert 2 * quick < full
    assert encoder.exists()
