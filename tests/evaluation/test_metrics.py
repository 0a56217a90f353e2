import pickle

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample

from hierpretrain.evaluation import ClusteringMetric, Embeddings, RetrievalMetric, collect
from hierpretrain.functional import clustering_metrics, retrieval_metrics
from hierpretrain.taxonomy import PAD, Taxonomy

PATHS = [("a", "x"), ("a", "x"), ("a", "y"), ("a", "y"), ("b", "x"), ("b", "x"), ("b", "z"), ("b", "z"), ("a",), ("b",)]
TREE = Taxonomy(PATHS, ("coarse", "fine"))
META = dict(taxonomy=TREE.to_dict(), flat_label_names=("name",))
FLAT = [0, 0, 1, 1, 0, 0, 2, 2, 3, 3]  # the fine name alone, whatever its parent
FEATURES = torch.nn.functional.normalize(torch.randn(10, 6, generator=torch.Generator().manual_seed(0)), dim=1)


def samples(splits):
    made = []
    for i, row in enumerate(TREE.encode(PATHS)):
        sample = DataSample(metainfo=dict(sample_idx=i, img_path=f"{i}.png", split=splits[i])).set_gt_label(row)
        sample.set_field(torch.tensor([FLAT[i]]), "flat_label")
        sample.set_field(FEATURES[i], "embedding")
        made.append(sample)
    return made


def evaluate(metric, made):
    metric.dataset_meta = META
    for start in range(0, len(made), 3):
        metric.process({}, [sample.to_dict() for sample in made[start : start + 3]])
    return metric.evaluate(len(made))


SEPARATE = ["query", "gallery"] * 5


def test_queries_are_searched_for_in_the_gallery_at_every_level_and_in_flat_columns():
    metrics = evaluate(RetrievalMetric(levels=["coarse", "fine", "name"], ks=(1, 2)), samples(SEPARATE))
    fine = [0, 0, 1, 1, 2, 2, 3, 3, PAD, PAD]
    coarse = [0, 0, 0, 0, 1, 1, 1, 1, 0, 1]
    for level, classes in {"coarse": coarse, "fine": fine, "name": FLAT}.items():
        query, gallery = torch.tensor(classes)[0::2], torch.tensor(classes)[1::2]
        expected = retrieval_metrics(FEATURES[0::2], query, FEATURES[1::2], gallery, ks=(1, 2))
        assert {key: metrics[f"{level}/{key}"] for key in expected} == expected
    assert metrics["fine/num_lone_queries"] == 1


def test_without_a_gallery_every_image_is_a_query_among_the_others():
    metrics = evaluate(RetrievalMetric(levels=[1]), samples(["test"] * 10))
    classes = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 0, 1])
    expected = retrieval_metrics(FEATURES, classes, FEATURES, classes, same_set=True)
    assert metrics == {f"1/{key}": value for key, value in expected.items()}


def test_clusters_are_compared_at_levels_and_inside_parents():
    metrics = evaluate(ClusteringMetric(levels=["coarse"], within=[("fine", "coarse")], seed=3), samples(SEPARATE))
    fine, coarse = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3, PAD, PAD]), torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 0, 1])
    above, below = (
        clustering_metrics(FEATURES, coarse, seed=3),
        clustering_metrics(FEATURES, fine, parents=coarse, seed=3),
    )
    expected = {"coarse/nmi": above["nmi"], "coarse/ami": above["ami"], "fine/nmi_in_coarse": below["nmi_in_parent"]}
    assert metrics == expected


def test_repeated_and_shuffled_samples_change_nothing():
    made = samples(SEPARATE)
    order = np.random.default_rng(0).permutation(10).tolist()
    shuffled = [made[i] for i in [*order, 3, 3, 0]]  # as a distributed sampler fills up its last batch
    metric = RetrievalMetric(levels=["fine"])
    assert evaluate(RetrievalMetric(levels=["fine"]), shuffled) == evaluate(metric, made)


def test_embeddings_know_names_and_classes():
    embedded = Embeddings.from_samples([collect(sample) for sample in samples(SEPARATE)], META)
    assert embedded.names("fine") == ["x", "x", "y", "y", "x", "x", "z", "z", "(none)", "(none)"]
    assert embedded.names("name") == [str(label) for label in FLAT]
    assert embedded.classes(2).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, PAD, PAD]
    assert embedded.paths == [f"{i}.png" for i in range(10)]
    assert not embedded.same_set
    with pytest.raises(ValueError, match="no level 'colour'"):
        embedded.classes("colour")


@pytest.mark.parametrize(
    "metric", [RetrievalMetric(levels=["coarse", "fin"]), ClusteringMetric(within=[("fine", "fin")])]
)
def test_a_level_that_is_not_there_is_an_error_before_training(metric):
    with pytest.raises(ValueError, match=r"no level 'fin'.*\('coarse', 'fine'\); flat label columns are 'name'"):
        metric.dataset_meta = META


def test_a_sample_is_pickled_without_its_batch():
    sample = samples(SEPARATE)[0]
    sample.set_field(torch.randn(1000, 6)[0], "embedding")
    assert len(pickle.dumps(collect(sample)["embedding"])) < 2000


def test_what_is_missing_is_named_with_its_remedy():
    with pytest.raises(ValueError, match="no embedded image to evaluate"):
        Embeddings.from_samples([], META)
    with pytest.raises(ValueError, match="no `taxonomy` in its metainfo"):
        Embeddings.from_samples([collect(samples(SEPARATE)[0])], {})
    with pytest.raises(ValueError, match="no `taxonomy` in its metainfo"):
        RetrievalMetric(levels=["coarse"]).dataset_meta = {}
    with pytest.raises(ValueError, match="no `embedding`; evaluate a model such as HierarchicalContrastive"):
        collect(DataSample())
    bare = DataSample()
    bare.set_field(FEATURES[0], "embedding")
    with pytest.raises(ValueError, match=r"no `gt_label`; pack it: PackInputs\(algorithm_keys=\('flat_label',\)"):
        collect(bare)
