"""Configs of other projects: ``_base_ = "hierpretrain::..."`` and ``"mmpretrain::..."``, as MMEngine reads them."""

import subprocess
import sys
from pathlib import Path

import mmengine.utils
import pytest
import torch
from mmengine.config import Config
from mmengine.config import config as config_module
from mmengine.utils import package_utils

from hierpretrain import _inheritance
from hierpretrain._inheritance import list_configs, shipped_config
from hierpretrain.apis import build_runner, load_config
from hierpretrain.registry import DATASETS, MODELS, TRANSFORMS
from tests.datasets.trees import write_image
from tests.test_configs import (
    _own_globals,  # noqa: F401  every run has its own of what MMEngine keeps for a process
    count_classes,
)

ROOT = Path(__file__).parent.parent
TRAINED = [name for name in list_configs() if not name.startswith("linear_")]


def without_scope(value):
    """What a config says, but for MMEngine's notes of where it was read from."""
    if isinstance(value, dict):
        return {key: without_scope(item) for key, item in value.items() if key != "_scope_"}
    return [without_scope(item) for item in value] if isinstance(value, list | tuple) else value


def child(folder, base, text=""):
    path = folder / "mine.py"
    path.write_text(f"_base_ = {base!r}\n{text}")
    return path


def make_small(model):
    """Makes a model quick to build."""
    model.backbone.init_cfg = None
    if model.backbone.type == "ResNet":
        model.backbone.update(depth=18, base_channels=4, stem_channels=4, strides=(1, 2, 2, 2))


# ------------------------------------------------------------------ in a process of its own
def run(code, folder):
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)


def test_import_is_all_that_it_takes_and_takes_no_torch(tmp_path):
    child(tmp_path, "hierpretrain::himulcone_emoji.py", "optim_wrapper = dict(optimizer=dict(lr=0.5))\n")
    code = (
        "import hierpretrain, sys\n"
        "from mmengine.config import Config\n"
        "config = Config.fromfile('mine.py')\n"
        "print(config.model.loss.type, config.optim_wrapper.optimizer, 'torch' in sys.modules)"
    )
    done = run(code, tmp_path)
    assert done.stdout.split("\n")[0] == ("HiMulConELoss {'type': 'AdamW', 'lr': 0.5, 'weight_decay': 0.05} False"), (
        done.stderr
    )


def test_importing_registers_nothing_else(tmp_path):
    code = (
        "import hierpretrain, sys\n"
        "print(sorted(name for name in sys.modules if name.startswith(('hierpretrain', 'torch', 'mmpretrain'))))"
    )
    assert run(code, tmp_path).stdout.strip() == (
        "['hierpretrain', 'hierpretrain._inheritance', 'hierpretrain._names', 'hierpretrain.files']"
    )
    code = (
        "import hierpretrain.apis\n"
        "import mmpretrain\n"
        "print(len(mmpretrain.list_models()) > 500, mmpretrain.list_models('himul*'))"
    )
    done = run(code, tmp_path)
    assert done.stdout.strip().endswith("True []")  # hierpretrain.apis.register_zoo() has to be called
    assert "Fail to import" not in done.stderr  # mmcv-lite's warning of an operator that nothing here uses


# ------------------------------------------------------------------ all configs
@pytest.mark.parametrize("name", list_configs())
def test_what_is_inherited_is_the_config_itself(name, tmp_path):
    inherited = Config.fromfile(child(tmp_path, f"hierpretrain::{name}.py"))
    assert without_scope(inherited.to_dict()) == without_scope(Config.fromfile(shipped_config(name)).to_dict())


@pytest.mark.parametrize("name", TRAINED)
def test_what_is_inherited_builds_in_the_scope_of_mmengine(name, tmp_path):
    config = load_config(child(tmp_path, f"hierpretrain::{name}.py"))
    make_small(config.model)
    count_classes(config.model.loss)
    with torch.device("meta" if "neck" in config.model else "cpu"):
        model = MODELS.build(config.model)
    assert type(model.loss_module).__name__ == config.model.loss.type
    for part in ("train", "test"):
        for transform in config[f"{part}_dataloader"].dataset.pipeline:
            name = type(TRANSFORMS.build(transform)).__name__
            assert name == ("TorchVisonTransformWrapper" if "/" in transform.type else transform.type)


PHOTOS = """
train_dataloader = dict(batch_size=4, num_workers=0, dataset=dict(
    _delete_=True, type="FolderDataset", data_root="photos", pipeline={{_base_.train_pipeline}}))
val_dataloader = dict(num_workers=0, dataset=dict(
    _delete_=True, type="FolderDataset", data_root="photos", pipeline={{_base_.test_pipeline}}))
test_dataloader = val_dataloader
val_evaluator = [dict(type="RetrievalMetric", levels=["level1"])]
test_evaluator = val_evaluator
custom_hooks = [dict(type="MetricsFileHook")]
"""


@pytest.fixture
def photos(tmp_path, monkeypatch):
    for colour in ("red", "blue"):
        for i in range(4):
            write_image(tmp_path / f"photos/{colour}/{i}.png", colour)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(path, folder):
    config = load_config(path)
    config.update(work_dir=str(folder / "run"), experiment_name=folder.name, log_level="ERROR")
    config.train_cfg = dict(by_epoch=True, max_epochs=1, val_interval=1)
    config.param_scheduler = None
    runner = build_runner(config)
    runner.train()
    return runner


