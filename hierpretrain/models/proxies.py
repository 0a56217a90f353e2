"""Registered losses with learnt proxies of the nodes of a tree, called like the losses of :mod:`.losses`.

They want features of unit length. ``set_taxonomy``, which :class:`hierpretrain.engine.TaxonomyHook` calls, tells them
how the nodes hang together. On several processes value and gradient equal the value and gradient of one process on all
items together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hierpretrain.checks import check_at_least_1
from hierpretrain.functional import cross_scale_losses, proxy_anchor_losses
from hierpretrain.functional.contrastive import weighted_mean
from hierpretrain.functional.joint import check_nodes, node_counts
from hierpretrain.functional.unit_length import unit_length
from hierpretrain.models.classifiers import TreeClassifierLoss
from hierpretrain.models.gather import gather_rows
from hierpretrain.models.loss_levels import LevelNames, LevelsLoss, check_level_sizes, dummy_batch, from_training_data
from hierpretrain.registry import MODELS
from hierpretrain.taxonomy import PAD, Taxonomy, as_labels, as_paths


@MODELS.register_module()
class CSLLoss(TreeClassifierLoss):
    """Cross-Scale Learning: proxies of the finest classes, told apart by a margin of each level (DyML, CVPR 2021).

    See :func:`hierpretrain.functional.cross_scale_loss`; its terms, one for each level, are logged. Items whose path
    ends above the level are left out. Nodes without an image in training push nothing away, as
    :class:`HierarchicalJointLoss` has it; ``TaxonomyHook`` tells which those are, and until it does all nodes count.

    Args:
        num_classes: Number of nodes that may have a proxy. A training fills it in from its data.
        in_channels: Size D of the unit features.
        level: The level whose nodes have proxies: its name; or 1 (coarsest) to L, -1 for the finest, -2 for the one
            above it, and so on. The levels above it have margins. ``None``: the nodes of all levels, of which the class
            of an item is the one where its path ends, so that a ragged tree leaves no labelled item out. In a tree
            whose paths all end at the finest level that is the same as -1.
        margins: One for each level down to ``level``, coarsest first, each at least 0; or two, of the coarsest and of
            the finest of them, with the levels between them evenly spaced.
        scale: How sharp the loss is, above 0.

    Example:
        >>> loss = CSLLoss(num_classes=3, in_channels=3, margins=(0.5, 0.0), scale=1.0)
        >>> loss.set_taxonomy(Taxonomy([("a", "x"), ("a", "y"), ("b", "z")], ("kind", "thing")))
        >>> _ = loss.proxies.requires_grad_(False).copy_(torch.eye(3))
        >>> features, labels = torch.eye(3)[:1], torch.tensor([[0, 0]])
        >>> round(loss(features, labels, torch.arange(1)).item(), 4)  # log(1 + e^-0.5) + log(1 + 2 / e)
        1.0255
    """

    unit_features = True

    def __init__(
        self,
        *,
        num_classes: int | None = None,
        in_channels: int,
        level: int | str | None = -1,
        margins: Sequence[float] = (0.45, 0.25),
        scale: float = 32.0,
    ) -> None:
        super().__init__(num_classes, -1 if level is None else level)
        self.level = level
        self.margins, self.scale = tuple(margins), scale
        cosines, labels = dummy_batch(len(self.margins))
        cross_scale_losses(cosines, labels, labels[:, 0], margins=self.margins, scale=scale)
        self.proxies = nn.Parameter(torch.randn(num_classes, in_channels) / in_channels**0.5)
        self.level_names, self.loss_components = LevelNames(), {}
        self._sizes: list[int] = []
        self._known: Tensor | None = None  # no buffer, which DistributedDataParallel would send at every step

    @classmethod
    def count_classes(cls, taxonomy: Taxonomy, *, level: int | str | None = -1, **options: Any) -> int:
        """Returns the ``num_classes`` that a tree asks for, given the other options of the loss."""
        return sum(taxonomy.level_sizes) if level is None else super().count_classes(taxonomy, level=level)

    def set_taxonomy(self, taxonomy: Taxonomy) -> None:
        """Takes the tree, and checks that it has as many nodes as the loss has classes."""
        self.level_names.set(taxonomy)
        if self.level is not None:
            super().set_taxonomy(taxonomy)
            return
        self._sizes = taxonomy.level_sizes
        nodes = sum(self._sizes)
        self.check_num_classes(nodes, f"the tree, {nodes}")
        self._class_labels = taxonomy.node_labels()

    def set_training_labels(self, labels: Tensor) -> None:
        """Learns which nodes training knows.

        Args:
            labels: (N, L) or (N, P, L) labels of all images of the training.
        """
        (counts,) = node_counts(self.classes(labels)[..., None], [self.num_classes])
        self._known = counts > 0

    def classes(self, labels: Tensor) -> Tensor:
        """Returns the (M, P) classes of items, given their (M, L) or (M, P, L) labels, which it checks."""
        if self.level is not None:
            return super().classes(labels)
        _ = self.class_labels  # raises if the tree is not known
        labels = as_labels(labels)
        check_nodes(labels, self._sizes, len(labels))
        paths = as_paths(labels)
        ends = (paths != PAD).sum(2)  # (M, P): depths of the nodes where paths end
        first = paths.new_tensor([0, *self._sizes]).cumsum(0)[(ends - 1).clamp(min=0)]  # of the class ids of that depth
        nodes = paths.gather(2, (ends - 1).clamp(min=0)[..., None])[..., 0]
        return torch.where(ends > 0, first + nodes, PAD)

    def class_losses(self, features: Tensor, classes: Tensor) -> Tensor:
        """Returns the loss of each item, a sum over the levels, whose means over the items are its components."""
        cosines = features @ unit_length(self.proxies).T
        losses = cross_scale_losses(
            cosines, self.class_labels, classes, margins=self.margins, scale=self.scale, known=self._known
        )
        of_all, _ = gather_rows(losses.detach())
        self.loss_components = self.level_names.of(of_all.sum(0) / max(len(of_all), 1))
        return losses.sum(1)

    item_losses = class_losses  # which takes several classes of an item, too, as none of them pushes it


@MODELS.register_module()
class LevelProxyLoss(LevelsLoss):
    """Proxy Anchor at every level: learnt proxies of all nodes of the tree (Kim et al., CVPR 2020, for one level).

    See :func:`hierpretrain.functional.proxy_anchor_losses`. The loss is a weighted mean over the levels.

    Args:
        num_classes: Number of nodes of each level, coarsest first. A training fills it in from its data.
        in_channels: Size D of the unit features.
        margin: At least 0.
        scale: How sharp the loss is, above 0.
        level_weights: ``'exp'``, ``'pow2'``, ``'linear'``, ``'uniform'``, or one number for each level, coarsest first;
            see :func:`hierpretrain.functional.hierarchical_contrastive_loss`.

    Example:
        >>> loss = LevelProxyLoss(num_classes=[2], in_channels=2, margin=0.0, scale=1.0)
        >>> loss.set_taxonomy(Taxonomy([("a",), ("b",)], ("kind",)))
        >>> _ = loss.proxies[0].requires_grad_(False).copy_(torch.eye(2))
        >>> round(loss(torch.eye(2), torch.tensor([[0], [1]]), torch.arange(2)).item(), 4)  # log(1 + 1 / e) + log 2
        1.0064
    """

    def __init__(
        self,
        *,
        num_classes: Sequence[int] | None = None,
        in_channels: int,
        margin: float = 0.1,
        scale: float = 32.0,
        level_weights: str | Sequence[float] = "uniform",
    ) -> None:
        super().__init__()
        if num_classes is None or isinstance(num_classes, int):
            raise ValueError(
                "num_classes of LevelProxyLoss must be a list, the number of nodes of each level, coarsest first "
                "([taxonomy.num_nodes(level) for level in taxonomy.level_names]), which a training fills in from the "
                f"tree of its data; it is {num_classes}"
            )
        for number in num_classes:
            check_at_least_1(num_classes=number)
        self.margin, self.scale, self.level_weights = margin, scale, level_weights
        self.proxies = nn.ParameterList(torch.randn(number, in_channels) / in_channels**0.5 for number in num_classes)
        self._nodes: list[Tensor] | None = None  # no buffers, which DistributedDataParallel would send at every step
        features, labels = dummy_batch(len(num_classes))
        nodes = [labels[:1, :level] for level in range(1, len(num_classes) + 1)]
        losses = proxy_anchor_losses(features, labels, [features[:1]] * len(nodes), nodes, margin=margin, scale=scale)
        weighted_mean(losses, level_weights)

    @classmethod
    def count_classes(cls, taxonomy: Taxonomy, **options: Any) -> list[int]:
        """Returns the ``num_classes`` of a tree: the number of nodes of each level, coarsest first."""
        return taxonomy.level_sizes

    def set_taxonomy(self, taxonomy: Taxonomy) -> None:
        """Takes the tree, and checks that its levels have as many nodes as the loss has proxies.

        Raises:
            ValueError: If not.
        """
        check_level_sizes([len(proxies) for proxies in self.proxies], taxonomy, "LevelProxyLoss")
        super().set_taxonomy(taxonomy)
        self._nodes = [taxonomy.node_labels(level) for level in range(1, taxonomy.num_levels + 1)]

    def forward(self, features: Tensor, labels: Tensor, instances: Tensor) -> Tensor:
        """Returns the 0-dim loss; its components are the losses of the levels, before their weights.

        The instances play no part.
        """
        known = from_training_data(self._nodes, "LevelProxyLoss needs the tree of the nodes")
        self._nodes = [nodes.to(features.device) for nodes in known]
        losses = proxy_anchor_losses(
            features,
            labels,
            list(self.proxies),
            self._nodes,
            margin=self.margin,
            scale=self.scale,
            gather=gather_rows,
        )
        self.loss_components = self.level_names.of(losses)
        return weighted_mean(losses, self.level_weights)
