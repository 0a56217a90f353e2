"""The two sides of a search, queries and gallery, as the metrics of a config choose them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from hierpretrain._texts import count
from hierpretrain.datasets.annotations import NO_SPLIT
from hierpretrain.evaluation.embeddings import Embeddings, Splits, as_tags, default_sides, inside_gallery


@dataclass(frozen=True)
class SearchSets:
    """Which images are queries and which are searched, as :meth:`Embeddings.search` takes them.

    Attributes:
        query: Splits of the queries.
        gallery: Splits of the gallery.
        name: The prefix of the metrics that measure this search; empty for none.
        measured: Whether the evaluator measures this search; otherwise people chose it, or nobody did.
    """

    query: Splits | None = None
    gallery: Splits | None = None
    name: str = ""
    measured: bool = False

    def sides(self, splits: Collection[str]) -> tuple[frozenset[str], frozenset[str]]:
        """Returns the splits of the queries and of the gallery among images of some splits.

        Example:
            >>> SearchSets().sides(["test"]) == SearchSets("test").sides(["test", "train"])
            True
            >>> [sorted(side) for side in SearchSets().sides(["train", "query", "gallery"])]
            [['query'], ['gallery']]
        """
        query, gallery = default_sides(self.query, self.gallery, splits)
        asked = frozenset(splits if query is None else as_tags(query))
        return asked, asked if gallery is None else frozenset(as_tags(gallery))

    def title(self, query: Embeddings, gallery: Embeddings, same_set: bool) -> str:
        """Says in a line what is searched for where, and whether that is what the config measures.

        Args:
            query: What :meth:`Embeddings.search` returned.
            gallery: Likewise.
            same_set: Likewise.
        """
        words = f"{self.name}: " if self.name else ""
        if same_set:
            words += f"{_count(query, 'image', 'images')}, each a query among the others"
        else:
            words += f"{_count(query, 'query', 'queries')} in a gallery of {_count(gallery, 'image', 'images')}"
        return words if self.measured else f"{words} (not what the config measures)"


def _count(images: Embeddings, one: str, more: str) -> str:
    """Returns how many images there are, and their splits."""
    return count(len(images.paths), one, more) + splits_in_words(images)


def splits_in_words(images: Embeddings) -> str:
    """Returns the splits of images in words, if they have any."""
    names = list(dict.fromkeys(images.splits))
    return "" if names == [NO_SPLIT] else f" ({', '.join(names)})"


def measured_searches(metrics: Iterable[Any]) -> list[SearchSets]:
    """Returns the searches that metrics measure, each once, in their order.

    Args:
        metrics: :class:`RetrievalMetric`, :class:`HierarchicalRetrievalMetric`, or others with the attributes
            ``query`` and ``gallery``; what has not both is passed over, and what searches for queries in a gallery that
            they are a part of.

    Example:
        >>> from hierpretrain.evaluation import HierarchicalRetrievalMetric, RetrievalMetric, ViolationMetric
        >>> sets = dict(query="test", gallery=["train", "val"], prefix="seen")
        >>> metrics = [RetrievalMetric([1], **sets), HierarchicalRetrievalMetric(**sets), ViolationMetric()]
        >>> measured_searches(metrics)
        [SearchSets(query='test', gallery=['train', 'val'], name='seen', measured=True)]
    """
    found: dict[tuple[Any, ...], SearchSets] = {}
    for metric in metrics:
        if hasattr(metric, "query") and hasattr(metric, "gallery"):
            if inside_gallery(metric.query, metric.gallery):
                continue
            sets = SearchSets(metric.query, metric.gallery, metric.prefix or "", measured=True)
            key = (
                *(None if side is None else frozenset(as_tags(side)) for side in (sets.query, sets.gallery)),
                sets.name,
            )
            found.setdefault(key, sets)
    return list(found.values())


def chosen_search(
    query: Splits | None, gallery: Splits | None, measured: Iterable[SearchSets], splits: Collection[str]
) -> SearchSets:
    """Returns the search that people choose, or the first that the evaluator measures where they choose none.

    Args:
        query: Splits of the queries; ``None`` with ``gallery=None`` chooses nothing.
        gallery: Splits of the gallery.
        measured: The searches that the evaluator measures.
        splits: The splits of the images.

    Example:
        >>> of_config = [SearchSets("test", "train", measured=True)]
        >>> chosen_search(None, None, of_config, ["train", "test"]).query
        'test'
        >>> chosen_search("train", None, of_config, ["train", "test"]).measured
        False
    """
    measured = list(measured)
    if query is None and gallery is None:
        return measured[0] if measured else SearchSets()
    chosen = SearchSets(query, gallery)
    same = [sets for sets in measured if sets.sides(splits) == chosen.sides(splits)]
    return same[0] if same else chosen
