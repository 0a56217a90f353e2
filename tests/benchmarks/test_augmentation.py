import importlib
import sys
from pathlib import Path

import pytest
import torch


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "tools/benchmarks"))
    yield importlib.import_module("augmentation")
    for name in ("augmentation", "measure"):
        sys.modules.pop(name, None)


WHOLE = dict(type="torchvision/RandomResizedCrop", size=16, scale=(1.0, 1.0), ratio=(1.0, 1.0))
STILL = dict(type="RandomApply", transforms=[dict(type="torchvision/ColorJitter")], prob=1.0)
GREY = dict(type="torchvision/RandomGrayscale", p=1.0)


def contenders(tool, monkeypatch, *view):
    monkeypatch.setattr(tool, "view_of", lambda _: [dict(transform) for transform in view])
    given = tool.pictures(3, 16)
    return given, tool.with_pillow("any", given)(), lambda mode: tool.with_kornia("any", given, mode)()


def test_views_without_randomness_are_the_pictures(tool, monkeypatch):
    given, pillow, _ = contenders(tool, monkeypatch, WHOLE, STILL)
    assert torch.equal(pillow, given.repeat(2, 1, 1, 1))


@pytest.mark.parametrize("mode", ["slice", "resample"])
def test_kornia_s_views_without_randomness_are_pillow_s(tool, monkeypatch, mode):
    pytest.importorskip("kornia")
    _, pillow, kornia = contenders(tool, monkeypatch, dict(WHOLE, scale=(0.999, 1.0)), STILL, GREY)
    assert (kornia(mode).int() - pillow.int()).abs().max() <= 2


@pytest.mark.parametrize("pipeline", ["emoji48", "views224"])
def test_the_configs_views_are_found(tool, pipeline):
    kinds = [transform["type"].rpartition("/")[2] for transform in tool.view_of(pipeline)]
    assert kinds[0] == "RandomResizedCrop"
    assert {"RandomApply", "RandomGrayscale"} < set(kinds)
