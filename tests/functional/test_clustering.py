import faiss
import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

from hierpretrain.functional import clustering
from hierpretrain.functional.clustering import (
    best_clustering,
    clustering_metrics,
    mean_over_parents,
    nmi_by_parent,
)
from hierpretrain.taxonomy import PAD
from tests.reference import metrics as reference


def blobs(noise, classes=6, each=20, dim=16):
    generator = torch.Generator().manual_seed(0)
    centers = torch.nn.functional.normalize(torch.randn(classes, dim, generator=generator))
    labels = torch.arange(classes).repeat(each)
    return centers[labels] + noise * torch.randn(len(labels), dim, generator=generator), labels


def test_separated_blobs_are_perfect():
    rows, labels = blobs(0.02)
    metrics = clustering_metrics(rows, labels, parents=labels // 2)
    assert metrics == pytest.approx(
        {"nmi": 1, "ami": 1, "num_classes": 6, "nmi_in_parent": 1, "num_parents": 3}, abs=1e-9
    )


def test_scores_equal_formula_and_scikit_learn(monkeypatch):
    rows, labels = blobs(0.4)
    clusters = []
    kmeans = clustering._kmeans

    def keep(*args):
        found = kmeans(*args)
        clusters.append(found[2])
        return found

    monkeypatch.setattr(clustering, "_kmeans", keep)
    metrics = clustering_metrics(rows, labels)
    assert len(set(clusters[0].tolist())) == 6
    assert 0.2 < metrics["nmi"] < 0.95
    assert metrics["nmi"] == pytest.approx(reference.nmi(labels, clusters[0]), abs=1e-12)
    assert metrics["nmi"] == pytest.approx(normalized_mutual_info_score(labels, clusters[0]), abs=1e-12)
    assert metrics["ami"] == pytest.approx(adjusted_mutual_info_score(labels, clusters[0]), abs=1e-12)


def test_clusters_are_as_tight_as_those_of_scikit_learn():
    rows = torch.nn.functional.normalize(blobs(0.3, each=300)[0]).numpy()

    def spread(clusters):
        return sum(((rows[clusters == c] - rows[clusters == c].mean(0)) ** 2).sum() for c in range(6))

    witness = KMeans(6, n_init=5, random_state=0).fit(rows)
    assert spread(clustering._kmeans(rows, 6, 0, range(3))[2]) == pytest.approx(witness.inertia_, rel=0.01)


def test_starts_are_as_good_as_those_of_scikit_learn():
    rows = torch.nn.functional.normalize(blobs(0.08, classes=100, each=20, dim=64)[0]).numpy()

    def spread(centroids):
        return float((2 - 2 * rows @ centroids.T).min(1).sum())

    ours = [spread(clustering._plus_plus(rows, 100, np.random.default_rng(seed))) for seed in range(8)]
    theirs = [spread(kmeans_plusplus(rows, 100, random_state=seed)[0]) for seed in range(8)]
    at_random = [spread(rows[np.random.default_rng(seed).choice(len(rows), 100)]) for seed in range(8)]
    assert sum(ours) == pytest.approx(sum(theirs), rel=0.03)
    assert sum(ours) < 0.9 * sum(at_random)


def test_no_row_starts_two_clusters_while_another_is_left():
    rows = torch.nn.functional.normalize(torch.randn(30, 4, generator=torch.Generator().manual_seed(0))).numpy()
    chosen = clustering._plus_plus(rows, 30, np.random.default_rng(0))
    assert len(np.unique(chosen, axis=0)) == 30
    assert clustering._plus_plus(rows[:1].repeat(5, 0), 3, np.random.default_rng(0)).shape == (3, 4)  # all are one


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_the_best_of_all_shards_is_the_best_start(world_size):
    rows, labels = blobs(0.4)
    found = [best_clustering(rows, labels, shard=(rank, world_size)) for rank in range(world_size)]
    assert min(found, key=lambda of_shard: of_shard[0]) == best_clustering(rows, labels)
    assert sum(total == float("inf") for (total, _), _ in found) == max(0, world_size - 3)
    parents = labels // 2
    by_parent = {}
    for rank in range(world_size):
        by_parent |= nmi_by_parent(rows, labels, parents, shard=(rank, world_size))
    assert by_parent == nmi_by_parent(rows, labels, parents)
    metrics = clustering_metrics(rows, labels, parents=parents)
    assert (mean_over_parents(by_parent), 3) == (metrics["nmi_in_parent"], metrics["num_parents"])


def test_all_items_are_clustered_not_a_sample():
    rows = torch.nn.functional.normalize(blobs(0.3, classes=2, each=3000)[0])
    clusters = torch.from_numpy(clustering._kmeans(rows.numpy(), 2, 0, range(3))[2])
    means = torch.stack([rows[clusters == c].mean(0) for c in range(2)])
    assert torch.cdist(rows, means).argmin(1).equal(clusters)  # where k-means has converged


def test_the_best_start_counts():
    rows, labels = blobs(0.15, classes=9, each=200, dim=64)
    assert [clustering_metrics(rows, labels, seed=seed)["nmi"] > 0.99 for seed in range(20)] == [True] * 20


def test_random_labels_have_no_adjusted_information():
    rows = torch.randn(200, 16, generator=torch.Generator().manual_seed(1))
    labels = torch.randint(40, (200,), generator=torch.Generator().manual_seed(2))
    metrics = clustering_metrics(rows, labels)
    assert metrics["nmi"] > 0.5  # by chance alone
    assert abs(metrics["ami"]) < 0.1


def test_in_parent_is_the_mean_over_parents_of_two_or_more_classes():
    rows, labels = blobs(0.4, classes=7)
    parents = torch.tensor([0, 0, 0, 1, 1, 2, PAD])[labels]  # parent 2 has one class; class 6 has no parent
    labels[::11] = PAD
    known = labels != PAD
    metrics = clustering_metrics(rows, labels, parents=parents, seed=3)
    by_hand = [
        clustering_metrics(rows[mask], labels[mask], seed=3)["nmi"] for mask in (known & (parents == p) for p in (0, 1))
    ]
    assert metrics["nmi_in_parent"] == pytest.approx(sum(by_hand) / 2, abs=1e-12)
    assert by_hand[0] != by_hand[1]
    assert (metrics["num_parents"], metrics["num_classes"]) == (2, 7)
    assert metrics["nmi"] == clustering_metrics(rows[known], labels[known], seed=3)["nmi"]


def test_a_class_may_sit_in_two_parents():
    rows, labels = blobs(0.02, classes=3)
    parents = (torch.arange(len(labels)) % 2).long()
    metrics = clustering_metrics(rows, labels, parents=parents)
    assert (metrics["nmi_in_parent"], metrics["num_parents"]) == (pytest.approx(1), 2)


def test_names_of_labels_and_lengths_of_rows_do_not_matter():
    rows, labels = blobs(0.4)
    expected = clustering_metrics(rows, labels, parents=labels % 2)
    names = torch.tensor([5, 3, 0, 1, 4, 2]) + 2**24
    scaled = rows * 2.0 ** torch.randint(-60, 60, (len(rows), 1))
    actual = clustering_metrics(scaled.double(), names[labels], parents=9 - labels % 2)
    assert actual == pytest.approx(expected, abs=1e-9)


def test_equal_seeds_give_equal_results_whatever_the_threads():
    rows, labels = blobs(0.6, classes=12)
    expected = clustering_metrics(rows, labels, seed=5)
    before = faiss.omp_get_max_threads()
    try:
        for threads in (1, 2):
            faiss.omp_set_num_threads(threads)
            assert clustering_metrics(rows, labels, seed=5) == expected
    finally:
        faiss.omp_set_num_threads(before)
    assert any(clustering_metrics(rows, labels, seed=seed) != expected for seed in range(4))


def test_every_item_its_own_class():
    rows, _ = blobs(0.5)
    metrics = clustering_metrics(rows, torch.arange(len(rows)))
    assert (metrics["nmi"], metrics["ami"], metrics["num_classes"]) == (pytest.approx(1), pytest.approx(1), 120)


def test_collapsed_embeddings_tell_nothing():
    metrics = clustering_metrics(torch.ones(40, 8), torch.arange(40) % 4)
    assert metrics["nmi"] < 0.2
    assert abs(metrics["ami"]) < 0.1


def test_prints_nothing(capfd):
    rows, labels = blobs(0.5, each=3)
    clustering_metrics(rows, labels, parents=labels // 2)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("labels", "parents", "message"),
    [
        ([0, 0, PAD, 0], None, "at least 2 classes; these 4 items have 1; use a finer level"),
        ([PAD] * 4, None, "these 4 items have 0"),
        ([0, 0, 1, 1], [0, 0, 1, 1], "a parent with at least 2 classes; none has; pass the level above"),
        ([0, 0, 1, 1], [PAD] * 4, "none has"),
        ([0, 1], None, r"labels must be \(4,\)"),
        ([0, 0, 1, 1], [0], r"parents must be \(4,\)"),
    ],
)
def test_malformed_input(labels, parents, message):
    parents = None if parents is None else torch.tensor(parents)
    with pytest.raises(ValueError, match=message):
        clustering_metrics(torch.eye(4), torch.tensor(labels), parents=parents)


def test_not_finite_names_the_row():
    with pytest.raises(ValueError, match="embeddings must be finite; row 1 "):
        clustering_metrics(torch.tensor([[1.0], [torch.nan]]), torch.tensor([0, 1]))


def test_a_seed_that_is_none_is_told():
    with pytest.raises(ValueError, match="seed must be an integer from 0; it is -1"):
        clustering_metrics(torch.eye(4), torch.tensor([0, 0, 1, 1]), seed=-1)