def test_what_is_inherited_trains(photos):
    runner = train(child(photos, "hierpretrain::himulcone_emoji.py", PHOTOS), photos)
    assert runner.iter == 2
    assert runner.message_hub.get_scalar("val/level1/recall@1").current() == 1.0


def test_with_parts_of_mmpretrain(photos):
    bases = ["mmpretrain::_base_/models/resnet50.py", "hierpretrain::_base_/pipelines/emoji48.py"]
    bases += ["hierpretrain::_base_/schedules/adamw_cpu.py", "hierpretrain::_base_/default_runtime.py"]
    text = """
model = dict(
    _delete_=True,
    type="HierarchicalContrastive",
    backbone={{_base_.model.backbone}},
    projection=dict(type="ProjectionHead", in_channels=2048, out_channels=16),
    loss=dict(type="SupConLoss", level=1),
)
train_dataloader = dict(batch_size=4, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(type="FolderDataset", data_root="photos", pipeline={{_base_.train_pipeline}}))
"""
    path = child(photos, bases, text)
    config = load_config(path)
    assert without_scope(config.model.backbone) == dict(
        type="ResNet", depth=50, num_stages=4, out_indices=[3], style="pytorch"
    )
    runner = train(path, photos)
    assert runner.iter == 2
    assert type(runner.model.backbone).__module__.startswith("mmpretrain.")


def test_a_whole_config_of_mmpretrain_below_a_model_of_ours(tmp_path):
    text = """
default_scope = "hierpretrain"
model = dict(_delete_=True, type="HierarchicalContrastive", backbone=dict(type="ResNet", depth=18, base_channels=8))
"""
    config = load_config(child(tmp_path, "mmpretrain::resnet/resnet18_8xb32_in1k.py", text))
    assert config.train_dataloader.dataset.type == "ImageNet"  # theirs, in their scope
    assert DATASETS.switch_scope_and_registry(config.train_dataloader.dataset["_scope_"])
    assert type(MODELS.build(config.model)).__name__ == "HierarchicalContrastive"


# ------------------------------------------------------------------ errors and the host
@pytest.mark.parametrize(
    ("base", "message"),
    [
        (
            "hierpretrain::himulcon_emojy.py",
            "HierPretrain has no config 'himulcon_emojy'; did you mean 'himulcon_emoji'",
        ),
        ("hierpretrain::qqq", r"HierPretrain has no config 'qqq'; hierpretrain.apis.list_configs\(\) has all names"),
        ("hierpretrain::../configs/himulcon_emoji.py", "HierPretrain has no config '../configs/himulcon_emoji'"),
        ("mmpretrain::no/such.py", r"mine.py has a base that is missing: .*such.py"),
        ("mmdet::no/such.py", r"mine.py wants a module that is missing: mmdet is not installed"),
        ("such.py", r"mine.py has a base that is missing: .*such.py"),
    ],
)
def test_a_base_that_is_not_there(base, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load_config(child(tmp_path, base))


def test_the_py_may_be_left_out_and_parts_can_be_named(tmp_path):
    assert Config.fromfile(child(tmp_path, "hierpretrain::hicone_emoji")).model.loss.type == "HiConELoss"
    assert shipped_config("_base_/datasets/emoji64.py").samefile(ROOT / "configs/_base_/datasets/emoji64.py")


def test_the_host_finds_packages_without_pkg_resources():
    assert package_utils.is_installed("mmpretrain")
    assert not package_utils.is_installed("no_such_package")
    assert Path(package_utils.get_installed_path("mmpretrain"), "registry.py").is_file()
    with pytest.raises(ModuleNotFoundError, match="no_such_package is not installed: pip install no_such_package"):
        _inheritance._installed_path("no_such_package")
    assert _inheritance._module_of("mmsegmentation") == "mmseg"


def test_a_setuptools_that_still_has_pkg_resources_is_not_asked(tmp_path):
    """An editable install is not beside the other packages, where pkg_resources says that it is."""
    code = """
import sys, types
asked = types.ModuleType("pkg_resources")
asked.get_distribution = lambda package: types.SimpleNamespace(location="/nowhere")
asked.DistributionNotFound = LookupError
sys.modules["pkg_resources"] = asked
import hierpretrain
from mmengine.config import Config
print(Config.fromfile(sys.argv[1]).model.loss.type)
"""
    assert _output(code, child(tmp_path, "hierpretrain::himulcone_emoji.py")) == "HiMulConELoss"


@pytest.mark.slow
@pytest.mark.parametrize("first", ["import hierpretrain", "import mmengine.hub"])
def test_the_hub_builds_our_models(first):
    code = f"""
{first}
import hierpretrain
from mmengine.hub import get_config, get_model
print(get_config("hierpretrain::linear_emoji").model.type)
print(type(get_model("hierpretrain::himulcone_emoji")).__module__)
print(get_config("mmpretrain::resnet/resnet18_8xb32_in1k.py").model.type)
"""
    assert _output(code).splitlines() == [
        "HierarchicalContrastive",
        "hierpretrain.models.contrastive",
        "ImageClassifier",
    ]


def _output(code, *arguments):
    """Returns what a program prints, without what its libraries warn of."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_where_the_host_is_mended_nothing_is_replaced(monkeypatch):
    def is_installed(package):
        return "theirs"

    for module in (package_utils, mmengine.utils, config_module):
        monkeypatch.setattr(module, "is_installed", is_installed)
    _inheritance.apply()
    assert package_utils.is_installed is is_installed
    assert config_module.is_installed is is_installed
