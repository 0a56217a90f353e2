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
