"""The registered joint loss: contrast over the tree, and classification at each of its levels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from hierpretrain.checks import check_above_0, check_at_least_1, check_fraction, check_not_below_0, check_one_of
from hierpretrain.functional.batch import check_rows
from hierpretrain.functional.contrastive import weighted_mean
from hierpretrain.functional.joint import level_cross_entropies, node_counts
from hierpretrain.functional.unit_length import unit_length
from hierpretrain.models.gather import gather_rows
from hierpretrain.models.loss_levels import LevelsLoss, check_level_sizes, from_training_data, tell_parts
from hierpretrain.models.width import projected_width, with_width
from hierpretrain.registry import MODELS
from hierpretrain.taxonomy import Taxonomy


@MODELS.register_module()
class HierarchicalJointLoss(LevelsLoss):
    """A contrastive loss over the tree, plus a mean of the cross entropies of classifiers of all its levels.

    ``loss = contrastive + weight * sum_l w_l CE_l / sum_l w_l``; see
    :func:`hierpretrain.functional.level_cross_entropies`. The classifiers take the encoder's output as it is, the
    contrastive part its rows of unit length. Nodes without an image in training are in no softmax, so that unseen
    classes are not pushed away; ``TaxonomyHook`` tells which those are, and until it does all nodes count.

    Args:
        num_classes: The number of nodes of each level, coarsest first. A training fills it in from its data.
        in_channels: Size D of the features.
        contrastive: Config of the contrastive part, any registered loss; a training fills in its ``num_classes`` and
            ``in_channels``, too. ``None``: the classifiers alone.
        weight: Weight of the cross entropies, at least 0.
        level_weights: ``w``: ``'linear'``, which favours the finest level, ``'uniform'``, ``'exp'``, ``'pow2'``, or one
            number per level, coarsest first, not all 0.
        heads: ``'linear'``: linear classifiers; ``'cosine'``: the cosines of features and learnt prototypes, divided by
            ``head_temperature``.
        head_temperature: Temperature of the cosine heads, above 0.
        label_smoothing: Fraction of the targets that is spread evenly over the nodes that training knows, 0 to 1.
        balance: Strength of the logit adjustment that keeps rare nodes from being neglected, at least 0; 0 is none.
        projection: Config of a projection that only the contrastive part goes through, as :class:`ProjectionHead`;
            its ``in_channels`` may be left out. ``None``: no projection.

    Raises:
        ValueError: If an option is out of range, ``num_classes`` or ``in_channels`` is missing, or a projection has no
            contrastive part to go to.

    Example:
        >>> loss = HierarchicalJointLoss(num_classes=[1, 2], in_channels=2, weight=0.5)
        >>> for head in loss.heads:
        ...     _ = head.requires_grad_(False).weight.zero_(), head.bias.zero_()
        >>> features, labels = torch.eye(2).repeat(2, 1), torch.tensor([[0, 0], [0, 1]]).repeat(2, 1)
        >>> value = loss(features, labels, torch.arange(2).repeat(2))
        >>> contrastive = MODELS.build(dict(type="HiMulConLoss"))(features, labels, torch.arange(2).repeat(2))
        >>> round((value - contrastive).item(), 4)  # 0.5 (1/2 log 1 + 1 log 2) / (1/2 + 1)
        0.231
    """

    unit_features = False
    """The classifiers take the features as they are; the rows for the contrastive part get unit length here."""

    def __init__(
        self,
        *,
        num_classes: Sequence[int] | None = None,
        in_channels: int | None = None,
        contrastive: dict[str, Any] | None = dict(type="HiMulConLoss"),  # noqa: B006 # it is only read
        weight: float = 1.0,
        level_weights: str | Sequence[float] = "linear",
        heads: Literal["linear", "cosine"] = "linear",
        head_temperature: float = 0.1,
        label_smoothing: float = 0.0,
        balance: float = 0.0,
        projection: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if num_classes is None or in_channels is None:
            raise ValueError(
                "HierarchicalJointLoss needs num_classes, the number of nodes of each level, coarsest first "
                "([taxonomy.num_nodes(level) for level in taxonomy.level_names]), and in_channels, the size of the "
                "features"
            )
        if isinstance(num_classes, int):
            raise ValueError(
                "num_classes of HierarchicalJointLoss must be a list, the number of nodes of each level, coarsest "
                f"first; it is {num_classes}"
            )
        for number in num_classes:
            check_at_least_1(num_classes=number)
        check_not_below_0(weight=weight)
        check_above_0(head_temperature=head_temperature)
        check_fraction(label_smoothing=label_smoothing)
        check_not_below_0(balance=balance)
        check_one_of("heads", heads, ("linear", "cosine"))
        ones = torch.ones(len(num_classes), device="cpu")
        if not weighted_mean(ones, level_weights) > 0:
            raise ValueError(
                f"level_weights must not all be 0; they are {level_weights!r}. For no classifiers: weight=0"
            )
        self.num_classes, self.weight, self.level_weights = list(num_classes), weight, level_weights
        self.in_channels = in_channels
        self.head_temperature = head_temperature if heads == "cosine" else None
        self.options = dict(label_smoothing=label_smoothing, balance=balance)
        if projection is not None and contrastive is None:
            raise ValueError("projection is for the contrastive part, and contrastive is None; leave projection out")
        self.projection = self.contrastive = None
        if projection is not None:
            self.projection = MODELS.build(with_width(projection, lambda: in_channels, "loss.projection"))
        if contrastive is not None:
            width = partial(projected_width, self.projection, in_channels)
            self.contrastive = MODELS.build(with_width(contrastive, width, "loss.contrastive"))
        self.heads = nn.ModuleList(nn.Linear(in_channels, number, bias=heads == "linear") for number in num_classes)
        self._counts: list[Tensor] | None = None

    @classmethod
    def count_classes(cls, taxonomy: Taxonomy, **options: Any) -> list[int]:
        """Returns the ``num_classes`` of a tree: the number of nodes of each level, coarsest first."""
        return taxonomy.level_sizes

    def set_taxonomy(self, taxonomy: Taxonomy) -> None:
        """Takes the names of the levels, and checks that each has as many nodes as its classifier has classes.

        Raises:
            ValueError: If not.
        """
        check_level_sizes(self.num_classes, taxonomy, "HierarchicalJointLoss")
        super().set_taxonomy(taxonomy)
        tell_parts(self.contrastive, "set_taxonomy", taxonomy)

    def set_training_labels(self, labels: Tensor) -> None:
        """Learns which nodes training knows, and how many images each has.

        Args:
            labels: (N, L) or (N, P, L) labels of all images of the training.
        """
        device = self.heads[0].weight.device
        self._counts = [counts.float().to(device) for counts in node_counts(labels, self.num_classes)]
        tell_parts(self.contrastive, "set_training_labels", labels)

    @property
    def takes_stand_ins(self) -> bool:
        """Whether the contrastive part wants to know which images stand in for others."""
        return getattr(self.contrastive, "takes_stand_ins", False)

    def forward(self, features: Tensor, labels: Tensor, instances: Tensor, **stand_ins: Tensor) -> Tensor:
        """Returns the 0-dim loss; ``stand_ins`` is for the contrastive part, if it takes them.

        Its components are the two parts before their weight, and what each is made of: ``contrastive/<name>`` for every
        component of the contrastive loss, and ``cross_entropy/<level>``.
        """
        if self.options["balance"]:
            from_training_data(
                self._counts, "balance needs the labels of the training data", "or call set_training_labels"
            )
        features = check_rows(features)
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(self.heads[0].weight.dtype)
            contrastive, components = self._contrast(features, labels, instances, **stand_ins)
            entropies = level_cross_entropies(
                [self._logits(head, features) for head in self.heads],
                labels,
                counts=self._counts,
                gather=gather_rows,
                **self.options,
            )
            mean = weighted_mean(entropies, self.level_weights)
            mean = mean / weighted_mean(torch.ones_like(entropies), self.level_weights)
        named = self.level_names.of(entropies)
        self.loss_components = components | {"cross_entropy": mean.detach()}
        self.loss_components |= {f"cross_entropy/{name}": value for name, value in named.items()}
        return contrastive + self.weight * mean

    def _contrast(
        self, features: Tensor, labels: Tensor, instances: Tensor, **stand_ins: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the contrastive part, and it with its own components by the names of the log."""
        if self.contrastive is None:
            return features.new_zeros(()), {}
        rows = features if self.projection is None else self.projection(features)
        value = self.contrastive(unit_length(rows), labels, instances, **stand_ins)
        parts = getattr(self.contrastive, "loss_components", {})
        return value, {"contrastive": value.detach()} | {f"contrastive/{name}": part for name, part in parts.items()}

    def _logits(self, head: nn.Linear, features: Tensor) -> Tensor:
        if self.head_temperature is None:
            return head(features)
        return linear(unit_length(features), unit_length(head.weight)) / self.head_temperature
