import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torchvision

from hierpretrain.datasets import CIFAR100
from hierpretrain.datasets.cifar import _MD5
from hierpretrain.registry import DATASETS
from tests.datasets.write_cifar import COARSE, FINE, PARENT, checksums, write_cifar100, write_pickle

OFFICIAL = dict(_MD5)


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A small set, whose files are taken for the published ones."""
    splits = write_cifar100(tmp_path)
    monkeypatch.setattr("hierpretrain.datasets.cifar._MD5", checksums(tmp_path))
    return tmp_path, splits


# ---------------------------------------------------------------- what is read
def test_labels_and_pixels(tree):
    root, splits = tree
    for split, raw in splits.items():
        data = CIFAR100(data_root=str(root), split=split, pipeline=[{"type": "LoadRGB"}])
        assert len(data) == len(raw["fine_labels"])
        assert data.taxonomy.level_names == ("coarse", "fine")
        for i, fine in enumerate(raw["fine_labels"]):
            assert data.taxonomy.decode(data.labels[i]) == (COARSE[PARENT[fine]], FINE[fine])
            assert data.image_paths[i] == f"{root}/images/{split}/{FINE[fine]}/{raw['filenames'][i]}"
            pixels = np.asarray(data[i]["img"])
            for y, x in ((0, 0), (3, 17), (31, 31)):
                expected = [raw["data"][i][plane * 1024 + y * 32 + x] for plane in range(3)]
                assert pixels[y, x].tolist() == expected
    assert type(DATASETS.build({"type": "CIFAR100", "data_root": str(root)})) is CIFAR100


def test_torchvision_reads_the_same(tree, monkeypatch):
    root, _ = tree
    monkeypatch.setattr(torchvision.datasets.CIFAR100, "_check_integrity", lambda self: True)
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda *paths: True)
    for split in ("train", "test"):
        theirs = torchvision.datasets.CIFAR100(root, train=split == "train")
        ours = CIFAR100(data_root=str(root), split=split, pipeline=[{"type": "LoadRGB"}])
        assert len(ours) == len(theirs)
        for i, (picture, label) in enumerate(theirs):
            assert (np.asarray(ours[i]["img"]) == np.asarray(picture)).all()
            assert ours.taxonomy.decode(ours.labels[i])[1] == theirs.classes[label]


def test_the_pickled_files_are_read_once(tree):
    root, _ = tree
    before = CIFAR100(data_root=str(root))
    for file in (root / "cifar-100-python").iterdir():
        file.unlink()
    after = CIFAR100(data_root=str(root))
    assert (after.image_paths, after.labels.tolist()) == (before.image_paths, before.labels.tolist())
    assert sorted(os.listdir(root)) == ["cifar-100-python", "images"]


def test_folders(tree):
    root, _ = tree
    inside = root / "cifar-100-python"
    assert CIFAR100(data_root=str(inside)).image_paths[0].startswith(f"{inside}/images/train/apple/")
    elsewhere = root / "scratch/cifar"
    assert CIFAR100(data_root=str(inside), images=str(elsewhere)).image_paths[0].startswith(f"{elsewhere}/train/apple/")
    assert sorted(os.listdir(root / "scratch")) == ["cifar"]


def test_equal_file_names(tree, monkeypatch):
    root, splits = tree
    names = splits["train"]["filenames"]
    names[5] = names[0]  # both are apples
    write_pickle(root / "cifar-100-python/train", splits["train"])
    monkeypatch.setattr("hierpretrain.datasets.cifar._MD5", checksums(root))
    data = CIFAR100(data_root=str(root), split="train", pipeline=[{"type": "LoadRGB"}])
    assert [Path(data.image_paths[i]).name for i in (0, 5)] == ["apple_s_000000.png", "apple_s_000000-5.png"]
    for i in (0, 5):
        assert np.asarray(data[i]["img"])[0, 0, 0] == splits["train"]["data"][i][0]


# ---------------------------------------------------------------- other files
class Malicious:
    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("name", ["train", "test", "meta"])
def test_no_file_but_the_published_one_is_unpickled(tree, monkeypatch, name):
    root, _ = tree
    monkeypatch.chdir(root)
    path = root / "cifar-100-python" / name
    whole = path.read_bytes()
    for data in (pickle.dumps({"data": Malicious()}), whole[:-1], whole + b"\n", b""):
        path.write_bytes(data)
        with pytest.raises(
            ValueError,
            match=rf"{name} is not the published file: its MD5 is \w+, not \w+; get cifar-100-python.tar.gz anew",
        ):
            CIFAR100(data_root=str(root))
        assert os.listdir(root) == ["cifar-100-python"]


def test_the_published_files_are_those_of_the_university_of_toronto():
    assert OFFICIAL == {
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        "meta": "7973b15100ade9c7d40fb424638fde48",
    }


def test_missing(tmp_path):
    with pytest.raises(ValueError, match=r"no CIFAR-100 .* is at .*; download cifar-100-python.tar.gz from"):
        CIFAR100(data_root=str(tmp_path))
    (tmp_path / "cifar-100-python.tar.gz").write_bytes(b"")
    with pytest.raises(ValueError, match=rf"unpack the archive by: tar -xzf {tmp_path}/cifar-100-python\.tar\.gz -C "):
        CIFAR100(data_root=str(tmp_path))
    with pytest.raises(ValueError, match=rf"unpack the archive by: tar -xzf {tmp_path}/cifar-100-python\.tar\.gz -C "):
        CIFAR100(data_root=str(tmp_path / "cifar-100-python"))
    (tmp_path / "images").mkdir()
    with pytest.raises(
        ValueError, match=r"images holds no list\.csv: it is no folder of CIFAR-100's image files; move"
    ):
        CIFAR100(data_root=str(tmp_path))
