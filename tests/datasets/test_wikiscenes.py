import json
import os
import re
import shutil
from collections import Counter

import pytest

from hierpretrain.datasets import WikiScenes, read_wikiscenes
from hierpretrain.datasets.wikiscenes_files import read_concept_list
from hierpretrain.datasets.wikiscenes_names import landmark_words, normalised_concept
from hierpretrain.registry import DATASETS
from tests.datasets.write_wikiscenes import (
    ABROAD,
    DECOMPOSED,
    LISTS,
    NAMES,
    SVG,
    TWICE,
    edit_category,
    write_category,
    write_lists,
    write_wikiscenes,
)


def cathedrals(root):
    return root / "WikiScenes" / "cathedrals"


def by_name(rows):
    return {os.path.basename(image): row for row, image in enumerate(rows.images)}


# ------------------------------------------------------------------ the tree
@pytest.mark.parametrize("num_landmarks", [1, 3, 5])
def test_parts_of_all_landmarks_are_one_node_each(tmp_path, num_landmarks):
    records = write_wikiscenes(tmp_path, num_landmarks, num_images=2, size=8, traps=False)
    rows = read_wikiscenes(str(tmp_path))
    assert sorted(rows.images) == sorted(record.file for record in records)
    label_of = dict(zip(rows.images, rows.labels, strict=True))
    assert label_of == {record.file: record.parts for record in records}
    assert rows.level_names == ("level1", "level2", "level3")
    assert rows.more_labels == {}


def test_folders_kept_apart(tmp_path):
    write_wikiscenes(tmp_path, 5, num_images=1, size=8, traps=False)
    for town in ("33", "34"):  # both call it alike
        folder = cathedrals(tmp_path) / town
        pairs = json.loads((folder / "category.json").read_text())["pairs"]
        pairs = {"Interior" if name.startswith("interior") else name: part for name, part in pairs.items()}
        write_category(folder, pairs, os.listdir(folder / "pictures"))
    rows = read_wikiscenes(str(tmp_path), merge="none")
    for image, label in zip(rows.images, rows.labels, strict=True):
        folders = image.split("/")[:-2]
        names, path = [], cathedrals(tmp_path)
        for folder in folders:  # a walk from above, by the numbers
            pairs = json.loads((path / "category.json").read_text())["pairs"]
            names.append(next(name for name, part in pairs.items() if part == folder))
            path /= folder
        if names[1:2] == ["Interior"]:
            names[1] = f"Interior ({names[0]})"
        assert label == tuple(names[1:])
    assert len({label[0] for label in rows.labels if label}) == 15
    assert {label[0] for label in rows.labels if label and label[0].startswith("Interior (")} == {
        "Interior (town3 cathedral)",
        "Interior (town4 cathedral)",
    }


def test_landmarks_as_a_level(tmp_path):
    records = write_wikiscenes(tmp_path, 3, num_images=1, size=8, traps=False)
    rows = read_wikiscenes(str(tmp_path), landmarks=True)
    name_of = {folder: name for folder, name in NAMES}
    assert rows.level_names == ("landmark", "level2", "level3", "level4")
    assert dict(zip(rows.images, rows.labels, strict=True)) == {
        file: (name_of[file.split("/")[0]], *parts) for file, parts, _, _ in records
    }
    rows = read_wikiscenes(str(tmp_path), landmarks=True, merge="none")
    assert ("notre dame de paris paris france", "Exterior of Notre-Dame de Paris") in rows.labels


