"""Draws splits into train, val and test, also of seen classes and of classes that training never sees."""

from __future__ import annotations

import hashlib
import json
import numbers
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import chain

import numpy as np

from hierpretrain._names import did_you_mean
from hierpretrain.checks import check_from_0
from hierpretrain.datasets.annotations import NO_SPLIT, Annotations, nfc
from hierpretrain.datasets.messages import some, some_paths
from hierpretrain.datasets.split_files import Split, names_in_file
from hierpretrain.taxonomy import Taxonomy

UNUSED = "unused"
"""The split tag of images that are in no class, or both in seen and in unseen classes."""

_Path = tuple[str, ...]


def seen_unseen_split(
    annotations: Annotations,
    *,
    level: int | str,
    unseen: Sequence[str | Sequence[str]] | float,
    seed: int = 0,
    shares: Sequence[float] | None = (0.6, 0.2, 0.2),
    val_share: float | None = None,
    unit: int | str | None = None,
    held_out: Sequence[str | Sequence[str]] = (),
    held_out_tag: str = "held_out",
) -> Split:
    """Divides classes into seen and unseen ones, and the images of both into train, val and test.

    Images are dealt separately in every finest node. Its images are shuffled, and train, val and test get their
    fractions of them, rounded down or up so that the totals of the nodes so far are as near to the fractions as can be.
    Train gets at least one image of every node. Of a node with two images, the other goes to the split that is then
    furthest behind its fraction.

    Args:
        annotations: The annotations of all images; neither their order nor that of an image's paths matters.
        level: The level whose nodes are the classes, by name or by number (1 is the coarsest). The same name under two
            parents is two classes. Images without a label at this level get the tag ``'unused'``, and so do images that
            are both in seen and in unseen classes.
        unseen: The unseen classes, each by its path, by its path joined with ``/``, or by its name if no other class
            has the same. Or the fraction of the classes that are drawn as unseen, above 0 and below 1.
        seed: The seed of all draws, from 0.
        shares: The fractions of train, val and test, which sum to 1; the first is above 0. The tags are
            ``{seen,unseen}_train``, ``_val`` and ``_test``. With None, the annotations' own splits are kept inside seen
            and unseen classes, with tags such as ``seen_query``.
        val_share: The fraction of the own split ``'train'`` that becomes val, above 0 and below 1; only with
            ``shares=None``.
        unit: A level, ``level`` itself or below it, whose nodes are kept together. With ``'model'``, all views of a CAD
            model get the same tag. These nodes are then dealt within their parent, instead of images; nodes that share
            an image are dealt as one, in the parent of the first by name. Or the name of an
            extra label, such as ``'product_id'`` of a product that hangs in two categories: all images of one value are
            kept together, are dealt in the class of the first of them, and are ``'unused'`` if they are both in seen
            and in unseen classes.
        held_out: Branches of the tree that are neither seen nor unseen, by their paths from the root, such as
            ``'food'`` or ``'food/fruit'``, or as sequences of names, ``('food', 'fruit')``: to be looked at when all
            settings are chosen. Their images are divided like the others, with tags such as ``held_out_train``, also
            those without a label at ``level``. Images that hang both in these branches and elsewhere get the tag
            ``'unused'``, so nothing of the branches is trained on.
        held_out_tag: What the tags of these images begin with.

    Raises:
        ValueError: If a level or a class does not exist, a class is no text, several classes or branches have a given
            name, no class is seen or none is unseen, a branch does not exist, ``held_out_tag`` is ``'seen'`` or
            ``'unseen'``, a fraction is out of range, ``unit`` is above ``level``, or ``val_share`` is given with
            ``shares``, with an own split ``'val'`` or without an own split ``'train'``.

    Example:
        >>> images = [f"{name}/{i}.jpg" for name in ("cat", "dog", "saw") for i in range(5)]
        >>> records = [(image, (image.split("/")[0],), "all") for image in images]
        >>> split = seen_unseen_split(Annotations.from_records(records, ["kind"], "pets"), level="kind", unseen=["dog"])
        >>> [image for image, tag in split.tags.items() if tag == "unseen_test"], split.tags["cat/1.jpg"]
        (['dog/3.jpg'], 'seen_train')
    """
    check_from_0(seed=seed)
    tree = Taxonomy(annotations.all_paths(), annotations.level_names)
    number = tree.level(level)
    outside = annotations.extra_labels.get(unit) if isinstance(unit, str) and unit not in tree.level_names else None
    unit_number = None if unit is None or outside is not None else tree.level(unit)
    if unit_number is not None and unit_number < number:
        raise ValueError(
            f"unit must be the level {tree.level_names[number - 1]!r} of the classes or one below it, or a unit would "
            f"have seen and unseen classes; it is {tree.level_names[unit_number - 1]!r}"
        )
    _parts(annotations.splits, shares, val_share, annotations.source)  # raises what is wrong with them
    branches = _branches(annotations, held_out)
    if held_out_tag in ("seen", "unseen") or not held_out_tag:
        raise ValueError(f"held_out_tag must be another word than 'seen' and 'unseen'; it is {held_out_tag!r}")
    classes = _classes(annotations.different_paths, number, branches)
    chosen = set(_unseen_classes(classes, unseen, np.random.default_rng((seed, 0))))
    if not 0 < len(chosen) < len(classes):
        raise ValueError(
            f"some classes must be seen and some unseen; of the {len(classes)} of level "
            f"{tree.level_names[number - 1]!r}, {len(chosen)} would be unseen"
        )

    split = Split(
        tags={},
        level=tree.level_names[number - 1],
        unseen=tuple(sorted(chosen)),
        seed=seed,
        shares=None if shares is None else tuple(map(float, shares)),
        val_share=None if val_share is None else float(val_share),
        unit=str(unit) if outside is not None else None if unit_number is None else tree.level_names[unit_number - 1],
        source=annotations.source,
        held_out=branches,
    )
    return replace(split, tags=_seen_unseen_tags(annotations, split, {}, held_out_tag))


