"""The images that are checked, with their labels and splits, and what was found while they were listed."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from hierpretrain._names import LabelNames
from hierpretrain.data_checks.problems import Problem
from hierpretrain.datasets.stored_images import ImageStore


@dataclass
class Source:
    """N images of a folder, a list or a data set, as far as they can be read.

    Attributes:
        name: What people call it.
        root: The folder that the images are relative to.
        images: N paths below ``root``.
        paths: The label paths of each image: one, several, or none.
        splits: N split tags; empty where there are none.
        level_names: A name for each level, the coarsest first.
        problems: What was found while listing them.
        notes: Lines for people about how it was read.
        copies_are_merged: Whether copies of a file are one image with several label paths.
        stores: What gives the images, if they are no files.
    """

    name: str
    root: str
    images: list[str] = field(default_factory=list)
    paths: list[tuple[LabelNames, ...]] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    level_names: tuple[str, ...] = ()
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    copies_are_merged: bool = False
    stores: Sequence[ImageStore] = ()

    def add(self, kind: str, subject: str, *, others: Sequence[str] = (), why: str = "") -> None:
        """Adds a problem."""
        self.problems.append(Problem(kind, subject, tuple(others), why))

    def tell_unlabelled(self, unknown: Collection[str] = ()) -> None:
        """Adds a problem for each image without a label, if others have one.

        Args:
            unknown: Images whose label cannot be read, which is told already.
        """
        if any(self.paths):
            for image, paths in zip(self.images, self.paths, strict=True):
                if not paths and image not in unknown:
                    self.add("no label", os.path.join(self.root, image))

    @property
    def files(self) -> list[str]:
        """The N files."""
        return [os.path.join(self.root, image) for image in self.images]


def class_name(path: LabelNames) -> str:
    """Returns a class for people.

    Example:
        >>> class_name(("animal", "cat")), class_name(())
        ('animal/cat', '(the root)')
    """
    return "/".join(path) or "(the root)"
