"""What ``hierpretrain init`` finds in folders and in lists, and what it says where it finds nothing."""

import json
import re
import unicodedata

import pytest
from PIL import Image

from hierpretrain.apis.look_at_data import look_at
from hierpretrain.datasets import FolderDataset, ListDataset

NAMES = ("animal/cat/1", "animal/cat/2", "animal/dog/1", "animal/dog/2", "tool/saw/1", "tool/saw/2")


def write_images(root, names, ending=".png"):
    for i, name in enumerate(names):
        path = root / f"{name}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (40 * i % 256, 0, 0)).save(path)
    return root


def write_list(path, header, rows, encoding="utf-8", separator=","):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [separator.join(header), *(separator.join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


def refuse(question, answers, option):
    raise AssertionError(f"asked {question} {answers}")


def test_names_of_columns_may_be_given_in_any_unicode_form(tmp_path):
    write_images(tmp_path, "012345")
    one, two = (unicodedata.normalize(form, "Größe") for form in ("NFC", "NFD"))
    rows = [[f"{i}.png", "train", "ab"[i % 2], "x"] for i in range(6)]
    path = write_list(tmp_path / "list.csv", [one, f"{one}2", f"{one}3", "other"], rows)
    given = {"image_column": two, "split_column": f"{two}2", "levels": [f"{two}3"]}
    found = look_at(path, given, refuse)
    assert {name: found.dataset[name] for name in given} == {
        "image_column": one,
        "split_column": f"{one}2",
        "levels": [f"{one}3"],
    }
    assert look_at(path, given | {"levels": f"{two}3"}, refuse).dataset["levels"] == [f"{one}3"]


def test_the_first_image_is_no_header(tmp_path):
    write_images(tmp_path, "01")
    (tmp_path / "n.txt").write_text("0.png\n1.png\n")
    for options in ({}, {"image_column": "0.png"}):
        with pytest.raises(
            ValueError, match=r"n\.txt:1: the first line must name the columns, and has the image '0\.png'"
        ):
            look_at(tmp_path / "n.txt", options, refuse)


# ---------------------------------------------------------------- folders
def test_a_folder_tree(tmp_path):
    found = look_at(write_images(tmp_path, NAMES), choose=refuse)
    assert found.dataset == dict(type="FolderDataset", data_root=str(tmp_path))
    assert found.annotations.labels == [tuple(name.split("/")[:-1]) for name in NAMES]
    assert (found.columns, found.notes, found.new_list) == ((), (), False)
    named = look_at(tmp_path, {"levels": ["kind", "breed"]}, refuse)
    assert named.annotations.level_names == ("kind", "breed")
    dataset = FolderDataset(**{key: value for key, value in named.dataset.items() if key != "type"})
    assert dataset.taxonomy.level_names == ("kind", "breed")


def test_a_single_folder_around_all_others_is_no_level(tmp_path):
    found = look_at(write_images(tmp_path / "a/b", NAMES).parent, choose=refuse)
    assert found.dataset["data_root"] == str(tmp_path / "a/b")
    assert found.annotations.level_names == ("level1", "level2")
    assert found.notes == ("all images are in the folder 'b', which is no level of the tree",)
    one_class = look_at(write_images(tmp_path / "c", ["cat/1", "cat/2"]), choose=refuse)
    assert one_class.dataset["data_root"] == str(tmp_path / "c")


def test_folders_of_splits_are_no_level(tmp_path):
    write_images(tmp_path, [f"{split}/{name}" for split in ("train", "Val") for name in NAMES])
    found = look_at(tmp_path, choose=refuse)
    assert found.annotations.labels == [tuple(name.split("/")[:-1]) for name in NAMES] * 2
    assert found.annotations.splits == ["Val"] * 6 + ["train"] * 6
    assert found.new_list
    assert found.dataset["levels"] == ["level1", "level2"]
    write_images(tmp_path / "other", ["test/1", "train/2"])  # nothing of the kind: things of these names
    assert look_at(write_images(tmp_path / "lab", ["test/1", "bench/2"])).annotations.splits == ["all"] * 2


def test_what_is_in_folders_of_splits_and_what_is_beside_them_is_told(tmp_path):
    root = write_images(tmp_path, ["loose", "train/cat/1", "train/cat/2", "train/3", "val/dog/4"])
    found = look_at(root, choose=refuse)
    assert len(found.annotations.images) == 4
    assert found.notes == (
        "the folders train, val are splits, and no level of the tree",
        "1 images beside these folders are in no split, and are left out",
        "1 images are in no sub-folder and have no label",
    )
    assert "need_labels" not in found.dataset
    flat = look_at(write_images(tmp_path / "flat", ["train/1", "val/2"]), choose=refuse)
    assert flat.dataset == dict(
        type="ListDataset", data_root=str(tmp_path / "flat"), ann_file="", levels=[], need_labels=False
    )


def test_images_without_a_folder_have_no_label(tmp_path):
    flat = look_at(write_images(tmp_path / "flat", ["1", "2"]), choose=refuse)
    assert flat.dataset == dict(type="FolderDataset", data_root=str(tmp_path / "flat"), need_labels=False)
    assert flat.annotations.labels == [(), ()]
    assert len(FolderDataset(data_root=str(tmp_path / "flat"), need_labels=False)) == 2
    some = look_at(write_images(tmp_path / "some", ["1", "cat/2", "dog/3"]), choose=refuse)
    assert some.notes == ("1 images are in no sub-folder and have no label",)


# ---------------------------------------------------------------- lists
def shop(tmp_path, encoding="utf-8-sig", separator=";"):
    """A list with all that lists have, and its pictures in a folder beside it."""
    write_images(tmp_path / "pictures", [str(i) for i in range(12)])
    header = ["no.", "sku", "picture", "about", "price", "department", "category", "type", "artist", "stock"]
    rows = []
    for i in range(12):
        place = ["home", ("chairs", "tables")[i % 2], ("old", "new", "big", "red")[i % 4]]
        place = ["sport", ("balls", "nets")[i % 2], ("a", "b", "c", "d")[i % 4]] if i >= 8 else place
        place[1] = "" if i == 3 else place[1]  # missing in the middle
        place = ["home|sport", "", ""] if i == 4 else place  # in two categories
        text = "it is a very fine thing of so many words"
        rows.append([i + 1, f"S{i * 7:03}", f"{i}.png", text, f"{i},50", *place, "AnnBobCem"[i % 3 * 3 :][:3], i % 5])
    return write_list(tmp_path / "catalogue.csv", header, rows, encoding, separator)


@pytest.mark.parametrize(("encoding", "separator"), [("utf-8-sig", ";"), ("utf-16", "\t")])
def test_a_shop_s_list(tmp_path, encoding, separator):
    path = shop(tmp_path, encoding, separator)
    found = look_at(path, choose=refuse)
    assert found.dataset == dict(
        type="ListDataset",
        data_root=str(tmp_path / "pictures"),
        ann_file=str(path),
        image_column="picture",
        key_column="sku",
        levels=["department", "category", "type"],
        path_separator="|",
        on_gap="cut",
    )
    kinds = {column.name: column.kind for column in found.columns}
    assert kinds == {
        "no.": "row number",
        "sku": "key",
        "picture": "images",
        "about": "constant",
        "price": "numbers",
        "department": "names",
        "category": "names",
        "type": "names",
        "artist": "names",
        "stock": "numbers",
    }
    dataset = ListDataset(**{key: value for key, value in found.dataset.items() if key != "type"})
    assert dataset.labels.shape == (12, 2, 3)
    assert found.annotations.paths(4) == [("home",), ("sport",)]
    assert found.annotations.labels[3] == ("home",)  # and not the type, whose category nobody gave
    assert any("artist" in note for note in found.notes)
    assert "1 rows have an empty level above one that is not empty: their labels end there" in found.notes
    assert "1 images are in several places of the tree" in found.notes


def test_a_list_in_a_folder_counts(tmp_path):
    path = shop(tmp_path)
    (tmp_path / "README.txt").write_text("Pictures of things.\n")
    (tmp_path / "about.json").write_text(json.dumps({"name": "shop"}))
    found = look_at(tmp_path, choose=refuse)
    assert (found.dataset["ann_file"], found.name) == (str(path), str(tmp_path))
    write_list(tmp_path / "short.csv", ["picture", "department"], [["0.png", "home"]])
    asked = []
    look_at(tmp_path, choose=lambda *question: asked.append(question) or "short.csv")
    assert asked == [
        (f"{tmp_path} has several lists of images; which one counts?", ["catalogue.csv", "short.csv"], "DATA")
    ]


def test_splits_of_a_list(tmp_path):
    write_images(tmp_path, [str(i) for i in range(8)])

    def columns(name, values):
        rows = [[f"{i}.png", "ab"[i % 2], value] for i, value in enumerate(values)]
        return look_at(write_list(tmp_path / "list.csv", ["image", "kind", name], rows), choose=refuse)

    found = columns("split", ["train", "test"] * 4)
    assert "split_column" not in found.dataset
    assert found.annotations.splits == ["train", "test"] * 4
    found = columns("part", ["train", "val", "train", "test"] * 2)
    assert found.dataset["split_column"] == "part"
    found = columns("split", ["train", "", "test", ""] * 2)
    assert found.dataset["split_column"] == ""
    assert found.annotations.splits == ["all"] * 8
    assert found.notes == ("the column 'split' is empty in 4 rows, and does not count as the splits",)


def test_a_column_of_whole_paths(tmp_path):
    write_images(tmp_path, [str(i) for i in range(8)])
    paths = ("food > fruit", "food > bread", "tool > saw > hand saw", "tool")
    rows = [[f"{i}.png", paths[i % 4], "red" if i < 4 else "blue"] for i in range(8)]
    found = look_at(write_list(tmp_path / "list.csv", ["image", "place", "colour"], rows), choose=refuse)
    assert (found.dataset["levels"], found.dataset["level_separator"]) == (["place"], ">")
    assert found.annotations.level_names == ("level1", "level2", "level3")


def test_a_separator_between_spaces_leaves_names_that_hold_it_without(tmp_path):
    write_images(tmp_path, [str(i) for i in range(6)])
    paths = ("Home / TV/Audio", "Home / Garden", "Toys / Cars")
    rows = [[f"{i}.png", paths[i % 3]] for i in range(6)]
    found = look_at(write_list(tmp_path / "list.csv", ["image", "category"], rows), choose=refuse)
    assert found.dataset["level_separator"] == " / "
    assert found.annotations.labels == [("Home", "TV/Audio"), ("Home", "Garden"), ("Toys", "Cars")] * 2
    assert found.notes == ("'category' has whole paths, whose names ' / ' separates",)


def test_a_separator_of_places_that_another_level_has_within_names_is_not_taken(tmp_path):
    write_images(tmp_path, [str(i) for i in range(12)])
    departments = ['"Home, Garden"'] * 9 + ["Food"] * 3
    categories = ["tools", "lamps", "pots"] * 3 + ["fruit", "vegetable", '"fruit,vegetable"']
    rows = [[f"{i}.png", *row] for i, row in enumerate(zip(departments, categories, strict=True))]
    path = write_list(tmp_path / "list.csv", ["image", "department", "category"], rows)
    found = look_at(path, {"levels": ["department", "category"]}, refuse)
    assert "path_separator" not in found.dataset
    assert found.annotations.labels[::11] == [("Home, Garden", "tools"), ("Food", "fruit,vegetable")]
    assert found.annotations.more_labels == {}
    assert found.notes == (
        "',' seems to separate several places in 'category', and is within names of 'department': no cell is taken "
        "apart; if all shall be, give --path-separator ,",
    )
    given = look_at(path, {"levels": ["category"]}, refuse)  # without the other level, nothing speaks against it
    assert given.dataset["path_separator"] == ","
    assert given.annotations.paths(11) == [("fruit",), ("vegetable",)]


def test_places_of_two_levels_side_by_side_are_taken_apart(tmp_path):
    """Though no name of the second level is alone in a cell."""
    write_images(tmp_path, [str(i) for i in range(5)])
    cells = [("fruit", "apple"), ("vegetable", "leek"), ("fruit|vegetable", "tomato|bean"), ("fruit", ""), ("nut", "")]
    rows = [[f"{i}.png", *row] for i, row in enumerate(cells)]
    found = look_at(write_list(tmp_path / "list.csv", ["image", "kind", "crop"], rows), {"levels": ["kind", "crop"]})
    assert found.dataset["path_separator"] == "|"
    assert found.annotations.paths(2) == [("fruit", "tomato"), ("vegetable", "bean")]
    assert found.notes == ("'|' separates several places in one cell", "1 images are in several places of the tree")


def test_repeated_rows_arrays_and_the_name_image(tmp_path):
    write_images(tmp_path, [str(i) for i in range(6)])
    rows = [[f"{i}.png", f"t/{i}.png", kind] for i in range(6) for kind in ("cat", "pet")[: 1 + i % 2]]
    found = look_at(write_list(tmp_path / "list.csv", ["image", "thumb.png", "kind"], rows), choose=refuse)
    assert (len(found.annotations.images), len(found.annotations.more_labels)) == (6, 3)
    records = [{"image": f"{i}.png", "kind": ["cat", "pet"][: 1 + i % 2]} for i in range(6)]
    (tmp_path / "list.json").write_text(json.dumps(records))
    found = look_at(tmp_path / "list.json", choose=refuse)
    assert (found.dataset["levels"], len(found.annotations.more_labels)) == (["kind"], 3)


def test_what_is_named_counts(tmp_path):
    path = shop(tmp_path)
    given = {"levels": ["artist"], "key_column": "no.", "image_column": "picture", "data_root": tmp_path / "pictures"}
    found = look_at(path, given, refuse)
    assert found.dataset["levels"] == ["artist"]
    assert found.dataset["key_column"] == "no."
    assert found.annotations.keys[:2] == ["1", "2"]
    none = look_at(path, {"levels": []}, refuse)
    assert (none.dataset["levels"], none.dataset["need_labels"]) == ([], False)


def test_no_columns_of_names(tmp_path):
    write_images(tmp_path, [str(i) for i in range(6)])
    rows = [[f"{i}.png", f"S{i}", f"{i}.50"] for i in range(6)]
    found = look_at(write_list(tmp_path / "list.csv", ["image", "sku", "price"], rows), choose=refuse)
    assert (found.dataset["levels"], found.dataset["need_labels"]) == ([], False)
    assert found.annotations.keys == [f"S{i}" for i in range(6)]


def test_questions(tmp_path):
    """Only where nothing speaks for one answer; the likeliest comes first."""
    write_images(tmp_path, [str(i) for i in range(12)])
    rows = [[f"{i}.png", f"{i}.png", "ab"[i % 2], "xyz"[i % 3]] for i in range(12)]
    path = write_list(tmp_path / "list.csv", ["front", "back", "maker", "colour"], rows)
    asked = []

    def choose(question, answers, option):
        asked.append((answers, option))
        return answers[-1]

    found = look_at(path, choose=choose)
    assert asked == [(["front", "back"], "--image-column"), (["maker", "colour"], "--levels")]
    assert (found.dataset["image_column"], found.dataset["levels"]) == ("back", ["colour"])
    found = look_at(path)
    assert (found.dataset["image_column"], found.dataset["levels"]) == ("front", ["maker"])
    write_list(path, ["image", "back", "maker", "category"], rows)
    assert look_at(path, choose=refuse).dataset["levels"] == ["category"]


# ---------------------------------------------------------------- messages
def test_what_is_wrong_with_a_folder(tmp_path):
    with pytest.raises(ValueError, match=r"there is no folder and no list '.*nowhere'; correct the path"):
        look_at(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"the folder '.*empty' holds no image \(0 other files\)"):
        look_at(tmp_path / "empty")
    write_images(tmp_path / "photos", NAMES)
    with pytest.raises(ValueError, match=r"key_column say how a list is read, and '.*' is a folder without a list"):
        look_at(tmp_path / "photos", {"key_column": "sku"})
    with pytest.raises(ValueError, match="kind"):
        look_at(tmp_path / "photos", {"levels": ["kind"]})


@pytest.mark.parametrize(
    ("header", "row", "options", "message"),
    [
        (
            ["image", "kind"],
            ["no.png", "cat"],
            {},
            "such as 'no.png', are neither beside the list.*--image-root FOLDER",
        ),
        (
            ["what", "kind"],
            ["7", "cat"],
            {},
            r"no column has the names of image files; the columns are \['what', 'kind'",
        ),
        (["url", "kind"], ["https://a.b/c.jpg", "cat"], {}, "'url' has addresses: download the images first"),
        (["image", "kind"], ["1.png", "cat"], {"levels": ["sort"]}, "there is no column 'sort'; the columns are"),
        (["image", "kind"], ["1.png", "cat"], {"image_column": "photo"}, "there is no column 'photo'; the columns are"),
        (["image", "kind"], ["1.png", "cat"], {"key_column": "sku"}, "there is no column 'sku'; the columns are"),
        (["image", "kind"], ["1.png", "cat", "x"], {}, "list.csv:2: the line has 3 fields and the header 2"),
    ],
)
def test_what_is_wrong_with_a_list(tmp_path, header, row, options, message):
    write_images(tmp_path, ["1"])
    path = write_list(tmp_path / "list.csv", header, [row])
    with pytest.raises(ValueError, match=message):
        look_at(path, options)


def test_a_list_may_have_another_unicode_form_than_its_files(tmp_path):
    one, two = "caf\u00e9", "cafe\u0301"
    write_images(tmp_path / "photos", [f"{two}/{two} 1", f"{two}/2"])
    rows = [[f"{one}/{one} 1.png", "a"], [f"{one}/2.png", "b"]]
    path = write_list(tmp_path / "list.csv", ["image", "kind"], rows)
    found = look_at(path)
    assert found.dataset["data_root"] == str(tmp_path / "photos")
    assert found.annotations.images == [f"{two}/{two} 1.png", f"{two}/2.png"]  # as they can be opened


def test_missing_files_are_counted(tmp_path):
    write_images(tmp_path, ["1", "2"])
    path = write_list(tmp_path / "list.csv", ["image", "kind"], [["1.png", "a"], ["2.png", "b"], ["3.png", "b"]])
    with pytest.raises(ValueError, match=re.escape("1 of 3 images are missing below")):
        look_at(path)
    write_list(path, ["image", "kind"], [])
    with pytest.raises(ValueError, match=r"the list '.*list.csv' lists no image"):
        look_at(path)
