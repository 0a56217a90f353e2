"""The hook that hands the tree and the labels of the training data to the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from torch import nn

from hierpretrain.datasets.joined import check_one_tree, labels_of, tree_of
from hierpretrain.models.checkpoints import first_of
from hierpretrain.models.gather import unwrapped
from hierpretrain.registry import HOOKS
from hierpretrain.taxonomy import Taxonomy


@HOOKS.register_module()
class TaxonomyHook(Hook):
    """Calls ``model.set_taxonomy`` with the tree of the training data before training starts.

    A loss over the classes of a level needs the tree to know how classes are related, and checks that there are as many
    as it was built for. Then ``model.set_training_labels`` gets the labels of all training images, from which a loss
    learns how many images each class has. With data without a tree or labels, or a model without the method, the hook
    does nothing.

    A training that starts from a checkpoint of another tree would take a class's weights for another class's, even
    where shapes are equal. It is an error; with ``load_from_partly=True`` the loss's weights start anew instead.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Refuses, or leaves out, weights of another tree's classes where a training starts or goes on.

        Raises:
            ValueError: If the checkpoint has some, unless ``load_from_partly`` starts without them.
        """
        if not isinstance(runner._train_loop, BaseLoop):  # a test looks at no class's weights
            return
        model, dataset = unwrapped(runner.model), runner.train_dataloader.dataset
        if runner._resume or not runner.cfg.get("load_from_partly"):
            check_same_tree(checkpoint, model, dataset, runner._load_from)
        elif names := weights_of_another_tree(checkpoint, model, dataset):
            for name in names:
                del checkpoint["state_dict"][name]
            runner.logger.warning(f"load_from_partly: weights of another tree's classes start anew: {first_of(names)}")

    def before_train(self, runner: Runner) -> None:
        """Hands the tree and the labels over."""
        model, dataset = unwrapped(runner.model), runner.train_dataloader.dataset
        check_one_tree(dataset)
        taxonomy, labels = tree_of(dataset), labels_of(dataset)
        if taxonomy is not None and hasattr(model, "set_taxonomy"):
            model.set_taxonomy(Taxonomy.from_dict(taxonomy))
        if labels is not None and hasattr(model, "set_training_labels"):
            model.set_training_labels(labels)


def check_same_tree(checkpoint: Mapping[str, Any], model: nn.Module, dataset: Any, file: str) -> None:
    """Raises a ValueError if a checkpoint has weights of another tree's classes.

    Args:
        checkpoint: What the file holds.
        model: The model that takes its weights, not wrapped.
        dataset: The training data.
        file: Its name, for the message.
    """
    if names := weights_of_another_tree(checkpoint, model, dataset):
        raise ValueError(
            f"{file} was trained with another label tree than that of the data: its weights would be taken for other "
            f"classes ({first_of(names, 3)}). Give the data that it was trained on, or start a training from it by "
            "load_from and load_from_partly=True, where these weights start anew"
        )


def weights_of_another_tree(checkpoint: Mapping[str, Any], model: nn.Module, dataset: Any) -> list[str]:
    """Returns the names of a checkpoint's weights that belong to the classes of another tree.

    These are the parameters of the loss of which one dimension counts the nodes of a level, or of all levels, if the
    checkpoint says that its training had another tree.

    Args:
        checkpoint: What the file holds: ``meta`` and ``state_dict``.
        model: The model that takes its weights, not wrapped.
        dataset: The training data.
    """
    now, about = tree_of(dataset), checkpoint.get("meta")
    for key in ("dataset_meta", "taxonomy"):
        about = about.get(key) if isinstance(about, Mapping) else None
    if not now or not isinstance(about, Mapping) or all(about.get(key) == now[key] for key in ("names", "parents")):
        return []
    numbers = [len(names) for names in now["names"]]
    numbers.append(sum(numbers))
    loss = getattr(model, "loss_module", None) or nn.Module()
    own = {f"loss_module.{name}" for name, one in loss.named_parameters() if not set(one.shape).isdisjoint(numbers)}
    return [name for name in checkpoint["state_dict"] if name in own]
