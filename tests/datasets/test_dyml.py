import re

import numpy as np
import pytest

from hierpretrain.datasets import DyML, read_dyml
from hierpretrain.registry import DATASETS
from tests.datasets.write_dyml import TRAIN, TREE_HEADER, write_dyml, write_list


@pytest.mark.parametrize("subset", ["vehicle", "animal", "product"])
def test_training_set_keeps_the_glued_record(tmp_path, subset):
    home = write_dyml(tmp_path, subset)
    first_line = (home / "train/label.csv").read_text().split("\n")[0]
    assert first_line == "fname, coarse_id, middle_id, fine_id0.jpg, 1, 12, 40"
    rows = read_dyml(str(tmp_path), subset)
    assert rows.images == [f"train/imgs/{name}" for name, *_ in TRAIN]
    assert rows.level_names == ("coarse", "middle", "fine")
    assert rows.labels == [("1", "12", "40"), ("1", "12", "40"), ("1", "13", "41"), ("4", "20", "7")]
    assert set(rows.splits) == {"train"}
    data = DATASETS.build({"type": "DyML", "data_root": str(home), "subset": subset, "split": "train"})
    assert data.image_paths[0] == str(home / "train/imgs/0.jpg")


@pytest.mark.parametrize(("benchmark", "offset"), [("fine", 0), ("middle", 10), ("coarse", 20)])
def test_test_sets_of_one_level(tmp_path, benchmark, offset):
    home = write_dyml(tmp_path, "animal")
    rows = read_dyml(str(tmp_path), "animal", benchmark)
    assert rows.level_names == (benchmark,)
    assert rows.splits == ["query"] * 2 + ["gallery"] * 4
    assert rows.images[1:3] == [f"bmk_{benchmark}/query/1.jpg", f"bmk_{benchmark}/gallery/0.jpg"]
    assert rows.labels == [(str(offset + i),) for i in (0, 1, 0, 1, 0, 1)]
    query, gallery = (
        DyML(data_root=str(home), subset="animal", benchmark=benchmark, split=split) for split in ("query", "gallery")
    )
    assert query.labels.tolist() == [[0], [1]]
    assert gallery.labels.tolist() == [[0], [1], [0], [1]]


def test_test_set_of_products(tmp_path):
    write_dyml(tmp_path, "product")
    rows = read_dyml(str(tmp_path), "product", "all")
    assert rows.labels == [("0", "3", "5"), ("0", "3", "6"), ("1", "4", "7")]
    assert set(rows.splits) == {"test"}


def test_subsets_side_by_side_and_pixels_as_stored(tmp_path):
    for subset in ("vehicle", "animal", "product"):
        write_dyml(tmp_path, subset)
    data = DyML(data_root=str(tmp_path), subset="animal", pipeline=[{"type": "LoadRGB"}])
    assert "/dyml_animal/" in data.image_paths[0]
    red, _, blue = np.asarray(data[0]["img"])[4, 4]
    assert (int(red) > 250, int(blue) < 5) == (True, True)


def test_header_on_a_line_of_its_own(tmp_path):
    home = write_dyml(tmp_path, "vehicle")
    write_list(home / "train/label.csv", TREE_HEADER + "\n", [*TRAIN, ("4.jpg", "x", 1, 1)])
    with pytest.raises(ValueError, match=r"label.csv:6: a record is"):
        read_dyml(str(tmp_path), "vehicle")
    write_list(home / "train/label.csv", TREE_HEADER + "\n", TRAIN)
    assert len(read_dyml(str(tmp_path), "vehicle").images) == 4


def test_options(tmp_path):
    with pytest.raises(ValueError, match=r"no DyML-animal .*get the archive of the subset"):
        read_dyml(str(tmp_path), "animal")
    with pytest.raises(ValueError, match=r"subset must be 'vehicle', 'animal' or 'product'; it is 'plant'"):
        read_dyml(str(tmp_path), "plant")
    for subset, benchmark in (("product", "fine"), ("animal", "all"), ("vehicle", "easy")):
        with pytest.raises(ValueError, match=f"the benchmark of DyML-{subset} must be None.*; it is '{benchmark}'"):
            read_dyml(str(tmp_path), subset, benchmark)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "label.csv:1: the list must begin with 'fname, coarse_id, middle_id, fine_id'; it begins with ''"),
        ("fname, fine_id, middle_id, coarse_id0.jpg, 1, 2, 3\n", ":1: the list must begin with"),
        (f"{TREE_HEADER}0.jpg, 1, 2\n", ":1: a record is '<file>, <coarse_id>, <middle_id>, <fine_id>' with whole"),
        (f"{TREE_HEADER}0.jpg, 1, 2, 3\n1.jpg, 1, 2, \n", ":2: a record is"),
        (f"{TREE_HEADER}../0.jpg, 1, 2, 3\n", "'..'"),
        (f"{TREE_HEADER}0.jpg, 1, 2, 3\n0.jpg, 1, 2, 3\n", "more than once"),
        (TREE_HEADER, "label.csv lists nothing below its header; get the file anew"),
    ],
)
def test_wrong_list(tmp_path, text, message):
    home = write_dyml(tmp_path, "vehicle")
    (home / "train/label.csv").write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_dyml(str(tmp_path), "vehicle")


def test_second_parent_is_reported(tmp_path, logged):
    home = write_dyml(tmp_path, "vehicle")
    write_list(home / "train/label.csv", TREE_HEADER, [("0.jpg", 1, 12, 40), ("1.jpg", 1, 13, 40)])
    data = DyML(data_root=str(tmp_path), subset="vehicle")
    assert "1 nodes of level 'fine' have the name of another one below a different 'middle'" in logged[0]
    assert data.taxonomy.num_nodes("fine") == 2
