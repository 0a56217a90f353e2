"""How long processes wait for one another: not for long while they train, for long while one draws pictures."""

from __future__ import annotations

from datetime import timedelta

from mmengine.dist import barrier, is_distributed
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.distributed import distributed_c10d

from hierpretrain.checks import check_at_least_1
from hierpretrain.registry import HOOKS


@HOOKS.register_module()
class TrainingPatienceHook(Hook):
    """Has processes that train give up sooner on one that hangs than processes that evaluate do.

    A process that was stopped, or whose machine is gone without a word, keeps the others waiting in their next exchange
    of gradients. After so many seconds they end with an error, and the launcher ends the rest; ``--resume`` goes on
    from the last checkpoint. While one process fits classifiers or draws pictures, at the end of an evaluation, the
    others wait as long as ``env_cfg.dist_cfg.timeout`` says. Without that entry nothing is changed: torch's own
    patience with NCCL is 10 minutes.

    Args:
        seconds: How long to wait in training, at least 1. It must be longer than rank 0 takes to write a checkpoint,
            and longer than the first step of one process may lag behind that of another.

    Raises:
        ValueError: If ``seconds`` is below 1.

    Example:
        >>> TrainingPatienceHook(seconds=0)
        Traceback (most recent call last):
        ValueError: seconds must be at least 1; it is 0
    """

    priority = "VERY_LOW"  # after what others do before the training, such as keeping frozen features

    def __init__(self, seconds: int = 600) -> None:
        check_at_least_1(seconds=seconds)
        self.seconds = seconds

    def before_train(self, runner: Runner) -> None:
        """Waits for all, then has them wait less."""
        self._wait(runner, training=True)

    def before_val(self, runner: Runner) -> None:
        """Has all processes wait longer."""
        self._wait(runner, training=False)

    def after_val(self, runner: Runner) -> None:
        """Waits for all, of which one may still draw, then has them wait less."""
        self._wait(runner, training=True)

    def after_train(self, runner: Runner) -> None:
        """Has all processes wait longer again."""
        self._wait(runner, training=False)

    def _wait(self, runner: Runner, *, training: bool) -> None:
        longest = ((runner.cfg.get("env_cfg") or {}).get("dist_cfg") or {}).get("timeout")
        if not is_distributed() or longest is None:
            return
        if training:
            barrier()
        set_timeout(min(self.seconds, longest) if training else longest)


def set_timeout(seconds: float) -> None:
    """Sets how long the processes wait for one another from now on."""
    change = getattr(distributed_c10d, "set_timeout", None) or distributed_c10d._set_pg_timeout  # before torch 2.13
    change(timedelta(seconds=seconds), distributed_c10d._get_default_group())
