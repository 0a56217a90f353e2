"""Average precision as a registered metric: what it computes from which rows, and what it calls the results."""

import pytest
import torch
from mmpretrain.structures import DataSample

from hierpretrain.evaluation import AveragePrecisionMetric, EmbeddingEvaluator
from hierpretrain.functional import average_precision_metrics, linear_probe, linear_scores
from hierpretrain.registry import METRICS
from hierpretrain.taxonomy import PAD, Taxonomy

NODES = [
    ("nave", "window"),
    ("nave", "altar"),
    ("tower", "window"),
    ("tower",),
    ("nave", "altar"),
    ("portal", "statue"),
]
TREE = Taxonomy(NODES, ("part", "detail"))
VALUES = ("choir", "facade", "organ")
META = dict(taxonomy=TREE.to_dict(), extra_label_names=("concept",), splits=("train", "test"))
NAMED = META | dict(extra_label_values={"concept": VALUES})

GENERATOR = torch.Generator().manual_seed(0)
WHICH = torch.randint(len(NODES), (90,), generator=GENERATOR)
LABELS = TREE.encode([NODES[i] for i in WHICH])
CONCEPTS = torch.randint(PAD, 3, (90,), generator=GENERATOR)
FEATURES = torch.randn(len(NODES), 16, generator=GENERATOR)[WHICH] + torch.randn(90, 16, generator=GENERATOR)
SPLITS = ["train" if i % 3 else "test" for i in range(90)]
TRAIN, TEST = ([i for i, split in enumerate(SPLITS) if split == name] for name in ("train", "test"))


def evaluate(metric, meta=NAMED, rows=range(90)):
    evaluator = EmbeddingEvaluator(metric)
    evaluator.dataset_meta = meta
    for i in rows:
        sample = DataSample(metainfo=dict(sample_idx=i, img_path=f"{i}.png", split=SPLITS[i])).set_gt_label(LABELS[i])
        sample.set_field(CONCEPTS[i : i + 1], "extra_labels")
        sample.set_field(FEATURES[i], "embedding")
        evaluator.process([sample])
    return evaluator.evaluate(len(rows))


def expected_of(column, **recipe):
    scores, classes = linear_scores(FEATURES[TRAIN], column[TRAIN], FEATURES[TEST], **recipe)
    return average_precision_metrics(scores, column[TEST], classes)


def test_it_measures_the_layer_of_paper_b_at_levels_and_in_flat_columns():
    levels = {"part": LABELS[:, 0], "detail": LABELS[:, 1], "concept": CONCEPTS}
    found = evaluate(AveragePrecisionMetric(list(levels), device="cpu"))
    names = {"part": ["nave", "portal", "tower"], "concept": VALUES}
    names["detail"] = ["altar", "nave/window", "statue", "tower/window"]
    expected = {}
    for level, column in levels.items():
        metrics, by_class = expected_of(column, optimizer="adam", epochs=4, batch_size=64, lr=1e-3)
        metrics["linear_top1"] = metrics.pop("accuracy")
        expected |= {f"{level}/{name}": value for name, value in metrics.items()}
        expected |= {f"{level}/ap/{names[level][number]}": value for number, value in by_class.items()}
    assert found == expected
    assert 0 < found["detail/num_left_out"] == int((LABELS[TEST, 1] == PAD).sum())
    assert 0 < found["concept/num_left_out"] == int((CONCEPTS[TEST] == PAD).sum())
    assert found["part/map"] > 0.6  # of classes that do differ; a third would be chance


def test_every_option_of_the_recipe_counts():
    recipe = dict(optimizer="sgd", epochs=40, batch_size=256, lr=10.0, weight_decay=1e-5, cosine=True, scaling="length")
    found = evaluate(AveragePrecisionMetric([1], seed=3, device="cpu", **recipe))
    metrics, _ = expected_of(LABELS[:, 0], seed=3, **recipe)
    assert {name: found[f"1/{name}"] for name in ("map", "map_images", "map_micro", "precision")} == {
        name: metrics[name] for name in ("map", "map_images", "map_micro", "precision")
    }
    # this is the recipe of paper A: so is its accuracy
    probed = linear_probe(FEATURES[TRAIN], LABELS[TRAIN, 0], FEATURES[TEST], seed=3, k=1)[:, 0]
    assert found["1/linear_top1"] == (probed == LABELS[TEST, 0]).sum().item() / len(TEST)
    for option, value in dict(
        optimizer="adam", epochs=2, batch_size=7, lr=0.01, weight_decay=0.05, cosine=False
    ).items():
        assert expected_of(LABELS[:, 0], seed=3, **recipe | {option: value})[0]["map"] != metrics["map"], option


