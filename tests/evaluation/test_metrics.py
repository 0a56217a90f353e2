import pickle

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample

from hierpretrain.engine import RecallCurveHook
from hierpretrain.evaluation import (
    ClusteringMetric,
    EmbeddingEvaluator,
    Embeddings,
    HierarchicalRetrievalMetric,
    KNNMetric,
    LinearProbeMetric,
    RetrievalMetric,
    ViolationMetric,
    collect,
)
from hierpretrain.evaluation.embeddings import columns
from hierpretrain.evaluation.search_sets import measured_searches
from hierpretrain.functional import (
    accuracy,
    class_distances,
    clustering_metrics,
    hierarchical_retrieval,
    hierarchical_retrieval_metrics,
    hierarchy_violations,
    knn_classify,
    linear_probe,
    mistake_metrics,
    retrieval,
    retrieval_metrics,
)
from hierpretrain.taxonomy import PAD, Taxonomy

PATHS = [("a", "x"), ("a", "x"), ("a", "y"), ("a", "y"), ("b", "x"), ("b", "x"), ("b", "z"), ("b", "z"), ("a",), ("b",)]
TREE = Taxonomy(PATHS, ("coarse", "fine"))
META = dict(taxonomy=TREE.to_dict(), extra_label_names=("name",))
FLAT = [0, 0, 1, 1, 0, 0, 2, 2, 3, 3]  # the fine name alone, whatever its parent
FEATURES = torch.nn.functional.normalize(torch.randn(10, 6, generator=torch.Generator().manual_seed(0)), dim=1)


def samples(splits):
    made = []
    for i, row in enumerate(TREE.encode(PATHS)):
        sample = DataSample(metainfo=dict(sample_idx=i, img_path=f"{i}.png", split=splits[i])).set_gt_label(row)
        sample.set_field(torch.tensor([FLAT[i]]), "extra_labels")
        sample.set_field(FEATURES[i], "embedding")
        made.append(sample)
    return made


def evaluate(metric, made, meta=META):
    evaluator = EmbeddingEvaluator(metric)
    evaluator.dataset_meta = meta
    for start in range(0, len(made), 3):
        evaluator.process(made[start : start + 3])
    return evaluator.evaluate(len(made))


SEPARATE = ["query", "gallery"] * 5


def test_queries_are_searched_for_in_the_gallery_at_every_level_and_in_flat_columns():
    metrics = evaluate(RetrievalMetric(levels=["coarse", "fine", "name"], ks=(1, 2)), samples(SEPARATE))
    fine = [0, 0, 1, 1, 2, 2, 3, 3, PAD, PAD]
    coarse = [0, 0, 0, 0, 1, 1, 1, 1, 0, 1]
    for level, classes in {"coarse": coarse, "fine": fine, "name": FLAT}.items():
        query, gallery = torch.tensor(classes)[0::2], torch.tensor(classes)[1::2]
        expected = retrieval_metrics(FEATURES[0::2], query, FEATURES[1::2], gallery, ks=(1, 2))
        assert {key: metrics[f"{level}/{key}"] for key in expected} == expected
    assert metrics["fine/num_queries_without_positives"] == metrics["fine/num_lone_queries"] == 1


def test_without_a_gallery_every_image_is_a_query_among_the_others():
    metrics = evaluate(RetrievalMetric(levels=[1]), samples(["test"] * 10))
    classes = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 0, 1])
    expected = retrieval_metrics(FEATURES, classes, FEATURES, classes, same_set=True)
    assert metrics == {f"1/{key}": value for key, value in expected.items()}