def share_split(
    annotations: Annotations,
    *,
    level: int | str | None = None,
    shares: Sequence[float] = (0.6, 0.2, 0.2),
    seed: int = 0,
) -> Split:
    """Divides the images of every class into train, val and test.

    Images are dealt in every node of a level as :func:`seen_unseen_split` deals those of a finest node: train gets one
    at least, and the totals of the nodes so far are as near to the fractions as can be.

    Args:
        annotations: The annotations of all images; neither their order nor that of an image's paths matters. An image
            with several paths goes by the first of them by name.
        level: The level in whose nodes images are dealt, by name or by number (1 is the coarsest). A path that ends
            above it is a node of its own. With None, all images are dealt together.
        shares: The fractions of train, val and test, which sum to 1; the first is above 0. They are the tags, too.
        seed: The seed of the draw, from 0.

    Raises:
        ValueError: If there is no such level, or a fraction or the seed is out of range.

    Example:
        >>> records = [(f"{kind}/{i}.jpg", (kind,), "all") for kind in ("cat", "dog") for i in range(5)]
        >>> split = share_split(Annotations.from_records(records, ["kind"], "pets"), level="kind")
        >>> [image for image, tag in split.tags.items() if tag == "test"]
        ['cat/2.jpg', 'dog/0.jpg']
    """
    check_from_0(seed=seed)
    tree = Taxonomy(annotations.all_paths(), annotations.level_names)
    number = 0 if level is None else tree.level(level)
    split = Split(
        tags={},
        level=tree.level_names[number - 1] if number else None,
        unseen=(),
        seed=seed,
        shares=tuple(map(float, shares)),
        val_share=None,
        unit=None,
        source=annotations.source,
    )
    return replace(split, tags=_share_tags(annotations, split, {}))


