"""What an index holds at one moment: segments of embedded images that never change, so that many threads may search."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from hierpretrain._names import LabelNames
from hierpretrain.apis.branches import nodes_of
from hierpretrain.apis.index_changes import ImageRecord, records_of
from hierpretrain.checks import check_one_width
from hierpretrain.datasets.annotations import NO_SPLIT
from hierpretrain.datasets.joined import join_known, join_labels, recode
from hierpretrain.evaluation import Embeddings
from hierpretrain.functional.approximate import (
    RECALL_QUERIES,
    TARGET,
    build_index,
    choose_kind,
    flat_index,
    search_parameters,
    tune,
)
from hierpretrain.functional.index_search import first_of_groups, is_exact, search_groups, search_vectors, vectors_of
from hierpretrain.functional.search import unit_rows
from hierpretrain.taxonomy import PAD, Taxonomy

_RECALL = "recall@10"
_LARGE = 10_000  # images from which on a segment that was added gets the kind that the index was built with
_SPARE = 16  # neighbours that a graph is asked for beyond twice k, where some of its images were removed


@dataclass(frozen=True)
class Segment:
    """Embedded images that came into an index together.

    Attributes:
        index: The index of faiss, of n vectors.
        labels: (n, L) or (n, P, L) labels in the tree of the whole index.
        paths: The n files.
        keys: n texts by which people know the images, empty for none.
        digests: n texts that tell whether an image is still the same, empty for not known.
        metadata: name -> n texts.
        removed: (n,) bool, which images are in the index no more; ``None`` if all are.
        recall: ``recall@10`` of an index that is not exact.
        stored: The names of the parts in which it lies on the disk, by what they are.
        root: What all paths begin with, where the disk has them without it.
    """

    index: Any
    labels: Tensor
    paths: list[str]
    keys: list[str]
    digests: list[str]
    metadata: Mapping[str, list[str]] = field(default_factory=dict)
    removed: Tensor | None = None
    recall: Mapping[str, float] = field(default_factory=dict)
    stored: Mapping[str, str] = field(default_factory=dict)
    root: str = ""

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def rows(self) -> Tensor:
        """The numbers of the images that are still in the index."""
        return torch.arange(len(self)) if self.removed is None else (~self.removed).nonzero()[:, 0]

    def kept(self, column: Sequence[str]) -> Sequence[str]:
        """Returns what a column says of the images that are still in the index."""
        return column if self.removed is None else [column[row] for row in self.rows.tolist()]

    def search(self, query: Tensor, k: int, within: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns the cosines and the numbers of the k nearest images that are still in the index."""
        if self.removed is None or within is not None:
            inside = within if self.removed is None or within is None else within & ~self.removed
            return search_vectors(self.index, query, k, within=inside)
        if is_exact(self.index):
            return search_vectors(self.index, query, k, within=~self.removed)
        k = min(k, len(self.rows))
        scores, rows = search_vectors(self.index, query, 2 * k + _SPARE)
        gone = self.removed[rows]
        order = gone.sort(dim=1, stable=True).indices[:, :k]
        scores, rows, missed = scores.gather(1, order), rows.gather(1, order), gone.gather(1, order).any(1)
        if missed.any():  # too many of the nearest are gone
            scores[missed], rows[missed] = search_vectors(self.index, query[missed], k, within=~self.removed)
        return scores, rows


