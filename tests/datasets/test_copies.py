import os

import pytest

from hierpretrain.datasets import Annotations, FolderDataset
from hierpretrain.datasets.copies import content_hash, merge_copies
from hierpretrain.datasets.folders import read_folder
from hierpretrain.taxonomy import PAD, shared_depth
from tests.datasets.trees import write_image


@pytest.fixture
def root(tmp_path):
    """A tomato in three places, one of them above another; a carrot twice in one folder; a plum of equal size."""
    tomato = write_image(tmp_path / "food/fruit/tomato.png", "red").read_bytes()
    for name in ("food/vegetables/love_apple.png", "plants/t.png", "food/any.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tomato)
    for name in ("food/vegetables/carrot_1.png", "food/vegetables/carrot_2.png"):
        write_image(tmp_path / name, "orange")
    write_image(tmp_path / "food/fruit/plum.png", "blue")
    return tmp_path


def test_copies_are_one_image_in_all_their_folders(root):
    rows = merge_copies(read_folder(root))
    found = {image: rows.paths(row) for row, image in enumerate(rows.images)}
    assert found == {
        "food/any.png": [("food", "fruit"), ("food", "vegetables"), ("plants",)],
        "food/fruit/plum.png": [("food", "fruit")],
        "food/vegetables/carrot_1.png": [("food", "vegetables")],
    }
    assert merge_copies(rows) is rows  # nothing is left to merge


def test_the_data_set_has_a_label_row_for_every_place(root):
    pets = FolderDataset(data_root=str(root), merge_copies=True)
    assert pets.labels.tolist() == [
        [[0, 0], [0, 1], [1, PAD]],
        [[0, 0], [PAD, PAD], [PAD, PAD]],
        [[0, 1], [PAD, PAD], [PAD, PAD]],
    ]
    assert shared_depth(pets.labels, pets.labels).tolist() == [[2, 2, 2], [2, 2, 1], [2, 1, 2]]
    assert len(FolderDataset(data_root=str(root))) == 7  # by default a file is an image
    assert FolderDataset(data_root=str(root), merge_copies=True, paths="drop").labels.tolist() == [[0, 0], [0, 1]]


def test_only_files_of_equal_size_are_read(root, monkeypatch):
    read = []
    monkeypatch.setattr(
        "hierpretrain.datasets.copies.content_hash", lambda path: read.append(path) or content_hash(path)
    )
    write_image(root / "plants/large.png", "green", size=(200, 100))
    merge_copies(read_folder(root))
    assert read
    assert not [path for path in read if path.endswith("large.png")]


def test_flat_labels_and_splits_are_the_first_file_s(root):
    images = ["plants/t.png", "food/any.png", "food/fruit/plum.png"]
    labels = [("plants",), ("food",), ("food", "fruit")]
    rows = Annotations(images, labels, ["a", "a", "b"], ("l1", "l2"), str(root), extra_labels={"name": ["x", "y", "z"]})
    merged = merge_copies(rows)
    assert (merged.images, merged.splits) == ([images[0], images[2]], ["a", "b"])
    assert merged.extra_labels == {"name": ["x", "z"]}
    assert merged.paths(0) == [("plants",), ("food",)]
    with pytest.raises(ValueError, match=r"copies of one picture in two splits: 'plants/t.png' in 'a', 'food/any.png'"):
        merge_copies(Annotations(images, labels, ["a", "b", "b"], ("l1", "l2"), str(root)))


def test_files_that_cannot_be_read(root):
    rows = Annotations(["no.png"], [("a",)], ["all"], ("l",), str(root))
    with pytest.raises(ValueError, match=r"cannot open .*no.png: No such file"):
        merge_copies(rows)
    with pytest.raises(ValueError, match=r"cannot open .*no.png: No such file"):
        content_hash(os.path.join(root, "no.png"))
