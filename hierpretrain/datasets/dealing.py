"""Deals the images of every node to train, val and test, by exact fractions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import chain

import numpy as np

from hierpretrain._names import LabelNames
from hierpretrain.datasets.annotations import Annotations

UNUSED = "unused"
"""The split tag of images that are in no class, or both in seen and in unseen classes."""


def parts_by_own_split(
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


def deal_images(
    annotations: Annotations,
    groups: Mapping[tuple[str, str], Mapping[LabelNames, Mapping[LabelNames, Sequence[str]]]],
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
        units: dict[LabelNames, list[LabelNames]] = {}  # node -> its units without a known image
        dealt: dict[LabelNames, Counter[str]] = {}  # node -> part -> units that are there already
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
    nodes: Mapping[LabelNames, Sequence[LabelNames]],
    dealt: Mapping[LabelNames, Counter[str]],
    shares: Mapping[str, Fraction],
    generator: np.random.Generator,
) -> Iterator[tuple[LabelNames, dict[LabelNames, str]]]:
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
