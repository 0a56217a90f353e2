from dataclasses import replace

import pytest
import torch

from hierpretrain.functional import recall_curve, retrieval_metrics
from hierpretrain.report import query_scores as query_scores_module
from hierpretrain.report.query_scores import query_scores, search
from hierpretrain.taxonomy import prefix_ids
from tests.reference.metrics import ranking
from tests.reference.report import query_score
from tests.report.sets import LEVELS, random_set, unlabelled


@pytest.mark.parametrize("places", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_every_query_as_scored_by_loops(seed, places):
    images = random_set(seed, places=places)
    scores = query_scores(images, images, same_set=True, k=5)
    for i in range(40):
        for level in (1, 2, 3):
            number, first, map_at_r, precision = query_score(images, i, range(40), level)
            assert scores.num_relevant[i, level - 1] == number
            assert scores.first_rank[i, level - 1] == first
            assert scores.map_at_r[i, level - 1] == pytest.approx(map_at_r)
            assert scores.average_precision[i, level - 1] == pytest.approx(precision)
        order = ranking(images.features[i].double(), images.features.double(), i)
        assert scores.neighbours[i].tolist() == order[:5]


@pytest.mark.parametrize("separate", [False, True])
def test_means_are_the_retrieval_metrics(separate):
    splits = ["query"] * 30 + ["gallery"] * 50 if separate else None
    images = random_set(5, number=80, splits=splits)
    searched = search(images, k=4)
    assert searched.same_set is not separate
    ids = prefix_ids(images.labels)
    for level in range(1, len(LEVELS) + 1):
        query = images.features[searched.query_rows], ids[searched.query_rows, level - 1]
        gallery = images.features[searched.gallery_rows], ids[searched.gallery_rows, level - 1]
        metrics = retrieval_metrics(*query, *gallery, same_set=not separate)
        assert searched.scores.recall(level, torch.tensor([1, 10])).tolist() == pytest.approx(
            [metrics["recall@1"], metrics["recall@10"]]
        )
        assert searched.scores.mean_map_at_r(level) == pytest.approx(metrics["map@r"])
        there = searched.scores.num_relevant[:, level - 1] > 0
        assert int(there.sum()) == metrics["num_queries"]
        assert searched.scores.average_precision[there, level - 1].mean() == pytest.approx(metrics["map"])
        curve = recall_curve(*query, *gallery, max_k=9, same_set=not separate)
        torch.testing.assert_close(searched.scores.recall(level, torch.arange(1, 10)).float(), curve.float())


def test_rows_are_those_of_all_images():
    splits = ["gallery", "query"] * 20
    searched = search(random_set(1, splits=splits))
    assert searched.query_rows == list(range(1, 40, 2))
    assert searched.gallery_rows == list(range(0, 40, 2))


def test_a_sample_of_queries_is_drawn_and_scored_in_the_whole_gallery():
    images = random_set(2)
    every = query_scores(images, images, same_set=True)
    some = query_scores(images, images, same_set=True, max_queries=7, seed=3)
    assert len(some.rows) == len(set(some.rows.tolist())) == 7
    torch.testing.assert_close(some.map_at_r, every.map_at_r[some.rows])
    assert some.neighbours.tolist() == every.neighbours[some.rows].tolist()
    assert some.rows.tolist() == query_scores(images, images, same_set=True, max_queries=7, seed=3).rows.tolist()
    assert some.rows.tolist() != query_scores(images, images, same_set=True, max_queries=7, seed=4).rows.tolist()


def test_by_default_as_many_queries_as_pairs_are_affordable(monkeypatch):
    monkeypatch.setattr(query_scores_module, "MOST_PAIRS", 1100 * 1200)
    images = random_set(2, number=1200)
    assert len(search(images).scores.rows) == 1100
    monkeypatch.setattr(query_scores_module, "MOST_PAIRS", 1)
    assert len(search(images).scores.rows) == 1000


def test_there_is_no_search_without_labels_or_with_one_image():
    assert search(unlabelled(5)) is None
    images = random_set(0)
    assert search(replace(images, features=images.features[:1], labels=images.labels[:1], splits=["all"])) is None


def test_a_split_without_images_is_an_error():
    with pytest.raises(ValueError, match="no evaluated image is of the split 'unseen'"):
        search(random_set(0), query="unseen", gallery="all")
