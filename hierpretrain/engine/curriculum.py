"""The curriculum of paper B: schedules of the level that each epoch trains, and the hook that follows one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from hierpretrain.datasets import LevelTripletSampler
from hierpretrain.models.gather import unwrapped
from hierpretrain.models.loss_levels import parts_of_loss
from hierpretrain.registry import HOOKS, LEVEL_SCHEDULES

Schedule = Callable[..., Sequence[int]]
"""``(num_epochs, num_levels, **options)`` -> the stage of each epoch, 1 for the first level that is trained."""


@LEVEL_SCHEDULES.register_module()
def equal_stages(num_epochs: int, num_levels: int) -> list[int]:
    """Trains one level after the other, the coarsest first, for equal numbers of epochs (as near as can be): paper B.

    Raises:
        ValueError: If there are fewer epochs than levels.

    Example:
        >>> equal_stages(7, 3)
        [1, 1, 1, 2, 2, 3, 3]
    """
    if num_epochs < num_levels:
        raise ValueError(
            f"{num_levels} levels need an epoch each at least; there are {num_epochs}. Set train_cfg.max_epochs, or "
            "fewer levels, or a smaller triplets_per_epoch of the sampler and more epochs"
        )
    return [epoch * num_levels // num_epochs + 1 for epoch in range(num_epochs)]


@LEVEL_SCHEDULES.register_module()
def fine_to_coarse(num_epochs: int, num_levels: int) -> list[int]:
    """Trains the levels for equal numbers of epochs, the finest first.

    Example:
        >>> fine_to_coarse(5, 2)
        [2, 2, 1, 1, 1]
    """
    return equal_stages(num_epochs, num_levels)[::-1]


@LEVEL_SCHEDULES.register_module()
def halving_stages(num_epochs: int, num_levels: int) -> list[int]:
    """Trains one level after the other, the coarsest first, each for about half as many epochs as the one before.

    Every level gets an epoch at least.

    Example:
        >>> halving_stages(8, 3), halving_stages(3, 3)
        ([1, 1, 1, 1, 1, 2, 2, 3], [1, 2, 3])
    """
    equal_stages(num_epochs, num_levels)  # enough of them
    ends = [round(num_epochs * (1 - 0.5**k) / (1 - 0.5**num_levels)) for k in range(1, num_levels + 1)]
    stages = [sum(epoch >= end for end in ends) + 1 for epoch in range(num_epochs)]
    last = num_epochs - num_levels  # the epoch from which every further level must have one of what is left
    return [max(stage, epoch - last + 1) for epoch, stage in enumerate(stages)]


@LEVEL_SCHEDULES.register_module()
def given_stages(num_epochs: int, num_levels: int, *, epochs: Sequence[int]) -> list[int]:
    """Trains one level after the other, the coarsest first, for given numbers of epochs.

    Raises:
        ValueError: If there is not one number for each level, or they do not sum to ``num_epochs``.

    Example:
        >>> given_stages(4, 2, epochs=[1, 3])
        [1, 2, 2, 2]
    """
    if len(epochs) != num_levels or sum(epochs) != num_epochs or min(epochs) < 0:
        raise ValueError(
            f"epochs must be one number for each of the {num_levels} levels, with the sum {num_epochs} of "
            f"train_cfg.max_epochs; they are {list(epochs)}"
        )
    return [stage for stage, number in enumerate(epochs, start=1) for _ in range(number)]


@LEVEL_SCHEDULES.register_module()
def all_levels(num_epochs: int, num_levels: int) -> list[int]:
    """Has no stages: every epoch stands at the finest level, so that ``replay=1`` draws from all levels alike.

    Example:
        >>> all_levels(3, 2)
        [2, 2, 2]
    """
    return [num_levels] * num_epochs


@HOOKS.register_module()
class LevelCurriculumHook(Hook):
    """Moves the :class:`LevelTripletSampler` from level to level, and logs the level.

    The level of an epoch depends on its number alone, so a resumed run has the same levels as an uninterrupted one. The
    log has ``stage_level``, the level of the present stage, and ``level``, the level of the batch, which may be a
    replayed one. A step that replays draws from the levels that are trained, but not from levels whose stage is still
    to come.

    Args:
        levels: How many of the sampler's levels are trained, the coarsest first, or which; all by default.
        schedule: A function of the registry ``LEVEL_SCHEDULES``, by name or itself; or, with options,
            ``dict(type='given_stages', epochs=[4, 2, 2])``.

    Raises:
        ValueError: At the start of training, if the sampler is another one, a level has no triplets or lies below the
            loss's ``max_level``, the schedule is unknown or does not fit, or the run counts iterations.
    """

    def __init__(
        self, levels: int | Sequence[int] | None = None, schedule: str | Schedule | Mapping[str, Any] = "equal_stages"
    ) -> None:
        self.levels = levels
        self.schedule = dict(schedule) if isinstance(schedule, Mapping) else {"type": schedule}
        self._levels: list[int] = []  # that are trained
        self._stages: list[int] = []  # the level of each epoch
        self._step_levels: list[int] = []  # of each step of the present epoch

    def before_train(self, runner: Runner) -> None:
        """Fixes the level of every epoch, and logs the plan."""
        sampler = runner.train_dataloader.batch_sampler
        if not isinstance(sampler, LevelTripletSampler):
            raise ValueError(
                "LevelCurriculumHook needs train_dataloader.batch_sampler=dict(type='LevelTripletSampler'); it is "
                f"{type(sampler).__name__}"
            )
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise ValueError("the curriculum counts epochs: set train_cfg=dict(by_epoch=True, max_epochs=...)")
        self._levels = levels = self._trained(sampler)
        options = dict(self.schedule)
        name = options.pop("type", None)
        function = LEVEL_SCHEDULES.get(name) if isinstance(name, str) else name
        if not callable(function):
            raise ValueError(
                f"schedule must be one of {', '.join(map(repr, LEVEL_SCHEDULES.module_dict))}, not {name!r}"
            )
        try:
            stages = list(function(runner.max_epochs, len(levels), **options))
        except TypeError as error:
            raise ValueError(f"the schedule {name!r} has not these options: {error}; see its docstring") from error
        if len(stages) != runner.max_epochs or not set(stages) <= set(range(1, len(levels) + 1)):
            raise ValueError(
                f"the schedule {name!r} must give each of {runner.max_epochs} epochs a stage from 1 to {len(levels)}; "
                f"it gave {stages}"
            )
        self._stages = [levels[stage - 1] for stage in stages]
        _check_depth(runner.model, max(levels))
        tree_levels = sampler.labels.shape[-1]
        if left_out := sorted(set(range(1, tree_levels + 1)) - set(sampler.levels)):
            runner.logger.info(f"levels without a triplet, which are passed over: {left_out}")
        plan = ", ".join(
            f"level {level}: {self._stages.count(level)} epochs ({sampler.nodes_drawn(level)} nodes)"
            for level in dict.fromkeys(self._stages)
        )
        runner.logger.info(f"curriculum: {plan}; replay {sampler.replay}")

    def _trained(self, sampler: LevelTripletSampler) -> list[int]:
        if self.levels is None:
            return list(sampler.levels)
        if isinstance(self.levels, int):
            if not 1 <= self.levels <= len(sampler.levels):
                raise ValueError(
                    f"levels must be 1 to {len(sampler.levels)}, the number of levels that have triplets "
                    f"({sampler.levels}), or a list of them; it is {self.levels}"
                )
            return list(sampler.levels[: self.levels])
        if not self.levels or not set(self.levels) <= set(sampler.levels):
            raise ValueError(
                f"levels must be some of {sampler.levels}, those that have triplets; they are {list(self.levels)}"
            )
        return sorted(set(self.levels))

    def before_train_epoch(self, runner: Runner) -> None:
        """Moves the sampler to the epoch's level, before its plan is made."""
        sampler = runner.train_dataloader.batch_sampler
        sampler.set_epoch(runner.epoch)
        to_come = set(self._stages[runner.epoch + 1 :]) - set(self._stages[: runner.epoch + 1])
        replayed = [level for level in self._levels if level not in to_come]
        sampler.set_level(self._stages[runner.epoch], replayed)
        # an epoch that is resumed in its middle counts its batches from 0 again
        self._step_levels = sampler.step_levels()[sampler.state_dict()["position"] :]

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Writes the level to the log."""
        sampler = runner.train_dataloader.batch_sampler
        runner.message_hub.update_scalar("train/stage_level", sampler.level)
        runner.message_hub.update_scalar("train/level", self._step_levels[batch_idx])


def _check_depth(model: nn.Module, deepest: int) -> None:
    """Raises if the loss has no margin for the deepest level: only its stage would find out."""
    loss = getattr(unwrapped(model), "loss_module", None)
    for name, part in parts_of_loss(loss):
        max_level = getattr(part, "max_level", None)
        if isinstance(max_level, int) and max_level < deepest:
            key = ".".join(filter(None, ("model.loss", name, "max_level")))
            raise ValueError(
                f"level {deepest} is trained, but {key} is {max_level}; raise it, or train fewer levels by "
                "LevelCurriculumHook's `levels`"
            )
