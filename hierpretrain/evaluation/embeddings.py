"""A set of embedded images with all that metrics and pictures need to know of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hierpretrain.taxonomy import PAD, Taxonomy, prefix_ids


@dataclass(frozen=True)
class Embeddings:
    """N embedded images.

    Attributes:
        features: (N, D) float32 embeddings.
        labels: (N, L) label matrix.
        flat_labels: (N, F) int64, the extra label columns.
        is_query: (N,) bool; all True, and ``same_set``, where the data set does not tell queries from a gallery.
        paths: N image paths.
        taxonomy: The tree of ``labels``.
        flat_names: F names of the extra label columns.
        same_set: Whether queries and gallery are the same images, so that each query is to be left out of its own list.
    """

    features: Tensor
    labels: Tensor
    flat_labels: Tensor
    is_query: Tensor
    paths: list[str]
    taxonomy: Taxonomy
    flat_names: tuple[str, ...]
    same_set: bool

    @classmethod
    def from_samples(cls, samples: Sequence[Mapping[str, Any]], dataset_meta: Mapping[str, Any]) -> Embeddings:
        """Puts collected samples together.

        Args:
            samples: What :func:`collect` kept of each image, in any order; images that a distributed sampler repeats to
                fill up its batches are dropped by their number.
            dataset_meta: The data set's ``metainfo``.

        Raises:
            ValueError: If there is no sample or the data set has no taxonomy.
        """
        if not samples:
            raise ValueError("there is no embedded image to evaluate; is the data set of the split empty?")
        unique = {sample["sample_idx"]: sample for sample in samples}
        ordered = [unique[index] for index in sorted(unique)]
        splits = [sample["split"] for sample in ordered]
        separate = "query" in splits and "gallery" in splits
        return cls(
            features=torch.stack([sample["embedding"] for sample in ordered]),
            labels=torch.stack([sample["gt_label"] for sample in ordered]),
            flat_labels=torch.stack([sample["flat_label"] for sample in ordered]),
            is_query=torch.tensor([split == "query" or not separate for split in splits]),
            paths=[sample["img_path"] for sample in ordered],
            taxonomy=_taxonomy(dataset_meta),
            flat_names=tuple(dataset_meta.get("flat_label_names", ())),
            same_set=not separate,
        )

    @property
    def is_gallery(self) -> Tensor:
        """(N,) bool: the images that queries are compared with."""
        return torch.ones_like(self.is_query) if self.same_set else ~self.is_query

    def classes(self, level: int | str) -> Tensor:
        """Returns each image's class at a level of the tree or in a flat label column: (N,) int64, ``PAD`` for none.

        Raises:
            ValueError: If there is no such level or column.
        """
        if level in self.flat_names:
            return self.flat_labels[:, self.flat_names.index(str(level))]
        return prefix_ids(self.labels)[:, self.taxonomy.level(level) - 1]

    def level_name(self, level: int | str) -> str:
        """Returns the name of a level, or of a flat label column."""
        return str(level) if level in self.flat_names else self.taxonomy.level_names[self.taxonomy.level(level) - 1]

    def names(self, level: int | str) -> list[str]:
        """Returns the name of each image's node at a level, ``'(none)'`` where its path ends above it."""
        if level in self.flat_names:
            return [str(int(label)) for label in self.classes(level)]
        number = self.taxonomy.level(level)
        ids = self.labels[:, number - 1].tolist()
        return ["(none)" if node == PAD else self.taxonomy.name(number, node) for node in ids]


def _taxonomy(dataset_meta: Mapping[str, Any]) -> Taxonomy:
    if "taxonomy" not in dataset_meta:
        raise ValueError("the data set has no `taxonomy` in its metainfo; use one of hierpretrain.datasets")
    return Taxonomy.from_dict(dataset_meta["taxonomy"])


def check_levels(levels: Iterable[int | str], dataset_meta: Mapping[str, Any]) -> None:
    """Raises unless a data set has these levels or flat label columns; called before training, not after it.

    Raises:
        ValueError: That names the level and those there are.
    """
    tree, flat_names = _taxonomy(dataset_meta), dataset_meta.get("flat_label_names", ())
    for level in levels:
        if level not in flat_names:
            try:
                tree.level(level)
            except ValueError as error:
                also = f"; flat label columns are {', '.join(map(repr, flat_names))}" if flat_names else ""
                raise ValueError(f"{error}{also}") from error


def collect(sample: Any) -> dict[str, Any]:
    """Keeps of a predicted sample, a ``DataSample`` or its dict, what :class:`Embeddings` is made of, on the CPU.

    Raises:
        ValueError: If the sample lacks an item; it says what puts it there.
    """
    remedy = {"embedding": "evaluate a model such as HierarchicalContrastive"}
    kept = {}
    for key in ("embedding", "gt_label", "flat_label", "sample_idx", "img_path", "split"):
        value = sample.get(key)
        if value is None:
            pack = "pack it: PackInputs(algorithm_keys=('flat_label',), meta_keys=('sample_idx', 'img_path', 'split'))"
            raise ValueError(f"a predicted sample has no `{key}`; {remedy.get(key, pack)}")
        # a clone, since a view of one row would be pickled with its whole batch when processes exchange results
        kept[key] = value.detach().cpu().clone() if isinstance(value, Tensor) else value
    return kept
