"""Which classes of a split are seen and which unseen, and which branches are held out."""

from __future__ import annotations

import hashlib
import json
import numbers
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction

import numpy as np

from hierpretrain._names import LabelNames, did_you_mean
from hierpretrain.datasets.annotations import Annotations, nfc
from hierpretrain.datasets.messages import some, some_paths
from hierpretrain.datasets.split_files import Split
from hierpretrain.taxonomy import Taxonomy


def classes_of_level(paths: Collection[LabelNames], level: int, held_out: Sequence[LabelNames]) -> list[LabelNames]:
    """Returns the nodes of a level that paths reach outside the branches that are held out, sorted."""
    return sorted({path[:level] for path in paths if len(path) >= level and not is_below(path, held_out)})


def find_unseen_classes(
    classes: Sequence[LabelNames], unseen: Sequence[str | Sequence[str]] | float, generator: np.random.Generator
) -> list[LabelNames]:
    """Finds the unseen classes by their names or paths, or draws a fraction of all classes, rounded, at least one."""
    if isinstance(unseen, str):
        raise ValueError(
            f"unseen must be a list of classes or a fraction, not the string {unseen!r}; pass [{unseen!r}]"
        )
    if isinstance(unseen, numbers.Real):
        if not 0 < unseen < 1:
            raise ValueError(f"a fraction of unseen classes must be above 0 and below 1; it is {unseen!r}")
        number = max(1, int(float(unseen) * len(classes) + 0.5))
        return [classes[i] for i in generator.choice(len(classes), number, replace=False).tolist()]
    if not isinstance(unseen, Collection):
        raise ValueError(f"unseen must be a list of classes or a fraction; it is {unseen!r}")
    named: dict[str, list[LabelNames]] = defaultdict(list)
    for path in classes:
        for name in {path[-1], "/".join(path)}:
            named[name].append(path)
    chosen = []
    for entry in unseen:
        if not isinstance(entry, Collection) or not all(isinstance(name, str) for name in entry):
            raise ValueError(f"an unseen class must be a name or a path of names; it is {entry!r}")
        if isinstance(entry, str):
            found = named.get(nfc(entry), [])
        else:
            path = tuple(map(nfc, entry))
            found = [path] if path in named.get("/".join(path), []) else []
        if not found:
            name = entry if isinstance(entry, str) else "/".join(entry)
            guess = did_you_mean(name, named, "give one of the level.")
            raise ValueError(
                f"there is no class {entry!r} to be unseen; {guess} The level has {len(classes)} classes: "
                f"{some(['/'.join(path) for path in classes])}"
            )
        if len(found) > 1:
            raise ValueError(f"{len(found)} classes have the name {entry!r}: {some_paths(found)}; give their paths")
        chosen += found
    return chosen


def with_new_classes(
    annotations: Annotations, split: Split, known: Mapping[str, str], unseen_share: float | None
) -> tuple[LabelNames, ...]:
    """Returns the unseen classes of a split, and those of the new classes that are drawn as unseen.

    A class is new if the split knows no image of it and does not list it as unseen.
    """
    level = Taxonomy(annotations.all_paths(), annotations.level_names).level(split.level or "")
    indices = [index for index, image in enumerate(annotations.images) if image in known]
    old = set(classes_of_level([path for index in indices for path in annotations.paths(index)], level, split.held_out))
    unseen = set(split.unseen)
    if unseen_share is None:
        unseen_share = len(unseen) / len(old | unseen)
    new = set(classes_of_level(annotations.different_paths, level, split.held_out)) - old - unseen
    return tuple(sorted(unseen | {path for path in new if _draw(split.seed, path) < unseen_share}))


def _draw(seed: int, path: LabelNames) -> Fraction:
    """Returns a number from 0 to below 1 that a seed and a path alone decide."""
    digest = hashlib.sha256(json.dumps([seed, *path]).encode("ascii")).digest()
    return Fraction(int.from_bytes(digest), 256 ** len(digest))


def find_branches(annotations: Annotations, held_out: Sequence[str | Sequence[str]]) -> tuple[LabelNames, ...]:
    """Returns the paths of the branches that are named, sorted."""
    if isinstance(held_out, str):
        raise ValueError(f"held_out must be a list of branches, not the string {held_out!r}; pass [{held_out!r}]")
    branches = {path[:end] for path in annotations.all_paths() for end in range(1, len(path) + 1)}
    named: dict[str, list[LabelNames]] = defaultdict(list)
    for path in sorted(branches):
        named["/".join(path)].append(path)  # several, where names hold slashes
    chosen = set()
    for entry in held_out:
        if not isinstance(entry, Collection) or not all(isinstance(name, str) for name in entry):
            raise ValueError(f"a branch to be held out must be a path of names; it is {entry!r}")
        name = nfc(entry if isinstance(entry, str) else "/".join(entry))
        found = named.get(name, [])
        if not isinstance(entry, str):
            found = [path for path in found if path == tuple(map(nfc, entry))]
        if not found:
            guess = did_you_mean(name, named, "give its path from the root.")
            raise ValueError(f"there is no branch {entry!r} to be held out; {guess}")
        if len(found) > 1:
            raise ValueError(f"{len(found)} branches have the path {name!r}: {some_paths(found)}; give one of them")
        chosen.add(found[0])
    return tuple(sorted(chosen))


def is_below(path: LabelNames, branches: Sequence[LabelNames]) -> bool:
    """Returns whether a path lies in one of the branches, or is one."""
    return any(path[: len(branch)] == branch for branch in branches)