@pytest.mark.parametrize("splits", [SEPARATE, ["test"] * 10])
def test_metrics_of_the_same_sets_share_one_ranking(monkeypatch, splits):
    made = samples(splits)
    own = [
        RetrievalMetric(["fine", 1, "name"], prefix="flat"),
        HierarchicalRetrievalMetric(ks=(2,)),
        RetrievalMetric(["coarse"], ks=(3,), average_precision=False, prefix="more"),
    ]
    alone = [evaluate(metric, made) for metric in own]
    ranked, rank = [], hierarchical_retrieval.related_ranks
    for module in (hierarchical_retrieval, retrieval):
        monkeypatch.setattr(
            module, "related_ranks", lambda *args, **kw: ranked.append(args[1].shape[1]) or rank(*args, **kw)
        )
    found = evaluate(own, made)
    assert found == pytest.approx({name: value for of_one in alone for name, value in of_one.items()})
    assert ranked == [2, 1]  # the tree with its levels, and the flat column


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
    embedded = Embeddings.from_columns(columns([collect(sample) for sample in samples(SEPARATE)]), META)
    assert embedded.names("fine") == ["x", "x", "y", "y", "x", "x", "z", "z", "(none)", "(none)"]
    assert embedded.names("name") == [str(label) for label in FLAT]
    assert embedded.classes(2).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, PAD, PAD]
    assert embedded.paths == [f"{i}.png" for i in range(10)]
    assert embedded.indices.tolist() == list(range(10))
    assert embedded.of("gallery").indices.tolist() == [1, 3, 5, 7, 9]
    with pytest.raises(ValueError, match="no level 'colour'"):
        embedded.classes("colour")


@pytest.mark.parametrize(
    "metric", [RetrievalMetric(levels=["coarse", "fin"]), ClusteringMetric(within=[("fine", "fin")])]
)
def test_a_level_that_is_not_there_is_an_error_before_training(metric):
    with pytest.raises(ValueError, match=r"no level 'fin'.*\('coarse', 'fine'\); extra label columns are 'name'"):
        metric.dataset_meta = META


def test_a_sample_is_pickled_without_its_batch():
    sample = samples(SEPARATE)[0]
    sample.set_field(torch.randn(1000, 6)[0], "embedding")
    assert len(pickle.dumps(collect(sample)["embedding"])) < 2000


def test_what_is_missing_is_named_with_its_remedy():
    with pytest.raises(ValueError, match="no embedded image to evaluate"):
        Embeddings.from_columns(columns([]), META)
    with pytest.raises(ValueError, match="no `taxonomy` in its metainfo"):
        Embeddings.from_columns(columns([collect(samples(SEPARATE)[0])]), {})
    with pytest.raises(ValueError, match="no `taxonomy` in its metainfo"):
        RetrievalMetric(levels=["coarse"]).dataset_meta = {}
    with pytest.raises(ValueError, match="no `embedding`; evaluate a model such as HierarchicalContrastive"):
        collect(DataSample())
    bare = DataSample()
    bare.set_field(FEATURES[0], "embedding")
    with pytest.raises(ValueError, match=r"no `gt_label`; pack it: PackInputs\(algorithm_keys=\('extra_labels',\)"):
        collect(bare)


# ---------------------------------------------------------------- several paths
FORKED = [  # the classes of the coarse and of the fine level are: a, x | several, x | several, several | b, none
    ("a", "x"),
    [("a", "x"), ("b",)],
    [("a", "y"), ("b", "z")],
    ("b",),
    [("a", "x"), ("a", "y")],  # a, several
    (),
]


def forked(paths, features, splits=None, flat=None):
    """An evaluated set of images with these paths."""
    labels = TREE.encode(paths)
    made = []
    for i, (row, feature) in enumerate(zip(labels, torch.as_tensor(features), strict=True)):
        sample = DataSample(metainfo=dict(sample_idx=i, img_path=f"{i}.png", split=(splits or ["test"] * 99)[i]))
        sample.set_field(row, "gt_label")
        sample.set_field(torch.tensor([flat[i] if flat else 0]), "extra_labels")
        sample.set_field(feature.float(), "embedding")
        made.append(sample)
    return made


