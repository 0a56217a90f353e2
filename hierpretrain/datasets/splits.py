"""Draws splits into train, val and test, also of seen classes and of classes that training never sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from hierpretrain._names import LabelNames
from hierpretrain.checks import check_from_0
from hierpretrain.datasets.annotations import NO_SPLIT, Annotations
from hierpretrain.datasets.dealing import UNUSED, deal_images, parts_by_own_split
from hierpretrain.datasets.seen_classes import (
    classes_of_level,
    find_branches,
    find_unseen_classes,
    is_below,
    with_new_classes,
)
from hierpretrain.datasets.split_files import Split, names_in_file
from hierpretrain.datasets.split_units import keep_together, sides_of_images, units_of_images
from hierpretrain.taxonomy import Taxonomy


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
    parts_by_own_split(annotations.splits, shares, val_share, annotations.source)  # raises what is wrong with them
    branches = find_branches(annotations, held_out)
    if held_out_tag in ("seen", "unseen") or not held_out_tag:
        raise ValueError(f"held_out_tag must be another word than 'seen' and 'unseen'; it is {held_out_tag!r}")
    classes = classes_of_level(annotations.different_paths, number, branches)
    chosen = set(find_unseen_classes(classes, unseen, np.random.default_rng((seed, 0))))
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
    split = replace(split, unseen=with_new_classes(annotations, split, known, unseen_share))
    return replace(split, tags=_seen_unseen_tags(annotations, split, known, _held_out_tag(annotations, split)))


def _share_tags(annotations: Annotations, split: Split, known: Mapping[str, str]) -> dict[str, str]:
    """Returns the tags of all images, of which some are known, in a split of :func:`share_split`."""
    tree = Taxonomy(annotations.all_paths(), annotations.level_names)
    number = 0 if split.level is None else tree.level(split.level)
    nodes: dict[LabelNames, dict[LabelNames, list[str]]] = {}
    labels = list(annotations.labels)
    for index in annotations.more_labels:
        labels[index] = min(annotations.paths(index))
    for image, label in zip(annotations.images, labels, strict=True):
        nodes.setdefault(label[:number], {})[(image,)] = [image]
    parts = parts_by_own_split(annotations.splits, split.shares, None, annotations.source)
    return deal_images(annotations, {("", ""): nodes}, parts, split.seed, known)


def _seen_unseen_tags(
    annotations: Annotations, split: Split, known: Mapping[str, str], held_out_tag: str
) -> dict[str, str]:
    """Returns the tags of all images, of which some are known, in a split of :func:`seen_unseen_split`."""
    tree = Taxonomy(annotations.all_paths(), annotations.level_names)
    number = tree.level(split.level or "")
    outside = annotations.extra_labels.get(split.unit) if split.unit and split.unit not in tree.level_names else None
    unit_number = None if split.unit is None or outside is not None else tree.level(split.unit)
    unseen = set(split.unseen)

    def side_of(path: LabelNames) -> str:
        """Returns the side of a path, '' if it does not reach down to the classes."""
        if is_below(path, split.held_out):
            return held_out_tag
        return "" if len(path) < number else "unseen" if path[:number] in unseen else "seen"

    side_by_path = {path: side_of(path) for path in annotations.different_paths}
    paths, sides = sides_of_images(annotations, side_by_path.__getitem__, max(number, unit_number or 0), held_out_tag)
    units = units_of_images(annotations, paths, sides, unit_number)
    if outside is not None:
        units = keep_together(units, paths, sides, dict(zip(annotations.images, outside, strict=True)), number)
    groups: dict[tuple[str, str], dict[LabelNames, dict[LabelNames, list[str]]]] = {}
    for image, own in zip(annotations.images, annotations.splits, strict=True):
        if image in units:
            node, whole = units[image]
            nodes = groups.setdefault((sides[image] or "", "" if split.shares is not None else own), {})
            nodes.setdefault(node, {}).setdefault(whole, []).append(image)
    parts = parts_by_own_split(annotations.splits, split.shares, split.val_share, annotations.source)
    return deal_images(annotations, groups, parts, split.seed, known)


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
