"""Registered losses of others over the pairs and triplets of a batch, called like the losses of :mod:`.losses`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hierpretrain.checks import check_above_0, check_flag, check_fraction
from hierpretrain.functional import happier_loss, rince_level_losses, triplet_loss
from hierpretrain.functional.rince import Variant
from hierpretrain.functional.triplet import Distance, Mining
from hierpretrain.functional.unit_length import unit_length
from hierpretrain.models.classifiers import ClassifierLoss
from hierpretrain.models.gather import gather_rows
from hierpretrain.models.loss_levels import LevelsLoss, OneLevelLoss, dummy_batch
from hierpretrain.registry import MODELS


@MODELS.register_module()
class TripletLoss(OneLevelLoss):
    """Triplet loss over the nodes of one level (Hermans et al., 2017), with the triplets of the batch.

    See :func:`hierpretrain.functional.triplet_loss`.

    Args:
        level: The level whose nodes are the classes: its name; or 1 (coarsest) to L, -1 for the finest, -2 for the one
            above it, and so on. Items whose path ends above the level are left out.
        margin: By how much a negative shall be further away than a positive, in the unit of the distance, at least 0;
            or ``'soft'``, a smooth form without a margin, for ``mining='hard'``.
        mining: ``'hard'``: the hardest triplet of each anchor; ``'all'``: all triplets that are violated.
        distance: ``'squared'`` Euclidean distance, or ``'euclidean'``.

    Example:
        >>> loss = TripletLoss(level=1, margin=0.5)
        >>> features, labels = torch.eye(2).repeat(2, 1), torch.tensor([[0, 0], [1, 1]]).repeat(2, 1)
        >>> loss(features, labels, torch.arange(2).repeat(2)).item()  # positives at 0, negatives at 2
        0.0
    """

    def __init__(
        self,
        *,
        level: int | str = -1,
        margin: float | Literal["soft"] = 0.2,
        mining: Mining = "hard",
        distance: Distance = "squared",
    ) -> None:
        super().__init__(level)
        self.margin, self.mining, self.distance = margin, mining, distance
        triplet_loss(*dummy_batch(), margin=margin, mining=mining, distance=distance)

    def forward(self, features: Tensor, labels: Tensor, instances: Tensor) -> Tensor:
        """Returns the 0-dim loss; it does not look at the instances."""
        return triplet_loss(
            features,
            self.nodes(labels),
            margin=self.margin,
            mining=self.mining,
            distance=self.distance,
            gather=gather_rows,
        )


@MODELS.register_module()
class HAPPIERLoss(ClassifierLoss):
    """HAPPIER: smooth hierarchical average precision, and a term that clusters the finest classes (ECCV 2022).

    The loss is ``(1 - lam) (1 - H-AP) + lam CE``. The logits of the cross entropy are the cosines of an item with the
    learnt proxies of the classes, divided by ``proxy_temperature``. H-AP and its smooth rank U:
    :func:`hierpretrain.functional.happier_loss`.

    Args:
        num_classes: Number of nodes of ``level``. A training fills it in from its data.
        in_channels: Size D of the unit features.
        level: The level whose nodes the cross entropy clusters: its name; or 1 (coarsest) to L, -1 for the finest, -2
            for the one above it, and so on.
        lam: Weight of the cross entropy, 0 to 1.
        proxy_temperature: Temperature of the cross entropy, above 0.
        alpha: How much more the finer levels count in H-AP, at least 0.
        temperature: Temperature of the sigmoid of U, above 0.
        slope: Slope of U beyond ``delta``, at least 0.
        delta: Difference of similarities beyond which U grows linearly, at least 0.
        start: What U adds to the sigmoid for an item that is wrongly in front, at least 0.
        offset: Value of U right behind ``delta``, at least 0.

    Example:
        >>> loss = HAPPIERLoss(num_classes=2, in_channels=2, lam=0.0)
        >>> features, labels = torch.eye(2).repeat(2, 1), torch.tensor([[0, 0], [1, 1]]).repeat(2, 1)
        >>> loss(features, labels, torch.arange(2).repeat(2)).item()  # each item's other view is its nearest
        0.0
    """

    unit_features = True

    def __init__(
        self,
        *,
        num_classes: int | None = None,
        in_channels: int,
        level: int | str = -1,
        lam: float = 0.1,
        proxy_temperature: float = 0.05,
        alpha: float = 1.0,
        temperature: float = 0.01,
        slope: float = 100.0,
        delta: float = 0.05,
        start: float = 0.5,
        offset: float = 1.44,
    ) -> None:
        super().__init__(num_classes, level)
        check_fraction(lam=lam)
        check_above_0(proxy_temperature=proxy_temperature)
        self.lam, self.proxy_temperature = lam, proxy_temperature
        self.options = dict(alpha=alpha, temperature=temperature, slope=slope, delta=delta, start=start, offset=offset)
        happier_loss(*dummy_batch(1), **self.options)
        self.proxies = nn.Parameter(torch.randn(num_classes, in_channels) / in_channels**0.5)

    def class_losses(self, features: Tensor, classes: Tensor) -> Tensor:
        """Returns the cross entropy of each item."""
        cosines = features @ unit_length(self.proxies).T
        return cross_entropy(cosines / self.proxy_temperature, classes, reduction="none")

    def forward(self, features: Tensor, labels: Tensor, instances: Tensor) -> Tensor:
        """Returns the 0-dim loss; its components are the ranking loss and the cross entropy, before their weights."""
        ranking = happier_loss(features, labels, gather=gather_rows, **self.options)
        entropy = super().forward(features, labels, instances)
        self.loss_components = {"ranking": ranking.detach(), "cross_entropy": entropy.detach()}
        return (1 - self.lam) * ranking + self.lam * entropy


@MODELS.register_module()
class RINCELoss(LevelsLoss):
    """RINCE: contrastive learning that ranks positives by the levels they share with the anchor (AAAI 2022).

    See :func:`hierpretrain.functional.rince_level_losses`; the loss is the sum over the levels.

    Args:
        temperatures: One for each level, coarsest first, each above 0; or two, of the coarsest and of the finest level,
            with the levels between them evenly spaced.
        variant: ``'out'``: each positive is compared with the negatives by itself; ``'in'``: all of a level together;
            ``'out-in'``: the first at the finest level, the second at all others.
        instance_level: Whether the views of one image are a last level of the tree, and so the nearest rank.

    Example:
        >>> loss = RINCELoss(temperatures=[1.0, 1.0])
        >>> features, labels = torch.eye(2).repeat(2, 1), torch.tensor([[0, 0], [0, 1]]).repeat(2, 1)
        >>> round(loss(features, labels, torch.arange(2).repeat(2)).item(), 4)  # log(1 + 2 / e); no rank 0, no loss
        0.5514
    """

    def __init__(
        self,
        *,
        temperatures: Sequence[float] = (0.225, 0.1),
        variant: Variant = "out-in",
        instance_level: bool = False,
    ) -> None:
        super().__init__()
        check_flag(instance_level=instance_level)
        self.instance_level = instance_level
        self.options: dict[str, Any] = dict(temperatures=tuple(temperatures), variant=variant)
        rince_level_losses(*dummy_batch(len(temperatures)), **self.options)

    def forward(self, features: Tensor, labels: Tensor, instances: Tensor) -> Tensor:
        """Returns the 0-dim loss; its components are the losses of the levels, which add up to it."""
        instances = instances if self.instance_level else None
        losses = rince_level_losses(features, labels, gather=gather_rows, instances=instances, **self.options)
        self.loss_components = self.level_names.of(losses)
        return losses.sum()
