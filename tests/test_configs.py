from pathlib import Path

import pytest

from hierpretrain.apis import check_config, load_config
from hierpretrain.registry import DATA_SAMPLERS, MODELS
from tests.conftest import random_labels

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_loads_and_its_model_builds(path):
    config = load_config(path, {"model.backbone.init_cfg": None})
    model = MODELS.build({**config.model, "_scope_": "hierpretrain"})
    method = path.stem.split("_")[0]
    losses = dict(himulcone="HiMulConE", himulcon="HiMulCon", hicone="HiConE", supcon="SupCon", simclr="NTXent")
    assert type(model.loss_module).__name__ == losses[method] + "Loss"
    hierarchical = config.train_dataloader.batch_sampler is not None
    assert hierarchical == (method != "simclr")
    if hierarchical:
        settings = {**config.train_dataloader.batch_sampler, "_scope_": "hierpretrain"}
        assert len(DATA_SAMPLERS.build(settings, default_args=dict(sampler=random_labels(0), batch_size=4))) == 3


def test_the_recipe_of_paper_a():
    config = load_config("configs/himulcone_deepfashion.py")
    assert config.optim_wrapper.optimizer == dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=1e-4)
    assert config.param_scheduler[0].milestones == [40, 80]
    assert (config.train_cfg.max_epochs, config.train_dataloader.batch_size) == (100, 512)
    assert (config.model.backbone.depth, config.model.backbone.frozen_stages) == (50, 3)
    assert MODELS.build(dict(config.model.loss, _scope_="hierpretrain")).options["temperature"] == 0.1


def test_inheritance_overrides_as_usual(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(f"_base_ = {str(CONFIGS[0])!r}\noptim_wrapper = dict(optimizer=dict(lr=0.7))\n")
    config = load_config(path, {"train_cfg.max_epochs": 3, "custom_hooks.3.level": 2}, data_root="elsewhere")
    assert config.optim_wrapper.optimizer.lr == 0.7
    assert config.optim_wrapper.optimizer.type == load_config(CONFIGS[0]).optim_wrapper.optimizer.type
    assert config.train_cfg.max_epochs == 3
    assert config.custom_hooks[3].level == 2
    assert {config[f"{part}_dataloader"].dataset.data_root for part in ("train", "val", "test")} == {"elsewhere"}


@pytest.mark.parametrize(
    ("key", "guess"),
    [
        ("custom_hook", "did you mean 'custom_hooks'"),
        ("optim_wraper", "did you mean 'optim_wrapper'"),
        ("train_dataloder", "did you mean 'train_dataloader'"),
        ("qqq", "unknown key 'qqq'; A value of the config's own must have a name that begins with an underscore"),
    ],
)
def test_an_unknown_key_is_an_error_with_the_nearest_name(key, guess):
    with pytest.raises(ValueError, match=guess):
        load_config(CONFIGS[0], {f"{key}.x": 1})


def test_a_config_s_own_values_are_allowed():
    check_config(dict(model={}, _lr=1, data_root="x", test_pipeline=[], dataset_type="y", auto_scale_lr={}))
