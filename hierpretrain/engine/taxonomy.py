"""The hook that hands the tree of the training data to the model."""

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
    as it was built for. With data without a tree, or a model without the method, the hook does nothing.
    """

    def before_train(self, runner: Runner) -> None:
        """Hands the tree over."""
        model = unwrapped(runner.model)
        check_one_tree(runner.train_dataloader.dataset)
        taxonomy = getattr(runner.train_dataloader.dataset, "metainfo", {}).get("taxonomy")
        if taxonomy is not None and hasattr(model, "set_taxonomy"):
            model.set_taxonomy(Taxonomy.from_dict(taxonomy))
