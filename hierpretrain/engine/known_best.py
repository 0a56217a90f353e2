"""The hook that says which results a validation has, where the best checkpoint is to be kept by another."""

from __future__ import annotations

from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner

from hierpretrain._names import did_you_mean


class KnownBestHook(Hook):
    """Checks at every validation that it has the results by which the best checkpoint is kept.

    The names of results are known when there are some. MMEngine's error would be the name alone.
    :func:`~hierpretrain.apis.build_runner` adds the hook where a best checkpoint is kept.

    Example:
        >>> from types import SimpleNamespace
        >>> runner = SimpleNamespace(hooks=[CheckpointHook(save_best="1/recal@1", rule="greater")])
        >>> KnownBestHook().after_val_epoch(runner, {"1/map": 0.5, "1/recall@1": 0.5})
        Traceback (most recent call last):
        ValueError: default_hooks.checkpoint.save_best must name a result of the validation; '1/recal@1' is none: ...
    """

    priority = "HIGHEST"

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Checks the names.

        Raises:
            ValueError: If one is no result; the message has the nearest one, and how the training goes on.
        """
        for hook in runner.hooks:
            for name in (hook.save_best or ()) if isinstance(hook, CheckpointHook) else ():
                if name != "auto" and metrics and name not in metrics:  # none where nothing was measured
                    guess = did_you_mean(name, metrics, f"there are {', '.join(metrics)}.")
                    raise ValueError(
                        f"default_hooks.checkpoint.save_best must name a result of the validation; {name!r} is none: "
                        f"{guess} Correct it and go on from the last checkpoint (--resume)"
                    )
