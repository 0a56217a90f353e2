from dataclasses import replace

import pytest
import torch

from hierpretrain.evaluation import ClusteringMetric, HierarchicalRetrievalMetric, RetrievalMetric, ViolationMetric
from hierpretrain.functional import (
    clustering_metrics,
    hierarchical_retrieval_metrics,
    hierarchy_violations,
    retrieval_metrics,
)
from hierpretrain.report import headline
from hierpretrain.report.headline import level_numbers, tree_numbers
from hierpretrain.report.search import search
from hierpretrain.taxonomy import prefix_ids
from tests.report.sets import embedded, random_set, unlabelled


def by_name(numbers):
    return {number.name: number for number in numbers}


def test_numbers_of_a_level_are_those_of_the_metrics():
    images = random_set(0)
    ids = prefix_ids(images.labels)
    for level in (1, 2, 3):
        numbers = by_name(level_numbers(images, level, search(images)))
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
        numbers = by_name(level_numbers(images, level, searched))
        assert numbers["recall@1"].value == pytest.approx(metrics[f"{level}/recall@1"])
        assert numbers["MAP@R"].value == pytest.approx(metrics[f"{level}/map@r"])
        assert numbers["NMI"].value == pytest.approx(metrics[f"{level}/nmi"])
        left_out = int(searched.query.in_several(level).sum())
        assert left_out > 1
        words = numbers["MAP@R"].note.split("; ")
        assert words[-1] == f"{left_out} of several nodes are left out"
        assert words[0] == f"{metrics[f'{level}/num_queries']} queries"
    of_tree = by_name(tree_numbers(images, searched))
    assert of_tree["H-AP"].value == pytest.approx(metrics["h_ap"])
    assert of_tree["violations"].value == metrics["violations"]


def test_violations_are_of_as_many_anchors_as_the_metric_draws():
    images = random_set(0, number=2800)
    metric = ViolationMetric()
    expected = metric.reduce([metric.map(images, (0, 1))])
    number = by_name(tree_numbers(images, None))["violations"]
    assert number.value == expected["violations"]
    labelled = int((images.labels[:, 0] >= 0).sum())
    assert labelled > 2000
    assert number.note == f"{expected['num_triples']:,} triples around 2,000 images drawn from {labelled:,}"


def test_equal_similarities_rank_as_in_the_metric():
    images = random_set(4, number=60)
    images = replace(images, features=images.features.sign())  # many are equal
    metric = HierarchicalRetrievalMetric()
    expected = metric.reduce([metric.map(images, (0, 1))])["h_ap"]
    assert by_name(tree_numbers(images, search(images)))["H-AP"].value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("separate", [False, True])
def test_numbers_of_the_tree_are_those_of_the_metrics(separate):
    images = random_set(1, splits=["query", "gallery"] * 20 if separate else None)
    searched = search(images)
    numbers = by_name(tree_numbers(images, searched))
    query, gallery = searched.query, searched.gallery
    sides = query.features, query.labels, gallery.features, gallery.labels
    metrics = hierarchical_retrieval_metrics(*sides, ks=(), same_set=not separate)
    assert numbers["H-AP"].value == pytest.approx(metrics["h_ap"])
    violations = hierarchy_violations(images.features, images.labels)
    assert numbers["violations"].value == pytest.approx(violations["violations"])
    assert not numbers["violations"].higher_is_better


def test_numbers_of_a_sample_say_so_and_are_near(monkeypatch):
    images = random_set(2, number=400)
    whole = by_name(tree_numbers(images, search(images)))
    monkeypatch.setattr(headline, "MOST_CLUSTERED", 150)
    searched = search(images, max_queries=100)
    numbers = by_name(level_numbers(images, 1, searched))
    asked = len(searched.scores(1, "map@r"))
    assert numbers["MAP@R"].note.startswith(f"{asked} queries (of 100 drawn from 400)")
    known = int((images.labels[:, 0] >= 0).sum())
    assert numbers["NMI"].note == f"150 images drawn from {known}"
    of_tree = by_name(tree_numbers(images, searched))
    assert "(of 100 drawn from 400)" in of_tree["H-AP"].note
    assert of_tree["H-AP"].value == pytest.approx(whole["H-AP"].value, abs=0.05)
    assert of_tree["H-AP"].value != whole["H-AP"].value


def test_a_sample_that_is_scored_whole_is_named_once():
    images = embedded(torch.eye(4).repeat(10, 1), [("a",), ("b",), ("c",), ("d",)] * 10, levels=("kind",))
    (number, *_) = level_numbers(images, 1, search(images, max_queries=8))
    assert number.note == "8 queries drawn from 40"


def test_a_number_that_takes_long_is_left_out_and_says_so(monkeypatch):
    monkeypatch.setattr(headline, "MOST_CLUSTERS", 2)
    images = random_set(0)
    found = by_name(level_numbers(images, 3, search(images)))["NMI"]
    assert found.value is None
    assert found.note.startswith("not measured: to find ")


def test_numbers_that_there_cannot_be_say_why():
    alone = embedded(torch.eye(2), [("a", "x"), ("b", "y")], levels=("kingdom", "kind"))
    numbers = by_name(level_numbers(alone, 1, search(alone)))
    assert numbers["recall@1"].value is numbers["MAP@R"].value is None
    assert numbers["recall@1"].note == "no query has an image of its kingdom to find"
    of_tree = by_name(tree_numbers(alone, search(alone)))
    assert of_tree["H-AP"].value is of_tree["violations"].value is None
    assert of_tree["H-AP"].note == "no query has a relative to find"

    one_node = embedded(torch.eye(2), [("a",), ("a",)], levels=("kind",))
    found = by_name(level_numbers(one_node, 1, search(one_node)))["NMI"]
    assert (found.value, found.note) == (None, "it takes images of two nodes")

    one = embedded(torch.eye(1), [("a",)], levels=("kind",))
    assert by_name(level_numbers(one, 1, search(one)))["recall@1"].note == "there is no other image to find"
    assert by_name(tree_numbers(one, search(one)))["H-AP"].note == "there is no other image to find"
    assert tree_numbers(unlabelled(4), None) == []
