"""What losses over levels share: the tree that they are told, one level by its name, and names for the log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from hierpretrain.checks import check_level
from hierpretrain.models.gather import gather_rows
from hierpretrain.taxonomy import Taxonomy, as_labels, check_labels, prefix_ids

T = TypeVar("T")


def from_training_data(value: T | None, needs: str, otherwise: str = "or call set_taxonomy") -> T:
    """Returns what a loss has been told of the training data.

    Args:
        value: What it was told; ``None`` before that.
        needs: What needs it.
        otherwise: What else one can do, for the end of the message.

    Raises:
        ValueError: If it was not told yet.

    Example:
        >>> from_training_data(None, "it needs the tree")
        Traceback (most recent call last):
        ValueError: it needs the tree: put taxonomy=dict(type='TaxonomyHook') in default_hooks, or call set_taxonomy
    """
    if value is None:
        raise ValueError(f"{needs}: put taxonomy=dict(type='TaxonomyHook') in default_hooks, {otherwise}")
    return value


def parts_of_loss(loss: Any) -> Iterable[tuple[str, Any]]:
    """Returns a loss, and the losses and layers within it, by their names; a loss that is no module by itself alone.

    Example:
        >>> [name for name, _ in parts_of_loss(nn.Sequential(nn.ReLU()))], list(parts_of_loss(len))
        (['', '0'], [('', <built-in function len>)])
    """
    return loss.named_modules() if isinstance(loss, nn.Module) else [("", loss)]


def tell_parts(loss: Any, method: str, value: Any) -> None:
    """Calls a method, ``set_taxonomy`` or ``set_training_labels``, of a loss and of all parts of it that have it.

    The parts come first, so that a loss may tell its parts something else.

    Example:
        >>> part = OneLevelLoss("kind")
        >>> tell_parts(nn.ModuleList([part]), "set_taxonomy", Taxonomy([("cat",)], ["kind"]))
        >>> part.level_number
        1
    """
    for _, part in reversed(list(parts_of_loss(loss))):
        if hasattr(part, method):
            getattr(part, method)(value)


def takes_stand_ins(loss: Any) -> bool:
    """Returns whether a loss asks which images stand in for ones that could not be read.

    Raises:
        ValueError: If a part of it asks, and the loss itself does not and has nothing to hand on.
    """
    if getattr(loss, "takes_stand_ins", False):
        return True
    for name, part in parts_of_loss(loss):
        if getattr(part, "takes_stand_ins", False):
            raise ValueError(
                f"the batch has images in place of ones that cannot be read (on_error='skip'), which {name!r} of "
                f"{type(loss).__name__}, a {type(part).__name__}, has to leave out, and {type(loss).__name__} hands "
                "on nothing of them: give it takes_stand_ins = True, and hand stand_ins= on in its forward; or set "
                "on_error='error'"
            )
    return False


class OneLevelLoss(nn.Module):
    """Base of the losses over the nodes of one level, which may be given by its name.

    Args:
        level: The name of the level; or 1 (coarsest) to L, -1 for the finest, -2 for the one above it, and so on.

    Example:
        >>> loss = OneLevelLoss("kind")
        >>> loss.set_taxonomy(Taxonomy([("animal", "cat")], ("kingdom", "kind")))
        >>> loss.level_number
        2
    """

    def __init__(self, level: int | str) -> None:
        super().__init__()
        check_level(level=level)
        self.level = level
        self._number: int | None = None
        self._num_levels: int | None = None

    def set_taxonomy(self, taxonomy: Taxonomy) -> None:
        """Takes the tree, in which a name is looked up, and whose levels all labels must have.

        Raises:
            ValueError: If there is no such level.
        """
        self._number, self._num_levels = taxonomy.level(self.level), taxonomy.num_levels

    @property
    def level_number(self) -> int:
        """The number of the level.

        Raises:
            ValueError: If the level is a name, and the tree is not known.
        """
        if self._number is None and not isinstance(self.level, str):
            return self.level
        needs = f"level={self.level!r} of {type(self).__name__} needs the tree of the training data"
        return from_training_data(self._number, needs, "call set_taxonomy, or give a number")

    def columns(self, labels: Tensor, *, several_paths: bool = False) -> Tensor:
        """Returns the columns of a label matrix from the coarsest level down to the loss's own.

        Args:
            labels: (M, L) label matrix. They are checked whole, so on several processes pass the labels of all, lest
                one process raises and the others wait for it.
            several_paths: Whether labels may be (M, P, L), too.

        Raises:
            ValueError: If labels are malformed or have other levels than the tree, there is no such level, or the rows
                have several paths and may not.

        Example:
            >>> OneLevelLoss(-2).columns(torch.tensor([[0, 1, 5]]))
            tensor([[0, 1]])
        """
        labels = check_labels(labels, several_paths=several_paths)
        level, levels, name = self.level_number, labels.shape[-1], type(self).__name__
        if levels != (self._num_levels or levels):
            raise ValueError(
                f"labels of {name} must have one column for each of the {self._num_levels} levels of its tree; their "
                f"shape is {tuple(labels.shape)}"
            )
        if level == 0 or abs(level) > levels:
            raise ValueError(
                f"level of {name} must be 1 (coarsest) to {levels}, or -1 (finest) to -{levels}; it is {level}"
            )
        return labels[..., : level if level > 0 else levels + level + 1]

    def nodes(self, labels: Tensor) -> Tensor:
        """Numbers the nodes of the level alike on all processes, whose rows it gathers.

        Args:
            labels: (m, L) label matrix of this process; an id may be unique within its parent alone.

        Returns:
            (m,) int64: equal if and only if the whole paths down to the level are; ``PAD`` where a path ends above it.

        Raises:
            ValueError: As :meth:`columns`, on all processes alike.

        Example:
            >>> OneLevelLoss(2).nodes(torch.tensor([[7, 1, 5], [9, 1, 5], [7, 1, 6], [9, -1, -1]]))
            tensor([ 0,  1,  0, -1])
        """
        labels = as_labels(labels)
        everyone, first = gather_rows(labels)
        # the whole prefix is the class: across processes, cut the columns off before numbering the nodes
        return prefix_ids(self.columns(everyone))[first : first + len(labels), -1]


def dummy_batch(*columns: int) -> tuple[Tensor, Tensor]:
    """Makes features of two rows and their (2, *columns) labels, on which a constructor tries its options.

    So a wrong option is an error where a config is read, and not in the first batch of a training.

    Example:
        >>> dummy_batch(1)
        (tensor([[1., 0.],
                [0., 1.]]), tensor([[0],
                [0]]))
    """
    return torch.eye(2, device="cpu"), torch.zeros(2, *columns, dtype=torch.int64, device="cpu")


class LevelsLoss(nn.Module):
    """Base of the losses over several levels, which log a part of each under its name, as ``loss_components``."""

    def __init__(self) -> None:
        super().__init__()
        self.level_names, self.loss_components = LevelNames(), {}

    def set_taxonomy(self, taxonomy: Taxonomy) -> None:
        """Takes the names of the levels, for the log."""
        self.level_names.set(taxonomy)


def check_level_sizes(sizes: Sequence[int], taxonomy: Taxonomy, loss: str) -> None:
    """Raises a ValueError unless the ``num_classes`` of a loss are the numbers of nodes of a tree's levels."""
    if list(sizes) != (nodes := taxonomy.level_sizes):
        raise ValueError(
            f"num_classes of {loss} must be the numbers of nodes of the levels {taxonomy.level_names!r}, {nodes}; it "
            f"is {list(sizes)}. Give it num_classes={nodes}, or none"
        )


class LevelNames:
    """The names under which the losses of the levels are logged: numbers until the tree is known.

    Example:
        >>> names = LevelNames()
        >>> names.of(torch.tensor([3.0, 1.0]))
        {'level1': tensor(3.), 'level2': tensor(1.)}
        >>> names.set(Taxonomy([("cat",), ("dog",)], ["kind"]))
        >>> names.of(torch.tensor([3.0, 1.0]))
        {'kind': tensor(3.), 'instance': tensor(1.)}
    """

    def __init__(self) -> None:
        self._names: Sequence[str] | None = None

    def set(self, taxonomy: Taxonomy) -> None:
        """Takes the names of a tree's levels."""
        self._names = taxonomy.level_names

    def of(self, losses: Tensor) -> dict[str, Tensor]:
        """Names (L,) losses, coarsest level first, without their gradient.

        One more loss than there are levels is the loss of the images themselves.
        """
        names = [f"level{level}" for level in range(1, len(losses) + 1)]
        if self._names is not None:
            images = "instance" if "instance" not in self._names else "instance (views)"  # a level's name is the user's
            names = [*self._names, images][: len(losses)]
        return dict(zip(names, losses.detach(), strict=True))
