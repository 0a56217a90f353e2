"""What a report says of each search: its numbers, the tree's quality, confused siblings and examples."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hierpretrain._texts import count
from hierpretrain.evaluation import EmbeddingMetric, Embeddings, measured_searches
from hierpretrain.evaluation.embeddings import Splits
from hierpretrain.evaluation.search_sets import chosen_search
from hierpretrain.files import true_path
from hierpretrain.report import page_data
from hierpretrain.report.examples import LevelExamples, level_examples
from hierpretrain.report.headline import Number, extra_numbers, level_numbers, tree_numbers
from hierpretrain.report.markup import Headline
from hierpretrain.report.measured import Measured, measure, measured_of
from hierpretrain.report.search import Searched, search
from hierpretrain.report.siblings import Confusion, sibling_confusion
from hierpretrain.report.tree_quality import LevelQuality, tree_quality

NEIGHBOURS = 8
"""How many neighbours of an image the page shows."""

_SPARE = 3  # so many times the neighbours are searched for, since copies of one image take one place


@dataclass(frozen=True)
class Section:
    """What the page says of one search."""

    found: Searched
    headline: Headline
    quality: list[LevelQuality]
    confusion: list[Confusion]
    examples: list[LevelExamples]

    def data(self, numbers: Mapping[int, int]) -> dict[str, Any]:
        """Returns what the page's script reads, with images by their numbers on the page."""
        tree = self.found.query.taxonomy
        return {
            "title": self.found.title,
            "same_set": self.found.same_set,
            "recall": page_data.of_recall(tree, self.found),
            "quality": page_data.of_quality(tree, self.quality),
            "confusion": page_data.of_confusion(tree, self.confusion),
            "examples": page_data.of_examples(tree, self.examples, numbers),
        }


def measured_sections(
    images: Embeddings,
    metrics: Sequence[EmbeddingMetric],
    query: Splits | None,
    gallery: Splits | None,
    trained: Collection[str] | None,
    seed: int,
    step: Callable[[str], object],
) -> list[Section]:
    """Returns what the page says of each search that has queries and a gallery; its arguments are those of the page."""
    of_config = searches = measured_searches(metrics)
    if (query, gallery) != (None, None) or not of_config:
        searches = [chosen_search(query, gallery, of_config, set(images.splits))]
    step("searching for what is of the queries' nodes")  # first, for it finds wrong splits at once
    searched = [found for sets in searches if (found := search(images, sets, k=_SPARE * NEIGHBOURS, seed=seed))]
    results = []
    if searched and metrics:
        step("measuring what the config measures")
        results = measure(images, metrics, step)
    sections = []
    for found in searched:
        step(f"measuring: {found.title}")
        measured = measured_of(images, results, found.sets, of_config)
        sides = found.query, found.gallery
        sections.append(
            Section(
                found,
                Headline(found.title, _warnings(found, trained), _cards(found, measured, seed)),
                tree_quality(*sides, found.neighbours[:, 0]),
                sibling_confusion(*sides, found.neighbours[:, :NEIGHBOURS], same_set=found.same_set),
                [level_examples(found, level) for level in range(images.taxonomy.num_levels + 1)],
            )
        )
    return sections


def _cards(found: Searched, measured: Measured, seed: int) -> list[tuple[str, str, list[Number]]]:
    """Returns title, size and numbers of the cards of a search: a level each, extra label columns, the whole tree."""
    tree, images = found.query.taxonomy, found.query
    cards = []
    for level, name in enumerate(tree.level_names, start=1):
        size = count(tree.num_nodes(name), "node", "nodes")
        cards.append((name, size, level_numbers(found, level, measured, seed=seed)))
    for name in images.extra_names:
        if numbers := extra_numbers(found, name, measured, seed=seed):
            cards.append((name, "a label beside the tree", numbers))
    return [*cards, ("The whole tree", "all levels together", tree_numbers(found, measured, seed=seed))]


def _warnings(found: Searched, trained: Collection[str] | None) -> list[str]:
    """Says how many of the queries are training images."""
    if trained is None:
        return ["Whether the model was trained on some of the queries is not known."]
    number, known = len(found.query.paths), sum(true_path(path) in trained for path in found.query.paths)
    if not known:
        return []
    of = "All" if known == number else f"{known:,} of the {number:,}"
    return [f"{of} queries are training images, which a model finds more easily than new ones."]
