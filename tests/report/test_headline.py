from dataclasses import replace

import pytest
import torch

from hierpretrain.evaluation import (
    ClusteringMetric,
    EmbeddingEvaluator,
    HierarchicalRetrievalMetric,
    KNNMetric,
    RetrievalMetric,
    SearchSets,
    ViolationMetric,
    measured_searches,
)
from hierpretrain.functional import (
    clustering_metrics,
    hierarchical_retrieval_metrics,
    hierarchy_violations,
    retrieval_metrics,
)
from hierpretrain.report import headline
from hierpretrain.report.headline import extra_numbers, level_numbers, tree_numbers
from hierpretrain.report.measured import measure, measured_of
from hierpretrain.report.search import search
from hierpretrain.taxonomy import prefix_ids
from tests.report.sets import embedded, random_set


def by_name(numbers):
    return {number.name: number for number in numbers}


def unmeasured(images):
    """What a config says that measures nothing."""
    return measured_of(images, [], SearchSets(), [])


def of_level(images, level, **options):
    return by_name(level_numbers(search(images, **options), level, unmeasured(images)))


def of_tree(images, **options):
    return by_name(tree_numbers(search(images, **options), unmeasured(images)))


def test_numbers_of_a_level_are_those_of_the_metrics():
    images = random_set(0)
    ids = prefix_ids(images.labels)
    for level in (1, 2, 3):
        numbers = of_level(images, level)
        sides = images.features, ids[:, level - 1]
        metrics = retrieval_metrics(*sides, *sides, same_set=True)
        assert numbers["recall@1"].value == pytest.approx(metrics["recall@1"])
        assert numbers["MAP@R"].value == pytest.approx(metrics["map@r"])
        assert numbers["NMI"].value == pytest.approx(clustering_metrics(*sides)["nmi"])
        lone = f"; {metrics['num_queries_without_positives']} more have nothing to find"
        assert numbers["MAP@R"].note == f"{metrics['num_queries']} queries{lone}"
        known = int((images.labels[:, level - 1] >= 0).sum())
        assert numbers["NMI"].note == f"{known} images"


@pytest.mark.parametrize("separate", [False, True])
def test_images_of_several_nodes_are_left_out_as_metrics_do(separate):
    splits = ["query", "gallery"] * 40 if separate else None
    images = random_set(3, number=80, places=3, splits=splits)
    metrics = {}
    for metric in (RetrievalMetric([1, 2]), ClusteringMetric([1, 2]), HierarchicalRetrievalMetric(), ViolationMetric()):
        metrics |= metric.reduce([metric.map(images, (0, 1))])
    searched = search(images)
    for level in (1, 2):
        numbers = of_level(images, level)
        assert numbers["recall@1"].value == pytest.approx(metrics[f"{level}/recall@1"])
        assert numbers["MAP@R"].value == pytest.approx(metrics[f"{level}/map@r"])
        assert numbers["NMI"].value == pytest.approx(metrics[f"{level}/nmi"])
        left_out = int(searched.query.in_several(level).sum())
        assert left_out > 1
        words = numbers["MAP@R"].note.split("; ")
        assert words[-1] == f"{left_out} of several nodes are left out"
        assert words[0] == f"{metrics[f'{level}/num_queries']} queries"
    numbers = of_tree(images)
    assert numbers["H-AP"].value == pytest.approx(metrics["h_ap"])
    assert numbers["violations"].value == metrics["violations"]


def test_violations_are_of_as_many_anchors_as_the_metric_draws():
    images = random_set(0, number=2800)
    metric = ViolationMetric()
    expected = metric.reduce([metric.map(images, (0, 1))])
    number = of_tree(images)["violations"]
    assert number.value == expected["violations"]
    labelled = int((images.labels[:, 0] >= 0).sum())
    assert labelled > 2000
    assert number.note == f"{expected['num_triples']:,} triples around 2,000 images drawn from {labelled:,}"


def test_equal_similarities_rank_as_in_the_metric():
    images = random_set(4, number=60)
    images = replace(images, features=images.features.sign())  # many are equal
    metric = HierarchicalRetrievalMetric()
    expected = metric.reduce([metric.map(images, (0, 1))])["h_ap"]
    assert of_tree(images)["H-AP"].value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("separate", [False, True])
def test_numbers_of_the_tree_are_those_of_the_metrics(separate):
    images = random_set(1, splits=["query", "gallery"] * 20 if separate else None)
    searched = search(images)
    numbers = of_tree(images)
    query, gallery = searched.query, searched.gallery
    sides = query.features, query.labels, gallery.features, gallery.labels
    metrics = hierarchical_retrieval_metrics(*sides, ks=(), same_set=not separate)
    assert numbers["H-AP"].value == pytest.approx(metrics["h_ap"])
    violations = hierarchy_violations(images.features, images.labels)
    assert numbers["violations"].value == pytest.approx(violations["violations"])
    assert not numbers["violations"].higher_is_better


def test_numbers_of_a_sample_say_so_and_are_near(monkeypatch):
    images = random_set(2, number=400)
    whole = of_tree(images)
    monkeypatch.setattr(headline, "MOST_CLUSTERED", 150)
    numbers = of_level(images, 1, max_queries=100)
    asked = len(search(images, max_queries=100).scores(1, "map@r"))
    assert numbers["MAP@R"].note.startswith(f"{asked} queries (of 100 drawn from 400)")
    known = int((images.labels[:, 0] >= 0).sum())
    assert numbers["NMI"].note == f"150 images drawn from {known}"
    sampled = of_tree(images, max_queries=100)
    assert "(of 100 drawn from 400)" in sampled["H-AP"].note
    assert sampled["H-AP"].value == pytest.approx(whole["H-AP"].value, abs=0.05)
    assert sampled["H-AP"].value != whole["H-AP"].value


