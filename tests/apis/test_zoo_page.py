"""The Python of docs/zoo.md, run."""

import re
from pathlib import Path

import pytest
from mmpretrain import ModelHub

from tests.datasets.trees import write_image

PAGE = Path(__file__).parents[2] / "docs/zoo.md"
# the others are configs, of which tests/test_docs_pages.py takes care
BLOCKS = [code for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if not code.startswith("# ")]


@pytest.mark.parametrize("code", BLOCKS, ids=["names", "mmpretrain"])
def test_it_runs(code, tmp_path, monkeypatch, capsys):
    ModelHub._register_mmpretrain_models()
    monkeypatch.setattr(ModelHub, "_models_dict", dict(ModelHub._models_dict))
    write_image(tmp_path / "photo.png", "red")
    monkeypatch.chdir(tmp_path)
    found = {}
    exec(code, found)
    if "features" in found:
        assert found["features"].shape == (1280,)
        assert "['finetune_emoji', 'finetune_emoji_known']" in capsys.readouterr().out
    else:
        assert found["config"].model.backbone.depth == 50
        assert found["weights"].startswith("https://")
