import copy
import math
import re
import runpy
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer
from mmpretrain.visualization import UniversalVisualizer

from hierpretrain.apis import build_runner, check_config, load_config
from hierpretrain.functional.level_triplet import MARGINS
from hierpretrain.models.num_classes import loss_that_counts
from hierpretrain.registry import DATA_SAMPLERS, MODELS
from tests.config_trees import write_towers, write_tree
from tests.conftest import random_labels

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
LINEAR = [path for path in CONFIGS if path.stem.startswith("linear_")]
TRAINED = [path for path in CONFIGS if path not in LINEAR]
# each data set with one loss, each loss on one data set, a pretrained encoder, and all of paper B; other products of
# these add nothing
PATTERN = r"himulcone_|\w+_emoji_seen$|finetune_|(leaf|level)triplet_"
DISTINCT = [path for path in TRAINED if re.match(PATTERN, path.stem)]
# a loss has the name of its method, but for these
RENAMED = dict(
    crossentropy="levelcrossentropy",
    crossentropylevels="hierarchicaljoint",
    finetune="hierarchicaljoint",
    joint="hierarchicaljoint",
    leaftriplet="leveltriplet",
    simclr="ntxent",
    softlabels="softlabel",
)
IN_SHUFFLED_BATCHES = {
    "finetune",
    "crossentropy",
    "crossentropylevels",
    "guided",
    "haframe",
    "hxe",
    "joint",
    "simclr",
    "softlabels",
}
# columns of the tables that a data set cannot have: its models or products are either trained on or tested on
UNMEASURABLE = {
    "deepfashion": {"product_id/linear_top1", "product_id/linear_top5"},
    "deepfashion_seen": {
        *(f"{part}/product/linear_top1" for part in ("all", "seen", "unseen")),
        *(f"{part}/product/linear_mistake_severity" for part in ("seen", "unseen")),
    },
    "modelnet40": {
        *(f"{part}/model/linear_top1" for part in ("all", "seen", "unseen")),
        *(f"{part}/model/linear_mistake_severity" for part in ("seen", "unseen")),
    },
}
COLUMNS = runpy.run_path(str(ROOT / "tools/benchmarks/table_rows.py"))["COLUMNS"]


def count_classes(loss):
    """Gives a loss over classes the numbers of a small tree, as a run gives it those of its data."""
    if loss_that_counts(loss):
        loss.num_classes = [1, 1, 1] if loss.type in ("HierarchicalJointLoss", "LevelProxyLoss") else 1
    if loss.get("contrastive"):
        count_classes(loss.contrastive)


