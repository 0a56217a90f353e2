"""The config of a run of compare.py, and the split of the trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from comparison import RATE, Method, Protocol
from comparison_runs import Run
from mmengine.config import Config
from table import ROOT

from hierpretrain import registry
from hierpretrain.datasets import Split
from hierpretrain.files import in_turn, sha256

HELD_OUT = 0.2  # of the seen classes, in trials
_HOOKS = (
    "timer", "logger", "param_scheduler", "sampler_seed", "exact_resume", "taxonomy", "metrics_file", "curriculum",
    "frozen_features",
)  # fmt: skip


def run_config(protocol: Protocol, method: Method, run: Run, root: Path, draw: int = 0) -> Config:
    """Returns the config of a run: the method's, with the protocol's start, and evaluation after the training.

    Args:
        protocol: The protocol.
        method: The row.
        run: The run.
        root: Where the trials' splits lie.
        draw: The seed that draws the classes that a trial does not train on.
    """
    config = Config.fromfile(ROOT / f"configs/{method.config}_{protocol.methods_of or protocol.dataset}.py")
    if protocol.methods_of:
        data = Config.fromfile(ROOT / f"configs/himulcone_{protocol.dataset}.py").train_dataloader.dataset
        data.pipeline = _with_views_of(config, data.pipeline)
        config.train_dataloader.dataset = data
    config.train_dataloader.dataset.paths = protocol.paths
    tested = Config.fromfile(ROOT / f"configs/linear_{protocol.dataset}.py")
    config.test_dataloader = tested.test_dataloader
    config.test_dataloader.dataset.split = [f"unseen_{part}" for part in ("train", "val", "test")]
    config.test_evaluator = [metric for metric in tested.test_evaluator if metric.get("prefix") == "unseen"]
    config.test_cfg = dict(type="TestLoop")
    config.val_dataloader = config.val_evaluator = config.val_cfg = None
    epochs = protocol.epochs // 2 if run.stage == "trial" else protocol.epochs
    config.train_cfg.update(max_epochs=epochs, val_interval=epochs)
    if protocol.base:
        _start_from(config, Config.fromfile(ROOT / f"configs/{protocol.base}.py"), root)
        config.default_hooks.frozen_features.num_views = protocol.views
    if protocol.rate:
        config.optim_wrapper.optimizer.lr = protocol.rate
    for key in ("in_channels", "num_classes"):  # they follow from the encoder and the tree
        config.model.loss.pop(key, None)
    images = 3 if "triplets_per_epoch" in (config.train_dataloader.get("batch_sampler") or {}) else 2
    config.train_dataloader.batch_size = 2 * run.batch_size // images
    if run.stage == "trial":
        _hold_out(config, protocol, root, draw)
    for key, value in {**method.options, **run.options}.items():
        if key == RATE:
            config.optim_wrapper.optimizer.lr *= value
        else:
            _set(config, key, value)
    config.forms = [(config.model.get("power", 1.0), config.model.get("pretrained_share", 0.0))]
    if run.stage != "trial":
        config.forms += protocol.forms
        config.model.pretrained_share = max(config.forms[0][1], protocol.share)  # for the copy of the encoder
    if not method.trained:
        config.model.update(loss=None, projection=None)
        config.train_dataloader = config.train_cfg = config.optim_wrapper = config.param_scheduler = None
        config.auto_scale_lr = None
    hooks = {key: hook for key, hook in config.default_hooks.items() if key in _HOOKS}
    config.default_hooks = {**hooks, "checkpoint": None, "frozen_features": hooks.get("frozen_features")}
    config.randomness = dict(seed=run.seed)
    return config


def _start_from(config: Config, base: Config, root: Path) -> None:
    """Puts the encoder, the pipelines and the schedule of another config into a config."""
    config.model.backbone = base.model.backbone
    config.model.data_preprocessor = base.model.data_preprocessor
    pipeline = _with_views_of(config, base.train_dataloader.dataset.pipeline)
    config.train_dataloader.dataset.pipeline = pipeline
    config.test_dataloader.dataset.pipeline = base.test_dataloader.dataset.pipeline
    config.train_dataloader.num_workers = config.test_dataloader.num_workers = 0  # kept features are read, not made
    config.optim_wrapper, config.param_scheduler = base.optim_wrapper, base.param_scheduler
    config.default_hooks.frozen_features = dict(base.default_hooks.frozen_features, folder=str(root / "features"))


def _with_views_of(config: Config, pipeline: Sequence[Any]) -> Sequence[Any]:
    """Returns a pipeline that makes as many views as a config's own, since their number belongs to the method."""
    views = next(step for step in config.train_dataloader.dataset.pipeline if step.type == "Views")
    next(step for step in pipeline if step.type == "Views").num_views = views.num_views
    return pipeline


def _hold_out(config: Config, protocol: Protocol, root: Path, draw: int) -> None:
    """Has a config train without some seen classes, and evaluate on their images.

    The split is a file beside the runs, so that all trials have the same one.
    """
    data = config.train_dataloader.dataset
    path = root / f"trials_{draw}_{sha256(data.split_file)[:8]}.json"
    with in_turn(path):
        if not path.exists():
            _trial_split(data, draw).save(path)
    splits = dict(query="unseen_val", gallery="unseen_train", prefix="unseen")
    both = ["unseen_train", "unseen_val"]
    data.split_file = config.test_dataloader.dataset.split_file = str(path)
    config.test_dataloader.dataset.split = both
    inside = [(protocol.finest, protocol.above)]
    config.test_evaluator = [
        dict(type="RetrievalMetric", levels=[protocol.finest], ks=(1,), **splits),
        dict(type="HierarchicalRetrievalMetric", **splits),
        dict(type="ClusteringMetric", levels=[protocol.above], within=inside, splits=both, prefix="unseen"),
    ]


def _trial_split(data: Mapping[str, Any], draw: int) -> Split:
    """Returns the split of the trials: a fifth of the seen classes are its unseen ones; all test images are left out.

    A class is what it is in the split of the data: there, too, unseen ones are nodes of one level.
    """
    source = Split.load(data["split_file"])
    options = {key: value for key, value in data.items() if key not in ("pipeline", "split")}
    dataset = registry.DATASETS.build({"_scope_": "hierpretrain", "keep_annotations": True, **options})
    depth, tags, classes = dataset.taxonomy.level(source.level), {}, {}
    for index, image in enumerate(dataset.annotations.images):
        tags[image] = dataset.annotations.splits[index]
        if tags[image] in ("seen_train", "seen_val"):
            paths = dataset.annotations.paths(index)
            classes[image] = {label[:depth] for label in paths if len(label) >= depth}
    seen = sorted(set().union(*classes.values()))
    generator = np.random.default_rng(draw)
    held_out = {seen[i] for i in generator.choice(len(seen), max(1, round(HELD_OUT * len(seen))), replace=False)}
    for image, tag in tags.items():
        if not (its := classes.get(image)) or (its & held_out and its - held_out):
            tags[image] = "left_out"
        elif its <= held_out:
            tags[image] = tag.replace("seen", "unseen")
    return replace(source, tags=tags, unseen=tuple(sorted(held_out)), seed=draw)


def _set(config: Config, key: str, value: Any) -> None:
    """Sets a dotted key of a config; a dict replaces what was there."""
    *parents, last = key.split(".")
    part = config
    for parent in parents:
        part = part[parent]
    part[last] = value
