"""The comparison of runs: its tables by hand, its CSV and its page."""

import csv
import json
import re

import pytest

from hierpretrain.report import compare_runs
from tests.report.work_dirs import write_run

EVIL = "a|b</script><img src=x onerror=alert(1)>"


@pytest.fixture
def folders(tmp_path):
    """Two rows: of one the seeds 0 and 1, of the other 1 and 2, whose last run lacks a metric."""
    lines = [{"loss": 3.0 / step, "loss/kind": 1.0, "step": step} for step in range(1, 1201)]
    lines += [{"kind/map": 0.5, "step": 1}]
    a = [write_run(tmp_path / f"a{s}", s, {"map": 0.5 + s / 4, "num": 4, "x/num_q": 2}, lines) for s in (0, 1)]
    b_options = dict(config="warm", model__loss=dict(_delete_=True, type=EVIL))
    b = [write_run(tmp_path / f"b{s}", s, {"map": 0.25 * s, "num": 5} | {}, **b_options) for s in (1, 2)]
    (b[1] / "metrics.json").write_text('{"metrics": {"map": 0.5}}')
    return [*a, *b]


def test_tables_by_hand(folders, tmp_path):
    text = compare_runs(folders, tmp_path / "out")
    # of 0.5 and 0.75 the deviation is sqrt(2) / 8; seed 1 is the one that both have
    assert text.split("\n\n**Runs**")[0] == "\n".join([
        "**Metrics: mean and standard deviation over the runs**", "",
        "|  | mine | warm |", "| --- | ---: | ---: |",
        "| seeds | 0, 1 | 1, 2 |",
        "| map | 0.6250 ± 0.1768 | 0.3750 ± 0.1768 |",
        "| num | 4 ± 0 | 5 (1 of 2) |", "",
        "**Difference from mine, seed by seed: mean and standard deviation**", "",
        "|  | warm |", "| --- | ---: |",
        "| seeds that both have | 1 |",
        "| map | -0.5000 |",
        "| num | +1 |", "",
        "**Settings that differ**", "",
        "|  | mine | warm |", "| --- | ---: | ---: |",
        "| model.loss.temperature | 0.1 | - |",
        "| model.loss.type | SupConLoss | a\\|b</script><img src=x onerror=alert(1)> |",
    ])  # fmt: skip
    assert f"| {folders[0]} | mine | 0 | 1,200 | 3 metrics |" in text
    assert (tmp_path / "out.md").read_text() == text
    with open(tmp_path / "out.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[:3] == [
        ["row", "seed", "folder", "metric", "value"],
        ["mine", "0", str(folders[0]), "map", "0.5"],
        ["mine", "0", str(folders[0]), "num", "4"],
    ]
    assert len(rows) == 1 + 3 + 3 + 2 + 1


def test_another_baseline_and_other_metrics(folders, tmp_path):
    text = compare_runs(folders, tmp_path / "out", baseline="warm", metrics=["m*", "*/num_q"])
    assert "**Difference from warm, seed by seed" in text
    assert "| map | +0.5000 |" in text
    assert "| num |" not in text
    assert "| x/num_q | 2 ± 0 | - |" in text
    with pytest.raises(ValueError, match="baseline must be the name of a row: mine, warm; it is 'cold'"):
        compare_runs(folders, tmp_path / "out", baseline="cold")
    with pytest.raises(ValueError, match=r"no run has a metric 'mpa'; did you mean 'map'\?"):
        compare_runs(folders, tmp_path / "out", metrics=["mpa"])


def test_rows_without_a_common_seed_and_runs_without_metrics(tmp_path):
    one = write_run(tmp_path / "one", 0, {"map": 0.5})
    two = write_run(tmp_path / "two", 1, None, [{"loss": 1.0, "step": 7}], config="warm", train_cfg__max_epochs=5)
    text = compare_runs([one, two], tmp_path / "out")
    assert "| map | 0.5000 | - |" in text
    assert "| seeds that both have | - |\n| map | - |" in text
    assert "| warm | 1 | 7 | not evaluated yet |" in text
    with pytest.raises(ValueError, match=r"none of these runs has a metrics\.json, .*: .*two"):
        compare_runs([two], tmp_path / "out")
    alone = compare_runs([one], tmp_path / "out")
    assert "Difference" not in alone
    assert "Settings" not in alone


def test_the_page_has_the_tables_and_thinned_curves_and_runs_nothing_of_the_data(folders, tmp_path):
    compare_runs(folders, tmp_path / "out", title="A & B")
    page = (tmp_path / "out.html").read_text()
    assert "<h1>A &amp; B</h1>" in page
    assert EVIL not in page
    assert "a|b&lt;/script&gt;&lt;img" in page
    assert "<td>0.6250 ± 0.1768</td>" in page
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert data["rows"] == ["mine", "warm"]
    assert data["runs"] == [[0, "a0", 0], [0, "a1", 1], [1, "b1", 1], [1, "b2", 2]]
    assert {quantity: list(lines) for quantity, lines in data["curves"].items()} == {
        "loss": ["loss", "kind"],
        "kind/map": ["kind/map"],
    }
    (run, steps, values), _ = data["curves"]["loss"]["loss"]
    assert run == 0
    assert len(steps) == len(values) == 500
    assert steps[0] == 2  # of 1, 2 and 3
    assert values[0] == pytest.approx((3 + 1.5 + 1) / 3)


@pytest.mark.slow
def test_the_page_in_a_browser(folders, tmp_path):
    pytest.importorskip("selenium")
    from tests.report.browser import open_browser

    driver = open_browser(tmp_path / "profile")
    if driver is None:
        pytest.skip("needs chromium and chromedriver")
    compare_runs(folders, tmp_path / "out")
    driver.get(f"file://{tmp_path}/out.html")
    try:
        assert driver.execute_script("return document.body.dataset.ready") == "yes"
        names = driver.execute_script(
            "return Array.from(document.querySelectorAll('.curves .plot'), p => p.data.length)"
        )
        assert names == [2, 2]
        driver.execute_script(
            "const s = document.querySelector('.curves select'); s.value = 'kind';"
            "s.dispatchEvent(new Event('change'));"
            "const f = document.getElementById('find'); f.value = 'NUM'; f.dispatchEvent(new Event('input'))"
        )
        assert driver.execute_script("return document.querySelector('.curves .plot').layout.title.text") == "loss: kind"
        shown = "Array.from(document.querySelectorAll('tbody tr:not([hidden]) td:first-child'), c => c.textContent)"
        assert driver.execute_script(f"return {shown}") == ["num", "num"]
        assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []
    finally:
        driver.quit()
