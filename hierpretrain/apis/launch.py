"""Building the runner of a config, on one process or many, with or without a GPU."""

from __future__ import annotations

import math
import os
import re
import subprocess
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from datetime import timedelta
from inspect import signature
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.dist import all_gather_object, get_world_size
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from torch import nn
from torch.distributed import PrefixStore

from hierpretrain import registry
from hierpretrain._texts import short
from hierpretrain.apis.config import DATALOADERS, MMENGINE_HOOKS, nearest_names
from hierpretrain.apis.encoder_settings import apply_encoder_settings, told
from hierpretrain.apis.mistyped import nearest_argument
from hierpretrain.apis.pure_python import name_types, type_name
from hierpretrain.apis.starts import check_start
from hierpretrain.datasets.planned import PlannedBatchSampler
from hierpretrain.engine import newest_checkpoint, shorten_terminal
from hierpretrain.engine.image_numbers import ImageNumbersHook
from hierpretrain.engine.known_best import KnownBestHook
from hierpretrain.engine.work_dir_lock import WorkDirLockHook, hold_work_dir
from hierpretrain.evaluation.evaluator import collecting
from hierpretrain.files import sha256
from hierpretrain.models.gather import unwrapped
from hierpretrain.models.num_classes import loss_that_counts, with_num_classes
from hierpretrain.taxonomy import Taxonomy

_PATIENCE = 7200  # seconds, of processes that wait while one fits classifiers or makes pictures
_VAL_INTERVAL = 1000  # MMEngine's default
_ITERATIONS = "_delete_=True, by_epoch=False, max_iters=..., val_interval=..."  # instead of what a base config has
_OF_PROCESSES = ("FSDPStrategy", "DDPStrategy", "DeepSpeedStrategy", "ColossalAIStrategy")  # MMEngine's
_TOLD_BY_THEIR_NAMES = ("KNNMetric", "LinearProbeMetric")  # metrics of ours, such as linear_top1


def build_runner(config: Config) -> Runner:
    """Builds the runner of a config, on one process or many, with or without a GPU.

    These defaults hold unless the config says otherwise. Dataloaders collate as mmpretrain's do and keep their workers.
    The log and the checkpoints count iterations where the training does (``train_cfg.by_epoch=False``). A scheduler
    without ``end`` goes on to the end of the training. A key of ``default_hooks`` whose value is ``None`` leaves a hook
    out, and a hook of ``custom_hooks`` replaces HierPretrain's default hook of the same type.

    ``"encoder"`` as a size or an interpolation in a pipeline becomes the encoder's own, and what contradicts the
    encoder's data settings is a warning of the log: see :mod:`hierpretrain.apis.encoder_settings`.

    Args:
        config: The config, with its ``work_dir``. It is changed: types that are classes become import paths, and
            ``resume="auto"``, and ``resume=True`` without ``load_from``, take the newest checkpoint of the work
            directory, if there is one; otherwise the training starts anew, from ``load_from`` if that is given.

    Raises:
        ValueError: If another process runs in ``work_dir``, the launcher did not start this process, processes would
            start from different checkpoints, a type is a class that no import path leads to, the encoder does not read
            images of the pipeline's size, ``save_best="auto"`` would end the training at its first validation,
            ``num_batch_per_epoch`` is set where the batch sampler would ignore it, or a sharded training would write
            its checkpoints in parts.
    """
    check_plain_values(config)
    name_types(config)
    check_strategy(config)
    if config.get("train_cfg"):
        check_save_best(config)
        check_num_batches(config)
    contradictions = apply_encoder_settings(config)
    for key in DATALOADERS:
        if config.get(key):
            defaults = dict(
                collate_fn=dict(type="default_collate"),
                persistent_workers=config[key].get("num_workers", 0) > 0,
                pin_memory=torch.cuda.is_available(),
            )
            config[key] = ConfigDict({**defaults, **config[key]})
    replaced = _settle_hooks(config)
    launcher = config.get("launcher", "none")
    if launcher == "slurm":
        _take_over_slurm_environment()
    if launcher == "pytorch":
        _check_torchrun_environment()
    if launcher != "none" and not torch.cuda.is_available():
        _start_processes_on_cpu(config)
    lock = WorkDirLockHook(hold_work_dir(config.work_dir))
    try:
        looked_for = config.get("resume") == "auto" or (config.get("resume") and not config.get("load_from"))
        if looked_for:
            newest = newest_checkpoint(config.work_dir)
            config.load_from, config.resume = newest or config.get("load_from"), newest is not None
        if "runner_type" in config and loss_that_counts(config.model.get("loss")):
            raise ValueError(
                f"runner_type={config.runner_type!r} builds the model without the training data, which would tell "
                f"how many classes {type_name(config.model.loss.type)} has; set model.loss.num_classes, or leave "
                "runner_type out"
            )
        runner = registry.RUNNERS.build(config) if "runner_type" in config else _Runner.from_cfg(config)
        runner.register_hook(lock)
        runner.register_hook(ImageNumbersHook())
        if any(getattr(hook, "save_best", None) for hook in runner.hooks):
            runner.register_hook(KnownBestHook())
        if contradictions:
            runner.logger.warning(told(contradictions))
        if replaced:
            runner.logger.info(f"custom_hooks replace default_hooks.{', .'.join(replaced)}")
        _check_same_start(config.get("load_from"))
        if config.get("resume"):
            runner.logger.info(f"resuming from {config.load_from}")
        elif looked_for:
            start = f": the training starts from load_from={config.load_from}" if config.load_from else ""
            runner.logger.info(f"nothing to resume in {config.work_dir}{start}")
    except BaseException:
        lock.after_run(None)  # in a notebook the process goes on
        raise
    return runner


