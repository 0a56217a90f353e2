import re

import numpy as np
import pytest

from hierpretrain.datasets import StanfordOnlineProducts, read_sop
from hierpretrain.registry import DATASETS
from tests.datasets.write_sop import HEADER, LAYOUTS, TEST, TRAIN, write_sop


def test_splits_and_levels(tmp_path):
    write_sop(tmp_path)
    rows = read_sop(str(tmp_path))
    assert rows.images == [record[3] for record in (*TRAIN, *TEST)]
    assert rows.splits == ["train"] * 4 + ["test"] * 3
    assert rows.level_names == ("super", "product")
    assert rows.labels == [
        ("bicycle", "1"),
        ("bicycle", "1"),
        ("bicycle", "2"),
        ("coffee_maker", "3"),
        ("bicycle", "11319"),
        ("coffee_maker", "11320"),
        ("coffee_maker", "11320"),
    ]
    test = DATASETS.build({"type": "StanfordOnlineProducts", "data_root": str(tmp_path), "split": "test"})
    assert len(test) == 3
    assert (test.labels[1:, 1] == test.labels[1, 1]).all()
    assert [test.taxonomy.num_nodes(level) for level in (1, 2)] == [2, 5]


def test_grey_and_gif_images_become_rgb(tmp_path):
    write_sop(tmp_path)
    data = StanfordOnlineProducts(data_root=str(tmp_path), split="train", pipeline=[{"type": "LoadRGB"}])
    for item in data:
        assert np.asarray(item["img"]).shape == (8, 8, 3)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(tmp_path, layout):
    write_sop(tmp_path, layout)
    data = StanfordOnlineProducts(data_root=str(tmp_path))
    assert data.image_paths[0] == str(tmp_path / LAYOUTS[layout][1] / TRAIN[0][3])


def test_windows_line_ends(tmp_path):
    write_sop(tmp_path)
    path = tmp_path / "Ebay_train.txt"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_sop(str(tmp_path)).images[3] == TRAIN[3][3]


def test_missing(tmp_path):
    with pytest.raises(ValueError, match=r"no Stanford Online Products .*Ebay_train.txt.*download Stanford_Online"):
        read_sop(str(tmp_path))
    write_sop(tmp_path)
    (tmp_path / TEST[0][3]).unlink()
    with pytest.raises(ValueError, match="1 of 3 images are missing"):
        StanfordOnlineProducts(data_root=str(tmp_path), split="test")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ((5, 11319, 1), "Ebay_test.txt:2: a record is 'image_id class_id super_class_id path', not '5 11319 1'"),
        ((5, "x", 1, "bicycle_final/a.JPG"), "must be numbers; they are '5', 'x' and '1'"),
        ((5, 11319, 1, "lamp_final/a.JPG"), "the super_class_id 1 is of the folder 'bicycle_final' at "),
        ((5, 2, 1, "bicycle_final/a.JPG"), "Ebay_test.txt:2: the product 2 is in Ebay_train.txt too"),
        ((5, 11319, 7, "../a.JPG"), "'..'"),
        ((5, 11319, 1, TRAIN[0][3]), "lists 1 images more than once"),
    ],
)
def test_wrong_record(tmp_path, record, message):
    write_sop(tmp_path)
    (tmp_path / "Ebay_test.txt").write_text(f"{HEADER}\n{' '.join(map(str, record))}\n")
    with pytest.raises(ValueError, match=re.escape(message)):
        read_sop(str(tmp_path))


@pytest.mark.parametrize("header", ["", "1 1 1 bicycle_final/111085122871_0.JPG"])
def test_wrong_header(tmp_path, header):
    write_sop(tmp_path, header=header or "image_id")
    with pytest.raises(ValueError, match=r"Ebay_train.txt:1: the first line must be 'image_id class_id super_class_id"):
        read_sop(str(tmp_path))


def test_product_of_two_kinds_is_reported(tmp_path, logged):
    train = [*TRAIN[:3], (4, 2, 4, TRAIN[3][3])]
    write_sop(tmp_path, train=train)
    rows = read_sop(str(tmp_path))
    assert "1 nodes of level 'product' have the name of another one below a different 'super'" in logged[0]
    assert rows.labels[2:4] == [("bicycle", "2"), ("coffee_maker", "2")]
