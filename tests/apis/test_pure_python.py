"""MMEngine's pure-Python configs, with imported classes and ``read_base``, do all that ordinary ones do."""

import sys
import textwrap
from collections import OrderedDict
from functools import partial

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import PretrainedInit
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer
from torchvision.transforms import Resize

from hierpretrain.apis import (
    EmbeddingIndex,
    EmbeddingInferencer,
    build_runner,
    export_onnx,
    load_config,
    mmpretrain_config,
)
from hierpretrain.commands import test as test_command
from hierpretrain.commands import train as train_command
from hierpretrain.datasets import FolderDataset
from hierpretrain.datasets.loading import LoadRGB
from hierpretrain.engine.fingerprint import encoder_fingerprint
from hierpretrain.models import HierarchicalContrastive
from hierpretrain.registry import MODELS
from tests.datasets.trees import write_image

DATA = """
    import math

    import torchvision.transforms as T
    from mmengine.dataset import DefaultSampler

    from hierpretrain.datasets import FolderDataset, HierarchicalBatchSampler
    from hierpretrain.datasets.loading import LoadRGB, PackInputs
    from hierpretrain.datasets.views import Views

    size = 2 ** int(math.log2(40))
    pack = dict(type=PackInputs, algorithm_keys=("extra_labels",), meta_keys=("sample_idx", "img_path", "split"))
    resize = [dict(type=T.Resize, size=size), dict(type=T.CenterCrop, size=size)]


    def dataset(*steps):
        return dict(type=FolderDataset, data_root="photos", pipeline=[dict(type=LoadRGB), *steps, pack])


    train_dataloader = dict(
        batch_size=8,
        num_workers=0,
        sampler=dict(type=DefaultSampler, shuffle=True),
        batch_sampler=dict(type=HierarchicalBatchSampler),
        dataset=dataset(dict(type=Views, transforms=resize, num_views=2)),
    )
    test_dataloader = dict(
        batch_size=8, num_workers=0, sampler=dict(type=DefaultSampler, shuffle=False), dataset=dataset(*resize)
    )
    val_dataloader = test_dataloader
"""
BASE = """
    from mmengine.config import read_base

    with read_base():
        from .parts.data import *

    from mmengine.hooks import LoggerHook
    from mmengine.optim import CosineAnnealingLR, OptimWrapper
    from mmpretrain.models import ResNet
    from torch import optim

    from hierpretrain.engine import ExactResumeHook, MetricsFileHook, ShortLogProcessor
    from hierpretrain.evaluation import RetrievalMetric
    from hierpretrain.models import HierarchicalContrastive, HiMulConELoss, ProjectionHead

    model = dict(
        type=HierarchicalContrastive,
        backbone=dict(type=ResNet, depth=18, base_channels=8, stem_channels=8),
        projection=dict(type=ProjectionHead, in_channels=64, out_channels=16),
        loss=dict(type=HiMulConELoss),
    )
    val_evaluator = [dict(type=RetrievalMetric, levels=["level1", "level2"])]
    test_evaluator = val_evaluator
    optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=optim.AdamW, lr=1e-3))
    param_scheduler = dict(type=CosineAnnealingLR, convert_to_iter_based=True)
    default_hooks = dict(
        logger=dict(type=LoggerHook, interval=1),
        exact_resume=dict(type=ExactResumeHook),
        metrics_file=dict(type=MetricsFileHook),
    )
    log_processor = dict(type=ShortLogProcessor)
    log_level = "ERROR"
    randomness = dict(seed=0)
    train_cfg = dict(by_epoch=True, max_epochs=1, val_interval=1)
    val_cfg = dict()
    test_cfg = dict()
"""
MINE = """
    from mmengine.config import read_base

    with read_base():
        from .base import *

    from hierpretrain.models import SupConLoss

    model.merge(dict(loss=dict(_delete_=True, type=SupConLoss, level=-1)))
    train_cfg.update(max_epochs=2)
"""
ORDINARY = """
    default_scope = "hierpretrain"
    _pack = dict(type="PackInputs", algorithm_keys=("extra_labels",), meta_keys=("sample_idx", "img_path", "split"))
    _resize = [dict(type="torchvision/Resize", size=32), dict(type="torchvision/CenterCrop", size=32)]


    def _dataset(*steps):
        return dict(type="FolderDataset", data_root="photos", pipeline=[dict(type="LoadRGB"), *steps, _pack])


    model = dict(
        type="HierarchicalContrastive",
        backbone=dict(type="ResNet", depth=18, base_channels=8, stem_channels=8),
        projection=dict(type="ProjectionHead", in_channels=64, out_channels=16),
        loss=dict(type="SupConLoss", level=-1),
    )
    train_dataloader = dict(
        batch_size=8,
        num_workers=0,
        sampler=dict(type="DefaultSampler", shuffle=True),
        batch_sampler=dict(type="HierarchicalBatchSampler"),
        dataset=_dataset(dict(type="Views", transforms=_resize, num_views=2)),
    )
    test_dataloader = dict(
        batch_size=8, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=False), dataset=_dataset(*_resize)
    )
    optim_wrapper = dict(optimizer=dict(type="AdamW", lr=1e-3))
    param_scheduler = dict(type="CosineAnnealingLR", convert_to_iter_based=True)
    default_hooks = dict(exact_resume=dict(type="ExactResumeHook"), metrics_file=dict(type="MetricsFileHook"))
    test_evaluator = [dict(type="RetrievalMetric", levels=["level1", "level2"])]
    test_cfg = dict()
    log_level = "ERROR"
    randomness = dict(seed=0)
    train_cfg = dict(by_epoch=True, max_epochs=2)
"""


