import re

import pytest

from hierpretrain.datasets import NABirds, read_nabirds
from hierpretrain.registry import DATASETS
from tests.datasets.write_nabirds import CLASSES, PARENTS, write_nabirds

DUCKS = "Ducks, Geese, and Swans"


def test_ragged_paths_and_splits(tmp_path):
    records = write_nabirds(tmp_path)
    rows = read_nabirds(str(tmp_path))
    assert rows.images == [f"images/{path}" for _, path in records]
    assert rows.splits == ["train", "test", "train", "test", "train", "test"]
    loon = ("Loons", "Loons", "Common Loon")
    female = (DUCKS, DUCKS, "Mallard", "Mallard (Female/Eclipse male)")
    male = (DUCKS, DUCKS, "Mallard", "Mallard (Breeding male)")
    assert rows.labels == [loon, loon, female, male, (DUCKS, DUCKS, "Gadwall"), female]
    data = DATASETS.build({"type": "NABirds", "data_root": str(tmp_path), "split": "train"})
    assert data.taxonomy.level_names == ("order", "family", "species", "plumage")
    assert data.labels.tolist() == [[1, 1, 2, -1], [0, 0, 1, 1], [0, 0, 0, -1]]


def test_parent_folder(tmp_path):
    records = write_nabirds(tmp_path / "nabirds")
    assert NABirds(data_root=str(tmp_path)).image_paths[0] == str(tmp_path / "nabirds/images" / records[0][1])


def test_siblings_of_one_name(tmp_path):
    write_nabirds(tmp_path, classes={**CLASSES, 295: "Mallard", 296: "Mallard"})
    rows = read_nabirds(str(tmp_path))
    assert rows.labels[2:4] == [(DUCKS, DUCKS, "Mallard", f"Mallard [{i}]") for i in (295, 296)]


@pytest.mark.parametrize(
    ("parents", "message"),
    [
        ({1: 10, 10: 1}, "hangs below itself: 1 > 10 > 1; remove the cycle"),
        ({30: 30}, "hangs below itself: 30 > 30"),
        ({0: 1}, "the root 0 must have no parent"),
        ({99: 1}, "the class 99 is not in classes.txt"),
        ({30: 99}, "the class 99 is not in classes.txt"),
    ],
)
def test_wrong_tree(tmp_path, parents, message):
    write_nabirds(tmp_path, parents={**PARENTS, **parents})
    with pytest.raises(ValueError, match=r"hierarchy.txt:\d+: .*" + re.escape(message)):
        read_nabirds(str(tmp_path))


def test_wrong_lines(tmp_path):
    (first, _), *_ = write_nabirds(tmp_path)

    def broken(name, text, message):
        path = tmp_path / name
        before = path.read_text()
        path.write_text(before + text if text.endswith("\n") else text)
        with pytest.raises(ValueError, match=message):
            read_nabirds(str(tmp_path))
        path.write_text(before)

    broken("hierarchy.txt", "30 20\n", r"hierarchy.txt:10: the id '30' was already at .*hierarchy.txt:5")
    broken("hierarchy.txt", "817\n", r"hierarchy.txt:10: a line is an id, a space and a value")
    broken("image_class_labels.txt", f"{first} 31\n", r"image_class_labels.txt:7: the id .* was already at")
    broken("images.txt", "ab 0817/ab.jpg\n", r"image_class_labels.txt lacks 1 of the ids of .*images.txt: 'ab'")
    broken("train_test_split.txt", f"{first} 1", r"train_test_split.txt lacks 5 of the ids of .*images.txt")
    labels = (tmp_path / "image_class_labels.txt").read_text()
    broken("image_class_labels.txt", labels.replace(" 31", " 32").rstrip(), r":5: the class 32 is not in hierarchy.txt")
    tags = (tmp_path / "train_test_split.txt").read_text()
    broken("train_test_split.txt", tags.replace(" 0", " 2").rstrip(), r":2: the split must be 1 .* it is '2'")
    broken(
        "hierarchy.txt",
        "".join(f"{child} {parent}\n" for child, parent in PARENTS.items() if child != 20).rstrip(),
        r"hierarchy.txt:6: the parent 20 hangs nowhere",
    )
    read_nabirds(str(tmp_path))


def test_missing(tmp_path):
    with pytest.raises(ValueError, match=r"no NABirds .*hierarchy.txt.* get nabirds.tar.gz"):
        read_nabirds(str(tmp_path))