def test_classes_are_numbers_where_the_data_set_does_not_tell_their_values():
    named = evaluate(AveragePrecisionMetric(["concept"], device="cpu"))
    numbered = evaluate(AveragePrecisionMetric(["concept"], device="cpu"), META)
    for number, value in enumerate(VALUES):
        assert numbered.pop(f"concept/ap/{number}") == named.pop(f"concept/ap/{value}")
    assert numbered == named


def test_a_class_that_is_only_tested_is_named_and_counted():
    rows = [i for i in range(90) if SPLITS[i] == "test" or LABELS[i, 0] != 1]
    found = evaluate(AveragePrecisionMetric(["part"], device="cpu"), rows=rows)
    assert found["part/num_unscored_classes"] == 1
    assert found["part/ap/portal"] == pytest.approx((LABELS[TEST, 0] == 1).sum().item() / len(TEST))


def test_each_class_is_a_result_of_its_own_if_there_are_few(monkeypatch):
    def named(**options):
        metric = AveragePrecisionMetric(["part"], device="cpu", prefix="all", **options)
        return {name for name in evaluate(metric) if name.startswith("all/part/ap/")}

    assert named() == named(per_class=True) == {f"all/part/ap/{name}" for name in ("nave", "portal", "tower")}
    assert named(per_class=False) == set()
    monkeypatch.setattr("hierpretrain.evaluation.probes._MANY_CLASSES", 3)
    assert len(named()) == 3
    monkeypatch.setattr("hierpretrain.evaluation.probes._MANY_CLASSES", 2)
    assert named() == set()
    assert len(named(per_class=True)) == 3


def test_no_two_classes_have_one_name():
    names = [("a", "b"), ("c", "b"), ("d", "a/b"), ("e", "a/b (0)")]
    tree = Taxonomy(names, ("part", "detail"))
    made = EmbeddingEvaluator(AveragePrecisionMetric(["detail"], device="cpu"))
    made.dataset_meta = dict(taxonomy=tree.to_dict(), splits=("train", "test"))
    for i, row in enumerate(tree.encode(names * 2)):
        split = "train" if i < 4 else "test"
        sample = DataSample(metainfo=dict(sample_idx=i, img_path=f"{i}.png", split=split)).set_gt_label(row)
        sample.set_field(torch.empty(0, dtype=torch.int64), "extra_labels")
        sample.set_field(torch.eye(4)[i % 4], "embedding")
        made.process([sample])
    found = made.evaluate(8)
    classes = {name.removeprefix("detail/ap/") for name in found if "/ap/" in name}
    nodes = dict(zip(names, tree.encode(names)[:, 1].tolist(), strict=True))
    assert classes == {
        f"a/b ({nodes['a', 'b']}) ({nodes['a', 'b']})",
        "c/b",
        f"a/b ({nodes['d', 'a/b']})",
        f"a/b (0) ({nodes['e', 'a/b (0)']})",
    }
    assert {name: value for name, value in found.items() if "/ap/" in name} == {
        f"detail/ap/{name}": 1.0 for name in classes
    }


def test_a_config_names_it_and_errors_come_before_training():
    metric = METRICS.build(dict(type="AveragePrecisionMetric", levels=["part"], test=["val"]))
    with pytest.raises(ValueError, match="no evaluated image is of the split 'val'"):
        metric.dataset_meta = META
    with pytest.raises(ValueError, match=r"no level 'parts'.*extra label columns are 'concept'"):
        AveragePrecisionMetric(["parts"]).dataset_meta = META
    with pytest.raises(ValueError, match=r"tested on what it learned; \['train'\] are in both"):
        AveragePrecisionMetric(["part"], test=["train", "test"])