def test_an_image_in_several_folders_is_one_image(tmp_path, logged):
    write_wikiscenes(tmp_path, 3, size=16)
    rows = read_wikiscenes(str(tmp_path))
    row = by_name(rows)
    assert rows.paths(row[TWICE]) == [("interior", "nave"), ("interior", "altar")]
    assert rows.images[row[TWICE]] == f"98/1/0/pictures/{TWICE}"
    assert rows.paths(row["Lady_chapel.png"]) == [("interior", "chapel", "lady chapel")]
    assert rows.images[row["Lady_chapel.png"]] == "98/1/pictures/Lady_chapel.png"  # the first file
    assert rows.paths(row[ABROAD]) == [("exterior", "facade")]
    assert "1 files of another size than the first one of their name" in "\n".join(logged)
    assert set(rows.more_labels) == {row[TWICE]}
    rows = read_wikiscenes(str(tmp_path), landmarks=True)
    paris, milan = (name for _, name in list(NAMES)[:2])
    assert rows.paths(by_name(rows)[ABROAD]) == [(paris, "exterior", "facade"), (milan, "exterior", "facade")]
    data = WikiScenes(data_root=str(tmp_path), landmarks=True, split=["small", "small_concept"])
    assert data.labels.shape[1:] == (2, 4)
    assert ABROAD in [os.path.basename(path) for path in data.image_paths]
    first = WikiScenes(data_root=str(tmp_path), landmarks=True, paths="first")
    assert first.labels.shape[1:] == (4,)


def test_files_as_they_are(tmp_path, logged):
    write_wikiscenes(tmp_path, 2, size=16)
    data = DATASETS.build(
        {"type": "WikiScenes", "data_root": str(tmp_path / "WikiScenes"), "concept_dir": "../data"}
        | {"pipeline": [{"type": "LoadRGB"}]}
    )
    names = [os.path.basename(path) for path in data.image_paths]
    assert DECOMPOSED not in names  # on disk it is written otherwise
    assert {"Bell_tower.TIF", "A_PNG_in_truth.jpg"} < set(names)
    assert not {SVG, "Bells.ogg", "Thumbs.db"} & set(names)
    assert {item["img"].size for item in data} == {(16, 16)}
    text = "\n".join(logged)
    assert "2 files that are no image: " in text
    assert "1 files that no category.json lists: '98/1/0/pictures/Thumbs.db'" in text
    assert "1 folders without a name: '98/1/0/77'" in text
    assert "1 names without a folder: '98/1/0/99 (Closed category)'" in text
    assert f"1 images of the concept lists are not there, or no images: '{SVG}'" in text
    row = next(i for i, name in enumerate(names) if "l'aube" in name)
    assert data.splits[row] == "small_concept"


def test_missing_files(tmp_path):
    write_wikiscenes(tmp_path, 2, size=8)
    home = cathedrals(tmp_path)
    os.remove(home / "98/1/0/pictures" / TWICE)  # the other one is read
    rows = read_wikiscenes(str(tmp_path))
    assert rows.images[by_name(rows)[TWICE]] == f"98/1/1/pictures/{TWICE}"
    os.remove(home / "98/1/1/pictures" / TWICE)
    with pytest.raises(ValueError, match=rf"1 of \d+ images are missing .*98/1/0/pictures/{TWICE}"):
        WikiScenes(data_root=str(tmp_path))
    rows = WikiScenes(data_root=str(tmp_path), check_files=False, keep_annotations=True).annotations
    assert rows.paths(by_name(rows)[TWICE]) == [("interior", "nave"), ("interior", "altar")]


def test_a_damaged_copy_gives_way_to_a_sound_one(tmp_path):
    write_wikiscenes(tmp_path, 2, size=8)
    (cathedrals(tmp_path) / "98/1/0/pictures" / TWICE).write_bytes(b"")
    rows = read_wikiscenes(str(tmp_path))
    assert rows.images[by_name(rows)[TWICE]] == f"98/1/1/pictures/{TWICE}"


