import json
import sys
from pathlib import Path

import pytest
import torch

TOOLS = Path(__file__).parents[2] / "tools/benchmarks"


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    import embed

    yield embed
    for name in ("embed", "data_path"):
        sys.modules.pop(name)


def test_the_limit_is_the_encoder_and_decoding_on_all_processors(tool):
    seconds = {
        tool.ENCODER: [4.0, 6.0],
        tool.AMP_ENCODER: [1.0, 2.0],
        tool.DECODING: [3.0, 5.0],
        tool.EMBED: [6.0, 9.0],
    }
    found = tool.with_limits(seconds, 2)
    assert found[tool.DECODING] == [1.5, 2.5]
    assert found[tool.LIMIT] == [5.5, 8.5]
    assert found[tool.AMP_LIMIT] == [2.5, 4.5]
    assert found[tool.EMBED] == seconds[tool.EMBED]


def test_least_cosine(tool):
    assert tool.least_cosine(torch.eye(2), torch.tensor([[2.0, 0.0], [3.0, 4.0]])) == pytest.approx(0.8)


@pytest.mark.slow
def test_the_whole_of_it(tool, monkeypatch, tmp_path):
    # without a processor's own bfloat16 a real encoder takes minutes
    monkeypatch.setitem(tool.BACKBONES, "resnet50", dict(type="MobileNetV2", widen_factor=0.25))
    options = "--encoders resnet50 --sides 900 --images 32 --rounds 1 --save"
    monkeypatch.setattr(sys, "argv", ["embed.py", *options.split(), str(tmp_path)])
    tool.main()
    rows = json.loads((tmp_path / "embed.json").read_text())["rows"]
    embedding = [row for row in rows if row["name"] == tool.EMBED]
    assert [row["case"]["pixels"] for row in embedding] == [900 * 675]
    assert all(row["fraction_of_limit"] > 0 for row in embedding)
    assert sum(row["name"] == tool.SMALLER for row in rows) == 1
    assert all(row["least_cosine"] > 0.9 for row in rows if "least_cosine" in row)
