import json
import re
from collections import Counter

import pytest

from hierpretrain.datasets import INaturalist, read_inaturalist
from hierpretrain.registry import DATASETS
from tests.datasets.write_inaturalist import (
    FILES,
    RANKS,
    TAXA,
    categories,
    write_dml,
    write_inaturalist,
    write_real_names,
)


def category_names(data):
    """The category of every image by name, by a plain loop over all annotations for each image."""
    names = {}
    for content in data:
        for image in content["images"]:
            for record in content["annotations"]:
                if record["image_id"] == image["id"]:
                    names[image["file_name"]] = record["category_id"]
    return names


@pytest.mark.parametrize("year", FILES)
def test_every_year(tmp_path, year):
    data = write_inaturalist(tmp_path, year, with_images=True)
    levels = "full" if year == "2019" else "super"
    rows = read_inaturalist(str(tmp_path), year, levels)
    expected = category_names(data)
    assert rows.images == [image["file_name"] for content in data for image in content["images"]]
    hidden = year in ("2018", "2019")
    for image, label in zip(rows.images, rows.labels, strict=True):
        category = expected[image]
        assert label[-1] == f"{category:05d} {category if hidden else TAXA[category][2]}"
        if year != "2019":
            assert label[:-1] == (TAXA[category][0],)
    assert rows.splits[:11] == ["train"] * 11
    data_set = DATASETS.build({"type": "INaturalist", "data_root": str(tmp_path), "year": year, "levels": levels})
    assert data_set.taxonomy.num_nodes("species") == 5
    assert data_set.taxonomy.decode(data_set.labels[0]) == rows.labels[0]
    assert data_set.image_paths[0] == str(tmp_path / rows.images[0])


@pytest.mark.parametrize("year", ["2018", "2019"])
def test_made_up_names_are_replaced(tmp_path, year):
    write_inaturalist(tmp_path, year)
    made_up = read_inaturalist(str(tmp_path), year, "full")
    write_real_names(tmp_path, year)
    real = read_inaturalist(str(tmp_path), year, "full")
    assert real.level_names == (*RANKS, "species")
    assert real.labels[0] == (*TAXA[0][1], "00000 Oenanthe oenanthe")
    assert real.labels[10] == (*TAXA[4][1], "00004 Daucus carota")
    assert re.fullmatch("[A-Z]{6}", made_up.labels[0][0])
    for depth in range(1, 8):  # one tree, whatever the names
        pairs = {(a[:depth], b[:depth]) for a, b in zip(made_up.labels, real.labels, strict=True)}
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def test_names_of_another_year_are_refused(tmp_path):
    write_inaturalist(tmp_path, "2018")
    path = write_real_names(tmp_path, "2018")
    path.write_text(json.dumps(categories("2018", obfuscated=False)[:3]))
    with pytest.raises(ValueError, match=r"has 3 categories, 3 of the 5 of .*train2018.json; it must have the same"):
        read_inaturalist(str(tmp_path), "2018")
    path.write_text("[")
    with pytest.raises(ValueError, match=r"categories.json:1: no JSON: .*unpack categories.json.tar.gz anew"):
        read_inaturalist(str(tmp_path), "2018")
    path.write_text('"x"')
    with pytest.raises(ValueError, match=r"categories.json: the file must be a list of categories"):
        read_inaturalist(str(tmp_path), "2018")


def test_homonyms_are_different_nodes(tmp_path):
    write_inaturalist(tmp_path, "2021")
    above = [" ".join(TAXA[i][1][:5]) for i in (0, 3)]
    rows = read_inaturalist(str(tmp_path), "2021", "genus")
    assert {label[0] for label in rows.labels} == {
        f"Oenanthe ({above[0]})",
        "Turdus",
        f"Oenanthe ({above[1]})",
        "Daucus",
    }
    full = read_inaturalist(str(tmp_path), "2021", "full")
    assert {label[5] for label in full.labels} == {"Oenanthe", "Turdus", "Daucus"}
    assert len({label[:6] for label in full.labels}) == 4
    some = read_inaturalist(str(tmp_path), "2021", ("kingdom", "genus", "species"))
    assert some.labels[0] == ("Animalia", "Oenanthe", "00000 Oenanthe oenanthe")


