"""The numbers at the head of a report: how good the embedding is at each level, and over all of them."""

from __future__ import annotations

from dataclasses import dataclass

from hierpretrain.evaluation import Embeddings
from hierpretrain.functional.clustering import best_clustering
from hierpretrain.functional.sampling import sample_indices
from hierpretrain.functional.violations import hierarchy_violations
from hierpretrain.report.search import Searched
from hierpretrain.taxonomy import PAD

MOST_CLUSTERED = 10_000
MOST_CLUSTERS = 2000


@dataclass(frozen=True)
class Number:
    """A number of the headline.

    Attributes:
        name: What it is called.
        value: A fraction in [0, 1]; ``None`` if it could not be measured.
        meaning: What it says, in a sentence.
        note: Of what it was measured, or why it was not.
        higher_is_better: Whether it is.
    """

    name: str
    value: float | None
    meaning: str
    note: str
    higher_is_better: bool = True


def level_numbers(images: Embeddings, level: int, searched: Searched | None, *, seed: int = 0) -> list[Number]:
    """Measures one level.

    Args:
        images: All images, which are clustered.
        level: A number from 1, the coarsest.
        searched: The queries in the gallery; ``None`` if there is no other image.
        seed: Of k-means and of the sample that is clustered.

    Returns:
        recall@1, MAP@R and NMI.
    """
    recall = map_at_r = None
    note = "there is no other image to find"
    if searched is not None:
        there = len(searched.scores(level, "map@r"))
        note = f"no query has an image of its {images.level_name(level)} to find"
        if there:
            recall, map_at_r = (float(searched.scores(level, name).mean()) for name in ("recall@1", "map@r"))
            several = int((searched.of_levels[level - 1]["num_relevant"] == PAD).sum())
            note = _of(there, len(searched.drawn), len(searched.query.features), several)
    return [
        Number("recall@1", recall, "The fraction of queries whose nearest neighbour is of the same node.", note),
        Number(
            "MAP@R",
            map_at_r,
            "How well the R images of a query's node fill the first R ranks; 100 % is a perfect one.",
            note,
        ),
        _nmi(images, level, seed),
    ]


def _of(evaluated: int, asked: int, number: int, several: int = 0) -> str:
    """Says how many queries a number is of."""
    words = count(evaluated, "query", "queries")
    if asked < number:
        words += f" drawn from {number:,}" if evaluated == asked else f" (of {asked:,} drawn from {number:,})"
    if without := asked - evaluated - several:
        words += f"; {without:,} more {'has' if without == 1 else 'have'} nothing to find"
    if several:
        words += f"; {several:,} of several nodes {'is' if several == 1 else 'are'} left out"
    return words


def count(number: int, one: str, more: str) -> str:
    """Returns a number with its noun in the singular or plural."""
    return f"{number:,} {one if number == 1 else more}"


def _nmi(images: Embeddings, level: int, seed: int) -> Number:
    meaning = (
        "How well the nodes agree with as many clusters that k-means finds in the embedding. It grows with the number "
        "of nodes."
    )
    classes = images.classes(level)
    known = (classes != PAD).nonzero()[:, 0]
    note = count(len(known), "image", "images")
    if len(known) > MOST_CLUSTERED:
        note = f"{MOST_CLUSTERED:,} images drawn from {len(known):,}"
    known = known[sample_indices(len(known), MOST_CLUSTERED, seed=seed)]
    number = len(classes[known].unique())
    if number < 2:
        return Number("NMI", None, meaning, "it takes images of two nodes")
    if number > MOST_CLUSTERS:
        return Number("NMI", None, meaning, f"not measured: to find {number:,} clusters takes long")
    _, metrics = best_clustering(images.features[known], classes[known], seed=seed)
    return Number("NMI", metrics["nmi"], meaning, note)


def tree_numbers(images: Embeddings, searched: Searched | None, *, seed: int = 0) -> list[Number]:
    """Measures H-AP and the fraction of hierarchy violations, all levels together; nothing without labels."""
    if not images.taxonomy.num_levels:
        return []
    return [_h_ap(searched), _violations(images, seed)]


def _h_ap(searched: Searched | None) -> Number:
    meaning = (
        "Hierarchical average precision (Ramzi et al. 2022): average precision in which a neighbour counts the more, "
        "the more levels it shares with the query; 100 % is a ranking sorted by closeness in the tree."
    )
    if searched is None:
        return Number("H-AP", None, meaning, "there is no other image to find")
    scores = searched.of_tree["h_ap"][searched.of_tree["num_relevant"] > 0]
    if not len(scores):
        return Number("H-AP", None, meaning, "no query has a relative to find")
    note = _of(len(scores), len(searched.drawn), len(searched.query.features))
    return Number("H-AP", float(scores.mean()), meaning, note)


def _violations(images: Embeddings, seed: int) -> Number:
    meaning = (
        "Of two relatives of an image, how often the one that is closer in the tree is the less similar one; 0 % is an "
        "order that the tree agrees with, 50 % a random one."
    )
    try:
        found = hierarchy_violations(images.features, images.labels, seed=seed)
    except ValueError:  # no triple at all
        found = {}
    if "violations" not in found:
        note = "it takes two relatives of an image of which one is closer in the tree"
        return Number("violations", None, meaning, note, higher_is_better=False)
    number, labelled = int(found["num_anchors"]), int((images.labels != PAD).flatten(1).any(1).sum())
    note = f"{found['num_triples']:,} triples around {count(number, 'image', 'images')}"
    if number < labelled:
        note += f" drawn from {labelled:,}"
    return Number("violations", found["violations"], meaning, note, higher_is_better=False)
