"""A set of embedded images with all that metrics and pictures need to know of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hierpretrain._names import nfc
from hierpretrain.checks import check_directions, check_level
from hierpretrain.taxonomy import PAD, Taxonomy

Splits = str | Sequence[str]
"""One split tag or several."""

Levels = int | str | Sequence[int | str]
"""One level, by name or number, or extra label column, by name; or several."""


@dataclass(frozen=True)
class Embeddings:
    """N embedded images.

    Attributes:
        features: (N, D) float32 embeddings.
        labels: (N, L) label matrix, or (N, P, L) if images have several paths.
        extra_labels: (N, F) int64, the extra label columns.
        splits: N split tags.
        paths: N image paths.
        taxonomy: The tree of ``labels``.
        extra_names: F names of the extra label columns.
        extra_values: What the ids of extra label columns stand for: name -> the values in the order of their ids.
        skipped: The images that could not be read and are not among the N: path -> why.
        indices: (N,) int64, which item of its data set each image is; ``None``: not known.
        keys: N texts by which people know the images, from a list's key column; or nothing at all.
        metadata: What else a list says of the images: name of the column -> N texts.
        digests: N texts that tell whether an image is still what was embedded (see ``image_digest``); or nothing.
        model: The name of the model that embedded them, for people; empty: not known.
        fingerprint: What tells that model from all others; empty: not known.
    """

    features: Tensor
    labels: Tensor
    extra_labels: Tensor
    splits: list[str]
    paths: list[str]
    taxonomy: Taxonomy
    extra_names: tuple[str, ...]
    extra_values: Mapping[str, Sequence[str]] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    indices: Tensor | None = None
    keys: Sequence[str] = ()
    metadata: Mapping[str, Sequence[str]] = field(default_factory=dict)
    digests: Sequence[str] = ()
    model: str = ""
    fingerprint: str = ""

    @classmethod
    def from_columns(cls, columns: Mapping[str, NDArray[Any]], dataset_meta: Mapping[str, Any]) -> Embeddings:
        """Puts collected samples together.

        Args:
            columns: What :func:`columns` made of them, in any order; images that a distributed sampler repeats to fill
                up its batches are dropped by their number.
            dataset_meta: The data set's ``metainfo``.

        Raises:
            ValueError: If there is no sample or the data set has no taxonomy.
        """
        if not columns:
            raise ValueError("there is no embedded image to evaluate; is the data set of the split empty?")
        numbers = columns["sample_idx"]
        indices, last = np.unique(numbers[::-1], return_index=True)
        kept = len(numbers) - 1 - last
        return cls(
            features=torch.from_numpy(columns["embedding"][kept]),
            labels=torch.from_numpy(columns["gt_label"][kept]),
            extra_labels=torch.from_numpy(columns["extra_labels"][kept]),
            splits=columns["split"][kept].tolist(),
            paths=columns["img_path"][kept].tolist(),
            taxonomy=_taxonomy(dataset_meta),
            extra_names=tuple(dataset_meta.get("extra_label_names", ())),
            extra_values=dataset_meta.get("extra_label_values", {}),
            indices=torch.from_numpy(indices),
        )

    def check(self) -> None:
        """Raises a ValueError that names the first image whose embedding is zero or not finite, if there is one."""
        check_directions(self.features, "embeddings", self.paths)

    def of(self, splits: Splits | None) -> Embeddings:
        """Returns the images of some splits; all of them for ``None``.

        Raises:
            ValueError: If no image is of one of the splits.
        """
        if splits is None:
            return self
        chosen = as_tags(splits)
        check_splits(chosen, {"splits": tuple(dict.fromkeys(self.splits))})
        return self.select([i for i, split in enumerate(self.splits) if split in chosen])

    def select(self, chosen: Sequence[int]) -> Embeddings:
        """Returns the images of some indices, in their order."""
        chosen = list(chosen)
        return replace(
            self,
            features=self.features[chosen],
            labels=self.labels[chosen],
            extra_labels=self.extra_labels[chosen],
            splits=[self.splits[i] for i in chosen],
            paths=[self.paths[i] for i in chosen],
            indices=None if self.indices is None else self.indices[chosen],
            keys=[self.keys[i] for i in chosen] if self.keys else (),
            metadata={name: [column[i] for i in chosen] for name, column in self.metadata.items()},
            digests=[self.digests[i] for i in chosen] if self.digests else (),
        )

    def search(self, query: Splits | None = None, gallery: Splits | None = None) -> tuple[Embeddings, Embeddings, bool]:
        """Returns the queries, the gallery that they are searched for in, and whether the two are the same images.

        Args:
            query: Splits of the queries; by default ``'query'``, or every image where there is no such split or no
                split ``'gallery'``.
            gallery: Splits of the gallery; by default ``'gallery'`` beside the default queries, and otherwise the
                queries themselves, each of which is then to be left out of its own list.

        Raises:
            ValueError: If a split has no image, or is of both sides without the two being the same.
        """
        query, gallery = default_sides(query, gallery, self.splits)
        if are_same(query, gallery):
            images = self.of(query)
            return images, images, True
        check_apart(query, gallery)
        return self.of(query), self.of(gallery), False

    def search_among(
        self, query: Splits | None = None, gallery: Splits | None = None
    ) -> tuple[Embeddings, Embeddings, bool, Tensor]:
        """Returns what :meth:`search` does, where queries may be a part of the gallery, and which images are queries.

        Args:
            query: Splits of the queries, as for :meth:`search`.
            gallery: Splits of the gallery, as for :meth:`search`; or the splits of the queries and others.

        Returns:
            The images of which some are queries, the gallery, whether the two are the same images, so that each query
            is to be left out of its own list, and the (S,) int64 indices of the queries.

        Raises:
            ValueError: If a split has no image, or only some splits of the queries are of the gallery.
        """
        if inside_gallery(query, gallery):
            images, tags = self.of(gallery), as_tags(query)
            self.of(query)  # which raises if a split has no image
            return images, images, True, torch.tensor([i for i, tag in enumerate(images.splits) if tag in tags])
        asked, offered, same_set = self.search(query, gallery)
        return asked, offered, same_set, torch.arange(len(asked.features))

    def nodes(self, level: int | str) -> Tensor:
        """Returns the nodes at a level on the paths of each image, or its value in an extra label column.

        Returns:
            (N,) or, if images have several paths, (N, P) int64: ids of the taxonomy's nodes, or of the column's values.
            ``PAD`` where a path ends above the level.

        Raises:
            ValueError: If there is no such level or column.
        """
        if level in self.extra_names:
            return self.extra_labels[:, self.extra_names.index(str(level))]
        return self.labels[..., self.taxonomy.level(level) - 1]

    def classes(self, level: int | str) -> Tensor:
        """Returns each image's class at a level of the tree or in an extra label column: (N,) int64, ``PAD`` for none.

        The class of an image of several paths is the node that all of them name which reach the level; where they name
        several, it has none.

        Raises:
            ValueError: If there is no such level or column.
        """
        nodes = self.nodes(level)
        return nodes if nodes.ndim == 1 else nodes.amax(1).masked_fill(self.in_several(level), PAD)

    def in_several(self, level: int | str) -> Tensor:
        """Returns whether the paths of each image name several nodes of a level, so that it has no class: (N,) bool.

        Raises:
            ValueError: If there is no such level or column.
        """
        nodes = self.nodes(level).reshape(len(self.labels), -1)  # (N, P)
        return ((nodes != PAD) & (nodes != nodes.amax(1, keepdim=True))).any(1)

    def level_name(self, level: int | str) -> str:
        """Returns the name of a level, or of an extra label column."""
        return str(level) if level in self.extra_names else self.taxonomy.level_names[self.taxonomy.level(level) - 1]

    def names(self, level: int | str) -> list[str]:
        """Returns the name of each image's class at a level, ``'(none)'`` or ``'(several)'`` where it has not one.

        In an extra label column, the names are its values, or their ids where the data set does not tell those.
        """
        ids, several = self.classes(level).tolist(), self.in_several(level).tolist()
        if level not in self.extra_names:
            number = self.taxonomy.level(level)
            known = {node: self.taxonomy.name(number, node) for node in set(ids) - {PAD}}
        elif values := self.extra_values.get(str(level)):
            known = dict(enumerate(values))
        else:
            known = {value: str(value) for value in ids}
        known[PAD] = "(none)"
        return ["(several)" if more else known[node] for node, more in zip(ids, several, strict=True)]


def default_sides(
    query: Splits | None, gallery: Splits | None, splits: Iterable[str]
) -> tuple[Splits | None, Splits | None]:
    """Returns the sides of a search among images of some splits: by default ``'query'`` and ``'gallery'``, if they are.

    Example:
        >>> default_sides(None, None, ["train", "query", "gallery"]), default_sides("train", None, ["query", "gallery"])
        (('query', 'gallery'), ('train', None))
    """
    both = query is None and gallery is None and {"query", "gallery"} <= set(splits)
    return ("query", "gallery") if both else (query, gallery)


def are_same(query: Splits | None, gallery: Splits | None) -> bool:
    """Returns whether the queries are the gallery's images, so that each is searched for among the others.

    Example:
        >>> are_same("test", ["test"]), are_same("test", None), are_same("test", "train"), are_same(None, "train")
        (True, True, False, False)
    """
    return gallery is None or (query is not None and set(as_tags(query)) == set(as_tags(gallery)))


def check_apart(query: Splits | None, gallery: Splits | None) -> None:
    """Raises a ValueError unless there are queries and they share no split with the gallery.

    Example:
        >>> check_apart(["test", "train"], ["train", "val"])
        Traceback (most recent call last):
        ValueError: queries and gallery must be different splits here, or one and the same; ['train'] are of both
    """
    if query is None or (both := set(as_tags(query)) & set(as_tags(gallery))):
        raise ValueError(
            "queries and gallery must be different splits here, or one and the same; "
            + (f"{sorted(both)} are of both" if query is not None else f"give the queries of gallery={gallery!r}")
        )


def inside_gallery(query: Splits | None, gallery: Splits | None) -> bool:
    """Returns whether the splits of the queries are some of the splits of the gallery, and not all of them.

    Example:
        >>> inside_gallery("test", ["test", "train"]), inside_gallery("test", "test"), inside_gallery("test", "train")
        (True, False, False)
    """
    return query is not None and gallery is not None and set(as_tags(query)) < set(as_tags(gallery))


def as_tags(splits: Splits | None) -> tuple[str, ...]:
    """Returns split tags as a tuple, whichever way they were given, in the Unicode form that data sets have."""
    return () if splits is None else tuple(map(nfc, (splits,) if isinstance(splits, str) else splits))


def as_levels(levels: Levels) -> tuple[int | str, ...]:
    """Returns levels as a tuple, whichever way they were given.

    Raises:
        ValueError: If one is neither a name nor a number.

    Example:
        >>> as_levels("kind"), as_levels([1, "kind"])
        (('kind',), (1, 'kind'))
    """
    several = (levels,) if isinstance(levels, str) or not isinstance(levels, Iterable) else tuple(levels)
    for level in several:
        check_level(level=level)
    return several


def _taxonomy(dataset_meta: Mapping[str, Any]) -> Taxonomy:
    if "taxonomy" not in dataset_meta:
        raise ValueError("the data set has no `taxonomy` in its metainfo; use one of hierpretrain.datasets")
    return Taxonomy.from_dict(dataset_meta["taxonomy"])


def check_levels(levels: Iterable[int | str], dataset_meta: Mapping[str, Any]) -> None:
    """Raises a ValueError unless a data set has these levels or extra label columns; called before training."""
    tree, extra_names = _taxonomy(dataset_meta), dataset_meta.get("extra_label_names", ())
    for level in levels:
        if level not in extra_names:
            try:
                tree.level(level)
            except ValueError as error:
                also = f"; extra label columns are {', '.join(map(repr, extra_names))}" if extra_names else ""
                raise ValueError(f"{error}{also}") from error


def check_splits(splits: Iterable[str], dataset_meta: Mapping[str, Any]) -> None:
    """Raises a ValueError unless images of these splits are evaluated; called before training."""
    there = dataset_meta.get("splits")
    for split in splits:
        if there is not None and split not in there:
            raise ValueError(
                f"no evaluated image is of the split {split!r}; evaluated are {list(there)}: add it to the `split` of "
                "the data set that is evaluated, or name one of these"
            )


def collect(sample: Any) -> dict[str, Any]:
    """Keeps of a predicted sample, a ``DataSample`` or its dict, what :class:`Embeddings` is made of: arrays.

    Raises:
        ValueError: If the sample lacks an item; it says what puts it there.
    """
    remedy = {"embedding": "evaluate a model such as HierarchicalContrastive"}
    kept = {}
    for key in ("embedding", "gt_label", "extra_labels", "sample_idx", "img_path", "split"):
        value = sample.get(key)
        if value is None:
            pack = (
                "pack it: PackInputs(algorithm_keys=('extra_labels',), meta_keys=('sample_idx', 'img_path', 'split'))"
            )
            raise ValueError(f"a predicted sample has no `{key}`; {remedy.get(key, pack)}")
        if isinstance(value, Tensor):
            value = value.detach().cpu()
            # a view of one item would be kept, and pickled, with the memory of its whole batch
            value = (value if value.untyped_storage().nbytes() == value.nbytes else value.clone()).numpy()
        kept[key] = value
    return kept


def columns(samples: Sequence[Mapping[str, Any]]) -> dict[str, NDArray[Any]]:
    """Puts what :func:`collect` kept of each image into one array per item; nothing if there is no image."""
    return {key: np.stack([sample[key] for sample in samples]) for key in (samples[0] if samples else ())}
