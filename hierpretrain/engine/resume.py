"""The hook that makes a resumed run equal to one that was never stopped."""

from __future__ import annotations

import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook, ParamSchedulerHook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, Runner

from hierpretrain.datasets.joined import seeded_sets
from hierpretrain.engine.training_batches import batches_of_a_pass, begin_anew, load_ahead_anew
from hierpretrain.models.checkpoints import check_values
from hierpretrain.registry import HOOKS


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Makes a resumed run equal to an uninterrupted one, since all that is random depends on (seed, epoch, iteration).

    A data set with ``seed`` and ``set_epoch``, as all of :mod:`hierpretrain.datasets`, augments an image by
    (seed, epoch, image). Before every epoch and every iteration, the generators of Python, NumPy and torch start from
    (seed, rank, iteration). The seed is the seed of the run; a resumed run has it from its checkpoint. It replaces a
    seed that the config gives a data set or a sampler. A checkpoint in the middle of an epoch has the position of the
    batch sampler, if the sampler has ``load_state_dict``, as :class:`hierpretrain.datasets.HierarchicalBatchSampler`.
    On a CPU, a resumed run ends with the weights of an uninterrupted run, bit for bit, if it has the same config and
    number of threads.

    A run that counts iterations instead of epochs (``train_cfg.by_epoch=False``) has a next epoch, and so new views of
    its images, whenever all of them have come. When it resumes, MMEngine has it load all batches before once more,
    without training on them.

    It cannot bring back what MMEngine does not save: gradients that ``accumulative_counts`` has gathered, and, for a
    checkpoint in the middle of an epoch on several processes, the statistics of other ranks' normalisation layers.

    A checkpoint from the end of an epoch may be resumed on another number of processes, or with another batch size.
    Weights and the optimizer's state go on. Epochs then have another number of batches, so iterations are counted as if
    all epochs had had as many. The config, ``auto_scale_lr`` included, then gives the learning rate, as in a run that
    has always had as many. (MMEngine alone would go on with the lengths, in iterations, and the learning rate of the
    old run, and a schedule with ``convert_to_iter_based`` would not come to its end.) A run that is resumed to become
    longer or shorter follows its own schedule, too.

    Needs a seed in the config, ``randomness=dict(seed=...)``, since MMEngine otherwise draws one for each start.
    """

    priority = "VERY_HIGH"

    def __init__(self) -> None:
        self._loaded: dict[str, int] | None = None
        self._batches_done = 0

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Keeps the position of the sampler for the start of training, unless only weights are loaded.

        Raises:
            ValueError: If epochs have another number of batches than the checkpoint's, and the schedule cannot follow;
                or if the optimizer's state or averaged weights have no values or some that are not finite.
        """
        if runner._resume:
            for part in ("optimizer", "ema_state_dict"):
                check_values(checkpoint.get(part), f"{part!r} of the checkpoint that the run resumes from")
        self._loaded = checkpoint.get("batch_sampler") if runner._resume else None
        if self._loaded and not self._loaded["position"] and isinstance(runner.train_loop, EpochBasedTrainLoop):
            if self._loaded["batches"] != len(runner.train_dataloader):
                _convert(runner, checkpoint)
        if runner._resume and "param_schedulers" in checkpoint:
            _follow_length(runner, checkpoint)

    def before_train(self, runner: Runner) -> None:
        """Hands the seed of the run to the data set, and moves the sampler to its position.

        Raises:
            ValueError: If the checkpoint lies in the middle of an epoch that this run cannot go on with.
        """
        dataset, sampler = runner.train_dataloader.dataset, runner.train_dataloader.batch_sampler
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            self._loaded = None  # the loop itself goes through the batches before
        for part in (parts := seeded_sets(dataset)):
            part.seed = runner.seed
        if not parts:
            runner.logger.warning(
                f"{type(dataset).__name__} has no `set_epoch`: its augmentations will not repeat when the run resumes"
            )
        if self._loaded and self._loaded["position"]:
            if not hasattr(sampler, "load_state_dict"):
                raise ValueError(
                    f"{_where(self._loaded)}, where {type(sampler).__name__} cannot go on; resume from the end of an "
                    "epoch, an epoch_*.pth"
                )
            now = _plan(runner)
            then = {key: self._loaded.get(key, value) for key, value in now.items()}
            if then != now:
                raise ValueError(
                    _where(self._loaded)
                    + "; its epochs have {batches} batches of {batch_size} on {processes} process(es)".format(**then)
                    + ", and this run's have {batches} of {batch_size} on {processes}; ".format(**now)
                    + "resume with as many, or from the end of an epoch, an epoch_*.pth"
                )
            sampler.load_state_dict(self._loaded)
            self._batches_done = self._loaded["position"]
            runner.logger.info(
                f"epoch {runner.epoch + 1} goes on behind batch {self._batches_done} of {now['batches']}: its lines "
                "count the rest, from 1"
            )
        if hasattr(sampler.sampler, "seed"):
            sampler.sampler.seed = runner.seed  # a resumed run has the seed of its checkpoint
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            _tell_epoch(runner, runner.iter)
            begin_anew(runner)  # workers have loaded ahead by another seed

    def before_train_epoch(self, runner: Runner) -> None:
        """Tells the dataset the epoch, and starts the generators anew, before images are asked for."""
        _start_generators(runner)  # the first batch is made before the first iteration begins
        _tell_epoch(runner, runner.iter)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Starts the generators anew."""
        _start_generators(runner)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Counts the batches of the epoch; in a run that counts iterations, begins the next epoch behind a pass."""
        self._batches_done += 1
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            return
        if (runner.iter + 1) % batches_of_a_pass(runner.train_dataloader) == 0:
            _tell_epoch(runner, runner.iter + 1)
            load_ahead_anew(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Begins to count anew."""
        self._batches_done = 0

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Adds the position of the sampler: how many batches of the epoch have been trained on.

        Functions in the states of schedulers (``OneCycleLR`` has one) are removed: torch would not load them as weights
        only, and the schedulers of a resumed run have them from its config.
        """
        if "param_schedulers" in checkpoint:
            checkpoint["param_schedulers"] = _without_functions(checkpoint["param_schedulers"])
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            checkpoint["batch_sampler"] = {
                "epoch": checkpoint["meta"]["epoch"],
                "position": self._batches_done,
                **_plan(runner),
            }


def _tell_epoch(runner: Runner, iterations: int) -> None:
    """Tells the data set the epoch or, in a run that counts iterations, how many times all images have come."""
    epoch = runner.epoch
    if not isinstance(runner.train_loop, EpochBasedTrainLoop):
        epoch = iterations // batches_of_a_pass(runner.train_dataloader)
    for part in seeded_sets(runner.train_dataloader.dataset):
        part.set_epoch(epoch)


def _start_generators(runner: Runner) -> None:
    seed = int(np.random.SeedSequence((runner.seed, get_rank(), runner.iter)).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  what it seeds is the generator that the host's transforms draw from
    torch.manual_seed(seed)


def _without_functions(state: Any) -> Any:
    """Returns states, and lists and dicts of them, without their functions."""
    if isinstance(state, dict):
        return {key: _without_functions(value) for key, value in state.items() if not callable(value)}
    return [_without_functions(part) for part in state] if isinstance(state, list) else state


def _where(loaded: dict[str, int]) -> str:
    """Returns where in an epoch a checkpoint was written, as the beginning of a message."""
    if loaded["position"] == loaded.get("batches"):
        return "the checkpoint was written after the last batch of an epoch, before the epoch's end was done"
    return "the checkpoint lies in the middle of an epoch"


def _plan(runner: Runner) -> dict[str, int | None]:
    """Returns what must not change in the middle of an epoch, or its images would be dealt anew."""
    return {
        "batches": len(runner.train_dataloader),
        "batch_size": getattr(runner.train_dataloader.batch_sampler, "batch_size", None),
        "processes": get_world_size(),
    }


def _convert(runner: Runner, checkpoint: dict[str, Any]) -> None:
    """Turns a checkpoint from the end of an epoch into one of a run whose epochs always had as many batches as now.

    It goes through the schedule from the start, which the runner has just built for this run's epochs: there is no
    closed form of what several schedulers make of a learning rate.
    """
    epoch, batches = checkpoint["meta"]["epoch"], len(runner.train_dataloader)
    changed = f"the checkpoint's epochs had {checkpoint['batch_sampler']['batches']} batches, and this run's {batches}"
    schedulers = runner.param_schedulers or []
    if isinstance(runner.optim_wrapper, OptimWrapperDict) or not isinstance(schedulers, list):
        raise ValueError(f"{changed}, which only a run with a single optimizer can follow; resume with as many")
    if any(getattr(scheduler, "need_val_args", False) for scheduler in schedulers):
        raise ValueError(f"{changed}, which a schedule that looks at the metrics cannot follow; resume with as many")
    for path in Path(runner.work_dir).glob("iter_*.pth"):
        iteration = path.stem.removeprefix("iter_")
        if iteration.isdecimal() and int(iteration) > epoch * batches:
            raise ValueError(
                f"{changed}: iterations are counted anew, from {epoch * batches} on, and {path} would be taken for "
                "newer than what this run writes; resume into another work directory"
            )
    _start_schedule(runner, checkpoint, epoch, 0)
    checkpoint["meta"]["iter"] = epoch * batches
    runner.logger.info(
        f"{changed}: iterations are counted from {epoch * batches} on, and this run's schedule gives the learning rate"
    )


def _follow_length(runner: Runner, checkpoint: dict[str, Any]) -> None:
    """Has the learning rate follow this run's schedule if that ends elsewhere than the checkpoint's.

    The state of a scheduler has its end in it: MMEngine would go on with the old length.
    """
    saved, schedulers = checkpoint["param_schedulers"], runner.param_schedulers
    if not isinstance(saved, list) or not isinstance(schedulers, list):
        return
    for state, scheduler in zip(saved, schedulers, strict=False):
        if getattr(scheduler, "need_val_args", False):
            state["end"] = scheduler.end  # it looks at the metrics, and its end is all that the length of a run changes
    if [state.get("end") for state in saved] == [scheduler.end for scheduler in schedulers]:
        return
    if any(getattr(scheduler, "need_val_args", False) for scheduler in schedulers):
        raise ValueError(
            "this run's schedule ends elsewhere than the checkpoint's, and one that looks at the metrics, as a part of "
            "it does, cannot follow; resume with the same train_cfg and param_scheduler"
        )
    epochs = checkpoint["meta"]["epoch"] if isinstance(runner.train_loop, EpochBasedTrainLoop) else 0
    batches = checkpoint["meta"]["iter"] - epochs * len(runner.train_dataloader)
    _start_schedule(runner, checkpoint, epochs, batches)
    runner.logger.info("this run's schedule gives the learning rate; it ends elsewhere than the checkpoint's")


def _start_schedule(runner: Runner, checkpoint: dict[str, Any], epochs: int, batches: int) -> None:
    """Puts this run's schedule where it is after some epochs and some batches of the next, and has it kept."""
    schedule = ParamSchedulerHook()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # schedulers want a step of the optimizer before each of theirs
        for _ in range(epochs):
            for batch in range(len(runner.train_dataloader)):
                schedule.after_train_iter(runner, batch)
            schedule.after_train_epoch(runner)
        for batch in range(batches):
            schedule.after_train_iter(runner, batch)
    if "optimizer" in checkpoint:
        _take_over_rates(checkpoint["optimizer"], runner.optim_wrapper)
    checkpoint.pop("param_schedulers", None)  # the runner keeps those that it has


def _take_over_rates(saved: dict[str, Any], wrapper: OptimWrapper) -> None:
    """Puts the learning rates, and all else of the groups but their weights, into a saved state of the optimizer."""
    then, now = list(saved["param_groups"]), list(wrapper.optimizer.param_groups)
    if len(then) != len(now):
        raise ValueError(
            f"the checkpoint's optimizer has {len(then)} groups of weights, and this run's {len(now)}; resume with the "
            "same model and paramwise_cfg"
        )
    if saved.get("base_param_settings") and wrapper.base_param_settings:  # which schedulers take for one more group
        then.append(saved["base_param_settings"])
        now.append(wrapper.base_param_settings)
    for old, new in zip(then, now, strict=True):
        old.update({key: value for key, value in new.items() if key != "params"})
