"""The fuzzer: what it calls what, and that a few hundred mutations find no fault."""

import random
import sys

import pytest

from tests.processes import ROOT, run

sys.path.insert(0, str(ROOT / "tools"))

from fuzzing.mutations import mutate
from fuzzing.telltale import same_text, telltale


def test_a_mutation_is_known_by_its_seed(monkeypatch):
    times = iter(range(10**9, 2 * 10**9, 10**4))
    monkeypatch.setattr("time.time", lambda: next(times))  # no mutation may depend on when it is made
    data = b'{"a": [1, 2, 3], "b": {"c": "d"}}\n'
    both = [[mutate(data, ".json", random.Random(seed), [b""]) for seed in range(100)] for _ in range(2)]
    assert both[0] == both[1]
    assert len({new for new, _ in both[0]}) > 50
    assert all(new != data for new, _ in both[0])


@pytest.mark.parametrize(
    ("data", "name", "told"),
    [
        (b"a,b\n1,2\n", "list.csv", ""),
        (b"a,b\n1,\xff\n", "list.csv", "it is not UTF-8"),
        (b"a,b\n1,2\n\0\0", "list.csv", "it holds '\\x00'"),
        (b'{"a": 1, "a": 2}', "tree.json", "a key is there twice"),
        (b'{"a": NaN}', "tree.json", "NaN is no JSON"),
        (b'{"a": NaN}', "metrics.json", ""),
        (b'{"loss": 1}\n{"loss":', "scalars.json", ""),
        (b"PK\x03\x04", "epoch_1.pth", "it is no zip: File is not a zip file"),
        (b"\x89PNG\r\n\x1a\n", "a.png", "it has no end"),
    ],
)
def test_what_tells_that_a_file_is_damaged(data, name, told):
    assert telltale(data, name) == told


def test_texts_that_differ_in_space_alone_are_the_same():
    assert same_text(b"a b\r\n\r\nc", b"\xef\xbb\xbfa b\nc\n")
    assert not same_text(b"a b\n", b"a c\n")


@pytest.mark.slow
def test_a_short_run_finds_no_fault(tmp_path):
    told = run(tmp_path / "log.txt", ROOT / "tools/fuzz.py", "--mutations", "250", "--jobs", "1")
    (line,) = [line for line in told.splitlines() if line.startswith("| **all** |")]
    assert [cell.strip() for cell in line.split("|")[6:-1]] == [""] * 5  # the classes that are faults
