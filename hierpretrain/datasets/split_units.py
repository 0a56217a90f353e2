"""On which side of a split each image is, and which images are dealt as one, in which node."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

from hierpretrain._names import LabelNames
from hierpretrain.datasets.annotations import Annotations


def sides_of_images(
    annotations: Annotations, side_of: Callable[[LabelNames], str], deepest: int, held_out_tag: str
) -> tuple[dict[str, LabelNames], dict[str, str | None]]:
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


def units_of_images(
    annotations: Annotations, paths: Mapping[str, LabelNames], sides: Mapping[str, str | None], unit: int | None
) -> dict[str, tuple[LabelNames, LabelNames]]:
    """Returns the node in which each image with a side is dealt, and what is dealt there as one.

    That is the image itself, or, with ``unit``, its node at that level in the parent of this. Nodes that share an image
    are one, the first of them by name.
    """
    units: dict[str, tuple[LabelNames, LabelNames]] = {}
    homes: dict[LabelNames, LabelNames] = {}  # node -> a node before it by name that it is one with

    def home(node: LabelNames) -> LabelNames:
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


def keep_together(
    units: Mapping[str, tuple[LabelNames, LabelNames]],
    paths: Mapping[str, LabelNames],
    sides: Mapping[str, str | None],
    values: Mapping[str, str],
    level: int,
) -> dict[str, tuple[LabelNames, LabelNames]]:
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
