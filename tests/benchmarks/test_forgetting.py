import importlib
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools/benchmarks"
MODULES = "comparison", "comparison_config", "comparison_runs", "forgetting", "table", "table_rows"


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    yield importlib.import_module("forgetting")
    for name in MODULES:
        sys.modules.pop(name, None)


def test_tables_are_means_of_the_draws(tool, monkeypatch, capsys, tmp_path):
    """A share of 0 and all of the way are one measurement, which stands in both tables."""
    protocol = tool.PROTOCOLS["openclipart_pretrained"]

    def measured(protocol, method, rate, draw, fractions, shares, root):
        places = dict.fromkeys([*((fraction, 0.0) for fraction in fractions), *((1.0, share) for share in shares)])
        values = {(fraction, share): (draw + 10 * fraction + 20 * share) / 100 for fraction, share in places}
        metrics = {place: dict.fromkeys(protocol.columns.values(), value) for place, value in values.items()}
        return [dict(rate=rate, draw=draw, fraction=f, share=s, metrics=metrics[f, s]) for f, s in places]

    monkeypatch.setattr(tool, "measured", measured)
    out = tmp_path / "all.json"
    words = ["--rates", "2", "--fractions", "0", "1", "--shares", "0", "0.5", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["forgetting.py", "openclipart_pretrained", *words])
    tool.main()
    printed = capsys.readouterr().out
    assert protocol.trial_seeds == (0, 10, 24)  # 34 / 3 = 11.3
    assert "| rate | 0 of the way | 1 of the way |\n| --- | ---: | ---: |\n| 0.002 | 11.3 | 21.3 |" in printed
    assert "| 0.002 | 0 | 21.3 | 21.3 | 21.3 | 21.3 | 21.3 | 21.3 |\n" in printed
    assert "| 0.002 | 0.5 | 31.3 | 31.3 | 31.3 | 31.3 | 31.3 | 31.3 |\n" in printed
    assert out.stat().st_size > 0