@contextmanager
def config_errors() -> Iterator[None]:
    """Turns errors about unknown types and options of a config into one line each.

    Raises:
        ValueError: Instead of the registry's ``KeyError`` (see :func:`nearest_names`), and of the ``TypeError`` of a
            constructor that got an unknown option or lacks a required one.

    Example:
        >>> with config_errors():
        ...     registry.MODELS.build(dict(type="HiMulConLoss", temprature=0.1, _scope_="hierpretrain"))
        Traceback (most recent call last):
        ValueError: the config has an option that does not fit: HiMulConLoss... did you mean 'temperature'?
    """
    with nearest_names():
        try:
            yield
        except TypeError as error:
            if not re.search(r"__init__\(\) (got an unexpected keyword argument|missing \d+ required)", str(error)):
                raise
            guess = nearest_argument(error)
            inherited = "; where a base config has it, _delete_=True in its dict leaves that out"
            hint = "" if not guess else f"; {guess}{'' if guess.startswith('did you') else inherited}"
            raise ValueError(f"the config has an option that does not fit: {error}{hint}") from error


@contextmanager
def build_errors() -> Iterator[None]:
    """Turns whatever Python raises at a wrong value of a config, while a run is built of it, into one line.

    A config may say ``model=1`` or ``randomness.seed=abc``, and only what it is given to can tell.

    Raises:
        ValueError: Instead of a ``TypeError``, ``AttributeError``, ``KeyError``, ``OverflowError`` and their like.

    Example:
        >>> with build_errors():
        ...     int(float("inf"))
        Traceback (most recent call last):
        ValueError: the config has a value that nothing can be built of: OverflowError: cannot convert float ...
    """
    with config_errors():
        try:
            yield
        except (ArithmeticError, AssertionError, AttributeError, IndexError, NotImplementedError, TypeError) as error:
            if isinstance(error, TypeError) and "__init__()" in str(error):
                raise  # an option too many or too few, of which more is told
            frames = traceback.extract_tb(error.__traceback__)
            raise ValueError(
                f"the config has a value that nothing can be built of: {type(error).__name__}: {error} "
                f"({frames[-1].filename}:{frames[-1].lineno}, {frames[-1].name}); correct it, or --cfg-options"
            ) from error