@dataclass(frozen=True)
class Generation:
    """An index at one moment; N images in the order in which they came.

    Attributes:
        segments: The images.
        taxonomy: The tree of their labels.
        model: The model that embedded them, for people.
        fingerprint: What tells it from all others.
        width: The length D of an embedding.
        kind: The kind of index that was asked for, ``'auto'`` too.
        half: Whether embeddings are stored as float16.
        seed: Of the clusters of ``'ivf'`` and of the images with which recall is measured.
        skipped: Files that could not be read: path -> why.
        parts: What else is kept with the index: name -> bytes, or the name of the file that holds them.
    """

    segments: tuple[Segment, ...]
    taxonomy: Taxonomy
    model: str
    fingerprint: str
    width: int
    kind: str = "auto"
    half: bool = False
    seed: int = 0
    skipped: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, bytes | str] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(len(segment.rows) for segment in self.segments)

    @property
    def largest(self) -> Segment | None:
        """The segment of most images, which is the one that was built first unless more was added; ``None`` of none."""
        return max(self.segments, key=len, default=None)

    @cached_property
    def labels(self) -> Tensor:
        """(N, L) or (N, P, L) labels."""
        parts = [(self.taxonomy, segment.labels[segment.rows]) for segment in self.segments]
        return join_labels(parts)[1] if parts else torch.empty(0, self.taxonomy.num_levels, dtype=torch.int64)

    @cached_property
    def nodes(self) -> dict[LabelNames, None]:
        """The paths of the nodes that images are at or below, the broadest first."""
        return dict.fromkeys(nodes_of(self.taxonomy, self.labels))

    @cached_property
    def paths(self) -> list[str]:
        """The N files."""
        return [path for segment in self.segments for path in segment.kept(segment.paths)]

    @cached_property
    def files(self) -> frozenset[str]:
        """The files, to look one up."""
        return frozenset(self.paths)

    @cached_property
    def digests(self) -> list[str]:
        """N texts that tell whether an image is still the same."""
        return [digest for segment in self.segments for digest in segment.kept(segment.digests)]

    @cached_property
    def _known(self) -> tuple[list[str], dict[str, list[str]]]:
        return join_known(
            [
                (
                    len(segment.rows),
                    segment.kept(segment.keys),
                    {name: segment.kept(column) for name, column in segment.metadata.items()},
                )
                for segment in self.segments
            ]
        )

    @property
    def keys(self) -> list[str]:
        """N texts by which people know the images; nothing at all where there is none."""
        return self._known[0]

    @property
    def metadata(self) -> dict[str, list[str]]:
        """What else is known of the images, N texts by each name."""
        return self._known[1]

    @cached_property
    def names(self) -> list[str]:
        """What each image is called to remove or to update it, its key or its file where it has none."""
        return [key or path for key, path in zip(self.keys, self.paths, strict=True)] if self.keys else self.paths

    def records(self, rows: Sequence[int]) -> dict[int, ImageRecord]:
        """Returns what is known of some images, by their numbers."""
        known = records_of(
            [self.paths[row] for row in rows],
            [self.keys[row] for row in rows] if self.keys else [],
            [self.digests[row] for row in rows],
            self.taxonomy,
            self.labels[list(rows)],
            {name: [column[row] for row in rows] for name, column in self.metadata.items()},
        )
        return dict(zip(rows, known, strict=True))

    def embeddings(self) -> Embeddings:
        """Returns the images with their embeddings, to be put into another index."""
        return Embeddings(
            features=self.vectors(torch.arange(len(self))),
            labels=self.labels,
            extra_labels=torch.empty(len(self), 0, dtype=torch.int64),
            splits=[NO_SPLIT] * len(self),
            paths=self.paths,
            taxonomy=self.taxonomy,
            extra_names=(),
            skipped=self.skipped,
            keys=self.keys,
            metadata=self.metadata,
            digests=self.digests,
            model=self.model,
            fingerprint=self.fingerprint,
        )

    @cached_property
    def _numbers(self) -> list[Tensor]:
        """(n,) int64 of each segment: which image of the index each of its images is, ``PAD`` for a removed one."""
        numbers, start = [], 0
        for segment in self.segments:
            own = torch.full((len(segment),), PAD)
            own[segment.rows] = torch.arange(start, start := start + len(segment.rows))
            numbers.append(own)
        return numbers

    def vectors(self, rows: Tensor) -> Tensor:
        """Returns the (n, D) float32 embeddings of images, given by their numbers in the index."""
        found = torch.empty(len(rows), self.width)
        for segment, numbers in zip(self.segments, self._numbers, strict=True):
            own = torch.full((len(self),), PAD)
            own[numbers[segment.rows]] = segment.rows
            here = own[rows] != PAD
            if here.any():
                found[here] = vectors_of(segment.index, own[rows][here])
        return found

    def search(self, query: Tensor, k: int, within: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Finds the nearest images; as :func:`~hierpretrain.functional.index_search.search_vectors`.

        Args:
            query: (Q, D) features.
            k: How many, from 1.
            within: (N,) bool, the images to search; ``None`` for all.

        Returns:
            (Q, K) float64 cosines, the highest first, and int64 numbers of images.
        """
        scores, found = [torch.empty(len(query), 0).double()], [torch.empty(len(query), 0).long()]
        for segment, numbers in self._searched(query):
            part, rows = segment.search(query, k, None if within is None else _spread(within, segment, numbers))
            scores.append(part)
            found.append(numbers[rows])
        if len(scores) == 2:
            return scores[1], found[1]
        ordered, order = torch.cat(scores, 1).sort(dim=1, descending=True, stable=True)
        return ordered[:, :k].contiguous(), torch.cat(found, 1).gather(1, order)[:, :k].contiguous()

    def search_groups(self, query: Tensor, k: int, groups: Tensor, *, exact: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Finds the nearest groups; as :func:`~hierpretrain.functional.index_search.search_groups`.

        Args:
            query: (Q, D) features.
            k: How many groups, from 1.
            groups: (N, P) ids of the groups of each image, ``PAD`` for none.
            exact: Whether to compare every image of a group.
        """
        answers = []
        for segment, numbers in self._searched(query):
            own = torch.full((len(segment), groups.shape[1]), PAD)
            own[segment.rows] = groups[numbers[segment.rows]]
            scores, rows, nodes = search_groups(segment.index, query, k, own, exact=exact)
            answers.append((scores, numbers[rows], nodes))
        if len(answers) == 1:
            return answers[0]
        scores, found, nodes = (
            (torch.cat(columns, 1) for columns in zip(*answers, strict=True))
            if answers
            else [torch.empty(len(query), 0, dtype=dtype) for dtype in (torch.float64, torch.int64, torch.int64)]
        )
        of = torch.arange(len(query)).repeat_interleave(scores.shape[1])
        _, *picked = first_of_groups(of, scores.flatten(), found.flatten(), nodes.flatten(), k)
        scores, found, nodes = (column.view(len(query), -1) for column in picked)
        return scores, found, nodes

    def _searched(self, query: Tensor) -> Iterator[tuple[Segment, Tensor]]:
        if query.ndim == 2:
            check_one_width(query.shape[1], self.width, "query", "index")
        return zip(self.segments, self._numbers, strict=True)

    def with_more(self, images: Embeddings, log: Callable[[str], None]) -> Generation:
        """Returns an index that has more images, behind the others.

        Small segments behind the others are joined with the new one, each as often as its size doubles: so an addition
        costs about as much as it has images, and there are few segments.

        Args:
            images: Embedded by the same model; of no image, nothing changes.
            log: What to do with lines about the recall of an index that is not exact.
        """
        if skipped := {**self.skipped, **images.skipped}:
            read = set(images.paths)
            skipped = {path: why for path, why in skipped.items() if path not in read}
        if not len(images.paths):
            return replace(self, skipped=skipped)
        features = unit_rows(images.features)
        check_one_width(features.shape[1], self.width, "images", "index")
        grown = self._with_tree(images.taxonomy)
        new = Segment(
            flat_index(features, half=self.half),
            recode(images.taxonomy.check_own(images.labels, several_paths=True), images.taxonomy, grown.taxonomy),
            list(images.paths),
            list(images.keys) or [""] * len(images.paths),
            list(images.digests) or [""] * len(images.paths),
            {name: list(column) for name, column in images.metadata.items()},
        )
        first = _joined_from([len(segment.rows) for segment in grown.segments], len(new))
        joined = grown._join([*grown.segments[first:], new], log, base=first == 0)
        return replace(grown, segments=(*grown.segments[:first], joined), skipped=skipped)

    def without(self, gone: Tensor, log: Callable[[str], None]) -> Generation:
        """Returns an index without some images, (N,) bool."""
        segments = []
        for segment, numbers in zip(self.segments, self._numbers, strict=True):
            removed = ~_spread(~gone, segment, numbers)
            left = int((~removed).sum())
            if left == len(segment.rows):
                segments.append(segment)
            elif left:
                stored = {name: file for name, file in segment.stored.items() if name != "removed"}
                smaller = replace(segment, removed=removed, stored=stored)
                half_empty = 2 * left < len(segment)
                segments.append(self._join([smaller], log, base=not segments) if half_empty else smaller)
        return replace(self, segments=tuple(segments))

    def _with_tree(self, tree: Taxonomy) -> Generation:
        """Returns the same images under a tree that has the nodes of another one too."""
        none = torch.empty(0, tree.num_levels, dtype=torch.int64)
        try:
            if tree.level_names == self.taxonomy.level_names[: tree.num_levels]:
                recode(none, tree, self.taxonomy)
                return self
        except ValueError:  # it has new nodes
            pass
        own = torch.empty(0, self.taxonomy.num_levels, dtype=torch.int64)
        joint = join_labels([(self.taxonomy, own), (tree, none)])[0]
        segments = [replace(segment, labels=recode(segment.labels, self.taxonomy, joint)) for segment in self.segments]
        return replace(self, taxonomy=joint, segments=tuple(segments))

    def _join(self, segments: Sequence[Segment], log: Callable[[str], None], *, base: bool) -> Segment:
        """Puts segments together, without the images that were removed from them."""
        vectors = torch.cat([vectors_of(segment.index, segment.rows) for segment in segments])
        kind = choose_kind(len(vectors)) if self.kind == "auto" else self.kind
        kind = kind if base or len(vectors) >= _LARGE else "flat"
        if len(segments) == 1 and segments[0].removed is None and kind == "flat":
            return segments[0]
        one = replace(self, segments=tuple(segments))
        index, recall = _built(vectors, kind, self.half, self.seed, log)
        keys = one.keys or [""] * len(one.paths)
        return Segment(index, one.labels, one.paths, keys, one.digests, one.metadata, recall=recall)


def _built(
    vectors: Tensor, kind: str, half: bool, seed: int, log: Callable[[str], None]
) -> tuple[Any, dict[str, float]]:
    """Returns the index of faiss of unit vectors and, if it is not exact, how many of the nearest it finds."""
    if kind == "flat":
        return flat_index(vectors, half=half), {}
    index = build_index(vectors, kind, half=half, seed=seed)
    if len(vectors) < 2:
        return index, {}
    found = tune(index, vectors, seed=seed)
    queries = min(len(vectors), RECALL_QUERIES)
    how = "".join(f", {name} {value}" for name, value in search_parameters(index).items())
    log(f"{_RECALL} against exact search: {found:.3f} ({queries:,} queries{how})")
    if found < TARGET:
        log(f"this is below {TARGET:g}, the widest search notwithstanding; kind='flat' finds all")
    return index, {_RECALL: found}


def _joined_from(sizes: Sequence[int], new: int) -> int:
    """Returns the number of the first of the segments that are joined with a new one of some size.

    Example:
        >>> _joined_from([100_000, 300, 150], 100), _joined_from([100_000, 400], 100), _joined_from([5], 3)
        (1, 2, 0)
    """
    first = len(sizes)
    while first and sizes[first - 1] < 2 * new:
        first -= 1
        new += sizes[first]
    return first


def _spread(inside: Tensor, segment: Segment, numbers: Tensor) -> Tensor:
    """Returns which images of a segment are among some of the index, (n,) bool; a removed one is not."""
    if segment.removed is None:
        return inside[numbers[0] : numbers[-1] + 1]
    own = torch.zeros(len(segment), dtype=torch.bool)
    own[segment.rows] = inside[numbers[segment.rows]]
    return own
