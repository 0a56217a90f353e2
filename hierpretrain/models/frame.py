"""The registered loss of HAFrame: a classifier whose class directions follow the tree and are not learnt."""

from __future__ import annotations

from torch import Tensor, nn

from hierpretrain.checks import check_above_0, check_fraction
from hierpretrain.functional import class_distances, haframe_losses, hierarchy_aware_frame
from hierpretrain.models.classifiers import TreeClassifierLoss
from hierpretrain.registry import MODELS
from hierpretrain.taxonomy import Taxonomy


@MODELS.register_module()
class HAFrameLoss(TreeClassifierLoss):
    """HAFrame: items are drawn to fixed directions of the classes, whose cosines follow the tree (ICCV 2023).

    See :func:`hierpretrain.functional.hierarchy_aware_frame` and :func:`hierpretrain.functional.haframe_losses`. The
    loss is ``(1 - alpha)`` times the cross entropy plus ``alpha`` times the cosine loss. A linear layer takes features
    to the space of the frame, where the paper has a convolution and two residual layers: what is embedded are the
    features before it, and the shallower it is, the more of the tree they keep. The distance of two classes is the
    height of their lowest common ancestor.

    Args:
        num_classes: Number C of nodes of the level, whose directions take C^2 numbers. A training fills it in
            from its data.
        in_channels: Size D of the features.
        level: The level whose nodes are the classes: its name; or 1 (coarsest) to L, -1 for the finest, -2 for the one
            above it, and so on.
        alpha: Weight of the cosine loss, 0 to 1; 0.4 in the released code.
        gamma: How fast the cosines of the directions fall with the distance in the tree, above 0; 2 for CIFAR-100 and 5
            for iNaturalist in the released code.

    Example:
        >>> loss = HAFrameLoss(num_classes=2, in_channels=2, alpha=0.0)
        >>> loss.set_taxonomy(Taxonomy([("a",), ("b",)], ("kind",)))
        >>> _ = loss.transform.requires_grad_(False).weight.zero_(), loss.transform.bias.zero_()
        >>> labels = loss.class_labels
        >>> round(loss(loss.frame, labels, labels[:, 0]).item(), 4)  # log 2
        0.6931
    """

    def __init__(
        self,
        *,
        num_classes: int | None = None,
        in_channels: int,
        level: int | str = -1,
        alpha: float = 0.4,
        gamma: float = 5.0,
    ) -> None:
        super().__init__(num_classes, level)
        check_fraction(alpha=alpha)
        check_above_0(gamma=gamma)
        self.alpha, self.gamma = alpha, gamma
        self.transform = nn.Linear(in_channels, num_classes)
        # no buffer, which DistributedDataParallel would send to all processes at every step
        self._frame: Tensor | None = None

    def set_taxonomy(self, taxonomy: Taxonomy) -> None:
        """Takes the tree and makes the frame; checks that the level has as many nodes as the loss has classes."""
        super().set_taxonomy(taxonomy)
        self._frame = hierarchy_aware_frame(class_distances(taxonomy, self.level), gamma=self.gamma)

    @property
    def frame(self) -> Tensor:
        """The (num_classes, num_classes) directions of the classes, unit rows.

        Raises:
            ValueError: If the tree is not known yet.
        """
        _ = self.class_labels  # raises if the tree is not known
        self._frame = self._frame.to(self.transform.weight)
        return self._frame

    def class_losses(self, features: Tensor, classes: Tensor) -> Tensor:
        """Returns the loss of each item."""
        entropies, cosines = haframe_losses(self.transform(features), classes, self.frame)
        return (1 - self.alpha) * entropies + self.alpha * cosines