@pytest.mark.parametrize("path", TRAINED, ids=lambda path: path.stem)
def test_every_config_loads_and_its_model_builds(path):
    config = load_config(path, {"model.backbone.init_cfg": None})
    assert "num_classes" not in config.model.loss  # nobody has to say it: a run takes it from its data
    count_classes(config.model.loss)
    with torch.device("meta" if "neck" in config.model else "cpu"):  # VGG-16's neck has 120 million weights
        model = MODELS.build({**config.model, "_scope_": "hierpretrain"})
    method = path.stem.split("_")[0]
    assert type(model.loss_module).__name__.lower() == f"{RENAMED.get(method, method)}loss"
    hierarchical = config.train_dataloader.get("batch_sampler") is not None
    assert hierarchical == (method not in IN_SHUFFLED_BATCHES)
    if hierarchical:
        settings = {**config.train_dataloader.batch_sampler, "_scope_": "hierpretrain"}
        sampler = DATA_SAMPLERS.build(settings, default_args=dict(sampler=random_labels(0), batch_size=4))
        of_triplets = settings["type"] in ("LeafTripletSampler", "LevelTripletSampler")
        assert len(sampler) == (settings.get("triplets_per_epoch", 4) // 4 if of_triplets else 3)
    of_timm = getattr(model.backbone, "network", None)
    width = model.backbone.feat_dim if of_timm is None else of_timm.num_features
    if "neck" in config.model:
        assert config.model.neck.get("in_channels", 512) == width
        width = model.neck[3].out_features
    if config.model.projection is not None:
        assert model.projection.layers[0].in_features == width
        width = config.model.projection.out_channels
    classifiers = getattr(model.loss_module, "heads", [getattr(model.loss_module, "classifier", None)])
    assert all(classifier is None or classifier.in_features == width for classifier in classifiers)
    assert "in_channels" not in {**(config.model.projection or {}), **config.model.loss}  # nobody has to say it


# ------------------------------------------------------------------ every config on a small tree
@pytest.fixture(autouse=True)
def _own_globals(monkeypatch):
    """Gives every test its own of what MMEngine keeps of a run for the whole process."""
    for kind in (DefaultScope, MMLogger, MessageHub, Visualizer, UniversalVisualizer):
        monkeypatch.setattr(kind, "_instance_dict", OrderedDict())


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    return tmp_path_factory.mktemp("trees")


def small(path, trees, work_dir):
    """Loads a config with its sizes cut down to a small tree; it writes no checkpoints."""
    config = load_config(path)
    config.work_dir, config.experiment_name, config.log_level = str(work_dir), work_dir.name, "ERROR"
    config.default_hooks.checkpoint = None
    for part in ("train", "val", "test"):
        if loader := config.get(f"{part}_dataloader"):
            loader.update(batch_size=4, num_workers=0)
            loader.dataset.update(write_tree(trees, loader.dataset))
            shrink(loader.dataset.pipeline, 64 if config.model.backbone.type == "EfficientNetLite0" else 32)
    model = config.model
    if path.stem.startswith("leveltriplet_"):
        config.default_hooks.curriculum.levels = 2
    if config.default_hooks.get("frozen_features"):
        config.default_hooks.frozen_features.folder = str(work_dir / "features")
    if (model.get("loss") or {}).get("type") == "LevelTripletLoss":
        model.loss.min_margin = 1e4  # no triplet has a loss of 0, as all of such a small batch may by chance
    if model.backbone.type == "EfficientNetLite0":
        model.backbone.weights = False
    elif model.backbone.type == "VGG16Convolutions":
        model.backbone.update(base_channels=4, init_cfg=None)
        model.neck.update(in_channels=32, out_channels=48, init_cfg=None)
    elif model.backbone.get("depth") == 50:
        model.backbone.depth = 18
        if path.stem.endswith("_towers"):
            model.backbone.init_cfg.checkpoint = str(write_towers(work_dir / "towers.pth", depth=18))
        else:
            model.backbone.init_cfg = None
    return config


def shrink(transforms, size):
    for transform in transforms:
        if "size" in transform:
            transform.size = size
        shrink(transform.get("transforms", ()), size)


@pytest.mark.slow
@pytest.mark.parametrize("path", DISTINCT, ids=lambda path: path.stem)
def test_every_config_trains(path, trees, tmp_path):
    config = small(path, trees, tmp_path)
    config.train_cfg = dict(by_epoch=False, max_iters=2, val_interval=2)
    if path.stem.startswith("leveltriplet_"):  # one step of each of two levels
        config.train_cfg = dict(by_epoch=True, max_epochs=2, val_interval=2)
        config.train_dataloader.batch_sampler.triplets_per_epoch = 4
    if path.stem == "finetune_openclipart_catalogue":
        config.train_dataloader.batch_size = 16  # so that images of all levels are in two batches
    config.optim_wrapper.optimizer.weight_decay = 0.0  # what changes, changes by the loss
    validated = path.stem.startswith(("himulcone_", "finetune_"))  # one config of every data set, and of an encoder
    if not validated:
        config.val_dataloader = config.val_evaluator = config.val_cfg = None
    runner = build_runner(config)
    runner.model.init_weights()  # which training would do, so that it starts from these
    before = copy.deepcopy(runner.model.state_dict())
    runner.train()
    losses, _ = runner.message_hub.get_scalar("train/loss").data
    assert len(losses) == 2
    assert all(map(math.isfinite, losses))
    weights = dict(runner.model.named_parameters())
    trained = {name for name, weight in weights.items() if weight.requires_grad}
    changed = {name for name, weight in weights.items() if not torch.equal(weight, before[name])}
    assert changed <= trained
    assert {name for name in trained if not name.startswith("backbone.")} <= changed
    of_encoder = "neck." if "neck" in config.model else "projection." if runner.model.frozen else "backbone."
    assert any(name.startswith(of_encoder) for name in changed)
    scalars = runner.message_hub.log_scalars.items()
    if "train/stage_level" in dict(scalars):
        assert runner.message_hub.get_scalar("train/stage_level").data[0].tolist() == [1, 2]
    if validated:
        metrics = {name: log.current() for name, log in scalars if name.startswith("val/")}
        assert metrics
        assert {name for name, value in metrics.items() if not math.isfinite(value)} == set()


@pytest.mark.slow
@pytest.mark.parametrize("path", LINEAR, ids=lambda path: path.stem)
def test_every_task_is_measured_on_a_frozen_encoder(path, trees, tmp_path):
    runner = build_runner(small(path, trees, tmp_path))
    runner.model.init_weights()  # as tools/test.py does without a checkpoint
    metrics = runner.test()
    assert {name for name, value in metrics.items() if not math.isfinite(value)} == set()
    data = path.stem.removeprefix("linear_")
    for suffix in ("_towers", "_resnet50", "_lite0_untrained", "_lite0"):
        data = data.removesuffix(suffix)
    tables = COLUMNS.get(data, {})  # not every test is of a table
    missing = {key for columns in tables.values() for key in columns.values() if key not in metrics}
    assert missing == UNMEASURABLE.get(data, set())
    pictures = {hook.filename for hook in runner.hooks if hasattr(hook, "filename")} - {"skipped.json"}  # none was
    assert pictures
    assert pictures <= {file.name for file in tmp_path.iterdir()}


# ------------------------------------------------------------------ what configs say
def test_pretrained_is_ours_whatever_has_been_imported():
    code = "from hierpretrain.registry import WEIGHT_INITIALIZERS as W; print(W.get('Pretrained').__name__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "StrictPretrained"


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
    config = load_config(path, {"train_cfg.max_epochs": 3, "default_hooks.tsne.level": 2}, data_root="elsewhere")
    assert config.optim_wrapper.optimizer.lr == 0.7
    assert config.optim_wrapper.optimizer.type == load_config(CONFIGS[0]).optim_wrapper.optimizer.type
    assert config.train_cfg.max_epochs == 3
    assert config.default_hooks.tsne == dict(type="TSNEHook", level=2)
    assert {config[f"{part}_dataloader"].dataset.data_root for part in ("train", "val", "test")} == {"elsewhere"}


@pytest.mark.parametrize(
    ("key", "guess"),
    [
        ("custom_hook", "did you mean 'custom_hooks'"),
        ("optim_wraper", "did you mean 'optim_wrapper'"),
        ("train_dataloder", "did you mean 'train_dataloader'"),
        ("qqq", "unknown key 'qqq'; correct it. A value of the config's own must have a name that begins with"),
    ],
)
def test_an_unknown_key_is_an_error_with_the_nearest_name(key, guess):
    with pytest.raises(ValueError, match=guess):
        load_config(CONFIGS[0], {f"{key}.x": 1})


def test_a_config_s_own_values_are_allowed():
    check_config(dict(model={}, _lr=1, data_root="x", test_pipeline=[], dataset_type="y", auto_scale_lr={}))


def test_the_recipe_of_paper_b():
    config = load_config("configs/leveltriplet_wikiscenes.py")
    assert (config.optim_wrapper.optimizer.lr, config.train_dataloader.batch_size) == (1e-4, 16)
    assert config.train_dataloader.batch_sampler == dict(type="LevelTripletSampler", replay=0.5)
    assert config.train_dataloader.dataset.split == ["small", "small_concept"]
    with torch.device("meta"):
        model = MODELS.build({**config.model, "_scope_": "hierpretrain"})
    assert model.frozen
    assert [tuple(weight.shape) for weight in model.neck.parameters() if weight.ndim == 2] == [
        (4096, 512 * 7 * 7),
        (4096, 4096),
    ]
    assert not model.normalize
    assert model.loss_module.margin is MARGINS["quadratic"]
    assert "levels" not in config.default_hooks.curriculum  # all of them
    assert load_config("configs/leveltriplet_wikiscenes_level1.py").default_hooks.curriculum.levels == 1