def write(folder, **texts):
    for name, text in texts.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Returns what runs a command in a folder of configs and of sixteen photos in two colours."""
    write(tmp_path, parts__data=DATA, base=BASE, mine=MINE, ordinary=ORDINARY)
    for colour in ("red", "blue"):
        for i in range(8):
            write_image(tmp_path / f"photos/{colour}/{i // 4}/{i}.png", colour, (40 + 2 * i, 50))
    monkeypatch.chdir(tmp_path)

    def run(module, *words):
        for kind in (DefaultScope, MMLogger, MessageHub, Visualizer):
            monkeypatch.setattr(kind, "_instance_dict", OrderedDict())
        monkeypatch.setattr(sys, "argv", ["hierpretrain", *words])
        module.main()

    return run


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def same(one, other):
    one, other = weights(one), weights(other)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_it_does_all_that_an_ordinary_config_does(command, tmp_path):
    command(train_command, "mine.py", "--work-dir", "pure")
    command(train_command, "ordinary.py", "--work-dir", "ordinary")
    assert same("pure/epoch_2.pth", "ordinary/epoch_2.pth")

    # its dump is a config, with which a run goes on that was begun with the original
    assert load_config("pure/mine.py").model == load_config("mine.py").model
    command(train_command, "pure/mine.py", "--work-dir", "resumed", "--resume", "pure/epoch_1.pth")
    assert same("pure/epoch_2.pth", "resumed/epoch_2.pth")

    command(test_command, "mine.py", "pure/epoch_2.pth", "--work-dir", "test", "--out", "pure.json")
    command(test_command, "ordinary.py", "ordinary/epoch_2.pth", "--work-dir", "test", "--out", "ordinary.json")
    assert (tmp_path / "pure.json").read_text() == (tmp_path / "ordinary.json").read_text()

    made = [
        EmbeddingInferencer(config, "pure/epoch_2.pth", device="cpu", progress=False)
        for config in ("mine.py", Config.fromfile("mine.py"), "pure/mine.py", "ordinary.py")
    ]
    assert len({inferencer.fingerprint for inferencer in made}) == 1
    found = [inferencer("photos") for inferencer in made]
    assert all(np.array_equal(found[0], other) for other in found)
    made[0].build_index("photos").save("photos.index")
    made[3].index = EmbeddingIndex.load("photos.index")
    assert made[3].search("photos/red/0/0.png", k=1)[0].neighbours[0].path.endswith("red/0/0.png")
    assert export_onnx(made[0], "encoder.onnx", log=lambda _: None)["model"] == "mine, epoch_2.pth"


def test_features_that_are_kept_are_found_again_however_the_config_says_it(command):
    configs = [load_config("mine.py"), load_config("ordinary.py")]
    reversed_order = Config(dict(model=dict(backbone=dict(reversed(configs[1].model.backbone.items())))))
    model = MODELS.build(configs[0].model)
    tellings = {encoder_fingerprint(model, ["backbone"], config.model, ()) for config in (*configs, reversed_order)}
    assert len(tellings) == 1
    configs[1].model.backbone.style = "caffe"
    assert encoder_fingerprint(model, ["backbone"], configs[1].model, ()) not in tellings


def test_options_override_classes(command):
    options = {"model.loss._delete_": True, "model.loss.type": "NTXentLoss", "train_cfg.val_interval": 2}
    config = load_config("mine.py", options)
    assert (config.model.loss, config.train_cfg.max_epochs) == (dict(type="NTXentLoss"), 2)


def test_imported_values_can_be_written_and_read_again(command, tmp_path):
    text = """
        from mmengine.optim import DefaultOptimWrapperConstructor
        from torch.nn import ReLU
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.functional import InterpolationMode as Mode

        test_dataloader["dataset"]["pipeline"][1].update(interpolation=InterpolationMode.BICUBIC)
        _modes = dict(several=[Mode.BOX, Mode.NEAREST], act=dict(type=ReLU), most=float("inf"), all=[float("-inf")])
        optim_wrapper["constructor"] = DefaultOptimWrapperConstructor
        layers = dict(act=ReLU)  # of its own, and in no setting
    """
    (tmp_path / "mine.py").write_text(textwrap.dedent(MINE) + textwrap.dedent(text))
    config = load_config("mine.py")
    config.dump(tmp_path / "written.py")
    for read in (config, load_config(tmp_path / "written.py")):
        assert read._modes.several == ["box", "nearest"]
        assert (read._modes.act.type, read._modes.most) == ("torch.nn.ReLU", float("inf"))
        assert list(read._modes["all"]) == [float("-inf")]
        assert read.optim_wrapper.constructor == "mmengine.optim.DefaultOptimWrapperConstructor"
        assert read.test_dataloader.dataset.pipeline[1].interpolation == "bicubic"


def test_a_setting_that_is_a_class_is_kept(command, tmp_path):
    text = "from mmengine.runner import FlexibleRunner\nrunner_type = FlexibleRunner\n"
    (tmp_path / "mine.py").write_text(textwrap.dedent(MINE) + text)
    config = load_config("mine.py")
    assert config.runner_type == "mmengine.runner._flexible_runner.FlexibleRunner"
    assert "FlexibleRunner" not in config


def test_a_base_by_name_and_imported_classes(tmp_path):
    (tmp_path / "mine.py").write_text(
        "_base_ = 'hierpretrain::himulcone_emoji.py'\n"
        "from pathlib import Path\nfrom torch.optim import AdamW\nfrom torch.optim import SGD as _SGD\n"
        "optim_wrapper = dict(optimizer=dict(_delete_=True, type=AdamW, lr=1e-3))\nwork_dir = Path('runs/mine')\n"
    )
    config = load_config(tmp_path / "mine.py")
    config.dump(tmp_path / "written.py")
    for read in (config, load_config(tmp_path / "written.py")):
        assert read.optim_wrapper.optimizer == dict(type="torch.optim.adamw.AdamW", lr=1e-3)
        assert read.work_dir == "runs/mine"
        assert {"AdamW", "_SGD", "Path"}.isdisjoint(read)


def test_only_settings_are_left(command):
    config = load_config("mine.py", data_root="elsewhere")
    assert {"math", "T", "optim", "dataset", "size", "pack", "resize", "ResNet"}.isdisjoint(config)
    assert config.default_scope == "hierpretrain"
    assert config.test_dataloader.dataset.data_root == "elsewhere"
    assert "class" not in config.pretty_text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train_cgf = dict()", "unknown key 'train_cgf'; did you mean 'train_cfg'"),
        ("custom_hook = []", "unknown key 'custom_hook'; did you mean 'custom_hooks'"),
        ("from no_module import Thing\nmodel.type = Thing", "mine.py wants a module that is missing: .*no_module"),
        ("from torch.optim import Adm\noptim_wrapper.optimizer.type = Adm", "missing: Failed to import Adm from torch"),
        (
            "custom_imports = dict(imports=['no_module'], allow_failed_imports=False)",
            "wants a module that is missing: .*no_module",
        ),
        ("model.update(step=lambda x: x)", "has a function as a value; it is <function <lambda>.* a registered type"),
        ("import torch\nmodel.dtype = torch.float16", "a dtype as a value; it is torch.float16. .* such as 'float16'"),
        ("from torch.nn import ReLU\nmodel.act = ReLU", "has a class as a value; it is <class 'torch.nn.*ReLU'>"),
        ("x = (", r"mine.py:11 is no Python: '\(' was never closed; correct it"),
        ("from torch.optim import SGD\nx = SGD([])", r"what it imports as a type .* and not call it \(.*mine.py:12\)"),
    ],
)
def test_what_is_wrong_with_one_is_said(command, tmp_path, text, message):
    (tmp_path / "mine.py").write_text(textwrap.dedent(MINE) + text)
    with pytest.raises(ValueError, match=message):
        load_config("mine.py")


def test_an_ordinary_config_may_import_from_python(tmp_path):
    (tmp_path / "mine.py").write_text("import math\n\ntrain_cfg = dict(max_epochs=math.gcd(4, 6))\nwidth = 2\n")
    with pytest.raises(ValueError, match="unknown key 'width'"):
        load_config(tmp_path / "mine.py")


def test_classes_of_a_config_that_was_made_in_python(tmp_path):
    config = Config(
        dict(
            model=dict(type=HierarchicalContrastive, backbone=dict(type="ResNet", init_cfg=dict(type=PretrainedInit))),
            test_dataloader=dict(
                dataset=dict(type=FolderDataset, pipeline=[dict(type=LoadRGB), dict(type=Resize, size=8)]),
            ),
        )
    )
    adapted = mmpretrain_config(config)
    assert adapted.model.type == "hierpretrain.models.contrastive.HierarchicalContrastive"
    assert adapted.model.backbone.init_cfg.type == "Pretrained"
    assert adapted.test_dataloader.dataset.type == "hierpretrain.datasets.generic.FolderDataset"
    kinds = [transform.type for transform in adapted.test_dataloader.dataset.pipeline]
    assert kinds == ["LoadImageFromFile", "NumpyToPIL", "torchvision/Resize"]
    assert config.model.type is HierarchicalContrastive  # it is a copy that has names


def test_a_class_that_no_config_could_name(tmp_path):
    class Mine(HierarchicalContrastive):
        """What no path leads to."""

    for kind in (Mine, partial(HierarchicalContrastive, channels_last=True)):
        with pytest.raises(ValueError, match=r"a type must be a class or function of a module, .* it is "):
            build_runner(Config(dict(model=dict(type=kind), work_dir=str(tmp_path))))