# ------------------------------------------------------------------ splits and concepts
def test_splits_and_concepts(tmp_path, logged):
    records = write_wikiscenes(tmp_path, 10, num_images=4, size=8)
    rows = read_wikiscenes(str(tmp_path))
    expected = {}
    for file, _, concepts, split in records:
        name = os.path.basename(file)
        size = {"98": "small"}.get(file.split("/")[0], "medium")
        expected.setdefault(name, {"concepts": concepts, "list": split, "sizes": set()})["sizes"].add(size)
    for name, row in by_name(rows).items():
        if "l'aube" in name:
            continue
        wanted = expected[name]
        size = "small" if "small" in wanted["sizes"] else rows.splits[row].removesuffix("_concept")
        tag = wanted["list"] if wanted["list"].startswith("val") else size + "_concept" * bool(wanted["list"])
        assert rows.splits[row] == tag, name
        assert rows.extra_labels["concept"][row] == "".join(wanted["concepts"][:1])
        assert rows.extra_labels["concepts"][row] == "+".join(sorted(wanted["concepts"]))
    # 0, 21 and 33 to 39 are as large as each other, but for the collage in 0: the six first names are taken
    tags = Counter(
        (image.split("/")[0], tag.split("_")[0]) for image, tag in zip(rows.images, rows.splits, strict=True)
    )
    medium = {folder for folder, tag in tags if tag == "medium"}
    assert medium == {"0", "21", "33", "34", "35", "36"}
    assert {folder for folder, tag in tags if tag == "large"} == {"37", "38", "39"}
    assert {folder for folder, tag in tags if tag == "small"} == {"98"}
    assert {folder for folder, tag in tags if tag == "val"} >= {"39"}
    text = "\n".join(logged)
    assert "the small set is 'notre dame de paris paris france'; the medium set adds milano cathedral" in text


def test_data_set_of_a_probe(tmp_path):
    write_wikiscenes(tmp_path, 3, num_images=4, size=8)
    train = WikiScenes(data_root=str(tmp_path), split=["small_concept", "medium_concept"])
    test = WikiScenes(data_root=str(tmp_path), split="val")
    assert int(train.extra_labels.min()) == 0
    assert int(test.extra_labels.min()) == 0
    values = train.metainfo["extra_label_values"]
    assert values["concept"] == tuple(
        sorted({"facade", "window", "chapel", "organ", "nave", "tower", "choir"} | {"portal", "altar", "statue"})
    )
    assert "altar+nave" in values["concepts"]
    assert test.metainfo["extra_label_values"] == values
    rest = WikiScenes(data_root=str(tmp_path), split=["small", "medium"])
    assert set(rest.extra_labels.flatten().tolist()) == {-1}
    assert set(train.splits) & set(test.splits) == set()


def test_without_concepts(tmp_path):
    write_wikiscenes(tmp_path, 3, num_images=1, size=8)
    rows = read_wikiscenes(str(tmp_path), concept_dir=None)
    assert set(rows.splits) == {"small", "medium"}
    assert set(rows.extra_labels["concept"]) == {""}


def test_choice_of_landmarks(tmp_path):
    write_wikiscenes(tmp_path, 5, num_images=1, size=8, traps=False)
    paris = next(name for _, name in NAMES)
    rows = read_wikiscenes(str(tmp_path), landmarks=True, small=0, medium=["paris", "33"], concept_dir=None)
    sizes = {label[0]: tag for label, tag in zip(rows.labels, rows.splits, strict=True)}
    assert sizes == {
        "milano cathedral duomo milan milano italy italia": "small",
        paris: "medium",
        "town3 cathedral": "medium",
        "catedral nueva de salamanca spain": "large",
        "town4 cathedral": "large",
    }
    with pytest.raises(
        ValueError, match=r"small must be one landmark each, .*; 'cathedral' is 3 of the 5 of .*'milano"
    ):
        read_wikiscenes(str(tmp_path), small="cathedral")
    with pytest.raises(ValueError, match=r"medium must be one landmark each, .*; 7 is 0 of the 5 of .*: 'notre dame"):
        read_wikiscenes(str(tmp_path), medium=[7])
    with pytest.raises(ValueError, match=r"small must be one landmark each, .*; '' is 0 of the 5"):
        read_wikiscenes(str(tmp_path), small="")


def test_a_landmark_is_found_by_what_its_exterior_is_called(tmp_path):
    write_wikiscenes(tmp_path, 2, num_images=1, size=8, traps=False)
    home = cathedrals(tmp_path)
    write_category(home, {"our lady": "98", "milano": "0"})
    rows = read_wikiscenes(str(tmp_path), concept_dir=None)
    assert {tag for image, tag in zip(rows.images, rows.splits, strict=True) if image.startswith("98/")} == {"small"}