def check_plain_values(config: Mapping[str, Any]) -> None:
    """Raises a ValueError if one of the settings that everybody changes has a value of another kind.

    So it does where a training counts iterations and has a number of epochs as well, or the other way round.

    Example:
        >>> check_plain_values({"randomness": {"seed": "abc"}})
        Traceback (most recent call last):
        ValueError: randomness.seed must be an integer from 0 to 4294967295, or None; it is 'abc'
        >>> check_plain_values({"train_cfg": {"max_epochs": math.inf}})
        Traceback (most recent call last):
        ValueError: train_cfg.max_epochs must be an integer from 1; it is inf
        >>> check_plain_values({"default_hooks": {"checkpoint": {"interval": 0.5}}})
        Traceback (most recent call last):
        ValueError: default_hooks.checkpoint.interval must be an integer from 1, or -1 for no checkpoint; it is 0.5
    """
    for key in (
        "model",
        "train_dataloader",
        "optim_wrapper",
        "train_cfg",
        "val_dataloader",
        "test_dataloader",
        "env_cfg",
    ):
        value = config.get(key)
        if value is not None and not isinstance(value, Mapping):
            raise ValueError(f"{key} must be a dict of settings; it is {short(value)}")
    rules: dict[str, tuple[str, Callable[[int | None], bool]]] = {
        "randomness.seed": ("an integer from 0 to 4294967295, or None", lambda v: v is None or 0 <= v < 2**32),
        **{f"train_cfg.{name}": _from(1) for name in ("max_epochs", "max_iters")},
        **{f"{name}.batch_size": _from(1) for name in DATALOADERS},
        **{f"{name}.num_workers": _from(0) for name in DATALOADERS},
        "train_cfg.val_begin": _from(0, none=False),  # with these MMEngine computes
        "train_cfg.val_interval": _from(1, none=False),
        "default_hooks.logger.interval": _from(1, none=False),
        "default_hooks.checkpoint.interval": (
            "an integer from 1, or -1 for no checkpoint",
            lambda v: v is not None and (v >= 1 or v == -1),
        ),
    }
    for option, (rule, holds) in rules.items():
        top, *inner, key = option.split(".")
        part = config.get(top)
        for name in inner:
            part = part.get(name) if isinstance(part, Mapping) else None
        if not isinstance(part, Mapping) or key not in part:
            continue
        value = part[key]
        if not (value is None or type(value) is int) or not holds(value):
            raise ValueError(f"{option} must be {rule}; it is {short(value)}")
    loop = config.get("train_cfg") or {}
    for counted, by_epoch, other in (("iterations", False, "max_epochs"), ("epochs", True, "max_iters")):
        if loop.get("by_epoch") is by_epoch and loop.get(other) is not None:
            raise ValueError(
                f"train_cfg.by_epoch={by_epoch} counts {counted}, and train_cfg.{other} is {loop[other]}; leave it "
                "out, and where it comes from a base config, leave out all of that: train_cfg=dict(_delete_=True, ...)"
            )


def _from(lowest: int, *, none: bool = True) -> tuple[str, Callable[[int | None], bool]]:
    """Returns the rule of integers from the lowest on, and of ``None`` where that is left to MMEngine."""
    return f"an integer from {lowest}", lambda v: none if v is None else v >= lowest


