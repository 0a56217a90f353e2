"""The registered losses: each a constructor and one call of a function of :mod:`hierpretrain.functional`.

All are called as ``loss(features, labels, instances)`` with (M, D) unit rows stacked view by view, the (M, L) label
matrix and the (M,) numbers of the images, repeated for each view. HiMulCon, HiConE, HiMulConE and SimCLR also take
(M, P, L) labels, of images that hang in several places of the tree. On several processes the value and the gradient
are those of one process on all rows together.

A loss may also have ``terms(features, labels, instances)``, which returns the ``loss`` and what it is made of, for the
log: numbers by names that begin with ``loss/``, without gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hierpretrain.functional import hierarchical_contrastive_loss, released_hmlc_loss, supcon_loss
from hierpretrain.functional.contrastive import Constraint
from hierpretrain.functional.pairs import Positives
from hierpretrain.models.gather import gather_rows
from hierpretrain.registry import MODELS
from hierpretrain.taxonomy import Taxonomy, check_labels, prefix_ids


def columns_to(level: int, labels: Tensor, name: str) -> Tensor:
    """Returns the columns of a label matrix from the coarsest level down to one.

    Args:
        level: 1 (coarsest) to L, or -1 for the finest, -2 for the one above it, and so on.
        labels: (M, L) label matrix.
        name: Whose level it is, for the error.

    Raises:
        ValueError: If there is no such level, or the rows have several paths.

    Example:
        >>> columns_to(-2, torch.tensor([[0, 1, 5]]), "TripletLoss")
        tensor([[0, 1]])
    """
    check_labels(labels[:0])  # the shape alone, which is one for all processes: none of them waits for another
    levels = labels.shape[1]
    if level == 0 or abs(level) > levels:
        raise ValueError(
            f"level of {name} must be 1 (coarsest) to {levels}, or -1 (finest) to -{levels}; it is {level}"
        )
    return labels[:, : level if level > 0 else levels + level + 1]


def level_nodes(level: int, labels: Tensor, name: str) -> Tensor:
    """Numbers the nodes of one level alike on all processes, whose rows it gathers.

    Args:
        level: As for :func:`columns_to`; so is ``name``.
        labels: (m, L) label matrix of this process; an id may be unique within its parent alone.
        name: Whose level it is, for the error.

    Returns:
        (m,) int64: equal if and only if the whole paths down to the level are; ``PAD`` where a path ends above it.

    Raises:
        ValueError: If there is no such level, or the rows have several paths.

    Example:
        >>> level_nodes(2, torch.tensor([[7, 1, 5], [9, 1, 5], [7, 1, 6], [9, -1, -1]]), "TripletLoss")
        tensor([ 0,  1,  0, -1])
    """
    # the whole prefix is the class: across processes, cut the columns off before numbering the nodes
    everyone, first = gather_rows(columns_to(level, labels, name))
    return prefix_ids(everyone)[first : first + len(labels), -1]


def level_keys(number: int, level_names: Sequence[str] | None) -> list[str]:
    """Returns the names of the losses of the levels in the log.

    Args:
        number: How many there are: as many as levels, or one more for a last level of the images themselves.
        level_names: Of the levels, coarsest first; ``None`` where the tree is not known.

    Example:
        >>> level_keys(2, ["kind"]), level_keys(2, None)
        (['loss/kind', 'loss/instance'], ['loss/level1', 'loss/level2'])
    """
    if level_names is None:
        level_names = [f"level{level}" for level in range(1, number + 1)]
    last = "instance" if "instance" not in level_names else "instance (views)"  # a level's name is the user's
    return [f"loss/{name}" for name in [*level_names, last][:number]]


def two_rows(*columns: int) -> tuple[Tensor, Tensor]:
    """Returns features of two rows and their (2, *columns) labels, on which a constructor tries its options.

    So a wrong option is an error where a config is read, and not in the first batch of a training.

    Example:
        >>> two_rows(1)
        (tensor([[1., 0.],
                [0., 1.]]), tensor([[0],
                [0]]))
    """
    return torch.eye(2, device="cpu"), torch.zeros(2, *columns, dtype=torch.int64, device="cpu")


class _LevelLosses:
    """Takes the losses of the levels; one for all batches, for ``torch.compile`` traces anew for each new function."""

    def __call__(self, losses: Tensor) -> None:
        self._losses = losses

    def named(self, level_names: Sequence[str] | None) -> dict[str, Tensor]:
        """Returns those of the last batch by their names in the log."""
        return dict(zip(level_keys(len(self._losses), level_names), self._losses, strict=True))


class _HierarchicalLoss(nn.Module):
    """What the three losses of paper A share: a call of :func:`hierarchical_contrastive_loss` with fixed options."""

    def __init__(self, *, instance_level: bool, **options: Any) -> None:
        super().__init__()
        self.instance_level, self.options = instance_level, options
        self._level_names: Sequence[str] | None = None
        self._levels = _LevelLosses()
        weights = options["level_weights"]
        hierarchical_contrastive_loss(*two_rows(1 if isinstance(weights, str) else len(weights)), **options)

    def set_taxonomy(self, taxonomy: Taxonomy) -> None:
        """Takes the names of the levels, for the log."""
        self._level_names = taxonomy.level_names

    def terms(self, features: Tensor, labels: Tensor, instances: Tensor) -> dict[str, Tensor]:
        """Returns the ``loss`` and those of the levels, clamped as the loss says and before their weights."""
        loss = self._loss(features, labels, instances, on_levels=self._levels)
        return {"loss": loss, **self._levels.named(self._level_names)}

    def forward(self, features: Tensor, labels: Tensor, instances: Tensor) -> Tensor:
        """Returns the 0-dim loss."""
        return self._loss(features, labels, instances)

    def _loss(self, features: Tensor, labels: Tensor, instances: Tensor, **options: Any) -> Tensor:
        level = instances if self.instance_level else None
        return hierarchical_contrastive_loss(
            features, labels, gather=gather_rows, instances=level, **self.options, **options
        )


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
        temperature: As for :class:`HiMulConLoss`; so are the others.
        positives: ``'share'`` or ``'diverge'``.
        instance_level: Whether the views of one image are a last level of the tree.
        chunk_size: Rows of similarities held at a time; ``None`` for a number that is fast.

    Example:
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
        constraint: As for :class:`HiConELoss`; so is ``constraint_grad``.
        constraint_grad: Whether the gradient of what is clamped goes through its bound.
        temperature: As for :class:`HiMulConLoss`; so are the others.
        level_weights: Of the levels, by name or one number per level, coarsest first.
        positives: ``'share'`` or ``'diverge'``.
        instance_level: Whether the views of one image are a last level of the tree.
        chunk_size: Rows of similarities held at a time; ``None`` for a number that is fast.

    Example:
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
class SupConLoss(nn.Module):
    """Supervised contrastive loss over the nodes of one level (Khosla et al., NeurIPS 2020).

    Args:
        level: Whose nodes are the classes: 1 (coarsest) to L, or -1 for the finest, -2 for the one above it, and so on.
            An item whose path ends above it has no positive, but is a negative of the others.
        temperature: Divides the cosine similarities.
        chunk_size: Rows of similarities held at a time; ``None`` for a number that is fast.

    Example:
        >>> loss = SupConLoss(level=1)
        >>> features, labels = torch.eye(2).repeat(2, 1), torch.tensor([[0, 0], [0, 1]]).repeat(2, 1)
        >>> round(loss(features, labels, torch.arange(2).repeat(2)).item(), 3)
        6.667
    """

    def __init__(self, *, level: int = -1, temperature: float = 0.1, chunk_size: int | None = None) -> None:
        super().__init__()
        self.level, self.temperature, self.chunk_size = level, temperature, chunk_size
        supcon_loss(*two_rows(), temperature=temperature, chunk_size=chunk_size)

    def forward(self, features: Tensor, labels: Tensor, instances: Tensor) -> Tensor:
        """Returns the 0-dim loss; the image numbers play no part."""
        nodes = level_nodes(self.level, labels, "SupConLoss")
        return supcon_loss(
            features, nodes, temperature=self.temperature, chunk_size=self.chunk_size, gather=gather_rows
        )


@MODELS.register_module()
class NTXentLoss(nn.Module):
    """SimCLR's loss: the views of one image are each other's positives, all else negatives (Chen et al., ICML 2020).

    Args:
        temperature: Divides the cosine similarities.
        chunk_size: Rows of similarities held at a time; ``None`` for a number that is fast.

    Example:
        >>> loss = NTXentLoss()
        >>> features, labels = torch.eye(2).repeat(2, 1), torch.zeros(4, 0, dtype=torch.int64)
        >>> round(loss(features, labels, torch.arange(2).repeat(2)).item(), 6)
        9.1e-05
    """

    def __init__(self, *, temperature: float = 0.1, chunk_size: int | None = None) -> None:
        super().__init__()
        self.temperature, self.chunk_size = temperature, chunk_size
        supcon_loss(*two_rows(), temperature=temperature, chunk_size=chunk_size)

    def forward(self, features: Tensor, labels: Tensor, instances: Tensor) -> Tensor:
        """Returns the 0-dim loss; the labels play no part."""
        return supcon_loss(
            features, instances, temperature=self.temperature, chunk_size=self.chunk_size, gather=gather_rows
        )


@MODELS.register_module()
class ReleasedHMLCLoss(nn.Module):
    """The loss of paper A's released code, for comparison; see :func:`hierpretrain.functional.released_hmlc_loss`.

    As there, each process looks at its own rows only, and all paths must be of one length.

    Args:
        loss_type: ``'hmc'``, ``'hce'`` or ``'hmce'``.
        num_views: Views of each image.
        temperature: Divides the cosine similarities.
        base_temperature: Scales the loss by ``temperature / base_temperature``.
        level_weights: ``'exp'`` or ``'pow2'``.

    Example:
        >>> loss = ReleasedHMLCLoss(loss_type="hmc")
        >>> features, labels = torch.eye(2).repeat(2, 1), torch.tensor([[0, 0], [0, 1]]).repeat(2, 1)
        >>> round(loss(features, labels, torch.arange(2).repeat(2)).item(), 3)
        5.234
    """

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
        self.options = dict(
            loss_type=loss_type,
            num_views=num_views,
            temperature=temperature,
            base_temperature=base_temperature,
            level_weights=level_weights,
        )
        self._level_names: Sequence[str] | None = None
        self._levels = _LevelLosses()
        released_hmlc_loss(*two_rows(2), **self.options | dict(num_views=2 if num_views > 1 else num_views))

    def set_taxonomy(self, taxonomy: Taxonomy) -> None:
        """Takes the names of the levels, for the log."""
        self._level_names = taxonomy.level_names

    def terms(self, features: Tensor, labels: Tensor, instances: Tensor) -> dict[str, Tensor]:
        """Returns the ``loss`` and those of the levels, before their weights."""
        check_labels(labels)
        rows = torch.cat([labels, instances[:, None]], 1)
        loss = released_hmlc_loss(features, rows, on_levels=self._levels, **self.options)
        return {"loss": loss, **self._levels.named(self._level_names)}

    def forward(self, features: Tensor, labels: Tensor, instances: Tensor) -> Tensor:
        """Returns the 0-dim loss."""
        return self.terms(features, labels, instances)["loss"]
