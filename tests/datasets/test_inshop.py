import re
import shutil

import numpy as np
import pytest
from PIL import Image

from hierpretrain.datasets import InShop, read_inshop
from hierpretrain.registry import DATASETS
from tests.datasets.trees import LAYOUTS, write_inshop, write_partition


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("inshop")
    return str(root), write_inshop(root)


def test_splits(tree):
    root, records = tree
    for split in ("train", "query", "gallery"):
        data = InShop(data_root=root, split=split, pipeline=[{"type": "LoadRGB"}])
        names = [name for name, _, status in records if status == split]
        assert data.image_paths == [f"{root}/Img/{name}" for name in names]
        assert set(data.splits) == {split}
        assert data[0]["img"].size == (48, 48)
    assert isinstance(DATASETS.build({"type": "InShop", "data_root": root}), InShop)


def test_levels_come_from_the_path(tree):
    root, records = tree
    data = InShop(data_root=root)
    assert data.taxonomy.level_names == ("category", "product", "variation")
    for (name, item, _), row in zip(records, data.labels, strict=True):
        _, _, category, product, file = name.split("/")
        assert data.taxonomy.decode(row) == (category, product, file[:2])
        assert product == item
    # Denim of women and of men are one category unless gender is a level
    assert data.taxonomy.num_nodes("category") == 5
    gender = InShop(data_root=root, gender_level=True).taxonomy
    assert gender.level_names == ("gender", "category", "product", "variation")
    assert (gender.num_nodes("gender"), gender.num_nodes("category")) == (2, 6)


def test_product_in_two_categories(tree):
    root, _ = tree
    data = InShop(data_root=root, split="train")
    ids = sorted({item for _, item, status in read_records(root) if status == "train"})
    assert data.metainfo["extra_label_names"] == ("product_id",)
    assert len(set(data.extra_labels[:, 0].tolist())) == len(ids)
    third = [i for i, path in enumerate(data.image_paths) if "id_00000003" in path]
    assert len(set(data.extra_labels[third, 0].tolist())) == 1
    assert len(set(data.labels[third, 1].tolist())) == 2
    assert len(set(data.labels[third, 0].tolist())) == 2


def read_records(root):
    rows = read_inshop(root)
    return list(zip(rows.images, rows.extra_labels["product_id"], rows.splits, strict=True))


def test_other_traps(tree):
    root, records = tree
    train = InShop(data_root=root, split="train", pipeline=[{"type": "LoadRGB"}])
    assert Image.open(train.image_paths[0]).mode == "L"
    assert np.asarray(train[0]["img"]).shape == (48, 48, 3)
    items = [item for _, item, _ in records]
    assert items.count("id_00000013") == 1
    query, gallery = (InShop(data_root=root, split=split) for split in ("query", "gallery"))
    assert set(query.labels[:, 2].tolist()) > set(gallery.labels[:, 2].tolist())
    assert set(query.extra_labels.flatten().tolist()) == set(gallery.extra_labels.flatten().tolist())
    assert not set(query.extra_labels.flatten().tolist()) & set(train.extra_labels.flatten().tolist())