def test_genus_of_2017_is_the_first_word(tmp_path):
    write_inaturalist(tmp_path, "2017")
    rows = read_inaturalist(str(tmp_path), "2017", "genus")
    assert rows.level_names == ("genus", "species")
    genera = dict.fromkeys(label[0] for label in rows.labels)
    assert list(genera) == ["Oenanthe (Aves)", "Turdus", "Oenanthe (Plantae)", "Daucus"]
    with pytest.raises(
        ValueError, match=r"iNaturalist 2017 have no field 'kingdom': category 0 is .*choose other levels"
    ):
        read_inaturalist(str(tmp_path), "2017", "full")
    write_inaturalist(tmp_path, "2019")
    with pytest.raises(ValueError, match="iNaturalist 2019 have no field 'supercategory'"):
        read_inaturalist(str(tmp_path), "2019", "super")


def queries(rows):
    return {image for image, split in zip(rows.images, rows.splits, strict=True) if split == "query"}


def test_drawn_queries(tmp_path):
    data = write_inaturalist(tmp_path, val=(10, 4, 5, 6, 20))
    rows = read_inaturalist(str(tmp_path))
    drawn = queries(rows)
    species = category_names(data)
    assert Counter(species[image] for image in drawn) == {0: 2, 2: 1, 3: 1, 4: 4}  # floor(0.2 n); 4 * 0.2 < 1
    assert queries(read_inaturalist(str(tmp_path))) == drawn
    assert queries(read_inaturalist(str(tmp_path), query_seed=1)) != drawn
    half = queries(read_inaturalist(str(tmp_path), query_share=0.5))
    assert Counter(species[image] for image in half) == {0: 5, 1: 2, 2: 2, 3: 3, 4: 10}
    path = tmp_path / "val2017.json"  # the draw does not depend on the order of the file
    content = json.loads(path.read_text())
    content["images"].reverse()
    path.write_text(json.dumps(content))
    assert queries(read_inaturalist(str(tmp_path))) == drawn
    for name, number in (("train", 11), ("query", 8), ("gallery", 37)):
        assert len(INaturalist(data_root=str(tmp_path), split=name, check_files=False)) == number


def test_every_image_is_equally_likely_a_query(tmp_path):
    write_inaturalist(tmp_path, val=(10, 0, 0, 0, 0))
    counts = Counter()
    for seed in range(200):
        counts.update(queries(read_inaturalist(str(tmp_path), query_seed=seed)))
    assert len(counts) == 10
    assert all(20 <= count <= 62 for count in counts.values())  # 40 expected, deviation 5.7


def test_listed_queries(tmp_path):
    data = write_inaturalist(tmp_path)
    names = [image["file_name"] for image in data[1]["images"]]
    (tmp_path / "queries.txt").write_text("\n".join(names[3:7]))
    rows = read_inaturalist(str(tmp_path), query_file="queries.txt")
    assert queries(rows) == set(names[3:7])
    assert rows.splits.count("gallery") == len(names) - 4
    (tmp_path / "queries.txt").write_text(f"{names[0]}\n{names[0]}\n")
    with pytest.raises(ValueError, match=r"queries.txt:2: .* is listed twice; list every query once"):
        read_inaturalist(str(tmp_path), query_file=str(tmp_path / "queries.txt"))
    (tmp_path / "queries.txt").write_text(f"\n{data[0]['images'][0]['file_name']}\n")
    with pytest.raises(ValueError, match=r"queries.txt:2: .* is no image of .*val2017.json; list validation images"):
        read_inaturalist(str(tmp_path), query_file="queries.txt")


def test_official_splits(tmp_path):
    data = write_inaturalist(tmp_path)
    rows = read_inaturalist(str(tmp_path), splits="official")
    assert Counter(rows.splits) == {"train": 11, "val": 27}
    assert rows.images[11:] == [image["file_name"] for image in data[1]["images"]]