def renewed_split(annotations: Annotations, split: Split, *, unseen_share: float | None = None) -> Split:
    """Returns a split for images of which some are new and some are gone: every image that it knows keeps its tag.

    New images are dealt by the rules that the split records, in the nodes and units in which they belong: each node
    comes as near to its fractions as can be, with the images that it has already. A new image of a unit, such as a
    further view of an object, gets the tag that the images of the unit have. Images that are gone are dropped.

    Classes stay seen or unseen. A class of new images alone is drawn by itself, from its path and the seed, so the draw
    does not depend on the other new classes; so is a seen class all of whose images were replaced, since a split lists
    the unseen classes only.

    Args:
        annotations: The annotations of all images there are now; neither their order nor that of an image's paths
            matters.
        split: A split of :func:`share_split` or :func:`seen_unseen_split`, whose other images they were.
        unseen_share: The probability that a new class is unseen, from 0 to 1; by default the fraction of unseen classes
            among those that the split knows.

    Raises:
        ValueError: If the split knows none of the images, ``unseen_share`` is out of range or given for a split without
            unseen classes, or images are new and the split records no fractions to deal them by, or a level or a label
            that the annotations do not have.

    Example:
        >>> records = [(f"{kind}/{i}.jpg", (kind,), "all") for kind in ("cat", "dog") for i in range(5)]
        >>> old = share_split(Annotations.from_records(records[1:-1], ["kind"], "pets"), level="kind")
        >>> new = renewed_split(Annotations.from_records(records[2:], ["kind"], "pets"), old)
        >>> old.tags.keys() - new.tags.keys(), {image: new.tags[image] for image in new.tags.keys() - old.tags.keys()}
        ({'cat/1.jpg'}, {'dog/4.jpg': 'test'})
    """
    if unseen_share is not None and not 0 <= unseen_share <= 1:
        raise ValueError(f"unseen_share must be from 0 to 1; it is {unseen_share!r}")
    if unseen_share is not None and not split.unseen:
        raise ValueError("the split has no unseen classes, so no new class is drawn as one; leave out unseen_share")
    known = {image: split.tags[name] for image, name in names_in_file(split.tags, annotations.images).items()}
    if not known:
        raise ValueError(
            f"the split knows none of the {len(annotations.images)} images of {annotations.source}, so none would keep "
            "its tag; correct the data root, or make a new split file"
        )
    if len(known) == len(annotations.images):
        return replace(split, tags=known)
    if not split.unseen:
        if split.shares is None:
            raise ValueError(
                "the split file does not record by which fractions its new images can be dealt out: give them, as in "
                "--shares 0.8 0.1 0.1"
            )
        return replace(split, tags=_share_tags(annotations, split, known))
    if split.shares is None and all(tag.endswith(f"_{NO_SPLIT}") for tag in known.values() if tag != UNUSED):
        # The data's own splits were not kept: `hierpretrain init --split class` does so.
        annotations = replace(annotations, splits=[NO_SPLIT] * len(annotations.images))
    split = replace(split, unseen=_with_new_classes(annotations, split, known, unseen_share))
    return replace(split, tags=_seen_unseen_tags(annotations, split, known, _held_out_tag(annotations, split)))


def _share_tags(annotations: Annotations, split: Split, known: Mapping[str, str]) -> dict[str, str]:
    """Returns the tags of all images, of which some are known, in a split of :func:`share_split`."""
    tree = Taxonomy(annotations.all_paths(), annotations.level_names)
    number = 0 if split.level is None else tree.level(split.level)
    nodes: dict[_Path, dict[_Path, list[str]]] = {}
    labels = list(annotations.labels)
    for index in annotations.more_labels:
        labels[index] = min(annotations.paths(index))
    for image, label in zip(annotations.images, labels, strict=True):
        nodes.setdefault(label[:number], {})[(image,)] = [image]
    parts = _parts(annotations.splits, split.shares, None, annotations.source)
    return _dealt_tags(annotations, {("", ""): nodes}, parts, split.seed, known)


def _seen_unseen_tags(
    annotations: Annotations, split: Split, known: Mapping[str, str], held_out_tag: str
) -> dict[str, str]:
    """Returns the tags of all images, of which some are known, in a split of :func:`seen_unseen_split`."""
    tree = Taxonomy(annotations.all_paths(), annotations.level_names)
    number = tree.level(split.level or "")
    outside = annotations.extra_labels.get(split.unit) if split.unit and split.unit not in tree.level_names else None
    unit_number = None if split.unit is None or outside is not None else tree.level(split.unit)
    unseen = set(split.unseen)

    def side_of(path: _Path) -> str:
        """Returns the side of a path, '' if it does not reach down to the classes."""
        if _is_below(path, split.held_out):
            return held_out_tag
        return "" if len(path) < number else "unseen" if path[:number] in unseen else "seen"

    side_by_path = {path: side_of(path) for path in annotations.different_paths}
    paths, sides = _sides(annotations, side_by_path.__getitem__, max(number, unit_number or 0), held_out_tag)
    units = _units(annotations, paths, sides, unit_number)
    if outside is not None:
        units = _kept_together(units, paths, sides, dict(zip(annotations.images, outside, strict=True)), number)
    groups: dict[tuple[str, str], dict[_Path, dict[_Path, list[str]]]] = {}
    for image, own in zip(annotations.images, annotations.splits, strict=True):
        if image in units:
            node, whole = units[image]
            nodes = groups.setdefault((sides[image] or "", "" if split.shares is not None else own), {})
            nodes.setdefault(node, {}).setdefault(whole, []).append(image)
    parts = _parts(annotations.splits, split.shares, split.val_share, annotations.source)
    return _dealt_tags(annotations, groups, parts, split.seed, known)


