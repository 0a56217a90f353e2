"""Registered losses with a class per node of one level, called like the losses of :mod:`.losses`.

Each has weights of its own for every node of the level. ``set_taxonomy``, which
:class:`hierpretrain.engine.TaxonomyHook` calls, tells it how the nodes hang together. The class of an item is its
node's id in the tree; an item of several paths has several classes, and the mean of their losses; an item whose paths
end above the level is left out. On several processes value and gradient equal the value and gradient of one process on
all items together.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hierpretrain.checks import (
    check_at_least_1,
    check_finite,
    check_flag,
    check_fraction,
    check_from_0,
    check_not_below_0,
    check_number,
    check_whole,
)
from hierpretrain.functional import (
    class_distances,
    distortion_loss,
    hierarchical_cross_entropy,
    pairwise_distances,
    soft_label_loss,
    soft_labels,
)
from hierpretrain.functional.batch import check_one_row_each, check_rows
from hierpretrain.functional.joint import node_weights
from hierpretrain.models.gather import gather_rows
from hierpretrain.models.loss_levels import OneLevelLoss, from_training_data
from hierpretrain.registry import MODELS
from hierpretrain.taxonomy import PAD, Taxonomy, as_labels, shared_depth


class ClassifierLoss(OneLevelLoss):
    """Base of the losses over the classes of one level: takes the mean over the items that have a class.

    Args:
        num_classes: Number of nodes of the level.
        level: The level whose nodes are the classes: its name; or 1 (coarsest) to L, -1 for the finest, -2 for the one
            above it, and so on.

    Raises:
        ValueError: If ``num_classes`` is missing or below 1.
    """

    unit_features = False
    """Whether the features shall have unit length; a classifier takes them as they are."""

    def __init__(self, num_classes: int | None, level: int | str) -> None:
        super().__init__(level)
        if num_classes is None:
            raise ValueError(
                f"{type(self).__name__} needs num_classes, the number of nodes of its level: "
                f"taxonomy.num_nodes({level!r}). A training fills it in from the tree of its data"
            )
        check_at_least_1(num_classes=num_classes)
        self.num_classes = num_classes

    @classmethod
    def count_classes(cls, taxonomy: Taxonomy, *, level: int | str = -1, **options: Any) -> int:
        """Returns the ``num_classes`` that a tree asks for, given the other options of the loss."""
        return taxonomy.num_nodes(level)

    def set_taxonomy(self, taxonomy: Taxonomy) -> None:
        """Takes the tree, and checks that the level has as many nodes as the loss has classes.

        Raises:
            ValueError: If not, or if there is no such level.
        """
        super().set_taxonomy(taxonomy)
        name = taxonomy.level_names[taxonomy.level(self.level) - 1]
        nodes = taxonomy.num_nodes(self.level)
        self.check_num_classes(nodes, f"its level, {nodes} of {name!r}")

    def check_num_classes(self, nodes: int, where: str) -> None:
        """Raises unless the loss has a class for each of so many nodes; ``where`` says of what they are."""
        if nodes != self.num_classes:
            raise ValueError(
                f"num_classes of {type(self).__name__} must be the number of nodes of {where}; "
                f"it is {self.num_classes}. Give it num_classes={nodes}, or none"
            )

    @abstractmethod
    def class_losses(self, features: Tensor, classes: Tensor) -> Tensor:
        """Returns the (n,) losses of items with (n, D) features and (n,) classes."""

    def item_losses(self, features: Tensor, classes: Tensor) -> Tensor:
        """Returns the (n,) losses of items with (n, D) features and (n, P) classes, ``PAD`` for none."""
        weights = node_weights(classes, dtype=features.dtype)
        items, paths = weights.nonzero(as_tuple=True)
        of_classes = self.class_losses(features[items], classes[items, paths])
        return (weights * torch.zeros_like(weights).masked_scatter(weights > 0, of_classes)).sum(1)

    def classes(self, labels: Tensor) -> Tensor:
        """Returns the (M, P) classes of items, given their (M, L) or (M, P, L) labels, which it checks."""
        column = self.columns(labels, several_paths=True)[..., -1]
        return column if column.ndim == 2 else column[:, None]

    def forward(self, features: Tensor, labels: Tensor, instances: Tensor) -> Tensor:
        """Returns the 0-dim loss; it does not look at the instances."""
        features = check_rows(features)
        labels = as_labels(labels).to(features.device)
        check_one_row_each(features, labels)
        everyone, first = gather_rows(labels)
        all_classes = self.classes(everyone)  # all processes raise, so that none waits for another
        if all_classes.numel() and (largest := int(all_classes.max())) >= self.num_classes:
            raise ValueError(
                f"{type(self).__name__} has {self.num_classes} classes, but the batch has node {largest} of level "
                f"{self.level}; give it num_classes, the number of nodes of that level"
            )
        classes = all_classes[first : first + len(labels)]
        known = (classes != PAD).any(1)
        with torch.autocast(features.device.type, enabled=False):
            features = features[known].to(next(self.parameters()).dtype)
            losses = self.item_losses(features, classes[known])
            losses = losses.masked_fill(~features.isfinite().all(1), torch.nan)  # a distance may be cut off at 0
            losses, _ = gather_rows(losses)
            check_finite(losses[:, None], "the loss of every item")  # on all processes, so that none waits for another
            return losses.sum() / max(len(losses), 1)


@MODELS.register_module()
class LevelCrossEntropyLoss(ClassifierLoss):
    """Cross entropy of a linear classifier over the nodes of one level.

    Args:
        num_classes: Number of nodes of the level. A training fills it in from its data.
        in_channels: Size D of the features.
        level: The level whose nodes are the classes: its name; or 1 (coarsest) to L, -1 for the finest, -2 for the one
            above it, and so on.
        label_smoothing: Fraction of the target that is spread evenly over all classes, 0 to 1.

    Example:
        >>> loss = LevelCrossEntropyLoss(num_classes=4, in_channels=2)
        >>> _ = loss.classifier.requires_grad_(False).weight.zero_(), loss.classifier.bias.zero_()
        >>> round(loss(torch.eye(2), torch.tensor([[0, 3], [0, 1]]), torch.arange(2)).item(), 4)  # log 4
        1.3863
    """

    def __init__(
        self, *, num_classes: int | None = None, in_channels: int, level: int | str = -1, label_smoothing: float = 0.0
    ) -> None:
        super().__init__(num_classes, level)
        check_fraction(label_smoothing=label_smoothing)
        self.label_smoothing = label_smoothing
        self.classifier = nn.Linear(in_channels, num_classes)

    def class_losses(self, features: Tensor, classes: Tensor) -> Tensor:
        """Returns the cross entropy of each item."""
        logits = self.classifier(features)
        return cross_entropy(logits, classes, reduction="none", label_smoothing=self.label_smoothing)


class TreeClassifierLoss(ClassifierLoss):
    """Base of the losses that need the tree itself: keeps the labels of the classes.

    Args:
        num_classes: Number of nodes of the level.
        level: The level whose nodes are the classes: its name; or 1 (coarsest) to L, -1 for the finest, -2 for the one
            above it, and so on.
    """

    def __init__(self, num_classes: int | None, level: int | str) -> None:
        super().__init__(num_classes, level)
        # no buffer, which DistributedDataParallel would send at every step, and EMA would miss in its earlier copy
        self._class_labels: Tensor | None = None

    def set_taxonomy(self, taxonomy: Taxonomy) -> None:
        """Takes the tree, and checks that the level has as many nodes as the loss has classes."""
        super().set_taxonomy(taxonomy)
        self._class_labels = taxonomy.node_labels(self.level)

    @property
    def class_labels(self) -> Tensor:
        """The (num_classes, l) labels of the classes.

        Raises:
            ValueError: If the tree is not known yet.
        """
        known = from_training_data(self._class_labels, f"{type(self).__name__} needs the tree of the classes")
        self._class_labels = known.to(next(self.parameters()).device)
        return self._class_labels

    def heights(self, classes: Tensor, others: Tensor) -> Tensor:
        """Returns the (n, m) heights of the lowest common ancestors of two classes, in levels above them.

        Args:
            classes: (n,) classes.
            others: (m,) classes.
        """
        labels = self.class_labels
        return labels.shape[1] - shared_depth(labels[classes], labels[others])


@MODELS.register_module()
class HXELoss(TreeClassifierLoss):
    """Hierarchical cross entropy of a linear classifier (Bertinetto et al., CVPR 2020).

    See :func:`hierpretrain.functional.hierarchical_cross_entropy`.

    Args:
        num_classes: Number of nodes of the level. A training fills it in from its data.
        in_channels: Size D of the features.
        level: The level whose nodes are the classes: its name; or 1 (coarsest) to L, -1 for the finest, -2 for the one
            above it, and so on.
        alpha: How much less each finer level counts, finite; 0 is cross entropy.

    Example:
        >>> loss = HXELoss(num_classes=3, in_channels=2)
        >>> loss.set_taxonomy(Taxonomy([("a", "x"), ("a", "y"), ("b", "z")], ("kind", "thing")))
        >>> _ = loss.classifier.requires_grad_(False).weight.zero_(), loss.classifier.bias.zero_()
        >>> round(loss(torch.eye(2), torch.tensor([[0, 0], [0, 1]]), torch.arange(2)).item(), 4)
        1.0842
    """

    def __init__(
        self, *, num_classes: int | None = None, in_channels: int, level: int | str = -1, alpha: float = 0.1
    ) -> None:
        super().__init__(num_classes, level)
        check_number(alpha=alpha)
        self.alpha = alpha
        self.classifier = nn.Linear(in_channels, num_classes)

    def class_losses(self, features: Tensor, classes: Tensor) -> Tensor:
        """Returns the loss of each item."""
        return hierarchical_cross_entropy(self.classifier(features), self.class_labels, classes, alpha=self.alpha)


@MODELS.register_module()
class SoftLabelLoss(TreeClassifierLoss):
    """Cross entropy of a linear classifier against soft labels; see :func:`hierpretrain.functional.soft_labels`.

    The distance of two classes is the height of their lowest common ancestor, divided by the number of levels.

    Args:
        num_classes: Number of nodes of the level. A training fills it in from its data.
        in_channels: Size D of the features.
        level: The level whose nodes are the classes: its name; or 1 (coarsest) to L, -1 for the finest, -2 for the one
            above it, and so on.
        beta: How sharp the labels are, at least 0, which is uniform.

    Example:
        >>> loss = SoftLabelLoss(num_classes=3, in_channels=2)
        >>> loss.set_taxonomy(Taxonomy([("a", "x"), ("a", "y"), ("b", "z")], ("kind", "thing")))
        >>> _ = loss.classifier.requires_grad_(False).weight.zero_(), loss.classifier.bias.zero_()
        >>> round(loss(torch.eye(2), torch.tensor([[0, 0], [0, 1]]), torch.arange(2)).item(), 4)  # log 3
        1.0986
    """

    def __init__(
        self, *, num_classes: int | None = None, in_channels: int, level: int | str = -1, beta: float = 10.0
    ) -> None:
        super().__init__(num_classes, level)
        check_not_below_0(beta=beta)
        self.beta = beta
        self.classifier = nn.Linear(in_channels, num_classes)

    def class_losses(self, features: Tensor, classes: Tensor) -> Tensor:
        """Returns the loss of each item."""
        heights = self.heights(classes, torch.arange(self.num_classes, device=classes.device)).to(features.dtype)
        targets = soft_labels(heights, beta=self.beta, max_distance=self.class_labels.shape[1])
        return soft_label_loss(self.classifier(features), targets)


@MODELS.register_module()
class GuidedLoss(TreeClassifierLoss):
    """Metric-guided prototypes (Garnot and Landrieu, BMVC 2021): distances to learnt prototypes that keep the tree.

    The loss is cross entropy over logits that are minus the distances of an item to the prototypes of all classes, plus
    ``weight`` times the distortion of the distances between prototypes; see
    :func:`hierpretrain.functional.distortion_loss`. The distance of two classes in the tree is the height of their
    lowest common ancestor, which is half the length of the path between them.

    Args:
        num_classes: Number of nodes of the level. A training fills it in from its data.
        in_channels: Size D of the features.
        level: The level whose nodes are the classes: its name; or 1 (coarsest) to L, -1 for the finest, -2 for the one
            above it, and so on.
        weight: Weight of the distortion, at least 0.
        scale_free: Whether the distortion leaves the scale of the prototypes free.
        squared: Whether the logits are minus the squares of the distances.
        max_classes: Number of classes, drawn anew at each step, whose distortion is taken. ``None``: all classes. The
            time of a step grows with the square of this number, and its memory by two bytes for each pair: about
            300 MB for 10,000 classes.
        seed: Seed of the draw. The draw depends on nothing but the seed and the number of steps trained, which
            checkpoints carry.

    Example:
        >>> loss = GuidedLoss(num_classes=2, in_channels=2, scale_free=False)
        >>> loss.set_taxonomy(Taxonomy([("a",), ("b",)], ("kind",)))
        >>> _ = loss.prototypes.requires_grad_(False).copy_(torch.tensor([[0.0, 0.0], [0.0, 2.0]]))
        >>> features, labels = torch.tensor([[1.0, 1.0]]), torch.tensor([[1]])
        >>> round(loss(features, labels, torch.tensor([0])).item(), 4)  # log 2 + (2 / 1 - 1)^2
        1.6931
    """

    def __init__(
        self,
        *,
        num_classes: int | None = None,
        in_channels: int,
        level: int | str = -1,
        weight: float = 1.0,
        scale_free: bool = True,
        squared: bool = False,
        max_classes: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(num_classes, level)
        check_not_below_0(weight=weight)
        check_flag(scale_free=scale_free, squared=squared)
        check_from_0(seed=seed)
        if max_classes is not None:
            check_whole(max_classes=max_classes)
            if max_classes < 2:
                raise ValueError(f"max_classes must be at least 2, or None for all classes; it is {max_classes}")
        self.weight, self.scale_free, self.squared = weight, scale_free, squared
        self.max_classes, self.seed = max_classes, seed
        self.prototypes = nn.Parameter(torch.randn(num_classes, in_channels) / in_channels**0.5)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        # no buffer, which DistributedDataParallel would send to all processes at every step
        self._all_heights: Tensor | None = None

    def set_taxonomy(self, taxonomy: Taxonomy) -> None:
        """Takes the tree, and checks that the level has as many nodes as the loss has classes."""
        super().set_taxonomy(taxonomy)
        if self.max_classes is None:
            self._all_heights = class_distances(taxonomy, self.level)

    def class_losses(self, features: Tensor, classes: Tensor) -> Tensor:
        """Returns the cross entropy of each item."""
        distances = pairwise_distances(features, self.prototypes, squared=self.squared)
        return cross_entropy(-distances, classes, reduction="none")

    def forward(self, features: Tensor, labels: Tensor, instances: Tensor) -> Tensor:
        """Returns the 0-dim loss; its components are the cross entropy, and the distortion before its weight."""
        with torch.autocast(self.prototypes.device.type, enabled=False):
            prototypes, heights = self._prototypes_to_compare()
            distortion = distortion_loss(prototypes, heights, scale_free=self.scale_free)
        entropy = super().forward(features, labels, instances)
        self.loss_components = {"cross_entropy": entropy.detach(), "distortion": distortion.detach()}
        return entropy + self.weight * distortion

    def _prototypes_to_compare(self) -> tuple[Tensor, Tensor]:
        """Returns (K, D) prototypes and the (K, K) distances of their classes in the tree."""
        if self.max_classes is None:
            _ = self.class_labels  # raises if the tree is not known
            self._all_heights = self._all_heights.to(self.prototypes.device)
            return self.prototypes, self._all_heights
        rng = np.random.default_rng((self.seed, int(self.steps)))
        chosen = rng.choice(self.num_classes, min(self.max_classes, self.num_classes), replace=False)
        chosen = torch.from_numpy(chosen).to(self.prototypes.device)
        if self.training:
            self.steps += 1
        return self.prototypes[chosen], self.heights(chosen, chosen)