def check_optimizer(config: Config) -> None:
    """Raises a KeyError, as a registry does, if the type of the optimizer or of a schedule is unknown.

    MMEngine raises late, or without a clear error. So it does for ``AmpOptimWrapper`` on a CPU, a ValueError here.
    """
    if config.optim_wrapper.get("type") == "AmpOptimWrapper" and get_device() == "cpu":
        raise ValueError(
            "optim_wrapper.type='AmpOptimWrapper' is for GPUs, and there is none; take 'BF16OptimWrapper', or --amp, "
            "which takes the one that fits"
        )
    schedulers = config.get("param_scheduler") or []
    schedulers = [schedulers] if isinstance(schedulers, dict) else schedulers
    parts = [(registry.PARAM_SCHEDULERS, scheduler) for scheduler in schedulers]
    for types, part in [(registry.OPTIMIZERS, config.optim_wrapper.get("optimizer")), *parts]:
        name = part.get("type") if isinstance(part, dict) else None
        if isinstance(name, str) and types.get(name) is None:
            raise KeyError(f"{name} is not in the {types.scope}::{types.name} registry")


def check_save_best(config: Config) -> None:
    """Raises a ValueError if the best checkpoint is to be kept by a metric of which MMEngine knows no best.

    With ``save_best="auto"`` that is the first metric of the evaluation. MMEngine tells by words in its name, such as
    ``acc`` and ``top``, whether more of it is better, and would end the training at its first validation.
    """
    hook = (config.get("default_hooks") or {}).get("checkpoint")
    if not isinstance(hook, dict) or hook.get("save_best") != "auto":
        return
    if any(hook.get(key) for key in ("rule", "greater_keys", "less_keys")):
        return
    metrics = config.get("val_evaluator") or []
    metrics = metrics.get("metrics", metrics) if isinstance(metrics, dict) else metrics
    first = next(iter([metrics] if isinstance(metrics, dict) else metrics), None)
    kind = registry.METRICS.get(first["type"]) if isinstance(first, dict) else None
    if kind is not None and kind.__module__.startswith("hierpretrain.") and kind.__name__ not in _TOLD_BY_THEIR_NAMES:
        raise ValueError(
            "save_best='auto' goes by the first metric of the validation, and MMEngine cannot tell of "
            f"{kind.__name__}'s whether more is better; name one, as in "
            "default_hooks.checkpoint.save_best=LEVEL/recall@1 default_hooks.checkpoint.rule=greater"
        )


def check_num_batches(config: Config) -> None:
    """Raises a ValueError if ``num_batch_per_epoch`` is to shorten the epochs of one of our batch samplers.

    MMEngine shortens the data set to its first images, and our samplers plan the batches of an epoch from all labels.

    Example:
        >>> loader = dict(num_batch_per_epoch=9, batch_sampler=dict(type="HierarchicalBatchSampler"))
        >>> check_num_batches(Config(dict(train_dataloader=loader)))
        Traceback (most recent call last):
        ValueError: train_dataloader.num_batch_per_epoch does not shorten the epochs of HierarchicalBatchSampler, ...
    """
    loader = config.get("train_dataloader") or {}
    batch_sampler = loader.get("batch_sampler")
    if loader.get("num_batch_per_epoch") is None:
        return
    hooks = [*(config.get("default_hooks") or {}).values(), *(config.get("custom_hooks") or ())]
    if "FrozenFeaturesHook" in map(_hook_name, hooks):
        raise ValueError(
            "train_dataloader.num_batch_per_epoch does not go with FrozenFeaturesHook, which keeps features of all "
            f"images; leave it out, and count iterations instead of epochs: train_cfg=dict({_ITERATIONS}), or leave "
            "the hook out, default_hooks.frozen_features=None"
        )
    if not isinstance(batch_sampler, Mapping):
        return
    kind = registry.class_of(registry.DATA_SAMPLERS, batch_sampler)
    if isinstance(kind, type) and issubclass(kind, PlannedBatchSampler):
        own = "triplets_per_epoch"
        option = f"set train_dataloader.batch_sampler.{own}, or " if own in signature(kind).parameters else ""
        raise ValueError(
            f"train_dataloader.num_batch_per_epoch does not shorten the epochs of {kind.__name__}, which makes batches "
            f"of all images; leave it out, and {option}count iterations instead of epochs: "
            f"train_cfg=dict({_ITERATIONS})"
        )


