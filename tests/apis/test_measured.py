import pytest
from mmengine.config import Config

from hierpretrain.apis.measured import config_metrics, trained_images, unmeasured
from hierpretrain.evaluation import measured_searches
from tests.datasets.trees import write_image

EVALUATOR = [
    dict(type="RetrievalMetric", levels=[1], query="a", gallery="b", prefix="one"),
    dict(type="ClusteringMetric", levels=[1]),
    dict(type="ViolationMetric", splits=["a"]),
]


def test_the_metrics_are_those_of_the_images_that_are_tested_on():
    config = Config(dict(test_dataloader={"x": 1}, test_evaluator=EVALUATOR, val_evaluator=EVALUATOR[1:2]))
    assert [type(metric).__name__ for metric in config_metrics(config)] == [
        "RetrievalMetric",
        "ClusteringMetric",
        "ViolationMetric",
    ]
    config.test_dataloader = None  # then the images are the validation's
    assert [type(metric).__name__ for metric in config_metrics(config)] == ["ClusteringMetric"]
    assert config_metrics(Config({})) == []


def test_of_chosen_splits_metrics_count_that_name_them_all():
    config = Config(dict(test_dataloader={"x": 1}, test_evaluator=EVALUATOR))
    assert [type(metric).__name__ for metric in config_metrics(config, ["a"])] == ["ViolationMetric"]
    found = config_metrics(config, ["a", "b", "c"])
    assert [type(metric).__name__ for metric in found] == ["RetrievalMetric", "ViolationMetric"]
    assert [sets.name for sets in measured_searches(found)] == ["one"]


def test_an_unknown_metric_is_an_error_with_the_nearest_name():
    config = Config(dict(test_dataloader={"x": 1}, test_evaluator=dict(type="RetrivalMetric")))
    with pytest.raises(ValueError, match="did you mean 'RetrievalMetric'"):
        config_metrics(config)


@pytest.mark.parametrize(
    ("evaluator", "metrics"),
    [
        (EVALUATOR, EVALUATOR),
        (EVALUATOR[0], EVALUATOR[:1]),
        (dict(type="EmbeddingEvaluator", metrics=EVALUATOR), EVALUATOR),
        (dict(type="Mine", metrics=EVALUATOR), []),
        (None, []),
    ],
)
def test_pictures_know_what_every_kind_of_evaluator_looks_at(evaluator, metrics):
    assert unmeasured(evaluator) == dict(type="EmbeddingEvaluator", metrics=metrics, measure=False)


def test_training_images_are_known_by_their_files(tmp_path):
    for name in ("cat/1.png", "dog/2.png"):
        write_image(tmp_path / "photos" / name, (0, 0, 0), size=(8, 8))
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    dataset = dict(type="FolderDataset", data_root=str(tmp_path / "link"), pipeline=[dict(type="Unknown")])
    config = Config(dict(train_dataloader=dict(dataset=dataset)))
    expected = {str((tmp_path / "photos").resolve() / name) for name in ("cat/1.png", "dog/2.png")}
    assert trained_images(config) == expected
    config.train_dataloader.dataset.data_root = "nowhere"
    assert trained_images(config) is None
    assert trained_images(config, str(tmp_path / "photos")) == expected
    assert trained_images(Config(dict(train_dataloader=None))) is None