# ------------------------------------------------------------------ names
@pytest.mark.parametrize(
    ("name", "concept"),
    [
        ("Exterior of the Duomo (Milan)", "exterior"),
        ("Interiors of the Cathedral of Seville", "interior"),
        ("Interiores de la Catedral Nueva de Salamanca", "interior"),
        ("Interior views of the Washington National Cathedral", "interior"),
        ("Cathedral of Santiago de Compostela (exterior)", "exterior"),
        ("Catedral de Brasília (interior)", "interior"),
        ("Nave of the Cathedral of Seville", "nave"),
        ("Stained glass windows of the Cathedral of Notre-Dame of Reims", "window"),
        ("Stained-glass rose windows in the Cathedral of Reims", "rose window"),
        ("Stained glass", "window"),
        ("Pipe organs at the Cathedral of Toledo", "organ"),
        ("Organ pipes", "organ pipes"),
        ("Fachada oeste", "west facade"),
        ("Cathedral of Seville, facade north", "north facade"),
        ("Altar mayor de la Catedral de Santiago de Compostela", "main altar"),
        ("Façades", "facade"),
        ("Fac\u0327ades", "facade"),
        ("Chœur", "choir"),
        ("Vetrate del duomo", "window"),
        ("Türme", "tower"),
        ("Crypt of the cathedral", "crypt"),
        ("Tower of the Cathedral of Cologne (interior)", "tower interior"),
        ("Chapel of San Nicolás (Cathedral of Ávila)", "chapel san nicolás"),
        ("Cathedral", "cathedral"),
        ("  The  Cathedral ", "the cathedral"),
        ("Вільня", "вільня"),
        ("Duomo (Milan) \u2013 Apse", "milan apse"),
    ],
)
def test_normalised_concept(name, concept):
    assert normalised_concept(name) == concept
    assert normalised_concept(normalised_concept(name)) == concept


def test_words_of_the_landmark_say_nothing_of_its_parts():
    words = landmark_words("milano cathedral duomo milan italy", ["Exterior of the Duomo (Milan)", "San Gottardo"])
    assert words == {"milano", "cathedral", "duomo", "milan", "italy"}
    assert normalised_concept("Duomo (Milan) \u2013 Apse exterior", words) == "apse exterior"
    words = landmark_words("lucca cathedral", ["Duomo (Lucca) - Interior", "Interior of San Martìno", "Altars"])
    assert words == {"lucca", "cathedral", "duomo", "san", "martino"}
    assert normalised_concept("Duomo (Lucca) - Interior", words) == "interior"
    assert normalised_concept("Organ of San Martino", words) == "organ"
    assert normalised_concept("Tower", {"tower"}) == "tower"  # rather than nothing