def _branches(annotations: Annotations, held_out: Sequence[str | Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Returns the paths of the branches that are named, sorted."""
    if isinstance(held_out, str):
        raise ValueError(f"held_out must be a list of branches, not the string {held_out!r}; pass [{held_out!r}]")
    branches = {path[:end] for path in annotations.all_paths() for end in range(1, len(path) + 1)}
    named: dict[str, list[_Path]] = defaultdict(list)
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


def _parts(
    splits: Collection[str], shares: Sequence[float] | None, val_share: float | None, source: str
) -> dict[str, dict[str, Fraction]]:
    """Returns the own splits that are dealt anew, each with the fractions of its parts.

    With ``shares``, own splits do not count: all images are dealt together, under the name ''.
    """
    if shares is not None:
        if val_share is not None:
            raise ValueError(
                f"val_share is for own splits, and shares {tuple(shares)!r} replace those; pass shares=None or leave "
                "val_share out"
            )
        # As fractions of the decimal numbers that people write: 0.6 is exactly three fifths.
        exact = [Fraction(str(float(share))) for share in shares if 0 <= share <= 1]
        if not len(exact) == len(shares) == 3 or abs(sum(exact) - 1) > 1e-6 or exact[0] == 0:
            raise ValueError(
                "shares must be three numbers from 0 to 1 for train, val and test that sum to 1, the first above 0; "
                f"they are {tuple(shares)!r}"
            )
        return {"": {name: share / sum(exact) for name, share in zip(("train", "val", "test"), exact, strict=True)}}
    if val_share is None:
        return {}
    if not 0 < val_share < 1:
        raise ValueError(f"val_share must be above 0 and below 1; it is {val_share!r}")
    own = sorted(set(splits))
    if "train" not in own or "val" in own:
        raise ValueError(
            "val_share takes val out of a split 'train' where there is no split 'val'; "
            f"{source} has {own}; leave val_share out, or pass shares"
        )
    return {"train": {"train": 1 - Fraction(str(float(val_share))), "val": Fraction(str(float(val_share)))}}


def _is_below(path: _Path, branches: Sequence[_Path]) -> bool:
    return any(path[: len(branch)] == branch for branch in branches)


def _classes(paths: Collection[_Path], level: int, held_out: Sequence[_Path]) -> list[_Path]:
    """Returns the nodes of a level that paths reach outside the branches that are held out, sorted."""
    return sorted({path[:level] for path in paths if len(path) >= level and not _is_below(path, held_out)})


def _with_new_classes(
    annotations: Annotations, split: Split, known: Mapping[str, str], unseen_share: float | None
) -> tuple[_Path, ...]:
    """Returns the unseen classes of a split, and those of the new classes that are drawn as unseen.

    A class is new if the split knows no image of it and does not list it as unseen.
    """
    level = Taxonomy(annotations.all_paths(), annotations.level_names).level(split.level or "")
    indices = [index for index, image in enumerate(annotations.images) if image in known]
    old = set(_classes([path for index in indices for path in annotations.paths(index)], level, split.held_out))
    unseen = set(split.unseen)
    if unseen_share is None:
        unseen_share = len(unseen) / len(old | unseen)
    new = set(_classes(annotations.different_paths, level, split.held_out)) - old - unseen
    return tuple(sorted(unseen | {path for path in new if _draw(split.seed, path) < unseen_share}))


def _draw(seed: int, path: _Path) -> Fraction:
    """Returns a number from 0 to below 1 that a seed and a path alone decide."""
    digest = hashlib.sha256(json.dumps([seed, *path]).encode("ascii")).digest()
    return Fraction(int.from_bytes(digest), 256 ** len(digest))


def _held_out_tag(annotations: Annotations, split: Split) -> str:
    """Returns what the tags of the images in held-out branches begin with, as the split's own tags tell.

    Example:
        >>> images = Annotations.from_records([("a.jpg", ("x",), "all")], ["kind"], "pets")
        >>> tags = {"a.jpg": "seen_train", "b.jpg": "unseen_food_val"}
        >>> _held_out_tag(images, Split(tags, "kind", (), 0, (0.8, 0.1, 0.1), None, None, "pets"))
        'unseen_food'
    """
    parts = {"train", "val", "test"} | (set() if split.shares is not None else set(annotations.splits))
    for tag in sorted(set(split.tags.values())):
        for part in sorted(parts, key=len, reverse=True):  # one may end with another
            if tag.endswith(f"_{part}"):
                if (word := tag.removesuffix(f"_{part}")) not in ("seen", "unseen"):
                    return word
                break
    return "held_out"


def _unseen_classes(
    classes: Sequence[tuple[str, ...]], unseen: Sequence[str | Sequence[str]] | float, generator: np.random.Generator
) -> list[tuple[str, ...]]:
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
    named: dict[str, list[tuple[str, ...]]] = defaultdict(list)
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


def _sides(
    annotations: Annotations, side_of: Callable[[_Path], str], deepest: int, held_out_tag: str
) -> tuple[dict[str, _Path], dict[str, str | None]]:
    """Returns the path that every image goes by, and the sides of those that have one.

    An image with several paths goes by the first of them, by name, that reaches down to the class and, if it can, to
    the unit, at the level ``deepest``. If they lead to several sides, or one of them alone to a branch that is held
    out, its side is ``None``.
    """
    paths = dict(zip(annotations.images, annotations.labels, strict=True))
    sides: dict[str, str | None] = {image: side_of(path) for image, path in paths.items()}
    for index in annotations.more_labels:
        several, image = annotations.paths(index), annotations.images[index]
        paths[image] = max(sorted(several), key=lambda path: min(len(path), deepest))
        found = set(map(side_of, several))
        if held_out_tag not in found:
            found.discard("")
        sides[image] = None if len(found) > 1 else next(iter(found), "")
    return paths, {image: side for image, side in sides.items() if side != ""}


def _units(
    annotations: Annotations, paths: Mapping[str, _Path], sides: Mapping[str, str | None], unit: int | None
) -> dict[str, tuple[_Path, _Path]]:
    """Returns the node in which each image with a side is dealt, and what is dealt there as one.

    That is the image itself, or, with ``unit``, its node at that level in the parent of this. Nodes that share an image
    are one, the first of them by name.
    """
    units: dict[str, tuple[_Path, _Path]] = {}
    homes: dict[_Path, _Path] = {}  # node -> a node before it by name that it is one with

    def home(node: _Path) -> _Path:
        while (above := homes.get(node, node)) != node:
            homes[node] = node = homes.get(above, above)  # half the way next time
        return node

    for index in annotations.more_labels if unit is not None else ():
        if sides.get(annotations.images[index]) is not None:
            nodes = sorted({home(path[:unit]) for path in annotations.paths(index) if len(path) >= unit})
            for other in nodes[1:]:
                homes[other] = nodes[0]
    for image, side in sides.items():
        if side is not None:
            path = paths[image]
            whole = unit is not None and len(path) >= unit
            node = home(path[:unit]) if whole else path
            units[image] = (node[:-1], node) if whole else (node, (image,))
    return units


def _kept_together(
    units: Mapping[str, tuple[_Path, _Path]],
    paths: Mapping[str, _Path],
    sides: Mapping[str, str | None],
    values: Mapping[str, str],
    level: int,
) -> dict[str, tuple[_Path, _Path]]:
    """Returns units of which images of one value of an extra label are one, in the class of the first of them.

    There is none of values whose images are on several sides.
    """
    together: dict[str, list[str]] = defaultdict(list)
    for image in sorted(sides):
        if values[image]:
            together[values[image]].append(image)
    kept = dict(units)
    for value, images in together.items():
        torn = len({sides[image] for image in images}) > 1
        home = paths[images[0]][:level]
        for image in images:
            if torn:
                kept.pop(image, None)
            elif image in kept:
                kept[image] = home, (value,)
    return kept


def _dealt_tags(
    annotations: Annotations,
    groups: Mapping[tuple[str, str], Mapping[_Path, Mapping[_Path, Sequence[str]]]],
    parts: Mapping[str, Mapping[str, Fraction]],
    seed: int,
    known: Mapping[str, str],
) -> dict[str, str]:
    """Returns the tags of all images, in their order; those that are in no group are unused.

    Args:
        annotations: The annotations of all images.
        groups: (side, own split) -> node -> unit -> images.
        parts: Own split -> its parts, each with its fraction. Other own splits are not divided.
        seed: The seed of the draw.
        known: Image -> its tag, for images that keep the one that they have.
    """
    tags = dict.fromkeys(annotations.images, UNUSED)
    generator = np.random.default_rng((seed, 1))
    for (side, own), nodes in sorted(groups.items()):
        prefix = f"{side}_" if side else ""
        if own not in parts:
            images = chain.from_iterable(images for wholes in nodes.values() for images in wholes.values())
            tags.update(dict.fromkeys(images, f"{prefix}{own}"))
            continue
        part_by_tag = {f"{prefix}{part}": part for part in parts[own]}
        units: dict[_Path, list[_Path]] = {}  # node -> its units without a known image
        dealt: dict[_Path, Counter[str]] = {}  # node -> part -> units that are there already
        for node in sorted(nodes):
            units[node], dealt[node] = [], Counter()
            for whole, images in sorted(nodes[node].items()):
                found = Counter(part_by_tag[known[image]] for image in images if known.get(image) in part_by_tag)
                if found:  # a unit with new images stays whole
                    part = max(sorted(found), key=found.__getitem__)
                    dealt[node][part] += 1
                    tags.update(dict.fromkeys(images, f"{prefix}{part}"))
                elif not known.keys() >= set(images):  # a unit under tags of the user's own is not dealt
                    units[node].append(whole)
        for node, part_by_unit in _deal(units, dealt, parts[own], generator):
            for whole, part in part_by_unit.items():
                tags.update(dict.fromkeys(nodes[node][whole], f"{prefix}{part}"))
    return tags | dict(known)


def _deal(
    nodes: Mapping[_Path, Sequence[_Path]],
    dealt: Mapping[_Path, Counter[str]],
    shares: Mapping[str, Fraction],
    generator: np.random.Generator,
) -> Iterator[tuple[_Path, dict[_Path, str]]]:
    """Yields every node with the part that each of its units goes to.

    Args:
        nodes: Node -> the units that are to be dealt.
        dealt: Node -> part -> the number of its units that are there already.
        shares: Part -> its fraction of all units; the fractions sum to 1.
        generator: The generator that shuffles the units.
    """
    first = next(iter(shares))
    total = sum((counts.total() for counts in dealt.values()), 0)
    behind = {part: share * total - sum(counts[part] for counts in dealt.values()) for part, share in shares.items()}
    for node, units in nodes.items():
        if not units:
            continue
        # Every part gets its fraction of the units, rounded down for now.
        wanted = _wanted(dealt[node], len(units), shares)
        counts = {part: int(number) for part, number in wanted.items()}
        behind = {
            part: behind[part] + share * len(units) - counts[part] + dealt[node][part] for part, share in shares.items()
        }
        # The units that are left go one each to the parts that are furthest behind their fractions of all units so far;
        # but the first part comes first if it has none.
        rounded_down = sorted(
            (part for part in shares if wanted[part] > counts[part]),
            key=lambda part: (not (part == first and counts[part] == 0), -behind[part]),
        )
        for part in rounded_down[: len(units) + dealt[node].total() - sum(counts.values())]:
            counts[part] += 1
            behind[part] -= 1
        order = iter(generator.permutation(len(units)).tolist())
        new = [part for part, count in counts.items() for _ in range(count - dealt[node][part])]
        yield node, {units[next(order)]: part for part in new}


def _wanted(dealt: Counter[str], number: int, shares: Mapping[str, Fraction]) -> dict[str, Fraction]:
    """Returns how many units each part of a node should have, once a number of units is added to those dealt already.

    A part that has more than its fraction of all units keeps what it has, and the others share the rest.

    Example:
        >>> shares = {"train": Fraction(3, 5), "val": Fraction(1, 5), "test": Fraction(1, 5)}
        >>> {part: str(wanted) for part, wanted in _wanted(Counter(train=3, val=3), 4, shares).items()}
        {'train': '21/4', 'val': '3', 'test': '7/4'}
    """
    wanted = {part: Fraction(dealt[part]) for part in shares}
    open_parts = list(shares)
    while True:
        rest = dealt.total() + number - sum(dealt[part] for part in shares if part not in open_parts)
        whole = sum((shares[part] for part in open_parts), Fraction(0))
        wanted |= {part: shares[part] / whole * rest for part in open_parts}
        if not (over := [part for part in open_parts if wanted[part] < dealt[part]]):
            return wanted
        wanted |= {part: Fraction(dealt[part]) for part in over}
        open_parts = [part for part in open_parts if part not in over]
