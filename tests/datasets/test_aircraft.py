import re
import shutil

import numpy as np
import pytest
from PIL import Image

from hierpretrain.datasets import CropBottom, FGVCAircraft
from hierpretrain.registry import DATASETS, TRANSFORMS
from tests.datasets.write_aircraft import VARIANTS, write_aircraft


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("aircraft") / "fgvc-aircraft-2013b"
    return str(root), write_aircraft(root)


def test_splits_and_levels(tree):
    root, records = tree
    for split in ("train", "val", "test", ["train", "val"]):
        data = FGVCAircraft(data_root=root, split=split)
        expected = [record for record in records if record[4] in ([split] if isinstance(split, str) else split)]
        assert data.image_paths == [f"{root}/data/images/{record[0]}.jpg" for record in expected]
        assert [data.taxonomy.decode(row) for row in data.labels] == [record[1:4] for record in expected]
        assert data.taxonomy.level_names == ("manufacturer", "family", "variant")
        assert [data.taxonomy.num_nodes(level) for level in (1, 2, 3)] == [3, 4, 5]
    assert type(DATASETS.build({"type": "FGVCAircraft", "data_root": root})) is FGVCAircraft


@pytest.mark.parametrize("below", ["", "fgvc-aircraft-2013b", "fgvc-aircraft-2013b/data"])
def test_layouts(tree, below):
    root, records = tree
    data = FGVCAircraft(data_root=f"{root.rpartition('/')[0]}/{below}")
    assert data.image_paths[0] == f"{root}/data/images/{records[0][0]}.jpg"


def test_the_lists_are_joined_on_the_number(tree, tmp_path):
    shutil.copytree(tree[0], tmp_path / "copy")
    path = tmp_path / "copy/data/images_family_train.txt"
    path.write_text("\r\n".join(reversed(path.read_text().split("\n"))) + "\r\n")
    labels = [FGVCAircraft(data_root=str(root), split="train").labels.tolist() for root in (tree[0], tmp_path / "copy")]
    assert labels[0] == labels[1]


def test_names_with_slash_and_space(tree):
    names = {FGVCAircraft(data_root=tree[0]).taxonomy.name("family", i) for i in range(4)}
    assert names == {"Boeing 707", "Boeing 737", "F/A-18", "BAE 146"}


@pytest.mark.parametrize(
    ("file", "text", "replacement", "message"),
    [
        ("images_family_train.txt", "0034309 Boeing 707\n", "", "images_family_train.txt lacks 1 of the ids of "),
        ("images_variant_train.txt", "0034309 707-320\n", "", "images_variant_train.txt lacks 1 of the ids of "),
        (
            "images_family_test.txt",
            "Boeing 707",
            "Boeing 737",
            "images_variant_test.txt:1: the variant '707-320' hangs below 'Boeing 737', but before that below",
        ),
        (
            "images_family_test.txt",
            "Boeing 707",
            "9" * 100_000,
            f"the variant '707-320' hangs below '{'9' * 56}..., but before that below 'Boeing 707', by ",
        ),
        (
            "images_manufacturer_val.txt",
            "McDonnell Douglas",
            "Boeing",
            "images_family_val.txt:4: the family 'F/A-18' hangs below 'Boeing', but before that below 'McDonnell",
        ),
        ("images_variant_val.txt", " 707-320", "", "images_variant_val.txt:1: a line is an id, a space and a value"),
    ],
)
def test_wrong_lists(tree, tmp_path, file, text, replacement, message):
    shutil.copytree(tree[0], tmp_path / "copy")
    path = tmp_path / "copy/data" / file
    assert text in path.read_text()
    path.write_text(path.read_text().replace(text, replacement, 1))
    with pytest.raises(ValueError, match=re.escape(message)):
        FGVCAircraft(data_root=str(tmp_path / "copy"))


def test_an_image_in_two_splits(tree, tmp_path):
    shutil.copytree(tree[0], tmp_path / "copy")
    for level, name in zip(("manufacturer", "family", "variant"), VARIANTS[0], strict=True):
        with open(tmp_path / f"copy/data/images_{level}_test.txt", "a") as file:
            file.write(f"0034309 {name}\n")
    with pytest.raises(ValueError, match=r"lists 1 images more than once: 'images/0034309\.jpg'"):
        FGVCAircraft(data_root=str(tmp_path / "copy"))


def test_missing(tmp_path):
    with pytest.raises(ValueError, match=r"no FGVC-Aircraft .* is at .*; download fgvc-aircraft-2013b.tar.gz"):
        FGVCAircraft(data_root=str(tmp_path))


# ---------------------------------------------------------------- the credit line
def test_the_credit_line_is_cropped(tree):
    load = {"type": "LoadRGB"}
    whole = FGVCAircraft(data_root=tree[0], pipeline=[load])
    cropped = FGVCAircraft(data_root=tree[0], pipeline=[load, {"type": "CropBottom"}])
    for i in range(len(VARIANTS)):
        assert np.asarray(whole[i]["img"])[-1, 0].tolist() == [254, 0, 0]
        item = cropped[i]
        assert item["img_shape"] == (40 + i, 80)
        assert (np.asarray(item["img"])[:39] > 250).all()
        assert (np.asarray(item["img"]) == np.asarray(whole[i]["img"])[:-20]).all()


def test_crop_bottom():
    picture = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(4, 3))
    crop = TRANSFORMS.build({"type": "CropBottom", "pixels": 3})
    results = crop({"img": picture})
    assert np.asarray(results["img"]).tolist() == [[0, 1, 2]]
    assert results["img_shape"] == (1, 3)
    assert picture.size == (3, 4)
    assert np.asarray(CropBottom(0)({"img": picture})["img"]).shape == (4, 3)
    with pytest.raises(ValueError, match=r"the image a\.jpg is 4 pixels high, so CropBottom\(pixels=4\) would"):
        CropBottom(4)({"img": picture, "img_path": "a.jpg"})
    for pixels in (-1, 2.5, True):
        with pytest.raises(ValueError, match=f"pixels must be an integer from 0; it is {pixels}"):
            CropBottom(pixels)
