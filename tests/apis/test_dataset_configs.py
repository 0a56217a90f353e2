"""What is done to all data sets that a config joins."""

import pytest
import torch
from mmengine.config import Config

from hierpretrain.apis import EmbeddingInferencer, config_dataset, load_config
from hierpretrain.apis.dataset_configs import evaluation_pipeline, own_datasets, without_pipelines
from hierpretrain.apis.index_model import model_parts
from hierpretrain.apis.measured import trained_images
from tests.commands.places import write_model, write_photos

FOLDER = "dict(type='FolderDataset', data_root='{}', pipeline=[dict(type='LoadRGB')])"
JOINED = (
    "{name}_dataloader = dict(dataset=dict(type='ConcatDataset', datasets=[{a}, "
    "dict(type='RepeatDataset', times=1, dataset={b})]))\n"
)


def write_config(path, first, second):
    a, b = FOLDER.format(first), FOLDER.format(second)
    path.write_text("".join(JOINED.format(name=name, a=a, b=b) for name in ("train", "test")))
    return path


def test_one_data_root_is_for_data_sets_of_one_folder(tmp_path):
    config = load_config(write_config(tmp_path / "same.py", "photos", "photos"), data_root="elsewhere")
    for loader in (config.train_dataloader, config.test_dataloader):
        assert [own.data_root for own in own_datasets(loader.dataset)] == ["elsewhere"] * 2
        assert "data_root" not in loader.dataset
    message = "one data root is given for data sets of the folders cats, dogs; give each its own by --cfg-options"
    with pytest.raises(ValueError, match=message):
        load_config(write_config(tmp_path / "two.py", "cats", "dogs"), data_root="elsewhere")


def test_splits_and_errors_of_joined_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for root in ("one", "two"):
        write_photos(tmp_path / root, [f"{split}/x/{i}.png" for split in ("a", "b") for i in range(2)], "a/x/bad.png")
        (tmp_path / root / "photos").rename(tmp_path / f"{root}_photos")
    config = load_config(write_config(tmp_path / "both.py", "one_photos", "two_photos"))
    assert len(config_dataset(config, on_error="skip")) == 10
    assert [own.on_error for own in config_dataset(config, on_error="skip").datasets] == ["skip"] * 2
    with pytest.raises(ValueError, match="there is no split 'val'"):
        config_dataset(config, splits="val")
    assert all("pipeline" in own for own in own_datasets(config.test_dataloader.dataset))  # the config is as it was
    assert len(trained_images(config)) == 10
    assert trained_images(config, "elsewhere") is None


def test_the_pipeline_of_joined_data_is_the_encoder_s(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path)
    write_photos(tmp_path, ["1.png", "2.png"], "bad.png")
    plain = EmbeddingInferencer("tiny.py", "epoch_1.pth", device="cpu")
    config = Config.fromfile("tiny.py")
    own = config.test_dataloader.dataset
    config.test_dataloader.dataset = dict(type="ConcatDataset", datasets=[own, dict(own, data_root="other")])
    joined = EmbeddingInferencer(config, "epoch_1.pth", device="cpu")
    assert joined.fingerprint == plain.fingerprint
    expected = plain.embed("photos/1.png").features
    assert torch.equal(joined.embed("photos/1.png").features, expected)
    assert model_parts(joined).keys() == model_parts(plain).keys()
    config.test_dataloader.dataset.datasets[1].pipeline = [dict(type="LoadRGB")]
    with pytest.raises(ValueError, match="the data sets that the config tests on have different pipelines, and images"):
        EmbeddingInferencer(config, "epoch_1.pth", device="cpu")


def test_a_wrapper_s_own_pipeline_is_the_one_that_is_run():
    dataset = dict(type="Mixes", pipeline=[1, 2], dataset=dict(type="FolderDataset", data_root="photos", pipeline=[3]))
    assert evaluation_pipeline(dict(test_dataloader=dict(dataset=dataset))) == [1, 2]


def test_a_data_set_that_is_made_of_another_is_one():
    folder = dict(type="TorchvisionDataset", dataset=dict(type="ImageFolder", root="photos"), pipeline=[1])
    assert list(own_datasets(folder)) == [folder]
    assert without_pipelines(folder) == {key: value for key, value in folder.items() if key != "pipeline"}
    assert evaluation_pipeline({}) == []
    assert evaluation_pipeline({"val_dataloader": {"dataset": dict(type="RepeatDataset", dataset=folder)}}) == [1]
