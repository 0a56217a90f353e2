"""The registered losses: each a constructor and one call of a function of :mod:`hierpretrain.functional`.

All are called as ``loss(features, labels, instances)`` with (M, D) unit rows stacked view by view, the (M, L) label
matrix and the (M,) numbers of the images, repeated for each view. HiMulCon, HiConE, HiMulConE and SimCLR also take
(M, P, L) labels, of images that have several paths in the tree. On several processes the value and the gradient equal
the value and the gradient of one process on all rows together.

A loss may leave in ``self.loss_components`` what its last value is made of, by name and without gradient. The model
logs them as ``loss/<name>``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from hierpretrain.checks import check_at_least_1, check_flag, check_number
from hierpretrain.functional import level_losses, released_hmlc_loss, supcon_loss
from hierpretrain.functional.contrastive import Constraint, clamped_and_unclamped_losses, weighted_mean
from hierpretrain.functional.pairs import Positives
from hierpretrain.functional.released import released_level_losses, released_mean
from hierpretrain.models.gather import gather_rows
from hierpretrain.models.loss_levels import LevelsLoss, OneLevelLoss, dummy_batch
from hierpretrain.registry import MODELS
from hierpretrain.taxonomy import append_instances, check_labels


class _HierarchicalLoss(LevelsLoss):
    """What the three losses of paper A share: the losses of the levels with fixed options, and their weighted mean."""

    def __init__(self, *, level_weights: str | Sequence[float], instance_level: bool, **options: Any) -> None:
        super().__init__()
        check_flag(instance_level=instance_level, constraint_grad=options.get("constraint_grad", False))
        self.level_weights, self.instance_level, self.options = level_weights, instance_level, options
        levels = 1 if isinstance(level_weights, str) else len(level_weights)
        weighted_mean(level_losses(*dummy_batch(levels), **options), level_weights)

    def forward(self, features: Tensor, labels: Tensor, instances: Tensor) -> Tensor:
        """Returns the 0-dim loss; its components are the losses of the levels, before their weights.

        Where a constraint clamps them, what they would be without it stands beside them, as ``unclamped/<level>``.
        """
        instances = instances if self.instance_level else None
        losses, unclamped = clamped_and_unclamped_losses(
            features, labels, gather=gather_rows, instances=instances, **self.options
        )
        self.loss_components = self.level_names.of(losses)
        if self.options.get("constraint") is not None:
            self.loss_components |= {f"unclamped/{name}": loss for name, loss in self.level_names.of(unclamped).items()}
        return weighted_mean(losses, self.level_weights)


@MODELS.register_module()
class HiMulConLoss(_HierarchicalLoss):
    """HiMulCon: a weighted sum of one supervised contrastive loss per level (paper A, eq. 4).

    Args:
        temperature: Divides the cosine similarities.
        level_weights: ``'exp'``, ``'pow2'``, ``'linear'``, ``'uniform'``, or one number per level, coarsest first.
        positives: ``'share'`` or ``'diverge'``; see :func:`hierpretrain.functional.hierarchical_contrastive_loss`.
        instance_level: Whether the views of one image are a last level of the tree.
        chunk_size: Rows of similarities held at a time; ``None`` for a number that is fast.

    Example:
        >>> import torch
        >>> loss = HiMulConLoss(level_weights="uniform")
        >>> features, labels = torch.eye(2).repeat(2, 1), torch.tensor([[0, 0], [0, 1]]).repeat(2, 1)
        >>> round(loss(features, labels, torch.arange(2).repeat(2)).item(), 2)
        3.33
    """

    def __init__(
        self,
        *,
        temperature: float = 0.1,
        level_weights: str | Sequence[float] = "exp",
        positives: Positives = "share",
        instance_level: bool = False,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__(
            temperature=temperature,
            level_weights=level_weights,
            positives=positives,
            instance_level=instance_level,
            chunk_size=chunk_size,
        )


@MODELS.register_module()
class HiConELoss(_HierarchicalLoss):
    """HiConE: unweighted levels, no pair of a level cheaper than the next finer level allows (paper A, eq. 5, 6).

    Args:
        constraint: ``'pair'``, ``'anchor'`` or ``'level'``.
        constraint_grad: Whether the gradient of what is clamped goes through its bound.
        temperature: Divides the cosine similarities.
        positives: ``'share'`` or ``'diverge'``.
        instance_level: Whether the views of one image are a last level of the tree.
        chunk_size: Rows of similarities held at a time; ``None`` for a number that is fast.

    Example:
        >>> import torch
        >>> loss = HiConELoss()
        >>> features, labels = torch.eye(2).repeat(2, 1), torch.tensor([[0, 0], [0, 1]]).repeat(2, 1)
        >>> round(loss(features, labels, torch.arange(2).repeat(2)).item(), 2)
        3.33
    """

    def __init__(
        self,
        *,
        constraint: Constraint = "pair",
        constraint_grad: bool = False,
        temperature: float = 0.1,
        positives: Positives = "share",
        instance_level: bool = False,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__(
            constraint=constraint,
            constraint_grad=constraint_grad,
            temperature=temperature,
            level_weights="uniform",
            positives=positives,
            instance_level=instance_level,
            chunk_size=chunk_size,
        )


@MODELS.register_module()
class HiMulConELoss(_HierarchicalLoss):
    """HiMulConE: HiConE's clamp with HiMulCon's weights (paper A, eq. 7).

    Args:
        constraint: ``'pair'``, ``'anchor'`` or ``'level'``.
        constraint_grad: Whether the gradient of what is clamped goes through its bound.
        temperature: Divides the cosine similarities.
        level_weights: ``'exp'``, ``'pow2'``, ``'linear'``, ``'uniform'``, or one number per level, coarsest first.
        positives: ``'share'`` or ``'diverge'``.
        instance_level: Whether the views of one image are a last level of the tree.
        chunk_size: Rows of similarities held at a time; ``None`` for a number that is fast.

    Example:
        >>> import torch
        >>> loss = HiMulConELoss(level_weights=[1.0, 3.0])
        >>> features, labels = torch.eye(2).repeat(2, 1), torch.tensor([[0, 0], [0, 1]]).repeat(2, 1)
        >>> round(loss(features, labels, torch.arange(2).repeat(2)).item(), 2)
        3.33
    """

    def __init__(
        self,
        *,
        constraint: Constraint = "pair",
        constraint_grad: bool = False,
        temperature: float = 0.1,
        level_weights: str | Sequence[float] = "exp",
        positives: Positives = "share",
        instance_level: bool = False,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__(
            constraint=constraint,
            constraint_grad=constraint_grad,
            temperature=temperature,
            level_weights=level_weights,
            positives=positives,
            instance_level=instance_level,
            chunk_size=chunk_size,
        )


@MODELS.register_module()
class SupConLoss(OneLevelLoss):
    """Supervised contrastive loss over the nodes of one level (Khosla et al., NeurIPS 2020).

    Args:
        level: Whose nodes are the classes: its name; or 1 (coarsest) to L, -1 for the finest, -2 for the one above it,
            and so on. An item whose path ends above it has no positive, but is a negative of the others.
        temperature: Divides the cosine similarities.
        chunk_size: Rows of similarities held at a time; ``None`` for a number that is fast.

    Example:
        >>> import torch
        >>> loss = SupConLoss(level=1)
        >>> features, labels = torch.eye(2).repeat(2, 1), torch.tensor([[0, 0], [0, 1]]).repeat(2, 1)
        >>> round(loss(features, labels, torch.arange(2).repeat(2)).item(), 3)
        6.667
    """

    def __init__(self, *, level: int | str = -1, temperature: float = 0.1, chunk_size: int | None = None) -> None:
        super().__init__(level)
        self.temperature, self.chunk_size = temperature, chunk_size
        supcon_loss(*dummy_batch(), temperature=temperature, chunk_size=chunk_size)

    def forward(self, features: Tensor, labels: Tensor, instances: Tensor) -> Tensor:
        """Returns the 0-dim loss; the image numbers play no part."""
        return supcon_loss(
            features, self.nodes(labels), temperature=self.temperature, chunk_size=self.chunk_size, gather=gather_rows
        )


@MODELS.register_module()
class NTXentLoss(nn.Module):
    """SimCLR's loss: the views of one image are each other's positives, all else negatives (Chen et al., ICML 2020).

    Args:
        temperature: Divides the cosine similarities.
        chunk_size: Rows of similarities held at a time; ``None`` for a number that is fast.

    Example:
        >>> import torch
        >>> loss = NTXentLoss()
        >>> features, labels = torch.eye(2).repeat(2, 1), torch.zeros(4, 0, dtype=torch.int64)
        >>> round(loss(features, labels, torch.arange(2).repeat(2)).item(), 6)
        9.1e-05
    """

    instance_level = True  # the image is all that it looks at

    def __init__(self, *, temperature: float = 0.1, chunk_size: int | None = None) -> None:
        super().__init__()
        self.temperature, self.chunk_size = temperature, chunk_size
        supcon_loss(*dummy_batch(), temperature=temperature, chunk_size=chunk_size)

    def check_views(self, views: int) -> None:
        """Raises a ValueError if the images of a batch have one view each, as no row had a positive."""
        if views < 2:
            raise ValueError(
                "NTXentLoss needs at least two views of each image, which are each other's positives; the pipeline "
                "makes one: set Views(num_views=2) in the pipeline of train_dataloader.dataset"
            )

    def forward(self, features: Tensor, labels: Tensor, instances: Tensor) -> Tensor:
        """Returns the 0-dim loss; the labels play no part."""
        return supcon_loss(
            features, instances, temperature=self.temperature, chunk_size=self.chunk_size, gather=gather_rows
        )


@MODELS.register_module()
class ReleasedHMLCLoss(LevelsLoss):
    """The loss of paper A's released code, for comparison; see :func:`hierpretrain.functional.released_hmlc_loss`.

    As there, each process looks at its own rows only, and all paths must be of one length.

    Args:
        loss_type: ``'hmc'``, ``'hce'`` or ``'hmce'``.
        num_views: Views of each image.
        temperature: Divides the cosine similarities.
        base_temperature: Scales the loss by ``temperature / base_temperature``.
        level_weights: ``'exp'`` or ``'pow2'``.

    Example:
        >>> import torch
        >>> loss = ReleasedHMLCLoss(loss_type="hmc")
        >>> features, labels = torch.eye(2).repeat(2, 1), torch.tensor([[0, 0], [0, 1]]).repeat(2, 1)
        >>> round(loss(features, labels, torch.arange(2).repeat(2)).item(), 3)
        5.234
    """

    instance_level = True  # the images are its last column

    def __init__(
        self,
        *,
        loss_type: str = "hmce",
        num_views: int = 2,
        temperature: float = 0.1,
        base_temperature: float = 0.07,
        level_weights: str = "exp",
    ) -> None:
        super().__init__()
        check_at_least_1(num_views=num_views)
        check_number(base_temperature=base_temperature)
        self.options = dict(
            loss_type=loss_type,
            num_views=num_views,
            temperature=temperature,
            base_temperature=base_temperature,
        )
        self.level_weights = level_weights
        views = 2 if num_views > 1 else num_views  # of the dummy batch
        released_hmlc_loss(*dummy_batch(2), **self.options | dict(num_views=views), level_weights=level_weights)

    def check_views(self, views: int) -> None:
        """Raises a ValueError if the images of a batch have another number of views than the loss was told."""
        if views != self.options["num_views"]:
            raise ValueError(
                f"num_views of ReleasedHMLCLoss must be the number of views that the pipeline makes of each image, "
                f"{views}; it is {self.options['num_views']}. Set model.loss.num_views={views}"
            )

    def forward(self, features: Tensor, labels: Tensor, instances: Tensor) -> Tensor:
        """Returns the 0-dim loss; its components are the losses of the levels, before their weights."""
        labels = append_instances(check_labels(labels), instances)
        losses = released_level_losses(features, labels, **self.options)
        self.loss_components = self.level_names.of(losses)
        return released_mean(losses, self.options["loss_type"], self.level_weights)
