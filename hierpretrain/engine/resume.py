"""The hook that makes a resumed run the run that was never stopped."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from hierpretrain.registry import HOOKS


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Makes everything random a function of (seed, epoch, iteration), so that nothing random needs to be saved.

    A dataset with ``seed`` and ``set_epoch``, as all of :mod:`hierpretrain.datasets`, augments an image by
    (seed, epoch, image). Before every iteration Python's, NumPy's and torch's generators start from
    (seed, rank, iteration). A checkpoint in the middle of an epoch carries the place of the batch sampler, if that is
    one with ``load_state_dict``, as :class:`hierpretrain.datasets.HierarchicalBatchSampler`. On a CPU a resumed run
    ends with the weights of an uninterrupted one, bit for bit, if it has the same config and number of threads.

    It cannot bring back what MMEngine does not save: gradients that ``accumulative_counts`` has gathered, and, for a
    checkpoint in the middle of an epoch on several processes, the statistics of other ranks' normalisation layers. A
    run that counts iterations instead of epochs resumes, but not exactly; it is told so.

    Needs a seed in the config, ``randomness=dict(seed=...)``, since MMEngine otherwise draws one for each start.
    """

    priority = "VERY_HIGH"

    def __init__(self) -> None:
        self._loaded: dict[str, int] | None = None
        self._batches_done = 0

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Keeps the sampler's place for the start of training, unless only weights are loaded."""
        self._loaded = checkpoint.get("batch_sampler") if runner._resume else None

    def before_train(self, runner: Runner) -> None:
        """Hands the run's seed to the dataset and puts the sampler to its place."""
        dataset, sampler = runner.train_dataloader.dataset, runner.train_dataloader.batch_sampler
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            runner.logger.warning(
                "the run counts iterations, not epochs: what is random in it will not repeat when it resumes; "
                "train_cfg=dict(by_epoch=True, ...) resumes exactly"
            )
            self._loaded = None
        if hasattr(dataset, "set_epoch"):
            dataset.seed = runner.seed
        else:
            runner.logger.warning(
                f"{type(dataset).__name__} has no `set_epoch`: its augmentations will not repeat when the run resumes"
            )
        if self._loaded and self._loaded["position"]:
            if not hasattr(sampler, "load_state_dict"):
                raise ValueError(
                    f"the checkpoint lies in the middle of an epoch, where {type(sampler).__name__} cannot go on; "
                    "resume from the end of an epoch"
                )
            sampler.load_state_dict(self._loaded)
            self._batches_done = self._loaded["position"]
        if hasattr(sampler.sampler, "seed"):
            sampler.sampler.seed = runner.seed  # a resumed run has the seed of its checkpoint

    def before_train_epoch(self, runner: Runner) -> None:
        """Tells the dataset the epoch, before the workers ask it for images."""
        if hasattr(runner.train_dataloader.dataset, "set_epoch"):
            runner.train_dataloader.dataset.set_epoch(runner.epoch)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Starts the generators anew."""
        seed = int(np.random.SeedSequence((runner.seed, get_rank(), runner.iter)).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  what it seeds is the generator that the host's transforms draw from
        torch.manual_seed(seed)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Counts the batches of the epoch."""
        self._batches_done += 1

    def after_train_epoch(self, runner: Runner) -> None:
        """Begins to count anew."""
        self._batches_done = 0

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Adds the sampler's place: the batches of the epoch that have been trained on."""
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            checkpoint["batch_sampler"] = {
                "epoch": checkpoint["meta"]["epoch"],
                "position": self._batches_done,
                "batches": len(runner.train_dataloader),
            }
