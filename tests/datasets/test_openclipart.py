import hashlib
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from hierpretrain.datasets import OpenClipart96
from hierpretrain.datasets.openclipart import read_openclipart96
from hierpretrain.taxonomy import depth

ROOT = Path(__file__).parents[2] / "data/openclipart96"


@pytest.fixture(scope="module")
def annotations():
    return read_openclipart96(str(ROOT))


def test_pictures_splits_and_tree(annotations):
    assert len(annotations.images) == 6266
    assert Counter(annotations.splits) == {"large": 3133, "test": 1253, "medium": 940, "val": 627, "small": 313}
    data = OpenClipart96(data_root=str(ROOT), split=["small", "medium", "large"])
    assert data.labels.shape == (4386, 3, 5)
    assert [data.taxonomy.num_nodes(level) for level in range(1, 6)] == [17, 58, 33, 39, 1]
    # own images of inner folders as well as of leaves
    assert sorted(Counter(depth(OpenClipart96(data_root=str(ROOT)).labels).tolist()).items()) == [
        (1, 843),
        (2, 3241),
        (3, 498),
        (4, 1683),
        (5, 1),
    ]


def test_no_picture_is_in_two_splits_and_the_blank_one_in_none(annotations):
    digests = [hashlib.sha256((ROOT / image).read_bytes()).hexdigest() for image in annotations.images]
    assert len(set(digests)) == len(digests)
    blank = hashlib.sha256((ROOT / "electronics/bulb/light_bulb_karl_bartel_01.webp").read_bytes()).hexdigest()
    assert blank not in digests


def test_a_picture_of_several_folders_has_a_path_for_each(annotations):
    several = {
        image: annotations.paths(row) for row, image in enumerate(annotations.images) if row in annotations.more_labels
    }
    assert len(several) == 392
    for image, paths in several.items():
        digest = hashlib.sha256((ROOT / image).read_bytes()).digest()
        assert tuple(image.split("/")[:-1]) in [path[: image.count("/")] for path in paths]
        for path in paths:
            folder = ROOT.joinpath(*path)
            assert digest in {hashlib.sha256(file.read_bytes()).digest() for file in folder.glob("*.webp")}


def test_the_folder_is_a_label_of_every_picture_that_is_in_one(annotations):
    folders = annotations.extra_labels["folder"]
    assert [row for row, folder in enumerate(folders) if not folder] == sorted(annotations.more_labels)
    assert {folder.count("/") for folder in folders if folder} == {0, 1, 2, 3}
    for image, folder, label in zip(annotations.images, folders, annotations.labels, strict=True):
        assert not folder or (folder == "/".join(label) and folder.startswith(image.rpartition("/")[0]))


def test_it_is_unpacked_on_first_use(tmp_path, monkeypatch):
    monkeypatch.setattr("hierpretrain.datasets.archive.SHIPPED", tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"openclipart96 is neither at .* it is data/openclipart96.zip"):
        OpenClipart96(data_root=str(tmp_path / "here"))
    with zipfile.ZipFile(tmp_path / "here.zip", "w") as archive:
        archive.writestr("openclipart96/README.md", "")
        for number in range(10):
            archive.writestr(f"openclipart96/animals/{number}.webp", str(number))
    data = OpenClipart96(data_root=str(tmp_path / "here"), split="test")
    assert len(data) == 2
    assert (tmp_path / "here/animals").is_dir()
    assert data.splits == ["test"] * 2


def test_nothing_but_the_images_of_several_folders_is_worth_a_word(logged):
    OpenClipart96(data_root=str(ROOT), split="val")
    assert logged == [f"openclipart96 at {str(ROOT)!r}: 392 of 6266 images have several label paths; paths='all'"]