def test_splits_for_metric_learning(tmp_path):
    data = write_inaturalist(tmp_path, "2018")
    with pytest.raises(
        ValueError, match=r"no split for metric learning .*Inaturalist_train_set1.txt.*get Inat_dataset"
    ):
        read_inaturalist(str(tmp_path), "2018", splits="dml")
    train, test = write_dml(tmp_path, data)
    rows = read_inaturalist(str(tmp_path), "2018", splits="dml")
    assert rows.images == train + test
    assert rows.splits == ["train"] * len(train) + ["test"] * len(test)
    species = category_names(data)
    assert [label[1] for label in rows.labels] == [f"{species[image]:05d} {species[image]}" for image in rows.images]
    path = tmp_path / "Inat_dataset_splits/Inaturalist_test_set1.txt"
    before = path.read_text()
    path.write_text(before + "train_val2018/Aves/0/none.jpg\n")
    with pytest.raises(
        ValueError, match=rf"test_set1.txt:{len(test) + 1}: 'train_val2018/Aves/0/none.jpg' is no image"
    ):
        read_inaturalist(str(tmp_path), "2018", splits="dml")
    path.write_text(before + f"\n{test[0]}\n")
    with pytest.raises(ValueError, match=rf"test_set1.txt:{len(test) + 2}: '{test[0]}' is listed twice; list every"):
        read_inaturalist(str(tmp_path), "2018", splits="dml")
    path.write_text(before + f"{train[0]}\n")
    with pytest.raises(ValueError, match=r"test_set1.txt:\d+: the species .* is in Inaturalist_train_set1.txt too"):
        read_inaturalist(str(tmp_path), "2018", splits="dml")


@pytest.mark.parametrize("folder", ["", "annotations", "train_val2017", "2017", "2017/annotations"])
def test_layouts(tmp_path, folder):
    write_inaturalist(tmp_path, folder=folder, with_images=True)
    data = INaturalist(data_root=str(tmp_path))  # looks whether the images are there
    assert data.image_paths[0].startswith(f"{tmp_path}/train_val_images/Aves/Oenanthe oenanthe/")


def test_images_above_the_root_are_not_taken(tmp_path):
    write_inaturalist(tmp_path, with_images=True)
    write_inaturalist(tmp_path / "inner")
    rows = read_inaturalist(str(tmp_path / "inner"))
    assert rows.root == str(tmp_path / "inner")


def test_files_of_another_release(tmp_path):
    write_inaturalist(tmp_path)
    edit(tmp_path, lambda data: data["categories"][1].update(name="Turdus philomelos"), "val2017.json")
    with pytest.raises(ValueError, match=r"category 1 is .*Turdus merula.* in .*train2017.json but .*philomelos"):
        read_inaturalist(str(tmp_path))


def edit(root, change, name="train2017.json"):
    path = root / name
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


WRONG = {  # what is done to the training file -> the message
    "no list": (
        lambda data: data.pop("annotations"),
        ": there is no list 'annotations'; the training and validation files have images, annotations and categories, "
        "the test files have no labels",
    ),
    "no id": (lambda data: data["images"][2].pop("id"), ": images: record 3 must be an object with 'id', an integer"),
    "text id": (lambda data: data["images"][2].update(id="2"), ": images: record 3 must be an object with 'id'"),
    "no object": (lambda data: data["images"].append([]), ": images: record 12 must be an object with 'id'"),
    "file name": (
        lambda data: data["images"][0].update(file_name=None),
        ": images: record 1 must be an object with 'f",
    ),
    "same id": (
        lambda data: data["images"][4].update(id=1),
        ": images: record 5 has the id 1, as an earlier one; every",
    ),
    "twice": (
        lambda data: data["images"][4].update(file_name=data["images"][0]["file_name"]),
        ": images: record 5 has the file_name 'train_val_images/Aves",
    ),
    "leaves": (
        lambda data: data["images"][4].update(file_name="train_val_images/../../x.jpg"),
        ": images: record 5 has the file_name 'train_val_images/../../x.jpg', which must not be absolute, hold '..' or "
        "a backslash; it is damaged",
    ),
    "several annotations": (
        lambda data: data["annotations"].append({"id": 99, "image_id": 0, "category_id": 1}),
        ": annotations: record 12 is a further one of the image 0; every image must have one",
    ),
    "unknown image": (
        lambda data: data["annotations"][1].update(image_id=77),
        ": annotations: record 2 has the unknown image_id 77",
    ),
    "unknown category": (
        lambda data: data["annotations"][1].update(category_id=77),
        ": annotations: record 2 has the unknown category_id 77",
    ),
    "no annotation": (
        lambda data: data["annotations"].pop(),
        ": images: 1 of 11 have no annotation, record 1 (id 0) the first",
    ),
    "same category": (
        lambda data: data["categories"][1].update(id=0),
        ": categories: record 2 has the id 0, as an earlier one; every category must have its own",
    ),
    "no field": (
        lambda data: data["categories"][1].pop("supercategory"),
        ": categories: record 2 must be an object with 'supercategory', a string",
    ),
    "empty name": (
        lambda data: data["categories"][1].update(name=" "),
        ": categories: record 2 (id 1) has an empty name",
    ),
}