def test_the_class_of_an_image_of_several_paths_is_the_one_that_they_agree_on():
    features = torch.eye(6)
    embedded = Embeddings.from_columns(columns([collect(sample) for sample in forked(FORKED, features)]), META)
    assert embedded.names("coarse") == ["a", "(several)", "(several)", "b", "a", "(none)"]
    assert embedded.classes("coarse").tolist() == [0, PAD, PAD, 1, 0, PAD]
    assert embedded.names("fine") == ["x", "x", "(several)", "(none)", "(several)", "(none)"]
    assert embedded.classes("fine").tolist() == [0, 0, PAD, PAD, PAD, PAD]
    assert embedded.nodes("fine").tolist() == [[0, PAD], [0, PAD], [1, 3], [PAD, PAD], [0, 1], [PAD, PAD]]
    assert embedded.classes("name").tolist() == embedded.nodes("name").tolist() == [0] * 6
    assert embedded.in_several("coarse").tolist() == [False, True, True, False, False, False]
    assert not embedded.in_several("name").any()
    only_forked = embedded.select([1, 2])
    assert only_forked.indices.tolist() == [1, 2]
    with pytest.raises(ValueError, match="every image is in several classes of 'coarse'; measure another level or all"):
        RetrievalMetric([1]).map(only_forked, (0, 1))


def test_an_image_of_several_classes_is_neither_query_nor_answer_at_that_level():
    angles = torch.tensor([0.0, 1, 2, 30, 31, 32, 60])
    features = torch.stack([angles.deg2rad().cos(), angles.deg2rad().sin()], 1)
    paths = [
        ("a", "x"),  # query
        [("a", "y"), ("b", "x")],  # gallery: the nearest; of several classes at both levels
        ("a", "y"),  # gallery
        ("b", "x"),  # query
        [("b", "x"), ("b", "z")],  # gallery: of the query's coarse class, and of several fine ones
        [("a", "x"), ("b",)],  # query of several coarse classes, and of a single fine one
        ("a", "x"),  # gallery
    ]
    splits = ["query", "gallery", "gallery", "query", "gallery", "query", "gallery"]
    metrics = evaluate(RetrievalMetric(["coarse", "fine", "name"], ks=(1,)), forked(paths, features, splits))
    coarse, fine = torch.tensor([0, 0, 1, 1, 0]), torch.tensor([0, 1, 2, 0, 0])  # of the images that have one
    expected = {
        "coarse": retrieval_metrics(features[[0, 3]], coarse[[0, 2]], features[[2, 4, 6]], coarse[[1, 3, 4]], ks=(1,))
        | {"num_ambiguous": 2},
        "fine": retrieval_metrics(features[[0, 3, 5]], fine[[0, 2, 3]], features[[2, 6]], fine[[1, 4]], ks=(1,))
        | {"num_ambiguous": 2},
        "name": retrieval_metrics(
            features[[0, 3, 5]], torch.zeros(3).long(), features[[1, 2, 4, 6]], torch.zeros(4).long(), ks=(1,)
        ),
    }
    assert metrics == {f"{level}/{key}": value for level, found in expected.items() for key, value in found.items()}
    # by hand: both queries of the coarse level find their own first; of the fine one, (a, y) stands before (a, x) for
    # the first query and behind it for the last, and (b, x) has none
    assert metrics["coarse/recall@1"] == 1
    assert (metrics["fine/num_queries"], metrics["fine/num_queries_without_positives"]) == (2, 1)
    assert metrics["fine/map"] == pytest.approx((1 / 2 + 1) / 2)
    among_all = RetrievalMetric(["coarse"], query=["query", "gallery"])
    assert evaluate(among_all, forked(paths, features, splits))["coarse/num_ambiguous"] == 2  # each counted once
    inside = RetrievalMetric(["coarse"], query="query", gallery=["query", "gallery"])
    assert evaluate(inside, forked(paths, features, splits))["coarse/num_ambiguous"] == 2  # a query, and one of others


