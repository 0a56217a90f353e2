import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from hierpretrain.datasets import CUB200, read_cub
from hierpretrain.datasets.cub import read_levels_above
from hierpretrain.registry import DATASETS
from tests.datasets.write_cub import CLASSES, write_cub


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("cub") / "CUB_200_2011"
    return str(root), write_cub(root)


def edit(tree, tmp_path, file, text, replacement):
    """Copies the data set with one text of a list replaced."""
    root = tmp_path / "copy"
    shutil.copytree(tree[0], root)
    before = (root / file).read_text()
    assert text in before
    (root / file).write_text(before.replace(text, replacement, 1))
    return str(root)


# ---------------------------------------------------------------- splits and levels
def test_retrieval_divides_the_classes(tree):
    root, records = tree
    for split, numbers in {"train": range(1, 101), "test": range(101, 201)}.items():
        data = CUB200(data_root=root, split=split, pipeline=[{"type": "LoadRGB"}])
        expected = [(image, CLASSES[number][0]) for image, number, _ in records if number in numbers]
        assert data.image_paths == [f"{root}/images/{image}" for image, _ in expected]
        assert [data.taxonomy.decode(row)[-1] for row in data.labels] == [name for _, name in expected]
        assert data[0]["img"].size == (20, 16)
    assert type(DATASETS.build({"type": "CUB200", "data_root": root})) is CUB200


def test_classification_is_the_official_split(tree):
    root, records = tree
    for split, training in {"train": 1, "test": 0}.items():
        data = CUB200(data_root=root, split=split, protocol="classification")
        assert data.image_paths == [f"{root}/images/{image}" for image, _, mark in records if mark == training]
        assert len(set(data.labels[:, -1].tolist())) == len(CLASSES)


def test_the_last_word_of_the_name_is_the_kind(tree):
    data = CUB200(data_root=tree[0])
    assert data.taxonomy.level_names == ("kind", "species")
    paths = {data.taxonomy.decode(row) for row in data.labels}
    assert paths == {
        ("Albatross", "Black_footed_Albatross"),
        ("Albatross", "Laysan_Albatross"),
        ("Pelican", "Brown_Pelican"),
        ("Pelican", "White_Pelican"),
        ("Yellowthroat", "Common_Yellowthroat"),
    }
    # the border of the retrieval protocol passes through the pelicans
    train, test = (set(CUB200(data_root=tree[0], split=split).labels[:, 0].tolist()) for split in ("train", "test"))
    assert len(train & test) == 1


def test_species_alone(tree):
    data = CUB200(data_root=tree[0], hierarchy=None)
    assert data.taxonomy.level_names == ("species",)
    assert data.taxonomy.num_nodes("species") == 5


def test_parent_folder_and_traps(tree):
    root, records = tree
    parent = root.rpartition("/")[0]
    data = CUB200(data_root=parent, pipeline=[{"type": "LoadRGB"}])
    assert data.image_paths == [f"{root}/images/{image}" for image, _, _ in records]  # and no ._ file
    assert Image.open(data.image_paths[0]).mode == "L"
    assert np.asarray(data[0]["img"]).shape == (16, 20, 3)


# ---------------------------------------------------------------- a hierarchy of one's own
def rows_of(key):
    """Returns class, order and family for all 200 classes, named by ``key(number, name)``."""
    names = {number: CLASSES.get(number, (f"Filler_{number}_Bird", 0))[0] for number in range(1, 201)}
    order = {"Albatross": "Procellariiformes", "Pelican": "Pelecaniformes"}
    rows = {}
    for number, name in names.items():
        kind = name.rpartition("_")[2]
        rows[key(number, name)] = (order.get(kind, "Passeriformes"), f"{kind}idae")
    return rows


KEYS = {
    "name": lambda number, name: name,
    "number": lambda number, name: str(number),
    "both": lambda number, name: f"{number:03d}.{name}",
}


@pytest.mark.parametrize("extension", ["csv", "json"])
@pytest.mark.parametrize("key", KEYS)
def test_own_hierarchy(tree, tmp_path, key, extension):
    rows = rows_of(KEYS[key])
    path = tmp_path / f"birds.{extension}"
    if extension == "csv":
        path.write_text("class,order,family\n" + "".join(f"{name},{','.join(row)}\n" for name, row in rows.items()))
    else:
        path.write_text(
            json.dumps({name: dict(zip(("order", "family"), row, strict=True)) for name, row in rows.items()})
        )
    data = CUB200(data_root=tree[0], hierarchy=str(path))
    assert data.taxonomy.level_names == ("order", "family", "species")
    assert data.taxonomy.decode(data.labels[0]) == ("Procellariiformes", "Albatrossidae", "Black_footed_Albatross")
    assert data.taxonomy.decode(data.labels[-1]) == ("Passeriformes", "Yellowthroatidae", "Common_Yellowthroat")


BIRDS = {"1": "Gadwall", "2": "Rock_Wren"}
GOOD = "class,order,family\nGadwall,A,B\nRock_Wren,C,D\n"


def class_paths(tmp_path, text, name="birds.csv"):
    (tmp_path / name).write_text(text)
    return read_levels_above(str(tmp_path / name), BIRDS)


