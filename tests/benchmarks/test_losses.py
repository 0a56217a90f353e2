import json
import sys
from pathlib import Path

import pytest
import torch

from hierpretrain.functional import supcon_loss
from hierpretrain.taxonomy import prefix_ids

FOLDER = Path(__file__).parents[2] / "tools/benchmarks"


@pytest.fixture
def losses(monkeypatch):
    """The benchmark as a module, which finds what it imports beside itself."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "losses", raising=False)
    import losses

    yield losses
    del sys.modules["losses"]


def test_contenders_that_should_agree_do(losses):
    features, labels = losses.batch(60, 8, 3, "cpu")
    found = {name: losses.step(loss, features.double(), labels) for name, loss in losses.contenders().items()}
    # pytorch-metric-learning adds a small number to what it divides by
    pairs = [(losses.HIMULCON, losses.ALGORITHM_1), (losses.HIMULCON, losses.ONE_SOFTMAX)]
    for ours, theirs in [*pairs, (losses.SUPCON, losses.PML_UNIT)]:
        torch.testing.assert_close(found[ours], found[theirs], rtol=1e-5, atol=1e-6)
    value, grad = found[losses.SUPCON]  # where rows are normalised once more, their gradient is that along the sphere
    rows = features.double()
    along = grad - (grad * rows).sum(1, keepdim=True) * rows
    torch.testing.assert_close(found[losses.PML], (value, along), rtol=1e-5, atol=1e-6)
    finest = supcon_loss(features.double(), prefix_ids(labels)[:, -1])
    assert found[losses.SUPCON][0] == finest
    assert found[losses.PAIR][0] > found[losses.ANCHOR][0] > found[losses.HIMULCON][0]


def test_the_rows_are_two_views_of_each_image_of_a_tree(losses):
    features, labels = losses.batch(40, 8, 4, "cpu")
    assert torch.equal(labels[:20], labels[20:])
    assert (labels.amax(0) < torch.tensor(losses.BRANCHING[:4])).all()
    torch.testing.assert_close(features.norm(dim=1), torch.ones(40))


@pytest.mark.slow
def test_it_writes_all_figures_and_leaves_out_what_takes_too_much_memory(losses, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(losses, "BAR_ROWS", (64, 128))
    monkeypatch.setattr(losses, "peak_memory", lambda contender, device=None: contender() and 1 << 20)
    options = "--rows 32 64 --memory-rows 256 --dim 8 --rounds 1 --memory-limit 0.01".split()
    monkeypatch.setattr(sys, "argv", ["losses.py", *options, "--save", str(tmp_path)])
    losses.main()
    printed = capsys.readouterr().out
    assert "256 rows: SupCon of PML would hold 0.0 GiB; left out" in printed  # 16 MiB
    for bar in (f"times {losses.LIMIT}", "times faster than Algorithm 1", "256 rows, 4 levels", "256 rows, 8 levels"):
        assert bar in printed
    rows = json.loads((tmp_path / "losses.json").read_text())["rows"]
    assert {row["case"]["rows"] for row in rows if row["name"] == losses.PML} == {32, 64}
    assert {row["case"]["rows"] for row in rows if row["name"] == losses.HIMULCON} == {32, 64, 256}
    assert (tmp_path / "losses.png").is_file()