def test_a_sample_that_is_scored_whole_is_named_once():
    images = embedded(torch.eye(4).repeat(10, 1), [("a",), ("b",), ("c",), ("d",)] * 10, levels=("kind",))
    assert of_level(images, 1, max_queries=8)["recall@1"].note == "8 queries drawn from 40"


def test_a_number_that_takes_long_is_left_out_and_says_so(monkeypatch):
    monkeypatch.setattr(headline, "MOST_CLUSTERS", 2)
    found = of_level(random_set(0), 3)["NMI"]
    assert found.value is None
    assert found.note.startswith("not measured: to find ")


def test_numbers_that_there_cannot_be_say_why():
    alone = embedded(torch.eye(2), [("a", "x"), ("b", "y")], levels=("kingdom", "kind"))
    numbers = of_level(alone, 1)
    assert numbers["recall@1"].value is numbers["MAP@R"].value is None
    assert numbers["recall@1"].note == "no query has an image of its kingdom to find"
    numbers = of_tree(alone)
    assert numbers["H-AP"].value is numbers["violations"].value is None
    assert numbers["H-AP"].note == "no query has a relative to find"

    one_node = embedded(torch.eye(2), [("a",), ("a",)], levels=("kind",))
    found = of_level(one_node, 1)["NMI"]
    assert (found.value, found.note) == (None, "it takes images of two nodes")


# ---------------------------------------------------------------- what a config measures
def test_a_number_that_the_config_measures_is_the_configs_and_the_others_are_of_the_same_images():
    splits = ["train", "val", "test", "extra"] * 15
    images = random_set(6, number=60, splits=splits)
    sets = dict(query="test", gallery=["train", "val"], prefix="new")
    metrics = [
        RetrievalMetric([2], ks=(1, 3), **sets),
        HierarchicalRetrievalMetric(**sets),
        ClusteringMetric(["kingdom"], splits="val", seed=3, prefix="new"),
        ViolationMetric(splits="extra", max_anchors=7, seed=5, prefix="new"),
        KNNMetric([1], train="train", test="test"),
    ]
    searches = measured_searches(metrics)
    assert searches == [SearchSets("test", ["train", "val"], "new", measured=True)]
    results = measure(images, metrics, print)
    expected = EmbeddingEvaluator(metrics[:4])
    expected._embeddings = images
    expected = expected.evaluate(60)
    searched = search(images, searches[0])
    measured = measured_of(images, results, searches[0], searches)
    numbers = [by_name(level_numbers(searched, level, measured)) for level in (1, 2, 3)]
    assert numbers[1]["recall@1"].value == expected["new/2/recall@1"]
    assert numbers[1]["MAP@R"].value == expected["new/2/map@r"]
    assert numbers[0]["NMI"].value == expected["new/kingdom/nmi"]
    known = int((images.of("val").classes(1) >= 0).sum())
    assert numbers[0]["NMI"].note == f"{known} images (val)"
    overall = by_name(tree_numbers(searched, measured))
    assert overall["H-AP"].value == expected["new/h_ap"]
    assert overall["violations"].value == expected["new/violations"]
    assert overall["violations"].note.endswith("(extra)")
    # what it does not measure: by the same queries in the same gallery
    own = RetrievalMetric([1, 3], **sets)
    own = own.reduce([own.map(images, (0, 1))])
    assert numbers[0]["recall@1"].value == pytest.approx(own["1/recall@1"])
    assert numbers[2]["MAP@R"].value == pytest.approx(own["3/map@r"])
    assert numbers[1]["NMI"].note.endswith("images (val)")


def test_a_grouping_without_a_search_of_its_prefix_belongs_to_every_search():
    images = random_set(1, splits=["a", "b"] * 20)
    metrics = [
        RetrievalMetric([1], query="a", prefix="first"),
        RetrievalMetric([1], query="b", prefix="second"),
        ClusteringMetric([1]),
        ClusteringMetric([2], splits="b", prefix="second"),
    ]
    results, searches = measure(images, metrics, print), measured_searches(metrics)
    first, second = (measured_of(images, results, sets, searches) for sets in searches)
    assert first.values["kingdom/nmi"] == second.values["kingdom/nmi"]
    assert "kind/nmi" not in first.values
    assert "kind/nmi" in second.values
    assert first.values["kingdom/recall@1"] != second.values["kingdom/recall@1"]
    chosen = measured_of(images, results, SearchSets("a", "b"), searches)  # by people: nothing of this is its
    assert chosen.values == {}


def test_a_metric_that_cannot_be_measured_says_why_and_the_number_is_measured_here():
    images = random_set(1, splits=["a", "b"] * 20)
    told = []
    metric = RetrievalMetric(["kingdom"], query="a", gallery="none")
    assert measure(images, [metric], told.append) == []
    (line,) = told
    assert line.startswith("RetrievalMetric cannot be measured: no evaluated image is of the split 'none'")


def test_a_label_beside_the_tree_has_the_numbers_that_the_config_measures_there():
    images = replace(random_set(2), extra_labels=torch.arange(40)[:, None] % 9, extra_names=("item",))
    metrics = [RetrievalMetric(["item", "kind"])]
    searches = measured_searches(metrics)
    measured = measured_of(images, measure(images, metrics, print), searches[0], searches)
    searched = search(images, searches[0])
    expected = metrics[0].reduce([metrics[0].map(images, (0, 1))])
    numbers = by_name(extra_numbers(searched, "item", measured))
    assert {name: number.value for name, number in numbers.items()} == {
        "recall@1": expected["item/recall@1"],
        "MAP@R": expected["item/map@r"],
    }
    assert extra_numbers(searched, "item", measured_of(images, [], SearchSets(), [])) == []
