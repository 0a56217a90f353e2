import importlib
import json
import sys
from pathlib import Path

import pytest
import torch


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "tools/benchmarks"))
    yield importlib.import_module("gradient_caching")
    for name in ("gradient_caching", "measure"):
        sys.modules.pop(name, None)


def test_all_steps_leave_the_same_gradients(benchmark):
    found = benchmark.contenders(benchmark.batch(10, 16), [3, 4], 18, 4, "cpu")
    gradients = {name: benchmark.gradient(model, step) for name, (model, step) in found.items()}
    plain = gradients.pop(benchmark.PLAIN)
    assert plain.norm() > 1
    assert set(gradients) >= {"grad_cache=3", "grad_cache=4", "two passes by hand, 3"}
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, plain, rtol=1e-4, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.slow
def test_the_figures_are_saved(benchmark, monkeypatch, tmp_path, capsys):
    tiny = "--rows 4 8 --sizes 2 --pixels 16 --channels 4 --rounds 2 --memory-limit 0"
    monkeypatch.setattr(sys, "argv", ["gradient_caching.py", *tiny.split(), "--save", str(tmp_path)])
    benchmark.main()
    rows = json.loads((tmp_path / "gradient_caching.json").read_text())["rows"]
    errors = [row["gradient_error"] for row in rows if row["name"] == "grad_cache=2"]
    assert len(errors) == 2
    assert max(errors) < 1e-5
    assert "8 rows: whole batch at once would pass --memory-limit; left out" in capsys.readouterr().out
