"""Configs by name and by file, and what is wrong with them in one line."""

from pathlib import Path

import mmengine.config
import pytest
from mmengine.config import Config

from hierpretrain import _compat
from hierpretrain.apis import find_config, list_configs, load_config

ROOT = Path(__file__).parents[2]


def test_a_config_goes_by_its_name_its_prefixed_name_and_its_file():
    file = ROOT / "configs/hicone_emoji.py"
    for name in ("hicone_emoji", "hierpretrain::hicone_emoji", "hierpretrain::hicone_emoji.py", file, str(file)):
        assert find_config(name).samefile(file)
        assert load_config(name).model.loss.type == "HiConELoss"
    assert list_configs() == sorted(path.stem for path in (ROOT / "configs").glob("*.py"))


def test_a_file_comes_before_a_name(tmp_path, monkeypatch):
    (tmp_path / "hicone_emoji").write_text("")
    monkeypatch.chdir(tmp_path)
    assert find_config("hicone_emoji") == Path("hicone_emoji")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hicone_emojy", "no config file hicone_emojy, nor is it a name .*; did you mean 'hicone_emoji'"),
        ("configs/hicone_emojy.py", "no config file configs/hicone_emojy.py, nor .*; did you mean 'hicone_emoji'"),
        ("hierpretrain::hicone_emojy", "HierPretrain has no config 'hicone_emojy'; did you mean 'hicone_emoji'"),
        ("x", r"no config file x, nor .*; hierpretrain.apis.list_configs\(\) has all names"),
    ],
)
def test_a_misspelt_name(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        load_config(name)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("model = (", {}, r"mine.py cannot be read: .*mine.py:1 is no Python: '\(' was never closed; correct it"),
        ("_base_ = 'no.py'", {}, r"mine.py has a base that is missing: .*no\.py.*; correct _base_"),
        (
            "custom_imports = dict(imports=['no_module'], allow_failed_imports=False)",
            {},
            "wants a module that is missing: .*no_module.*; install it, or, .* put its folder on PYTHONPATH",
        ),
        (
            "model = dict(loss=dict(type='A'))",
            {"model.loss.type.x": 1},
            r"options do not fit into .*mine\.py: type=",
        ),
        ("model = dict(\n  depth=depht)", {}, r"mine.py is no config .*NameError: name 'depht' .* \(.*mine.py:2\)"),
        ("raise RuntimeError('out')", {}, r"no config that can be read: RuntimeError: out \(.*mine.py:1\)"),
        ("_base_ = 'hierpretrain::nope.py'", {}, "mine.py is no config that can be read: .*has no config 'nope'"),
        ("train_cfg = dict()\ntrain_cgf = dict()", {}, "unknown key 'train_cgf'; did you mean 'train_cfg'"),
    ],
)
def test_what_is_wrong_with_a_config_is_said(text, options, message, tmp_path):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_config(tmp_path / "mine.py", options)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("base.py", "x = 1\nmodel = (", r"top.py cannot be read: .*base.py:2 is no Python: '\(' was never closed"),
        ("base.yaml", "", r"top.py is no config .*: a config in YAML or JSON must hold a mapping.* \(.*base.yaml\)"),
        ("base.json", "[1]", r"top.py is no config .*a config in YAML or JSON must hold a mapping.* \(.*base.json\)"),
        ("base.json", '{"a": {"b": 1, "b": 2}}', r"the key 'b' is there twice in object 1; .* \(.*base.json\)"),
        ("base.json", '{"a": ', r"top.py is no config that can be read: .* \(.*base.json\)"),
    ],
)
def test_what_is_wrong_with_a_base_is_said_of_the_base(name, text, message, tmp_path):
    (tmp_path / name).write_text(text)
    (tmp_path / "top.py").write_text(f"_base_ = {name!r}\n")
    with pytest.raises(ValueError, match=message):
        load_config(tmp_path / "top.py")
    with pytest.raises(ValueError, match=message.replace("top.py", name).partition(r" \(")[0]):
        load_config(tmp_path / name)


def test_a_checkpoint_is_no_config(tmp_path):
    (tmp_path / "epoch_1.pth").write_bytes(b"\x80")
    with pytest.raises(ValueError, match=r"epoch_1.pth is no config that can be read: OSError: Only py"):
        load_config(tmp_path / "epoch_1.pth")


def test_the_options_of_a_config_are_known(tmp_path):
    (tmp_path / "mine.py").write_text("model = dict(type='A')\nnew_key_pipeline = []")
    assert load_config(tmp_path / "mine.py", {"model.type": "B", "_mine.x": 1}).model.type == "B"
    with pytest.raises(ValueError, match="unknown key 'modle'; did you mean 'model'"):
        load_config(tmp_path / "mine.py", {"modle.type": "B"})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "leveltriplet_openclipart",
            {"custom_hooks.3.levels": 1},
            r"custom_hooks has no hook 3; .*: did you mean default_hooks.curriculum.levels\?",
        ),
        (
            "himulcone_emoji",
            {"custom_hooks.3.level": 2},
            r"did you mean default_hooks.tsne.level or default_hooks.retrieval_sheet.level\?",
        ),
        ("himulcone_emoji", {"custom_hooks.0.levels": 1}, "has no hook 0; .*: here timer, .*, tsne, retrieval_sheet"),
        ("himulcone_emoji", {"default_hooks.tnse": None}, "no hook 'tnse' to be left out; did you mean 'tsne'"),
        ("himulcone_emoji", {"default_hooks.xyz": None}, "no hook 'xyz' to be left out; there are timer, logger, "),
    ],
)
def test_a_hook_that_is_not_there(name, options, message):
    with pytest.raises(ValueError, match=message):
        load_config(name, options)


def test_hooks_are_left_out_by_their_keys_and_one_s_own_changed_by_number(tmp_path):
    (tmp_path / "mine.py").write_text(
        "_base_ = 'hierpretrain::himulcone_emoji.py'\n"
        "custom_hooks = [*_base_.custom_hooks, dict(type='EMAHook')]  # as older configs added one\n"
    )
    options = {"default_hooks.tsne": None, "default_hooks.runtime_info": None, "custom_hooks.0.momentum": 0.1}
    config = load_config(tmp_path / "mine.py", options)
    assert config.default_hooks.tsne is config.default_hooks.runtime_info is None
    assert config.custom_hooks == [dict(type="EMAHook", momentum=0.1)]


def test_the_text_of_a_config_is_the_config_and_is_formatted_once(monkeypatch):
    monkeypatch.setattr(mmengine.config.config, "FormatCode", _compat.format_config)
    config = load_config("himulcone_emoji_seen")
    before = _compat._format_config.cache_info().misses
    first, second = config.pretty_text, config.pretty_text
    assert first == second
    assert _compat._format_config.cache_info().misses == before + 1
    assert Config.fromstring(first, ".py").to_dict() == config.to_dict()
    assert "dict(interpolation='bilinear', size=48, type='torchvision/Resize')" in first  # read by people