def test_a_level_may_be_given_alone():
    for bare, listed in (
        (RetrievalMetric("fine"), RetrievalMetric(["fine"])),
        (RetrievalMetric(-1, ks=[1]), RetrievalMetric([-1], ks=(1,))),
        (ClusteringMetric("name"), ClusteringMetric(["name"])),
        (KNNMetric("coarse", train="query", test="gallery"), KNNMetric(["coarse"], train="query", test="gallery")),
    ):
        assert evaluate(bare, samples(SEPARATE)) == evaluate(listed, samples(SEPARATE))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RetrievalMetric([-1, True]), "level must be a name or a whole number; it is True"),
        (lambda: RetrievalMetric(1.0), r"level must be a name or a whole number; it is 1\.0"),
        (lambda: KNNMetric([None]), "level must be a name or a whole number; it is None"),
        (lambda: RecallCurveHook([1.5]), r"level must be a name or a whole number; it is 1\.5"),
        (
            lambda: ClusteringMetric(within=("fine", "coarse")),
            r"within must be pairs of a level and a coarser one, such as .*; it is \('fine', 'coarse'\)",
        ),
        (lambda: RetrievalMetric(["fine"], ks=5), r"ks must be several numbers, such as \(1, 5\); they are 5"),
        (lambda: HierarchicalRetrievalMetric(ks=5), r"ks must be several numbers, such as \(1, 5\); they are 5"),
        (lambda: LinearProbeMetric(["fine"], ks=5), r"ks must be several numbers, such as \(1, 5\); they are 5"),
        (
            lambda: retrieval_metrics(FEATURES, FLAT, FEATURES, FLAT, same_set=True, ks=3),
            r"ks must be several numbers, such as \(1, 5\); they are 3",
        ),
    ],
)
def test_levels_and_ks_of_a_wrong_kind_are_named_where_they_are_given(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.0, r"embeddings must have a direction; row 3 is all zero \(3\.png\); leave it out"),
        (torch.nan, r"embeddings must be finite; row 3 is not \(3\.png\)\. Lower"),
    ],
)
def test_an_image_whose_embedding_has_no_direction_is_named(value, message):
    made = samples(SEPARATE)
    made[3].set_field(torch.full((6,), value), "embedding")
    with pytest.raises(ValueError, match=message):
        evaluate(RetrievalMetric(["fine"]), made)
    alone = RetrievalMetric(["fine"])  # as in MMEngine's Evaluator
    alone.dataset_meta = META
    alone.process(None, [sample.to_dict() for sample in made])
    with pytest.raises(ValueError, match=message):
        alone.compute_metrics(alone.results)


def test_metrics_of_all_levels_take_all_paths():
    paths, features = [*FORKED, ("a", "x"), ("b", "z")], FEATURES[:8]
    labels = TREE.encode(paths)
    found = evaluate(HierarchicalRetrievalMetric(ks=(2,)), forked(paths, features))
    assert found == hierarchical_retrieval_metrics(features, labels, features, labels, ks=(2,), same_set=True)
    assert evaluate(ViolationMetric(), forked(paths, features)) == hierarchy_violations(features, labels)


def test_clusters_are_those_of_the_images_of_one_class():
    paths, features = [*FORKED, ("a", "y"), ("b", "z")], FEATURES[:8]
    found = evaluate(ClusteringMetric(["fine"], within=[("fine", "coarse")]), forked(paths, features))
    fine, coarse = torch.tensor([0, 0, 1, 3]), torch.tensor([0, PAD, 0, 1])
    expected = clustering_metrics(features[[0, 1, 6, 7]], fine, parents=coarse)
    assert found == {
        "fine/nmi": expected["nmi"],
        "fine/ami": expected["ami"],
        "fine/nmi_in_coarse": expected["nmi_in_parent"],
    }