# ------------------------------------------------------------------ wrong files
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "category.json: the file must be an object with the objects 'pairs' and 'pictures'"),
        ('{"max_index": 0, "pairs": {}}', "with the objects 'pairs' and 'pictures'"),
        ('{"pairs": [], "pictures": {}}', "with the objects 'pairs' and 'pictures'"),
        ('{"pairs": {"a": "0"},\n "pict', "category.json:2: no JSON: .*the file is truncated; unpack the archive"),
        ("[" * 100_000, "category.json: no JSON: it is nested too deeply"),
        ('{"pairs": {"a": "../.."}, "pictures": {}}', "the name of a folder beside the file, .*for 'a' it is '../..'"),
        ('{"pairs": {"a": ".."}, "pictures": {}}', "for 'a' it is '..'"),
        ('{"pairs": {"a": "."}, "pictures": {}}', "for 'a' it is '.'"),
        ('{"pairs": {"a": "/etc"}, "pictures": {}}', "for 'a' it is '/etc'"),
        ('{"pairs": {"a": "0/1"}, "pictures": {}}', "for 'a' it is '0/1'"),
        ('{"pairs": {"a": "pictures"}, "pictures": {}}', "for 'a' it is 'pictures'"),
        ('{"pairs": {"a": null}, "pictures": {}}', "for 'a' it is None"),
        ('{"pairs": {" ": "0"}, "pictures": {}}', "a category must have a name in Unicode; folder '0' has ' '"),
        ('{"pairs": {"\\ud800": "0"}, "pictures": {}}', "no JSON: a text holds .*half a surrogate pair"),
        ('{"pairs": {"a": "0", "b": "0"}, "pictures": {}}', "every folder one name .*'0' is 'b', and another is alike"),
        ('{"pairs": {"a": "0", "a ": "1"}, "pictures": {}}', "every name one folder; '1' is 'a '"),
        ('{"pairs": {}, "pictures": {"../x.jpg": {}}}', "names of files, without a folder; one is '../x.jpg'"),
        ('{"pairs": {}, "pictures": {"..": {}}}', "one is '..'"),
        ('{"pairs": {}, "pictures": {"a\\\\b.jpg": {}}}', "names of files, without a folder"),
        ('{"pairs": {}, "pictures": {"\\ud800.jpg": {}}}', "no JSON: a text holds .*half a surrogate pair"),
    ],
)
def test_wrong_category(tmp_path, text, message):
    write_wikiscenes(tmp_path, 1, num_images=1, size=8, traps=False)
    (cathedrals(tmp_path) / "98/0/category.json").write_text(text)
    with pytest.raises(ValueError, match=r"98/0/category.json\b.*" + message.replace("category.json", "")):
        read_wikiscenes(str(tmp_path))


def test_folders_numbered_by_integers(tmp_path):
    write_wikiscenes(tmp_path, 1, num_images=1, size=8, traps=False)
    write_category(cathedrals(tmp_path), {"notre dame de paris": 98})
    assert ("interior", "nave") in read_wikiscenes(str(tmp_path)).labels


def test_missing_parts(tmp_path):
    with pytest.raises(ValueError, match=r"no WikiScenes \(cathedrals/category.json\) is at .*download WikiScenes.zip"):
        read_wikiscenes(str(tmp_path))
    write_wikiscenes(tmp_path, 1, num_images=1, size=8, traps=False)
    with pytest.raises(ValueError, match=r"merge must be 'names' or 'none'; it is 'all'"):
        read_wikiscenes(str(tmp_path), merge="all")
    with pytest.raises(ValueError, match=r"no concept lists of WikiScenes .*lists/?; get the folder data of .*=None"):
        read_wikiscenes(str(tmp_path), concept_dir="lists")
    shutil.rmtree(cathedrals(tmp_path) / "98/0/pictures")
    (cathedrals(tmp_path) / "98/0/pictures").write_text("")
    with pytest.raises(
        ValueError, match=r"cannot list the folder .*98/0/pictures: Not a directory; make it a readable"
    ):
        read_wikiscenes(str(tmp_path))
    (cathedrals(tmp_path) / "98/0/category.json").unlink()
    with pytest.raises(ValueError, match=r"there is no .*98/0/category.json, which every folder of WikiScenes has"):
        read_wikiscenes(str(tmp_path))


@pytest.mark.parametrize("target", ["..", "/", "../0"])
def test_links_to_folders_are_refused(tmp_path, target):
    write_wikiscenes(tmp_path, 1, num_images=1, size=8, traps=False)
    os.symlink(target, cathedrals(tmp_path) / "98/1/9")
    edit_category(cathedrals(tmp_path) / "98/1", pairs={"Round and round": "9"})
    with pytest.raises(ValueError, match=r"98/1/9 is a link; folders below cathedrals must be real ones"):
        read_wikiscenes(str(tmp_path))


