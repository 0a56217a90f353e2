"""The hook that checks, and tells the model, which items of a data set are one image."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from hierpretrain.datasets.joined import check_counts_through, repeated_images
from hierpretrain.models.gather import unwrapped
from hierpretrain.models.loss_levels import parts_of_loss


class ImageNumbersHook(Hook):
    """Sees to it that ``sample_idx`` tells images apart wherever it is used, before anything is trained or evaluated.

    The metrics of this toolbox take items of equal ``sample_idx`` for one image, and so do losses that compare images.
    The model learns which items of the training data are repeats of one image.

    :func:`~hierpretrain.apis.build_runner` adds it.
    """

    priority = "HIGHEST"

    def before_train(self, runner: Runner) -> None:
        """Checks the training and validation data, and tells the model which items are repeats.

        Raises:
            ValueError: If a loss or a metric would take several images for one.
        """
        model, dataset = unwrapped(runner.model), runner.train_dataloader.dataset
        if reader := loss_that_compares_images(getattr(model, "loss_module", None)):
            check_counts_through(dataset, type(reader).__name__)
            model.repeated_images = repeated_images(dataset)
        if runner.val_loop is not None:
            _check_evaluated(runner.val_loop)

    def before_val(self, runner: Runner) -> None:
        """Checks the validation data."""
        _check_evaluated(runner.val_loop)

    def before_test(self, runner: Runner) -> None:
        """Checks the test data."""
        _check_evaluated(runner.test_loop)


def loss_that_compares_images(loss: nn.Module | None) -> nn.Module | None:
    """Returns the loss, or the part of it, for which the views of one image belong together; ``None`` for none.

    A loss of yours that reads the instances has an attribute ``instance_level``, which is true.

    Example:
        >>> from hierpretrain.models import NTXentLoss
        >>> loss_that_compares_images(NTXentLoss())
        NTXentLoss()
    """
    return next((part for _, part in parts_of_loss(loss) if getattr(part, "instance_level", False)), None)


def _check_evaluated(loop: Any) -> None:
    if getattr(getattr(loop, "evaluator", None), "collects", False):  # a loop of the user's need not have one
        check_counts_through(loop.dataloader.dataset, "the evaluation")