def test_flat_labels_are_called_by_their_values():
    meta = {**META, "extra_label_values": {"name": ("red", "blue", "green")}}
    made = forked([("a", "x")] * 4, torch.eye(4), ["query", "gallery"] * 2, [2, PAD, 0, 1])
    embedded = Embeddings.from_columns(columns([collect(sample) for sample in made]), meta)
    assert embedded.names("name") == ["green", "(none)", "red", "blue"]
    assert embedded.of("query").names("name") == ["green", "red"]
    without = Embeddings.from_columns(columns([collect(sample) for sample in made]), META)
    assert without.names("name") == ["2", "(none)", "0", "1"]


# ---------------------------------------------------------------- parts: seen and unseen classes
PARTS = ["seen_train", "seen_train", "seen_test", "seen_test", "unseen_train", "unseen_test"] * 2
PART_PATHS = (
    [("a", "x")] * 2 + [("a", "y")] * 2 + [("b", "x")] * 2 + [("a", "y")] * 2 + [("a", "x")] * 2 + [("b", "z")] * 2
)
PART_META = {**META, "splits": ("seen_train", "seen_test", "unseen_train", "unseen_test")}
PART_FEATURES = torch.nn.functional.normalize(torch.randn(12, 6, generator=torch.Generator().manual_seed(1)), dim=1)
PART_LABELS = TREE.encode(PART_PATHS)


def part_samples():
    made = []
    for i, row in enumerate(PART_LABELS):
        sample = DataSample(metainfo=dict(sample_idx=i, img_path=f"{i}.png", split=PARTS[i])).set_gt_label(row)
        sample.set_field(torch.tensor([0]), "extra_labels")
        sample.set_field(PART_FEATURES[i].clone(), "embedding")
        made.append(sample)
    return made


def rows(*splits):
    return [i for i, split in enumerate(PARTS) if split in splits]


def test_splits_that_are_named_are_query_and_gallery_and_a_prefix_names_the_part():
    metric = RetrievalMetric(levels=["fine"], query="seen_test", gallery=["seen_train"], prefix="seen")
    found = evaluate(metric, part_samples(), PART_META)
    query, gallery, fine = rows("seen_test"), rows("seen_train"), PART_LABELS[:, 1]
    expected = retrieval_metrics(PART_FEATURES[query], fine[query], PART_FEATURES[gallery], fine[gallery])
    assert found == {f"seen/fine/{key}": value for key, value in expected.items()}
    metric = HierarchicalRetrievalMetric(ks=(2,), query="seen_test", gallery=["seen_train"])
    found = evaluate(metric, part_samples(), PART_META)
    sides = [side for chosen in (query, gallery) for side in (PART_FEATURES[chosen], PART_LABELS[chosen])]
    assert found == hierarchical_retrieval_metrics(*sides, ks=(2,))


def test_one_split_is_searched_for_in_itself_without_each_image_s_own():
    fine, query = PART_LABELS[:, 1], rows("seen_test", "unseen_test")
    found = evaluate(RetrievalMetric(["fine"], query=["seen_test", "unseen_test"]), part_samples(), PART_META)
    sides = [PART_FEATURES[query], fine[query]]
    assert found["fine/map"] == retrieval_metrics(*sides, *sides, same_set=True)["map"]
    both = dict(query=["seen_test", "unseen_test"], gallery=["unseen_test", "seen_test"])
    assert evaluate(RetrievalMetric(["fine"], **both), part_samples(), PART_META) == found


def test_queries_may_be_a_part_of_the_gallery():
    query, gallery = rows("seen_test"), rows("seen_test", "seen_train")
    sets = dict(query="seen_test", gallery=["seen_test", "seen_train"])
    features, labels = PART_FEATURES[gallery], PART_LABELS[gallery]
    queries = torch.tensor([gallery.index(row) for row in query])
    found = evaluate(RetrievalMetric(["fine"], **sets), part_samples(), PART_META)
    expected = retrieval_metrics(features, labels[:, 1], features, labels[:, 1], same_set=True, queries=queries)
    assert found == {f"fine/{key}": value for key, value in expected.items()}
    found = evaluate(HierarchicalRetrievalMetric(ks=(2,), **sets), part_samples(), PART_META)
    sides = features, labels
    assert found == hierarchical_retrieval_metrics(*sides, *sides, ks=(2,), same_set=True, queries=queries)
    assert measured_searches([RetrievalMetric(["fine"], **sets)]) == []
    with pytest.raises(ValueError, match="no evaluated image is of the split 'val'"):
        evaluate(RetrievalMetric(["fine"], query="val", gallery=["val", "seen_test"]), part_samples(), PART_META)


