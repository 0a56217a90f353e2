import json

import pytest

from hierpretrain.datasets import FolderDataset, ListDataset
from hierpretrain.registry import DATASETS
from tests.datasets.trees import write_image


def test_folder(tmp_path):
    for name in ("animal/cat/1.png", "animal/2.png", "tool/3.png", "4.png"):
        write_image(tmp_path / name, "red")
    data = DATASETS.build({"type": "FolderDataset", "data_root": str(tmp_path), "level_names": ["kind", "breed"]})
    assert isinstance(data, FolderDataset)
    assert data.labels.tolist() == [[-1, -1], [0, -1], [0, 0], [1, -1]]
    assert data.taxonomy.level_names == ("kind", "breed")


def test_lists(tmp_path):
    write_image(tmp_path / "images/a.png", "red")
    write_image(tmp_path / "images/b.png", "red")
    rows = [
        {"image": "a.png", "kind": "cat", "id": 3, "split": "train"},
        {"image": "b.png", "kind": "dog", "id": 1, "split": "val"},
    ]
    (tmp_path / "images/list.csv").write_text("image,kind,id,split\na.png,cat,3,train\nb.png,dog,1,val\n")
    (tmp_path / "list.JSON").write_text(json.dumps(rows))
    (tmp_path / "images/list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for file in ("list.csv", tmp_path / "list.JSON", "list.jsonl"):
        name = "flat_labels" if file == "list.csv" else "extra_labels"  # the older name works as well
        options = {"data_root": str(tmp_path / "images"), "ann_file": str(file), name: ["id"]}
        data = DATASETS.build({"type": "ListDataset", **options})
        assert data.labels.tolist() == [[0], [1]]
        assert data.extra_labels.tolist() == [[1], [0]]
        assert data.splits == ["train", "val"]
        assert len(ListDataset(split="val", levels=["id", "kind"], **options)) == 1


def test_unknown_extension(tmp_path):
    with pytest.raises(ValueError, match=r"a list must end in \.csv, .*, \.parquet; it is '.*list\.xml'"):
        ListDataset(data_root=str(tmp_path), ann_file="list.xml")


def test_a_misspelt_option_is_an_error(tmp_path):
    with pytest.raises(TypeError, match="pipelin"):
        FolderDataset(data_root=str(tmp_path), pipelin=[])