def check_strategy(config: Config) -> None:
    """Raises a ValueError if a strategy lacks its launcher, or would write checkpoints in parts.

    Example:
        >>> check_strategy(Config(dict(strategy=dict(type="FSDPStrategy"), launcher="pytorch")))
        Traceback (most recent call last):
        ValueError: strategy.state_dict_cfg of FSDPStrategy must be 'full': with 'local' every process writes ...
    """
    strategy = config.get("strategy")
    name = type_name(strategy.get("type", "")) if isinstance(strategy, dict) else ""
    if name in _OF_PROCESSES and config.get("launcher", "none") == "none":
        raise ValueError(
            f"strategy.type={name!r} is for processes that a launcher started: start them with tools/dist_train.sh, or "
            "with torchrun and --launcher pytorch"
        )
    if name != "FSDPStrategy":
        return
    kept = strategy.get("state_dict_cfg", "local")
    if (kept.get("state_dict_type") if isinstance(kept, dict) else kept) not in ("full", "FULL_STATE_DICT"):
        raise ValueError(
            f"strategy.state_dict_cfg of FSDPStrategy must be 'full': with {kept!r} every process writes its part of a "
            "checkpoint, which resuming, embedding and indexing do not put together"
        )


def _settle_hooks(config: Config) -> list[str]:
    """Decides which hooks run, and has the log and the checkpoints count what the training counts.

    In a training that counts iterations, a checkpoint hook that does not say ``by_epoch`` writes one at every
    validation: by MMEngine's default it would write none before the end. MMEngine takes ``None`` for its own default
    hooks alone. Older configs list HierPretrain's hooks in
    ``custom_hooks``, and none may run twice.

    Returns:
        The keys of the default hooks that hooks of ``custom_hooks`` replace.
    """
    hooks = {k: v for k, v in (config.get("default_hooks") or {}).items() if v is not None or k in MMENGINE_HOOKS}
    listed = set(map(_hook_name, config.get("custom_hooks") or ()))
    replaced = [k for k, hook in hooks.items() if k not in MMENGINE_HOOKS and _hook_name(hook) in listed]
    for key in replaced:
        del hooks[key]
    for number, hook in enumerate(config.get("custom_hooks") or ()):
        if hook is None:
            raise ValueError(
                f"custom_hooks.{number} must be a hook; it is None, which leaves out a hook of default_hooks alone. "
                "Take it out of the list"
            )
    if config.get("train_cfg") and not config.train_cfg.get("by_epoch", True):
        config.log_processor = ConfigDict({"by_epoch": False, **(config.get("log_processor") or {})})
        logger = hooks.get("logger", dict(type="LoggerHook"))
        if isinstance(logger, dict) and _hook_name(logger) == "LoggerHook":
            hooks["logger"] = {"log_metric_by_epoch": False, **logger}
        saver = hooks.get("checkpoint", dict(type="CheckpointHook"))
        if isinstance(saver, dict) and _hook_name(saver) == "CheckpointHook" and "by_epoch" not in saver:
            interval = config.train_cfg.get("val_interval", _VAL_INTERVAL)
            hooks["checkpoint"] = {**saver, "by_epoch": False, "interval": interval}
    config.default_hooks = ConfigDict(hooks)
    return replaced


def _hook_name(hook: Any) -> str:
    return type_name(hook.get("type") if isinstance(hook, dict) else type(hook))


