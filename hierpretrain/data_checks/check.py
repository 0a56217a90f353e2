"""All checks of a data set in one pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hierpretrain._names import LabelNames
from hierpretrain.data_checks.duplicates import duplicates
from hierpretrain.data_checks.names import name_problems
from hierpretrain.data_checks.pictures import Pictures, look_at
from hierpretrain.data_checks.problems import Problem
from hierpretrain.data_checks.sources import Source
from hierpretrain.data_checks.tree import count_nodes, tree_problems


@dataclass
class DataCheck:
    """What a check found.

    Attributes:
        sources: What was checked.
        problems: What is wrong with it.
        pictures: What the N images of all sources are; ``None`` if they were not opened.
        nodes: Every class with its number of images.
    """

    sources: Sequence[Source]
    problems: list[Problem] = field(default_factory=list)
    pictures: Pictures | None = None
    nodes: Mapping[LabelNames, int] = field(default_factory=dict)

    @property
    def files(self) -> list[str]:
        """The N files."""
        return [file for source in self.sources for file in source.files]

    @property
    def paths(self) -> list[tuple[LabelNames, ...]]:
        """The label paths of each of the N images."""
        return [paths for source in self.sources for paths in source.paths]

    @property
    def splits(self) -> list[str]:
        """The split of each of the N images."""
        return [split for source in self.sources for split in source.splits]

    def __str__(self) -> str:
        """Returns what the data set is, in a few lines for people."""
        lines = [f"{len(source.images):,} images in {source.name}" for source in self.sources]
        levels = max((source.level_names for source in self.sources), key=len)
        per_level = Counter(len(node) for node in self.nodes)
        named = [f"{name} ({per_level[level]:,})" for level, name in enumerate(levels, start=1)]
        lines.append(f"levels: {', '.join(named) or 'none'}")
        if len(tags := Counter(self.splits)) > 1:
            lines.append("splits: " + ", ".join(f"{tag or '(none)'} {number:,}" for tag, number in tags.items()))
        if self.pictures:
            lines.append(str(self.pictures))
        return "\n".join(lines + [note for source in self.sources for note in source.notes])


def check_sources(
    sources: Sequence[Source],
    *,
    open_images: bool = True,
    workers: int = 2,
    opening: Mapping[str, Any] | None = None,
) -> DataCheck:
    """Checks files, pictures, duplicates, names and trees.

    Args:
        sources: What is checked, as one data set.
        open_images: Whether images are opened: without it, pictures and duplicates are not checked.
        workers: Processes that open images; 0 opens them in this one.
        opening: Options of ``LoadRGB`` by which they are opened: ``grey_range`` and ``max_pixels``.

    Raises:
        ValueError: As :func:`~hierpretrain.data_checks.pictures.look_at`.

    Example:
        >>> pets = Source("pets", "pets", ["a.jpg"], [(("cat",),)], [""], ("kind",))
        >>> found = check_sources([pets], open_images=False)
        >>> [(problem.kind, problem.subject) for problem in found.problems]
        [('one image', 'cat'), ('one child', '(the root)')]
    """
    found = DataCheck(sources, [problem for source in sources for problem in source.problems])
    found.problems += [Problem("no images", source.name) for source in sources if not source.images]
    paths, splits = found.paths, found.splits
    found.nodes = nodes = count_nodes(paths)
    levels = max((source.level_names for source in sources), key=len)
    found.problems += name_problems(nodes, splits) + tree_problems(paths, nodes, levels)
    if open_images:
        files = found.files
        stores = [store for source in sources for store in source.stores]
        found.pictures = look_at(files, workers=workers, opening=opening, stores=stores)
        found.problems += found.pictures.problems
        merged = all(source.copies_are_merged for source in sources)
        found.problems += duplicates(files, paths, splits, found.pictures, copies_are_merged=merged)
    return found
