"""The registered loss of paper B, over the triplets that LevelTripletSampler draws."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpretrain.checks import check_not_below_0
from hierpretrain.functional.batch import check_one_row_each, check_rows
from hierpretrain.functional.level_triplet import MARGINS, level_triplet_loss
from hierpretrain.models.gather import gather_rows
from hierpretrain.models.loss_levels import LevelsLoss, from_training_data
from hierpretrain.registry import LEVEL_MARGINS, MODELS
from hierpretrain.taxonomy import PAD, Taxonomy, as_paths, check_labels, paired_depth

for _name, _function in MARGINS.items():
    LEVEL_MARGINS.register_module(name=_name, module=_function)


@MODELS.register_module()
class LevelTripletLoss(LevelsLoss):
    """Triplets of a level with a margin that shrinks with depth (paper B, eq. 1 and 2); see :func:`level_triplet_loss`.

    A batch is what :class:`hierpretrain.datasets.LevelTripletSampler` draws: all anchors, then their positives, then
    their negatives, in one view. A triplet's level follows from its labels: it is one below the depth of the lowest
    common ancestor of anchor and negative. Gradients averaged over processes equal the gradients of one process on all
    triplets.

    With ``on_error='skip'``, a data set gives another image in place of one that cannot be read. A triplet with such a
    stand-in is left out, since its images are no longer those that belong together, and the mean is over the others.

    Args:
        min_margin: alpha_min, in units of squared distance, at least 0.
        max_level: h_max. A number: the same for all triplets. ``None``: the number of levels of the training data's
            tree. ``'branch'``: the depth of the deepest node at or below the anchor's node of the triplet's level, so
            that the margin of a leaf is alpha_min wherever its branch ends; of an anchor with several such nodes, the
            deepest branch counts.
        margin: A name in the registry ``LEVEL_MARGINS``: ``'quadratic'`` as in the paper, ``'linear'``,
            ``'exponential'``, ``'tree_distance'``, ``'constant'``, or one that you registered.

    Raises:
        ValueError: If an option is unknown, a batch is not made of such triplets, every triplet of it has a stand-in,
            or the tree is not known, which ``max_level=None`` and ``'branch'`` need; ``TaxonomyHook`` brings it.

    Example:
        >>> tree = Taxonomy([("cat", "tabby"), ("cat", "siamese"), ("dog",)], ("kind", "breed"))
        >>> labels = tree.encode([("cat", "tabby"), ("cat", "siamese"), ("dog",)])  # a triplet of level 1
        >>> loss = LevelTripletLoss(min_margin=0.5)
        >>> loss.set_taxonomy(tree)
        >>> loss(torch.tensor([[0.0], [1.0], [2.0]]), labels, torch.arange(3)).item()  # max(0, 1 - 4 + 1 + 0.5)
        0.0
        >>> loss(torch.tensor([[0.0], [1.0], [1.0]]), labels, torch.arange(3)).item()  # 1 - 1 + 1 + 0.5
        1.5
        >>> triplets = torch.tensor([[0.0], [5.0], [1.0], [5.0], [1.0], [5.0]]), labels.repeat_interleave(2, 0)
        >>> stand_ins = torch.tensor([False, False, False, False, False, True])  # the negative of the second triplet
        >>> loss(*triplets, torch.arange(6), stand_ins=stand_ins).item()
        1.5
    """

    takes_stand_ins = True

    def __init__(
        self, *, min_margin: float = 1.0, max_level: int | str | None = None, margin: str = "quadratic"
    ) -> None:
        super().__init__()
        if max_level not in (None, "branch") and (type(max_level) is not int or max_level < 1):
            raise ValueError(f"max_level must be a whole number from 1, None or 'branch'; it is {max_level!r}")
        check_not_below_0(min_margin=min_margin)
        function = LEVEL_MARGINS.get(margin) if isinstance(margin, str) else None
        if function is None:
            raise ValueError(
                f"margin must be one of {', '.join(map(repr, LEVEL_MARGINS.module_dict))}, not {margin!r}; register "
                "your own in hierpretrain.registry.LEVEL_MARGINS"
            )
        self.min_margin, self.max_level, self.margin = min_margin, max_level, function
        self._depths_below: list[Tensor] | None = None  # of each level's nodes

    def set_taxonomy(self, taxonomy: Taxonomy) -> None:
        """Takes the tree of the training data."""
        super().set_taxonomy(taxonomy)
        self._depths_below = [taxonomy.heights(level) + level for level in range(1, taxonomy.num_levels + 1)]

    def forward(
        self, features: Tensor, labels: Tensor, instances: Tensor, *, stand_ins: Tensor | None = None
    ) -> Tensor:
        """Returns the 0-dim loss; its components are the means over the triplets of each level that has any.

        Args:
            features: (3 B, D) features: anchors, positives and negatives.
            labels: (3 B, L) labels, or (3 B, P, L) of several paths.
            instances: (3 B,) numbers of the images, which play no part.
            stand_ins: (3 B,) bool, whether an image stands in for one that could not be read. ``None``: no image does.
        """
        features = check_rows(features)
        labels = check_labels(labels, several_paths=True).to(features.device)
        check_one_row_each(features, labels)
        costs, levels = self._costs(features, labels, stand_ins)
        sums = costs.new_zeros(labels.shape[-1]).index_add(0, levels - 1, costs.detach())
        counts = levels.bincount(minlength=len(sums) + 1)[1:]
        means = self.level_names.of(sums / counts)
        self.loss_components = {name: mean for name, mean in means.items() if not mean.isnan()}
        of_processes, _ = gather_rows(counts.sum().reshape(1), 1)  # which have left out some
        total = int(of_processes.sum())
        if len(features) and not total:
            raise ValueError(
                "every triplet of the batch has an image in place of one that cannot be read (on_error='skip'), and "
                "none is left. Repair the files that skipped.json lists, take them out of the data, or take larger "
                "batches"
            )
        return costs.sum() / (max(total, 1) / len(of_processes))

    def _costs(self, features: Tensor, labels: Tensor, stand_ins: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns the costs and the levels of the triplets without a stand-in."""
        if len(features) % 3:
            raise ValueError(
                "a batch of triplets is anchors, positives and negatives, as many of each; it has "
                f"{len(features)} items. "
                "Set train_dataloader.batch_sampler to LevelTripletSampler or LeafTripletSampler"
            )
        anchor, positive, negative = features.chunk(3) if len(features) else (features,) * 3
        a, p, n = labels.chunk(3) if len(labels) else (labels,) * 3
        level = paired_depth(a, n) + 1
        kept = torch.ones_like(level, dtype=torch.bool)
        if stand_ins is not None:
            kept = ~stand_ins.to(level.device).reshape(3, -1).any(0)
        if (wrong := kept & (paired_depth(a, p) < level)).any():
            raise ValueError(
                f"triplet {int(wrong.nonzero()[0])} of the batch has a positive that shares no more of the tree with "
                "its anchor than its negative does. Set train_dataloader.batch_sampler to LevelTripletSampler or "
                "LeafTripletSampler, with one view an image"
            )
        if stand_ins is not None:
            anchor, positive, negative = anchor[kept], positive[kept], negative[kept]
            a, p, level = a[kept], p[kept], level[kept]
        costs = level_triplet_loss(
            anchor,
            positive,
            negative,
            level=level,
            max_level=self._max_levels(a, p, level),
            min_margin=self.min_margin,
            margin=self.margin,
            reduction="none",
        )
        return costs, level

    def _max_levels(self, anchor: Tensor, positive: Tensor, level: Tensor) -> int | Tensor:
        """Returns h_max of the triplets, from the labels of their anchors and positives and their (B,) levels."""
        if isinstance(self.max_level, int):
            return self.max_level
        needs = f"max_level={self.max_level!r} needs the tree of the training data"
        depths_below = from_training_data(self._depths_below, needs, "or give a number")
        if self.max_level is None:
            return len(depths_below)
        anchor, positive = as_paths(anchor), as_paths(positive)  # (B, P, L)
        deepest = torch.zeros_like(level)
        for number, depths in enumerate(depths_below, start=1):
            node, other = anchor[..., number - 1], positive[..., number - 1]
            both = ((node[:, :, None] == other[:, None]) & (node != PAD)[:, :, None]).any(2)  # (B, P)
            found = torch.where(both, depths.to(node.device)[node.clamp(min=0)], 0).amax(1)
            deepest = torch.where(level == number, found, deepest)
        return deepest