class _Runner(Runner):
    """MMEngine's runner, with numbers of classes from the data, short lines, schedules that end, and frozen models."""

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Builds the logger, with short lines on the terminal and all lines in its file."""
        logger = super().build_logger(*args, **kwargs)
        shorten_terminal(logger)
        return logger

    def load_or_resume(self) -> None:
        """Loads the checkpoint that the training or the test starts from, if it fits."""
        model = unwrapped(self.model)  # of which HierarchicalContrastive asks what is loaded
        starts = getattr(model, "begins_training", False) or isinstance(self._train_loop, BaseLoop)
        model.begins_training = starts and not self._resume
        try:
            if not self._has_loaded and self._load_from:
                start = dict(load_from=self._load_from, resume=self._resume)
                partly = self.cfg.get("load_from_partly")
                if told_partly := check_start({**start, "load_from_partly": partly}, self.model):
                    self.logger.warning(told_partly)
            super().load_or_resume()
        finally:
            model.begins_training = False

    def build_model(self, model: Any) -> nn.Module:
        """Builds the model; a loss over classes, whose config does not say how many, learns it from the training data.

        The number goes into the config that the run writes and its checkpoints carry.
        """
        if isinstance(model, dict) and model.get("loss"):
            model["loss"] = ConfigDict(with_num_classes(model["loss"], self._training_tree))
            self.cfg.model.loss = deepcopy(model["loss"])
        return super().build_model(model)

    def _training_tree(self, asked_by: str) -> Taxonomy:
        """Returns the tree of the training data set, which is built for it and kept for the training."""
        if not self._train_dataloader:
            raise ValueError(
                f"{asked_by} takes num_classes from the training data, and the config has no train_dataloader; set "
                "model.loss.num_classes, or, to evaluate an encoder alone, model.loss=None"
            )
        dataset = registry.DATASETS.build(deepcopy(self._train_dataloader["dataset"]))
        if hasattr(dataset, "full_init"):
            dataset.full_init()
        if "taxonomy" not in getattr(dataset, "metainfo", {}):
            raise ValueError(
                f"{asked_by} takes num_classes from the tree of the training data, and {type(dataset).__name__} has "
                "none; set model.loss.num_classes"
            )

        def built() -> Any:  # MMEngine copies a config with all that is in it, and would copy the data set
            return dataset

        self._train_dataloader = {**self._train_dataloader, "dataset": dict(type=built)}
        return Taxonomy.from_dict(dataset.metainfo["taxonomy"])

    def _build_param_scheduler(self, scheduler: Any, optim_wrapper: OptimWrapper) -> list[_ParamScheduler]:
        """Builds schedulers, of which one without ``end`` goes on to the end of the training.

        A scheduler that would begin after the training is left out, where MMEngine raises. In a training that counts
        iterations, the end is that number of iterations, where MMEngine takes the whole training for one epoch.
        """
        kept = []
        for part in scheduler if isinstance(scheduler, Sequence) else [scheduler]:
            if isinstance(part, dict) and "end" not in part:
                end = self._end_of(part)
                if part.get("begin", 0) >= end:
                    self.logger.info(f"{type_name(part['type'])} is left out: the training ends before it begins")
                    continue
                # MMEngine multiplies a fraction of epochs by their iterations, and rounds down
                part = {**part, "end": end if isinstance(end, int) else math.nextafter(end, math.inf)}
            kept.append(part)
        return super()._build_param_scheduler(kept, optim_wrapper)

    def _end_of(self, scheduler: dict[str, Any]) -> float:
        """Returns the end of the training in the unit of a scheduler: epochs or iterations."""
        if not scheduler.get("by_epoch", True):
            return self.max_iters
        if not scheduler.get("convert_to_iter_based") or isinstance(self.train_loop, EpochBasedTrainLoop):
            return self.max_epochs
        return self.max_iters / len(self.train_dataloader)

    def wrap_model(self, model_wrapper_cfg: dict[str, Any] | None, model: nn.Module) -> nn.Module:
        """Wraps the model for several processes, unless there is no gradient to exchange, which torch refuses."""
        if not is_model_wrapper(model) and not any(weight.requires_grad for weight in model.parameters()):
            return model.to(get_device())
        return super().wrap_model(model_wrapper_cfg, model)

    def build_evaluator(self, evaluator: Any) -> Evaluator:
        """Builds the evaluator; one metric, or a list of them, gets one that collects embeddings once for all."""
        return collecting(super().build_evaluator(evaluator))


def _start_processes_on_cpu(config: Config) -> None:
    """Initialises the processes of a launcher on CPUs; MMEngine takes GPUs for granted."""
    if config.launcher not in ("pytorch", "slurm"):
        raise ValueError(
            f"without a GPU, launcher must be 'none', 'pytorch' or 'slurm'; it is {config.launcher!r}. "
            "Start the processes with torchrun and --launcher pytorch"
        )
    patience = config.get("env_cfg", {}).get("dist_cfg", {}).get("timeout", _PATIENCE)
    if not torch.distributed.is_initialized():
        timeout = timedelta(seconds=patience)
        where: dict[str, Any] = {}
        if (restart := os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) != "0":
            # torchrun's store still has the addresses of the processes that were lost, and gloo may wait for those
            store, rank, world_size = next(torch.distributed.rendezvous("env://", timeout=timeout))
            where = dict(store=PrefixStore(f"restart_{restart}", store), rank=rank, world_size=world_size)
        torch.distributed.init_process_group("gloo", timeout=timeout, **where)
    config.env_cfg = {**config.get("env_cfg", {}), "dist_cfg": dict(backend="gloo", timeout=patience)}
    config.model_wrapper_cfg = {
        "find_unused_parameters": config.get("find_unused_parameters", False),
        **config.get("model_wrapper_cfg", {}),
        **dict(type="MMDistributedDataParallel", device_ids=None, broadcast_buffers=False),
    }


def _check_torchrun_environment() -> None:
    missing = [name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing and not torch.distributed.is_initialized():
        raise ValueError(
            f"--launcher pytorch is for processes that torchrun starts, and {missing[0]} is not set; use "
            "tools/dist_train.sh, or torchrun; or leave --launcher out"
        )


def _take_over_slurm_environment() -> None:
    if "SLURM_PROCID" not in os.environ:
        raise ValueError("--launcher slurm is for processes that srun starts; use tools/slurm_train.sh, or torchrun")
    if "MASTER_ADDR" not in os.environ:
        nodes = os.environ["SLURM_NODELIST"]
        try:
            hosts = subprocess.run(["scontrol", "show", "hostname", nodes], check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise ValueError(
                f"scontrol does not name the machines of SLURM_NODELIST={nodes}: {error}. Set MASTER_ADDR to the "
                "first of them"
            ) from error
        os.environ["MASTER_ADDR"] = hosts.stdout.split()[0]
    os.environ.setdefault("MASTER_PORT", "29500")
    os.environ["RANK"] = os.environ["SLURM_PROCID"]
    os.environ["WORLD_SIZE"] = os.environ["SLURM_NTASKS"]
    os.environ["LOCAL_RANK"] = os.environ["SLURM_LOCALID"]


def _check_same_start(file: str | None) -> None:
    """Checks, on all processes, that they start from one checkpoint.

    Files are compared by name and content. With different files, or where some processes have none, processes would
    train different weights or wait for each other for ever.
    """
    if get_world_size() == 1:
        return
    found = all_gather_object(_signature(file))
    for rank, name in enumerate(found):
        if name != found[0]:
            raise ValueError(
                f"all processes must start from one checkpoint; rank 0 found {found[0]} and rank {rank} {name}. Give a "
                "work directory that all machines see, or one path, by --resume, to the same file on each"
            )


def _signature(file: str | None) -> str:
    """Returns the name of a checkpoint, and the checksum of its content if it is a local file."""
    if not file:
        return "none"
    name = os.path.basename(file)
    if not os.path.isfile(file):
        return f"{name} (no file)" if "://" not in file else name
    return f"{name} (sha256 {sha256(file)[:12]})"
