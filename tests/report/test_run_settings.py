"""Configs that MMEngine wrote are read without running them, and the settings are what changes a result."""

import math

import pytest
from mmengine.config import Config

from hierpretrain.apis import load_config
from hierpretrain.report.run_settings import read_config, settings_of


def as_lists(value):
    """Returns a config's values with lists for tuples."""
    if isinstance(value, dict):
        return {key: as_lists(part) for key, part in value.items()}
    return [as_lists(part) for part in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("name", ["himulcone_emoji", "finetune_emoji"])
@pytest.mark.parametrize("laid_out", [True, False])
def test_what_mmengine_wrote_is_read_as_mmengine_reads_it(name, laid_out, tmp_path):
    config = load_config(name, {"model.backbone.odd": {"a-b": {1: -2.5}, "é": [(), {}]}, "randomness.seed": None})
    config._format_python_code = laid_out
    config.dump(tmp_path / "config.py")
    expected = Config.fromfile(tmp_path / "config.py").to_dict()
    assert read_config(tmp_path / "config.py") == as_lists(expected) == as_lists(config.to_dict())


def test_infinity_and_nan_are_numbers(tmp_path):
    Config(dict(clip=dict(max_norm=float("inf"), least=-float("inf"), odd=float("nan")))).dump(tmp_path / "c.py")
    clip = read_config(tmp_path / "c.py")["clip"]
    assert (clip["max_norm"], clip["least"]) == (math.inf, -math.inf)
    assert math.isnan(clip["odd"])


@pytest.mark.parametrize(
    "text",
    [
        "import os\n",
        "x = open('left', 'w')",
        "x = __import__('os')",
        "x = 1 + 1",
        "x = [y for y in (1,)]",
        "x.y = 1",
        "x = dict(**{'a': 1})",
        "x = dict([('a', 1)])",
        "x = {**{}}",
        "x = {(): 1}",
        "x = -'a'",
        "x = 'a' if 1 else 'b'",
    ],
)
def test_a_program_is_refused_and_not_run(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.py").write_text(f"model = dict()\n{text}")
    with pytest.raises(ValueError, match=r"c\.py:2: a config that MMEngine wrote holds numbers, texts, lists and dict"):
        read_config(tmp_path / "c.py")
    assert not (tmp_path / "left").exists()


@pytest.mark.parametrize("content", [b"x = (", b"x = '\xff'", b"x = " + b"[" * 5000 + b"]" * 5000, b"x = 1\0"])
def test_no_python_is_an_error_with_the_file(content, tmp_path):
    (tmp_path / "c.py").write_bytes(content)
    with pytest.raises(ValueError, match=r"c\.py is no config that MMEngine wrote: "):
        read_config(tmp_path / "c.py")


def test_settings_are_what_changes_a_result():
    config = dict(
        _size=3,
        train_pipeline=[dict(type="LoadRGB")],
        work_dir="runs/a/",
        resume=True,
        visualizer=dict(type="Visualizer"),
        log_level="INFO",
        randomness=dict(seed=3, deterministic=False),
        default_hooks=dict(logger=None, features=dict(folder="runs/a/features", other="runs/ab")),
        load_from=None,
        val_evaluator=[dict(type="A", ks=[1, 2]), dict()],
        param_scheduler=[],
    )
    assert settings_of(config) == {
        "randomness.deterministic": False,
        "default_hooks.features.folder": "<work_dir>/features",
        "default_hooks.features.other": "runs/ab",
        "val_evaluator.0.type": "A",
        "val_evaluator.0.ks": [1, 2],
        "val_evaluator.1": {},
        "param_scheduler": [],
    }
