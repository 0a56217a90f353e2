import json
import multiprocessing
import runpy
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch

MEASURE = runpy.run_path(str(Path(__file__).parents[2] / "tools/benchmarks/measure.py"))
Report = MEASURE["Report"]


def test_contenders_take_turns_and_every_round_turns_their_order_around():
    calls = []
    seconds = MEASURE["race"]({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2, warm_up=1)
    assert "".join(calls) in ("ab" + "ba" + "ab", "ba" + "ab" + "ba")
    assert {name: len(of_rounds) for name, of_rounds in seconds.items()} == {"a": 2, "b": 2}


def held_at_once():
    first = torch.ones(64 << 20, dtype=torch.uint8)
    del first
    second = torch.ones(96 << 20, dtype=torch.uint8)
    return len(second) + int(torch.randn(400, 400).mm(torch.randn(400, 400)).sum() > 1e9)


def small_blocks():
    kept = [torch.ones(1 << 20, dtype=torch.uint8) for _ in range(100)]
    for _ in range(20):
        torch.randn(400, 400).mm(torch.randn(400, 400))
    return kept[0][0]


@pytest.mark.parametrize(("contender", "mebibytes"), [(held_at_once, 96), (small_blocks, 100)])
def test_peak_memory_is_what_is_held_at_once_even_if_it_is_let_go(contender, mebibytes):
    # in a process of its own: what others have let go stays in this one's heap, and is used again before new memory is
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        peak = pool.submit(_peak_of_twenty, contender).result()
    assert peak / 2**20 == pytest.approx(mebibytes, abs=24)


def _peak_of_twenty(contender):
    return MEASURE["peak_memory"](lambda: [contender() and None for _ in range(20)])


def test_a_ratio_is_the_median_of_the_rounds_ratios(tmp_path, capsys):
    report = Report("topic", "Title", "size")
    report.add({"size": 10}, {"ours": [1.0, 9.0, 3.0], "limit": [1.0, 3.0, 2.0]}, against="limit", memory={"ours": 5})
    report.add({"size": 20}, {"ours": [2.0, 2.0, 2.0]}, per_second={"ours": 7.0})
    report.rows[-1]["parts"] = {"first": 1.0}  # no number, so for the JSON file alone
    report.save(tmp_path)
    rows = json.loads((tmp_path / "topic.json").read_text("utf-8"))["rows"]
    assert [row["ratio"] for row in rows[:2]] == [1.5, 1.0]
    assert rows[0]["seconds"] == 3.0
    assert (rows[0]["fastest"], rows[0]["slowest"], rows[0]["bytes"], rows[2]["per_second"]) == (1.0, 9.0, 5, 7.0)
    assert (tmp_path / "topic.png").stat().st_size > 1000
    page = (tmp_path / "topic.md").read_text("utf-8")
    assert "| size |  | median | range | ratio | MiB | per second |" in page
    assert "| 10 | ours | 3000.00 ms | 1000.00 ms to 9000.00 ms | 1.50 x | 0.0 |  |" in page
    assert "| 10 | **limit** | 2000.00 ms" in page
    assert "| 20 | ours | 2000.00 ms | 2000.00 ms to 2000.00 ms |  |  | 7 |" in page
    assert "![Cost against size](topic.png)" in page
    assert "torch" in capsys.readouterr().out


def test_one_size_has_no_curve(tmp_path):
    report = Report("topic", "Title", "size")
    report.add({"size": 10}, {"ours": [1.0]})
    report.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["topic.json", "topic.md"]


@pytest.mark.parametrize(
    ("value", "at_least", "word"), [(1.4, False, "met"), (1.6, False, "MISSED"), (1.6, True, "met")]
)
def test_a_bar_says_whether_it_is_met(capsys, value, at_least, word):
    Report("topic", "Title", "size").bar("ours", value, 1.5, at_least=at_least)
    assert capsys.readouterr().out.rstrip().endswith(word)