@pytest.mark.parametrize("folder", ["img", "img_highres"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(tmp_path, layout, folder):
    records = write_inshop(tmp_path, layout=layout, folder=folder, num_products=2, num_views=2)
    expected = [str(tmp_path / LAYOUTS[layout][1] / name.replace("img/", f"{folder}/", 1)) for name, _, _ in records]
    assert InShop(data_root=str(tmp_path)).image_paths == expected
    assert InShop(data_root=str(tmp_path), images=folder).image_paths == expected


def test_img_comes_first(tmp_path):
    write_inshop(tmp_path, num_products=2, num_views=2)
    write_inshop(tmp_path, num_products=2, num_views=2, folder="img_highres", size=64)
    sizes = {"auto": 48, "img": 48, "img_highres": 64}
    for images, size in sizes.items():
        data = InShop(data_root=str(tmp_path), images=images, pipeline=[{"type": "LoadRGB"}])
        assert data[0]["img_shape"] == (size, size)
    with pytest.raises(ValueError, match="images must be 'auto', 'img' or 'img_highres'; it is 'high'"):
        InShop(data_root=str(tmp_path), images="high")


def test_missing_set_says_what_to_download(tmp_path):
    for root in (tmp_path, tmp_path / "none"):
        with pytest.raises(ValueError, match="no In-Shop partition is at") as caught:
            InShop(data_root=str(root))
        text = str(caught.value)
        assert f"{root}/Eval/list_eval_partition.txt, {root}/list_eval_partition.txt, {root}/*/Eval" in text
        assert "download the 'In-shop Clothes Retrieval Benchmark' of DeepFashion" in text
        assert "Img/img.zip" in text
    write_inshop(tmp_path, num_products=2)
    with pytest.raises(ValueError, match=r"no In-Shop images are at .*/Img/img_highres, .*/img_highres; download"):
        InShop(data_root=str(tmp_path), images="img_highres")
    shutil.rmtree(tmp_path / "Img")
    with pytest.raises(
        ValueError, match=r"no In-Shop images are at .*/Img/img, .*/img, .*/Img/img_highres, .*/img_highres"
    ):
        InShop(data_root=str(tmp_path))


def test_two_benchmarks(tmp_path):
    for name in "ab":
        write_inshop(tmp_path / name, num_products=2)
    with pytest.raises(ValueError, match=r"holds In-Shop more than once: .*/a, .*/b; give one of them"):
        InShop(data_root=str(tmp_path))


def test_missing_images(tmp_path):
    records = write_inshop(tmp_path, num_products=2)
    (tmp_path / "Img" / records[3][0]).unlink()
    with pytest.raises(ValueError, match=f"1 of .* images are missing below .*Img: '{records[3][0]}'"):
        InShop(data_root=str(tmp_path), split="train")
    InShop(data_root=str(tmp_path), split="query")
    InShop(data_root=str(tmp_path), split="train", check_files=False)


GOOD = "img/MEN/Pants/id_00000001/01_1_front.jpg"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: the first line must be the number of records; it is ''"),
        (
            "image_name item_id evaluation_status\n",
            ":1: the first line must be the number of records; it is 'image_name",
        ),
        ("1\n", ":2: the second line must be 'image_name item_id evaluation_status'; it is []"),
        ("1\nimage_name item_id\nx", ":2: the second line must be 'image_name item_id evaluation_status'"),
        (
            f"2\nHEADER\n{GOOD} id_00000001 train",
            ":1: the first line declares 2 records, but 1 follow; the file is trunc",
        ),
        (f"1\nHEADER\n{GOOD} id_00000001", ":3: a record has the columns 'image_name item_id evaluation_status'; this"),
        (
            f"1\nHEADER\n{GOOD} id_00000002 train",
            ":3: the item id 'id_00000002' differs from the path's, 'id_00000001'",
        ),
        (
            f"1\nHEADER\n{GOOD} id_00000001 val",
            ":3: the evaluation_status must be train, query or gallery; it is 'val'",
        ),
        (
            "1\nHEADER\nimg/KIDS/Pants/id_00000001/01_1_a.jpg id_00000001 train",
            ":3: images are named img/<WOMEN or MEN>",
        ),
        ("1\nHEADER\nimg/MEN/../id_00000001/01_1_a.jpg id_00000001 train", "'..'"),
        ("0\nHEADER\n", "lists no image"),
        (f"2\nHEADER\n{GOOD} id_00000001 train\n{GOOD} id_00000001 query", "lists 1 images more than once"),
    ],
)
def test_wrong_partition(tmp_path, text, message):
    write_inshop(tmp_path, num_products=2)
    path = tmp_path / "Eval/list_eval_partition.txt"
    path.write_text(text.replace("HEADER", "image_name item_id evaluation_status"))
    with pytest.raises(ValueError, match=re.escape(message)):
        InShop(data_root=str(tmp_path))


def test_windows_line_ends(tmp_path):
    records = write_inshop(tmp_path, num_products=2)
    path = tmp_path / "Eval/list_eval_partition.txt"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    assert len(InShop(data_root=str(tmp_path))) == len(records)


def test_size_of_the_real_set_is_quick(tmp_path):
    records = []
    for product in range(1, 7983):
        for i in range(7):
            name = f"img/WOMEN/Dresses/id_{product:08d}/{i // 4 + 1:02d}_{i % 4 + 1}_front.jpg"
            records.append((name, f"id_{product:08d}", "train" if product % 2 else "query" if i % 2 else "gallery"))
    write_partition(tmp_path, records)
    (tmp_path / "img").mkdir()
    data = InShop(data_root=str(tmp_path), check_files=False)
    assert data.labels.shape == (55874, 3)
    assert data.taxonomy.num_nodes("variation") == 2 * 7982
