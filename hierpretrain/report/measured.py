"""The numbers that a config's own metrics find in the images of a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hierpretrain.evaluation import (
    ClusteringMetric,
    EmbeddingMetric,
    Embeddings,
    HierarchicalRetrievalMetric,
    RetrievalMetric,
    SearchSets,
    ViolationMetric,
)
from hierpretrain.evaluation.embeddings import Splits

Results = Sequence[tuple[EmbeddingMetric, Mapping[str, float]]]
"""Metrics with what they found, without their prefix."""

_OF_HEADLINE = (RetrievalMetric, HierarchicalRetrievalMetric, ClusteringMetric, ViolationMetric)


@dataclass(frozen=True)
class Measured:
    """What a config's metrics say of one search.

    Attributes:
        values: Numbers by the names that ``metrics.json`` has without the prefix, levels by name: ``kind/recall@1``.
        clustered: The images that the config clusters, or both sides of the search if it clusters none.
        compared: The images whose order it compares with the tree, or both sides.
    """

    values: Mapping[str, float]
    clustered: Embeddings
    compared: Embeddings


def measure(images: Embeddings, metrics: Sequence[EmbeddingMetric], log: Callable[[str], object]) -> Results:
    """Has the metrics of the headline measure the images; one that cannot says why in the log and is left out.

    Args:
        images: All images that the config evaluates.
        metrics: Its metrics. Those of classifiers, which the headline does not have, are passed over.
        log: Told what cannot be measured.
    """
    found = []
    for metric in metrics:
        if isinstance(metric, _OF_HEADLINE):
            try:
                found.append((metric, metric.reduce([metric.map(images, (0, 1))])))
            except ValueError as error:
                log(f"{type(metric).__name__} cannot be measured: {error}")
    return found


def measured_of(images: Embeddings, results: Results, sets: SearchSets, searches: Sequence[SearchSets]) -> Measured:
    """Picks what belongs to a search: metrics of its queries and gallery, and groupings of its prefix.

    A grouping (:class:`ClusteringMetric`, :class:`ViolationMetric`) whose prefix no search has belongs to all. Nothing
    belongs to a search that people chose instead of the config's.

    Args:
        images: All images of the report.
        results: What :func:`measure` returned.
        sets: The search.
        searches: All searches that the metrics measure.
    """
    splits = set(images.splits)
    names = {search.name for search in searches}
    values: dict[str, float] = {}
    clustered = compared = None
    chosen = not sets.measured and (sets.query, sets.gallery) != (None, None)
    for metric, found in () if chosen else results:
        prefix = metric.prefix or ""
        if isinstance(metric, RetrievalMetric | HierarchicalRetrievalMetric):
            own = SearchSets(metric.query, metric.gallery)
            if sets.measured and prefix == sets.name and own.sides(splits) == sets.sides(splits):
                values |= _named(images, metric, found)
        elif prefix == sets.name or prefix not in names:
            values |= _named(images, metric, found)
            if isinstance(metric, ClusteringMetric):
                clustered = clustered or images.of(metric.splits)
            elif isinstance(metric, ViolationMetric):
                compared = compared or images.of(metric.splits)
    both = images.of(_in_order(images, sets))
    return Measured(values, clustered or both, compared or both)


def _named(images: Embeddings, metric: EmbeddingMetric, found: Mapping[str, float]) -> dict[str, float]:
    """Returns numbers with levels by their names, whichever way the metric calls them."""
    names = {str(level): images.level_name(level) for level in getattr(metric, "levels", ())}
    named = {}
    for key, value in found.items():
        level, slash, name = key.rpartition("/")
        named[f"{names.get(level, level)}{slash}{name}"] = value
    return named


def _in_order(images: Embeddings, sets: SearchSets) -> Splits:
    """Returns the splits of both sides of a search, in the order of the images."""
    asked, offered = sets.sides(set(images.splits))
    return [split for split in dict.fromkeys(images.splits) if split in asked | offered]