@pytest.mark.parametrize("fault", WRONG)
def test_wrong_file(tmp_path, fault):
    change, message = WRONG[fault]
    write_inaturalist(tmp_path)
    edit(tmp_path, change)
    with pytest.raises(ValueError, match=r"train2017\.json.*" + re.escape(message)):
        read_inaturalist(str(tmp_path))


def test_an_image_of_both_files(tmp_path):
    train, _ = write_inaturalist(tmp_path)
    name = train["images"][2]["file_name"]
    edit(tmp_path, lambda data: data["images"][3].update(file_name=name), "val2017.json")
    message = (
        rf"val2017\.json: images: record 4 has the file_name '{name}' of .*train2017\.json: images: record 3; every"
    )
    with pytest.raises(ValueError, match=message):
        read_inaturalist(str(tmp_path))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated_download(tmp_path, share):
    write_inaturalist(tmp_path)
    path = tmp_path / "train2017.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text[: int(share * len(text))], encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"train2017.json:1: no JSON: .* the file is truncated; it is damaged or not the official"
    ):
        read_inaturalist(str(tmp_path))


def test_every_cut_is_a_message(tmp_path):
    write_inaturalist(tmp_path, train=(1, 0, 0, 0, 0))
    path = tmp_path / "train2017.json"
    text = path.read_text(encoding="utf-8")
    for length in range(0, len(text), 7):
        path.write_text(text[:length], encoding="utf-8")
        with pytest.raises(ValueError, match=r"train2017.json:1: no JSON: .* the file is truncated"):
            read_inaturalist(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "<html>\n<body>Not found</body>",
            ":1: no JSON: Expecting value at column 1; it is damaged or not the",
        ),
        ('{"images": [],\n "a" 1}', ":2: no JSON: Expecting ':' delimiter at column 6; it is damaged"),
        ("[]", ": the file must be a JSON object; it is a list"),
        ("[" * 100_000, ": no JSON: it is nested too deeply"),
    ],
)
def test_no_annotations(tmp_path, text, message):
    write_inaturalist(tmp_path)
    (tmp_path / "train2017.json").write_text(text)
    with pytest.raises(ValueError, match=re.escape(f"train2017.json{message}")):
        read_inaturalist(str(tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"year": "2020"}, "year must be '2017', '2018', '2019', '2021' or '2021_mini'; it is '2020'"),
        ({"levels": "deep"}, "levels must be 'full', 'super', 'genus' or some of"),
        (
            {"levels": ("genus", "family", "species")},
            "in this order, 'species' last; they are ('genus', 'family', 'spe",
        ),
        ({"levels": ("family", "genus")}, "'species' last; they are ('family', 'genus')"),
        ({"splits": "dml"}, "splits must be 'retrieval', 'official' or, for 2018, 'dml'; it is 'dml' for 2017"),
        ({"splits": "none"}, "splits must be 'retrieval', 'official' or, for 2018, 'dml'; it is 'none'"),
        ({"query_share": 20}, "query_share must be between 0 and 1; it is 20"),
        ({"query_file": "a", "splits": "official"}, "query_file is for splits='retrieval' alone"),
    ],
)
def test_wrong_options(tmp_path, options, message):
    write_inaturalist(tmp_path)
    with pytest.raises(ValueError, match=re.escape(message)):
        INaturalist(data_root=str(tmp_path), **options)


def test_missing_file_says_what_to_download(tmp_path):
    write_inaturalist(tmp_path)
    (tmp_path / "val2017.json").unlink()
    with pytest.raises(ValueError, match=r"no iNaturalist 2017 .*val2017.json.*download the annotations from https"):
        read_inaturalist(str(tmp_path))
