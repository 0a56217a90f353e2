"""The hook that hands the tree and the labels of the training data to the model."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from hierpretrain.datasets.joined import check_one_tree
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
    """

    def before_train(self, runner: Runner) -> None:
        """Hands the tree and the labels over."""
        model, dataset = unwrapped(runner.model), runner.train_dataloader.dataset
        check_one_tree(dataset)
        taxonomy, labels = getattr(dataset, "metainfo", {}).get("taxonomy"), getattr(dataset, "labels", None)
        if taxonomy is not None and hasattr(model, "set_taxonomy"):
            model.set_taxonomy(Taxonomy.from_dict(taxonomy))
        if labels is not None and hasattr(model, "set_training_labels"):
            model.set_training_labels(labels)
