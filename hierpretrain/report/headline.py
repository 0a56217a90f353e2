"""The numbers at the head of a report: how good the embedding is at each level, and over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hierpretrain._texts import count
from hierpretrain.evaluation.search_sets import splits_in_words
from hierpretrain.functional.clustering import best_clustering
from hierpretrain.functional.sampling import sample_indices
from hierpretrain.functional.violations import hierarchy_violations
from hierpretrain.report.measured import Measured
from hierpretrain.report.search import Searched
from hierpretrain.taxonomy import PAD

MOST_CLUSTERED = 10_000
MOST_CLUSTERS = 2000

_SHOWN = {"recall@1": "recall@1", "map@r": "MAP@R"}  # names of metrics and how the page calls them


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


def level_numbers(searched: Searched, level: int, measured: Measured, *, seed: int = 0) -> list[Number]:
    """Returns the numbers of one level of a search: the config's own, and where it has none those measured here.

    Args:
        searched: The queries in the gallery.
        level: A number from 1, the coarsest.
        measured: What the config's metrics found.
        seed: Of k-means and of the sample that is clustered.

    Returns:
        recall@1, MAP@R and NMI.
    """
    name = searched.query.level_name(level)
    there = len(searched.scores(level, "map@r"))
    several = int((searched.of_levels[level - 1]["num_relevant"] == PAD).sum())
    note = f"no query has an image of its {name} to find"
    if there:
        note = _of(there, len(searched.drawn), len(searched.query.features), several)
    sides = {key: float(searched.scores(level, key).mean()) if there else None for key in ("recall@1", "map@r")}
    return [*_retrieval(searched, name, sides, note, measured), _nmi(name, measured, seed)]


def extra_numbers(searched: Searched, name: str, measured: Measured, *, seed: int = 0) -> list[Number]:
    """Returns the numbers that the config measures in an extra label column; nothing if it measures none there."""
    numbers = _retrieval(searched, name, {"recall@1": None, "map@r": None}, "", measured)
    if f"{name}/nmi" in measured.values:
        numbers.append(_nmi(name, measured, seed))
    return [number for number in numbers if number.value is not None]


def _retrieval(
    searched: Searched, name: str, here: Mapping[str, float | None], note: str, measured: Measured
) -> list[Number]:
    """Returns recall@1 and MAP@R: the config's, or those measured here with their note."""
    meanings = {
        "recall@1": "The fraction of queries whose nearest neighbour is of the same node.",
        "map@r": "How well the R images of a query's node fill the first R ranks; 100 % is a perfect one.",
    }
    found = []
    for key, meaning in meanings.items():
        value, of = measured.values.get(f"{name}/{key}"), note
        if value is None:
            value = here[key]
        else:
            number, several = len(searched.query.features), int(searched.query.in_several(name).sum())
            of = _of(int(measured.values[f"{name}/num_queries"]), number, number, several)
        found.append(Number(_SHOWN[key], value, meaning, of))
    return found


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


def _nmi(name: str, measured: Measured, seed: int) -> Number:
    meaning = (
        "How well the nodes agree with as many clusters that k-means finds in the embedding. It grows with the number "
        "of nodes."
    )
    images = measured.clustered
    classes = images.classes(name)
    known = (classes != PAD).nonzero()[:, 0]
    note = count(len(known), "image", "images") + splits_in_words(images)
    if (value := measured.values.get(f"{name}/nmi")) is not None:
        return Number("NMI", value, meaning, note)
    if len(known) > MOST_CLUSTERED:
        note = f"{MOST_CLUSTERED:,} images drawn from {len(known):,}{splits_in_words(images)}"
    known = known[sample_indices(len(known), MOST_CLUSTERED, seed=seed)]
    number = len(classes[known].unique())
    if number < 2:
        return Number("NMI", None, meaning, "it takes images of two nodes")
    if number > MOST_CLUSTERS:
        return Number("NMI", None, meaning, f"not measured: to find {number:,} clusters takes long")
    _, metrics = best_clustering(images.features[known], classes[known], seed=seed)
    return Number("NMI", metrics["nmi"], meaning, note)


def tree_numbers(searched: Searched, measured: Measured, *, seed: int = 0) -> list[Number]:
    """Returns H-AP and the fraction of hierarchy violations, all levels together."""
    return [_h_ap(searched, measured), _violations(measured, seed)]


def _h_ap(searched: Searched, measured: Measured) -> Number:
    meaning = (
        "Hierarchical average precision (Ramzi et al. 2022): average precision in which a neighbour counts the more, "
        "the more levels it shares with the query; 100 % is a ranking sorted by closeness in the tree."
    )
    number = len(searched.query.features)
    if "h_ap" in measured.values:
        note = _of(int(measured.values["num_queries"]), number, number)
        return Number("H-AP", measured.values["h_ap"], meaning, note)
    scores = searched.of_tree["h_ap"][searched.of_tree["num_relevant"] > 0]
    if not len(scores):
        return Number("H-AP", None, meaning, "no query has a relative to find")
    return Number("H-AP", float(scores.mean()), meaning, _of(len(scores), len(searched.drawn), number))


def _violations(measured: Measured, seed: int) -> Number:
    meaning = (
        "Of two relatives of an image, how often the one that is closer in the tree is the less similar one; 0 % is an "
        "order that the tree agrees with, 50 % a random one."
    )
    images, found = measured.compared, measured.values
    if "violations" not in found:
        try:
            found = hierarchy_violations(images.features, images.labels, seed=seed)
        except ValueError:  # no triple at all
            found = {}
    if "violations" not in found:
        note = "it takes two relatives of an image of which one is closer in the tree"
        return Number("violations", None, meaning, note, higher_is_better=False)
    number, labelled = int(found["num_anchors"]), int((images.labels != PAD).flatten(1).any(1).sum())
    note = f"{found['num_triples']:,} triples around {count(number, 'image', 'images')}"
    note += f" drawn from {labelled:,}" if number < labelled else ""
    note += splits_in_words(images)
    return Number("violations", found["violations"], meaning, note, higher_is_better=False)