def test_classifiers_learn_from_some_splits_and_are_tested_on_others():
    train, test = rows("seen_train", "unseen_train"), rows("seen_test", "unseen_test")
    options = dict(train=["seen_train", "unseen_train"], test=["seen_test", "unseen_test"], mistakes=True)
    for level, column in {"coarse": 0, "fine": 1}.items():
        classes = PART_LABELS[:, column]
        sides = PART_FEATURES[train], classes[train], PART_FEATURES[test]
        distances = class_distances(TREE, level)
        for metric, predicted in {
            LinearProbeMetric([level], epochs=3, seed=5, **options): linear_probe(*sides, epochs=3, seed=5, k=5),
            KNNMetric([level], neighbours=3, **options): knn_classify(*sides, neighbours=3, k=5),
        }.items():
            expected = accuracy(predicted, classes[test], ks=(1, 5))
            expected |= mistake_metrics(predicted[:, :1], classes[test], distances, ks=(1,))
            found = evaluate(metric, part_samples(), PART_META)
            assert found == {f"{level}/{metric.name}_{key}": value for key, value in expected.items()}


def test_chosen_splits_are_grouped_and_compared():
    chosen = rows("unseen_train", "unseen_test")
    found = evaluate(ClusteringMetric(["fine"], splits=["unseen_train", "unseen_test"]), part_samples(), PART_META)
    assert found["fine/nmi"] == clustering_metrics(PART_FEATURES[chosen], PART_LABELS[chosen, 1])["nmi"]
    found = evaluate(ViolationMetric(splits=["unseen_train", "unseen_test"]), part_samples(), PART_META)
    assert found == hierarchy_violations(PART_FEATURES[chosen], PART_LABELS[chosen])


@pytest.mark.parametrize(
    "metric",
    [
        RetrievalMetric(["fine"], query="val"),
        KNNMetric(["fine"], train="val", test="seen_test"),
        ClusteringMetric(["fine"], splits=["seen_test", "val"]),
    ],
)
def test_a_split_that_is_not_evaluated_is_an_error_before_training(metric):
    with pytest.raises(ValueError, match=r"no evaluated image is of the split 'val'; evaluated are \['seen_train'"):
        metric.dataset_meta = PART_META


def test_splits_on_both_sides_are_an_error():
    embedded = Embeddings.from_columns(columns([collect(sample) for sample in part_samples()]), PART_META)
    with pytest.raises(ValueError, match=r"different splits here, or one and the same; \['seen_test'\] are of both"):
        embedded.search(["seen_test", "seen_train"], ["seen_test"])
    with pytest.raises(ValueError, match="give the queries of gallery='seen_test'"):
        embedded.search(None, "seen_test")
    with pytest.raises(ValueError, match="no evaluated image is of the split 'query'"):
        embedded.of("query")
    with pytest.raises(ValueError, match=r"tested on what it learned; \['seen_test'\] are in both"):
        KNNMetric(["fine"], train="seen_test", test=["seen_test"])


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        (dict(query=["test", "train"], gallery=["train", "x"]), r"one and the same; \['train'\] are of both"),
        (dict(query=None, gallery="train"), "give the queries of gallery='train'"),
    ],
)
@pytest.mark.parametrize("metric", [RetrievalMetric, HierarchicalRetrievalMetric])
def test_sides_that_no_search_has_are_an_error_before_training(metric, sides, message):
    with pytest.raises(ValueError, match=message):
        metric(**({"levels": [1]} if metric is RetrievalMetric else {}), **sides)