def test_columns_in_any_order(tmp_path):
    paths = {"Gadwall": ("A", "B"), "Rock_Wren": ("C", "D")}
    assert class_paths(tmp_path, GOOD) == (("order", "family"), paths)
    assert class_paths(tmp_path, "order,class,family\nC,2,D\nA,1,B\n") == (("order", "family"), paths)
    swapped = '{"1": {"order": "A", "family": "B"}, "2": {"family": "D", "order": "C"}}'
    assert class_paths(tmp_path, swapped, "birds.JSON") == (("order", "family"), paths)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "birds.csv is empty; get it anew"),
        ("bird,order\nGadwall,A\n", "birds.csv:1: the columns must be 'class'"),
        ("class,order,order\n", "birds.csv:1: the columns must be 'class'"),
        ("class,order,family\nGadwall,A,B\n", "lacks 1 of the data set's 2 classes: 'Rock_Wren'; give every class"),
        (GOOD + "Dodo,A,B\n", "birds.csv:4: the data set has no class 'Dodo'; give a name or number of"),
        (GOOD + "2,C,D\n", "birds.csv:4: the class 'Rock_Wren' is there twice; give every class once"),
        (
            "class,order,family\nGadwall,A,B\nRock_Wren,C,B\n",
            "birds.csv:3: the family 'B' hangs below 'C', but before that below 'A'; a node of a tree has one parent",
        ),
        ("class,order\nGadwall,1\nRock_Wren,1.0\n", "birds.csv:3: 'order' has one number in two spellings, '1' and"),
        ("class,order,family\nGadwall,A,\n", "birds.csv:2: the class 'Gadwall' has ['A', ''] above it; name its node"),
        ("class,order,family\nGadwall,A\n", "birds.csv:2: the line has 2 fields and the header 3"),
        ("class\nGadwall\nRock_Wren\n", "must name a level or more above 'species', which is added; it names []"),
        (
            "class,species\n1,x\n2,y\n",
            "must name a level or more above 'species', which is added; it names ['species']",
        ),
    ],
)
def test_wrong_csv_hierarchy(tmp_path, text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        class_paths(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "birds.json must be an object of class -> object of level -> name"),
        ('{"1": ["A", "B"]}', "birds.json must be an object of class -> object of level -> name"),
        ('{\n"1": {', "birds.json:2: no JSON: "),
        ('{"1": {"order": "A"}, "1": {"order": "B"}}', "the key '1' is there twice in object 3; correct the file"),
        ("[" * 100_000, "birds.json: no JSON: it is nested too deeply; correct the file"),
        (
            '{"1": {"order": "A"}, "2": {"family": "B"}}',
            "'2': the class '2' has the levels ['family'], others ['order']",
        ),
        ('{"1": {"order": 3}}', "'1': the class '1' has [3] above it; name its node at every level"),
    ],
)
def test_wrong_json_hierarchy(tmp_path, text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        class_paths(tmp_path, text, "birds.json")


# ---------------------------------------------------------------- wrong files
IMAGE = "001.Black_footed_Albatross/Black_Footed_Albatross_0002_796001.jpg"


@pytest.mark.parametrize(
    ("file", "text", "replacement", "message"),
    [
        ("images.txt", f"2 {IMAGE}", "2", "images.txt:2: a line is an id, a space and a value; it is '2'"),
        ("images.txt", f"2 {IMAGE}", f"1 {IMAGE}", "images.txt:2: the id '1' was already at "),
        ("images.txt", f"2 {IMAGE}\n", "", "images.txt lacks 1 of the ids of "),
        ("image_class_labels.txt", "\n12 200\n", "\n", "image_class_labels.txt lacks 1 of the ids of "),
        ("train_test_split.txt", "\n12 0\n", "\n", "train_test_split.txt lacks 1 of the ids of "),
        (
            "train_test_split.txt",
            "2 0\n",
            "2 2\n",
            "train_test_split.txt:2: an image is 1, for training, or 0, for test",
        ),
        ("image_class_labels.txt", "1 1\n", "1 201\n", "image_class_labels.txt:1: there is no class '201' in classes"),
        # labels that count from 0
        ("image_class_labels.txt", "4 2\n", "4 1\n", "images.txt:4: the image '002.Laysan_Albatross/Laysan"),
        ("images.txt", IMAGE, f"../{IMAGE}", "images.txt:2: the image '../001.Black"),
        ("classes.txt", "1 001.Black_footed", "1 Black_footed", "classes.txt:1: a class is '<number> <number>.<name>'"),
        (
            "classes.txt",
            "1 001",
            "x 001",
            "classes.txt:1: a class is '<number> <number>.<name>'; this one is 'x 001.Bl",
        ),
        ("classes.txt", "2 002.Laysan", "2 002.Black_footed", "classes.txt:2: the class 'Black_footed_Albatross' is"),
    ],
)
def test_wrong_lists(tree, tmp_path, file, text, replacement, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        read_cub(edit(tree, tmp_path, file, text, replacement))


def test_path_that_leaves_the_folder(tree, tmp_path):
    image = IMAGE.replace("/", "/../../../", 1)
    root = edit(tree, tmp_path, "images.txt", IMAGE, image)
    with pytest.raises(ValueError, match=r"lists the image '.*', which must not be absolute, hold '\.\.'"):
        read_cub(root)


def test_missing_files(tree, tmp_path):
    with pytest.raises(
        ValueError, match=r"no CUB-200-2011 \(images and images.txt\) is at .*; download CUB_200_2011.tgz"
    ):
        CUB200(data_root=str(tmp_path))
    root = tmp_path / "copy"
    shutil.copytree(tree[0], root)
    (root / "images" / IMAGE).unlink()
    with pytest.raises(ValueError, match="1 of 12 images are missing below"):
        CUB200(data_root=str(root))
    (root / "train_test_split.txt").unlink()
    with pytest.raises(ValueError, match=r"cannot read the list .*train_test_split.txt: No such file"):
        CUB200(data_root=str(root))


def test_wrong_protocol(tree):
    with pytest.raises(ValueError, match="protocol must be 'retrieval' or 'classification'; it is 'test'"):
        CUB200(data_root=tree[0], protocol="test")
