"""The metric of calibrated answers: the functions' numbers, whichever way images are held out; errors."""

import pytest
import torch

from hierpretrain.evaluation import CalibrationMetric, Embeddings
from hierpretrain.functional.open_set import answer_metrics, known_part, unknown_auroc
from hierpretrain.functional.path_calibration import answer_paths, calibrate_paths, num_named
from hierpretrain.functional.search import nearest
from hierpretrain.taxonomy import Taxonomy, depth
from tests.functional.test_path_calibration import LABELS, world

TREE = Taxonomy([(str(branch), f"{leaf:02}") for branch, leaf in LABELS.tolist()], ("branch", "leaf"))


@pytest.fixture(scope="module")
def embedded():
    parts = {"train": world(2, 300, unknown=0), "val": world(3, 600), "test": world(4, 500)}
    number = sum(len(labels) for _, labels in parts.values())
    return Embeddings(
        features=torch.cat([features for features, _ in parts.values()]),
        labels=torch.cat([labels for _, labels in parts.values()]),
        extra_labels=torch.empty(number, 0),
        splits=[name for name, (_, labels) in parts.items() for _ in labels],
        paths=[f"{i}.jpg" for i in range(number)],
        taxonomy=TREE,
        extra_names=(),
    )


def test_it_has_the_functions_numbers(embedded):
    train, val, test = (embedded.of(split) for split in ("train", "val", "test"))
    of_val, of_test = (nearest(part.features, train.features, 50) for part in (val, test))
    truth = known_part(val.labels, train.labels)
    calibration, *_ = calibrate_paths(*of_val, train.labels, truth, precision=0.9)
    answers = answer_paths(*of_test, train.labels, calibration)
    expected = answer_metrics(*answers, known_part(test.labels, train.labels), depth(test.labels))
    found = CalibrationMetric(held_out="val", precision=0.9).measure(embedded)
    for name, metrics in zip(("branch", "leaf"), expected, strict=True):
        assert {key: found[f"{name}/{key}"] for key in metrics} == pytest.approx(metrics)
    unknown = (test.labels[:, 0] == 3) | (test.labels[:, 1] % 4 == 3)
    assert found["leaf/num_unknown"] == int(unknown.sum())
    assert found["leaf/auroc_cosine"] == pytest.approx(unknown_auroc(of_test[0][:, 0], ~unknown, unknown))


def test_without_held_out_images_each_is_judged_by_the_others(embedded):
    train, test = embedded.of("train"), embedded.of("test")
    truth = known_part(test.labels, train.labels)
    voters = nearest(test.features, train.features, 20)
    calibration, nodes, confidences = calibrate_paths(*voters, train.labels, truth, precision=0.95)
    named = num_named(confidences, nodes, calibration.thresholds)
    expected = answer_metrics(nodes, confidences, named, truth, depth(test.labels))
    found = CalibrationMetric(neighbours=20).measure(embedded)
    assert found["leaf/ece"] == pytest.approx(expected[1]["ece"])
    assert found["branch/coverage"] == pytest.approx(expected[0]["coverage"])


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (
            dict(gallery="train", test=["train", "test"]),
            r"gallery and test must be different .*; \['train'\] are of both",
        ),
        (dict(held_out="train"), r"gallery and held_out must be different .*; \['train'\] are of both"),
        (dict(held_out="test"), r"test and held_out must be different splits .*; \['test'\] are of both"),
    ],
)
def test_no_image_votes_for_itself_or_is_tested_by_what_it_fitted(splits, message):
    with pytest.raises(ValueError, match=message):
        CalibrationMetric(**splits)


def test_errors():
    with pytest.raises(ValueError, match="precision must be above 0 and below 1; it is 1"):
        CalibrationMetric(precision=1)