def test_links_to_files_outside_are_refused(tmp_path):
    write_wikiscenes(tmp_path, 1, num_images=1, size=8, traps=False)
    pictures = cathedrals(tmp_path) / "98/pictures"
    name = os.listdir(pictures)[0]
    os.rename(pictures / name, tmp_path / "secret.jpg")
    os.symlink(tmp_path / "secret.jpg", pictures / name)
    with pytest.raises(ValueError, match="is a link that leads out of the image folder"):
        WikiScenes(data_root=str(tmp_path))


def test_the_whole_may_be_a_link(tmp_path):
    write_wikiscenes(tmp_path / "disk", 1, num_images=1, size=8)
    os.mkdir(tmp_path / "data")
    os.symlink(tmp_path / "disk/WikiScenes", tmp_path / "data/WikiScenes")
    for name in LISTS.values():
        os.rename(tmp_path / "disk/data" / name, tmp_path / "data" / name)
    assert "small_concept" in WikiScenes(data_root=str(tmp_path / "data")).splits


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("WikiScenes/cathedrals/0/pictures/a.jpg:['nave']:no tags", ":2: a line is WikiScenes/cathedrals/<path>:"),
        ("WikiScenes/cathedrals/0/pictures/a.jpg:nave:x:y", ":2: a line is"),
        ("WikiScenes/cathedrals/0/pictures/a.jpg:[]:x:y", ":2: a line is"),
        ("WikiScenes/cathedrals/0/pictures/a.jpg:[__import__('os')]:x:y", ":2: a line is"),
        ("a.jpg:['nave']:x:y", ":2: a line is"),
        (
            "WikiScenes/cathedrals/0/pictures/a.jpg:['crypt']:x:y",
            ":2: the concepts are facade, .*; the line has 'crypt'",
        ),
        ("0/pictures/nave.jpg:['nave']:x:y", ":2: the image 'nave.jpg' was listed before"),
    ],
)
def test_wrong_list(tmp_path, line, message):
    path = tmp_path / "list.txt"
    path.write_text(f"WikiScenes/cathedrals/0/1/pictures/nave.jpg:['nave', 'choir']:::\n{line}\n")
    with pytest.raises(ValueError, match=re.escape(str(path)) + message):
        read_concept_list(str(path))


def test_list(tmp_path):
    path = tmp_path / "list.txt"
    names = ("Dall'Orto,_(1).JPG", "vue_[2]_\u2013_'x'.jpg")
    path.write_text(
        f"WikiScenes/cathedrals/1/pictures/{names[0]}:['nave', 'altar']:a:b: ['x']:c\n"
        f"1/pictures/{names[1]}:['organ']::",
        encoding="utf-8",
    )
    assert read_concept_list(str(path)) == {names[0]: ("nave", "altar"), names[1]: ("organ",)}


def test_no_image_in_two_lists(tmp_path):
    records = write_wikiscenes(tmp_path, 1, num_images=1, size=8, traps=False)
    write_lists(tmp_path / "data", [*records, *(r._replace(split="val") for r in records if r.split)])
    with pytest.raises(ValueError, match=r"val_10classes.*txt: the image 'L0_.*' is in train_10classes.*txt too; no"):
        read_wikiscenes(str(tmp_path))


@pytest.mark.parametrize("small", ["Duomo di Milano", "the duomo of Milan"])
def test_a_landmark_is_found_by_its_name_as_one_writes_it(tmp_path, small):
    """Of and the, in any language, need not be in the name that the folder has."""
    write_wikiscenes(tmp_path, 5, num_images=1, size=8, traps=False)
    rows = read_wikiscenes(str(tmp_path), landmarks=True, small=small, medium="salamanca", concept_dir=None)
    sizes = {label[0]: tag for label, tag in zip(rows.labels, rows.splits, strict=True)}
    assert sizes.pop("milano cathedral duomo milan milano italy italia") == "small"
    assert sizes.pop("catedral nueva de salamanca spain") == "medium"
    assert set(sizes.values()) == {"large"}


def test_a_landmark_s_own_name_does_not_take_the_main_out_of_an_altar():
    words = landmark_words("frankfurt am main cathedral", [])
    assert normalised_concept("Main altar of Frankfurt Cathedral", words) == "main altar"
