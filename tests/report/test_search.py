from dataclasses import replace

import pytest
import torch

from hierpretrain.evaluation import SearchSets
from hierpretrain.functional import recall_curve, retrieval_metrics
from hierpretrain.report import search as search_module
from hierpretrain.report.search import search
from hierpretrain.taxonomy import PAD, prefix_ids, shared_depth
from tests.reference.metrics import ranking
from tests.reference.report import query_score
from tests.report.sets import LEVELS, embedded, random_set, unlabelled


@pytest.mark.parametrize("places", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_every_query_as_scored_by_loops(seed, places):
    images = random_set(seed, places=places)
    searched = search(images, k=5)
    for i in range(40):
        for level in (1, 2, 3):
            number, first, map_at_r, precision = query_score(images, i, range(40), level)
            scores = {name: values[i] for name, values in searched.of_levels[level - 1].items()}
            several = bool(images.in_several(level)[i])
            assert scores["num_relevant"] == (PAD if several else number)
            assert scores["first_rank"] == first
            assert scores["map@r"] == pytest.approx(map_at_r)
            assert scores["map"] == pytest.approx(precision)
        order = ranking(images.features[i].double(), images.features.double(), i)[:5]
        assert searched.neighbours[i].tolist() == order
        labels = images.labels
        assert searched.shared[i].tolist() == [int(shared_depth(labels[[i]], labels[[j]])) for j in order]
        paths = labels[i] if labels.ndim == 3 else labels[[i]]
        for j, whole in zip(order, searched.whole[i].tolist(), strict=True):
            common = [int(shared_depth(path[None], labels[[j]])) for path in paths]
            assert whole == any(
                0 < number == int((path >= 0).sum()) for number, path in zip(common, paths, strict=True)
            )


@pytest.mark.parametrize("separate", [False, True])
def test_means_are_the_retrieval_metrics(separate):
    splits = ["query"] * 30 + ["gallery"] * 50 if separate else None
    images = random_set(5, number=80, splits=splits)
    searched = search(images, k=4)
    assert searched.same_set is not separate
    ids = prefix_ids(images.labels)
    for level in range(1, len(LEVELS) + 1):
        query = images.features[searched.query.indices], ids[searched.query.indices, level - 1]
        gallery = images.features[searched.gallery.indices], ids[searched.gallery.indices, level - 1]
        metrics = retrieval_metrics(*query, *gallery, same_set=not separate)
        assert searched.recall(level, torch.tensor([1, 10])).tolist() == pytest.approx(
            [metrics["recall@1"], metrics["recall@10"]]
        )
        assert searched.scores(level, "map@r").mean() == pytest.approx(metrics["map@r"])
        assert len(searched.scores(level, "map")) == metrics["num_queries"]
        assert searched.scores(level, "map").mean() == pytest.approx(metrics["map"])
        curve = recall_curve(*query, *gallery, max_k=9, same_set=not separate)
        torch.testing.assert_close(searched.recall(level, torch.arange(1, 10)).float(), curve.float())


def test_indices_are_among_all_images():
    splits = ["gallery", "query"] * 20
    images = replace(random_set(1, splits=splits), indices=torch.arange(100, 140))  # of the data set they are from
    searched = search(images)
    assert searched.query.indices.tolist() == list(range(1, 40, 2))
    assert searched.gallery.indices.tolist() == list(range(0, 40, 2))


@pytest.mark.parametrize("places", [1, 3])
def test_a_sample_of_queries_is_drawn_and_scored_in_the_whole_gallery(places):
    images = random_set(2, places=places)
    every, some = search(images), search(images, max_queries=7, seed=3)
    assert len(some.drawn) == len(set(some.drawn.tolist())) == 7
    assert some.neighbours.tolist() == every.neighbours.tolist()
    assert some.shared.tolist() == every.shared[some.drawn].tolist()
    of_some, of_every = [*some.of_levels, some.of_tree], [*every.of_levels, every.of_tree]
    for scores, of_all in zip(of_some, of_every, strict=True):
        for name, values in scores.items():
            torch.testing.assert_close(values, of_all[name][some.drawn])
    assert some.drawn.tolist() == search(images, max_queries=7, seed=3).drawn.tolist()
    assert some.drawn.tolist() != search(images, max_queries=7, seed=4).drawn.tolist()


def test_by_default_as_many_queries_as_pairs_are_affordable(monkeypatch):
    monkeypatch.setattr(search_module, "MOST_PAIRS", 1100 * 1200)
    images = random_set(2, number=1200)
    assert len(search(images).drawn) == 1100
    monkeypatch.setattr(search_module, "MOST_PAIRS", 1)
    assert len(search(images).drawn) == 1000


def test_a_level_at_which_every_image_hangs_on_several_nodes_has_no_scores():
    several = [[("a", "x"), ("b", "y")]] * 4
    images = embedded(torch.randn(4, 3), several, levels=("kind", "item"), splits=["query", "gallery"] * 2)
    searched = search(images)
    assert [len(searched.scores(level, "map")) for level in (1, 2)] == [0, 0]
    assert (searched.of_tree["h_ap"] == 1).all()  # all are closest relatives


def test_there_is_no_search_without_labels_or_with_one_image():
    assert search(unlabelled(5)) is None
    images = random_set(0)
    assert search(replace(images, features=images.features[:1], labels=images.labels[:1], splits=["all"])) is None


def test_a_split_without_images_is_an_error():
    with pytest.raises(ValueError, match="no evaluated image is of the split 'unseen'"):
        search(random_set(0), SearchSets("unseen", "all"))
