import re
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from hierpretrain.datasets import Cars196, read_cars
from hierpretrain.datasets.cars import body_type, make
from hierpretrain.registry import DATASETS
from tests.datasets.write_cars import CARS, LAYOUTS, structs, write_cars


@pytest.fixture(scope="module", params=LAYOUTS)
def tree(request, tmp_path_factory):
    root = tmp_path_factory.mktemp(request.param)
    return str(root), write_cars(root, request.param)


# ---------------------------------------------------------------- splits and levels
def test_retrieval_divides_the_classes(tree):
    root, records = tree
    for split, numbers in {"train": range(1, 99), "test": range(99, 197)}.items():
        data = Cars196(data_root=root, split=split)
        expected = [(image, CARS[number]) for image, number, _ in records if number in numbers]
        assert data.image_paths == [f"{root}/{image}" for image, _ in expected]
        assert [data.taxonomy.decode(row)[-1] for row in data.labels] == [name for _, name in expected]
    assert type(DATASETS.build({"type": "Cars196", "data_root": root})) is Cars196


def test_classification_is_the_official_split(tree):
    root, records = tree
    for split in ("train", "test"):
        data = Cars196(data_root=root, split=split, protocol="classification", pipeline=[{"type": "LoadRGB"}])
        expected = [(image, number) for image, number, tag in records if tag == split]
        assert data.image_paths == [f"{root}/{image}" for image, _ in expected]
        # file names repeat across the folders; the pictures tell which was opened
        for i, (_, number) in enumerate(expected):
            pixel = np.asarray(data[i]["img"])[5, 5].astype(int)
            assert np.abs(pixel - (number, 0, 255 * (split == "test"))).max() <= 6


def test_levels(tree):
    root, _ = tree
    names = {1: ("SUV", "AM General"), 2: ("other", "Acura"), 98: ("Convertible", "Ferrari"), 99: ("SUV", "Land Rover")}
    names |= {150: ("Minivan", "Ram"), 196: ("Convertible", "smart")}
    for levels in (("body", "car"), ("make", "car"), ("car",), ("make", "body", "car")):
        data = Cars196(data_root=root, levels=levels)
        assert data.taxonomy.level_names == levels
        expected = {
            tuple({"body": names[number][0], "make": names[number][1], "car": name}[level] for level in levels)
            for number, name in CARS.items()
        }
        assert {data.taxonomy.decode(row) for row in data.labels} == expected
    assert Cars196(data_root=root, levels="car").taxonomy.level_names == ("car",)


@pytest.mark.parametrize(
    ("name", "body", "maker"),
    [
        ("AM General Hummer SUV 2000", "SUV", "AM General"),
        ("Acura TL Type-S 2008", "other", "Acura"),
        ("Aston Martin V8 Vantage Convertible 2012", "Convertible", "Aston Martin"),
        ("Bentley Continental Supersports Conv. Convertible 2012", "Convertible", "Bentley"),
        ("Chevrolet Express Cargo Van 2007", "Van", "Chevrolet"),
        ("Chevrolet Silverado 1500 Extended Cab 2012", "Pickup", "Chevrolet"),
        ("Dodge Caliber Wagon 2012", "Wagon", "Dodge"),
        ("Dodge Ram Pickup 3500 Crew Cab 2010", "Pickup", "Dodge"),
        ("Ford E-Series Wagon Van 2012", "Van", "Ford"),
        ("Honda Odyssey Minivan 2012", "Minivan", "Honda"),
        ("Infiniti G Coupe IPL 2012", "Coupe", "Infiniti"),
        ("Land Rover Range Rover SUV 2012", "SUV", "Land Rover"),
        ("Mercedes-Benz 300-Class Convertible 1993", "Convertible", "Mercedes-Benz"),
        ("Nissan Leaf Hatchback 2012", "Hatchback", "Nissan"),
        ("Ram C/V Cargo Van Minivan 2012", "Minivan", "Ram"),
        ("Rolls-Royce Phantom Drophead Coupe Convertible 2012", "Convertible", "Rolls-Royce"),
        ("Tesla Model S Sedan 2012", "Sedan", "Tesla"),
    ],
)
def test_body_type_and_make(name, body, maker):
    assert body_type(name) == body
    assert make(name) == maker


def test_wrong_options(tree):
    root, _ = tree
    with pytest.raises(ValueError, match="protocol must be 'retrieval' or 'classification'; it is 'zeroshot'"):
        Cars196(data_root=root, protocol="zeroshot")
    for levels in ((), ("car", "body"), ("body",), ("body", "body", "car"), ("year", "car")):
        with pytest.raises(ValueError, match=r"levels must be 'car' after any of 'body' and 'make', each at most once"):
            Cars196(data_root=root, levels=levels)
    with pytest.raises(ValueError, match=r"layout must be 'auto', 'single', 'devkit' or 'csv'; it is 'mat'"):
        Cars196(data_root=root, layout="mat")


# ---------------------------------------------------------------- layouts
@pytest.mark.parametrize("layout", ["devkit", "csv"])
def test_repeated_folders(tmp_path, layout):
    records = write_cars(tmp_path, layout, repeated=True)
    paths = Cars196(data_root=str(tmp_path), protocol="classification").image_paths
    assert paths == [f"{tmp_path}/{image}" for image, _, _ in records]


def test_slash_in_a_class_name(tmp_path):
    records = write_cars(tmp_path, "csv")
    assert any("Ram C-V Cargo Van Minivan 2012/" in image for image, _, _ in records)
    data = Cars196(data_root=str(tmp_path), split="test")
    assert "Ram C/V Cargo Van Minivan 2012" in {data.taxonomy.decode(row)[-1] for row in data.labels}


def test_labels_of_the_test_images(tmp_path):
    write_cars(tmp_path, "devkit")
    labelled = tmp_path / "cars_test_annos_withlabels.mat"
    labels = Cars196(data_root=str(tmp_path)).labels
    labelled.rename(tmp_path / "devkit" / labelled.name)
    assert (Cars196(data_root=str(tmp_path)).labels == labels).all()
    (tmp_path / "devkit" / labelled.name).unlink()
    with pytest.raises(
        ValueError, match=r"withlabels\.mat is at none of .*, .*devkit/.*; get it \(cars_test_annos.mat"
    ):
        Cars196(data_root=str(tmp_path))
    (tmp_path / "devkit/cars_test_annos.mat").rename(labelled)
    with pytest.raises(ValueError, match=r"the annotations have no field 'class' but .*; get the file with the labels"):
        Cars196(data_root=str(tmp_path))


def test_a_layout_can_be_chosen(tmp_path):
    expected = {layout: {f"{tmp_path}/{image}" for image, _, _ in write_cars(tmp_path, layout)} for layout in LAYOUTS}
    assert set(Cars196(data_root=str(tmp_path)).image_paths) == expected["single"]
    for layout in LAYOUTS:
        assert set(Cars196(data_root=str(tmp_path), layout=layout).image_paths) == expected[layout]


def test_missing(tmp_path):
    with pytest.raises(
        ValueError, match=r"no Cars-196 annotations are at .*cars_annos.mat, .*cars_meta.mat, .*names.csv"
    ):
        Cars196(data_root=str(tmp_path))
    records = write_cars(tmp_path, "csv")
    with pytest.raises(
        ValueError, match=r"no Cars-196 annotations are at .*/cars_annos\.mat; the official site is gone"
    ):
        Cars196(data_root=str(tmp_path), layout="single")
    Path(tmp_path, records[0][0]).unlink()
    with pytest.raises(
        ValueError, match=r"1 of 18 images are missing below .*: 'car_data/train/AM General Hummer SUV 2"
    ):
        Cars196(data_root=str(tmp_path))


# ---------------------------------------------------------------- damaged files
def test_one_record(tmp_path):
    names = np.array(["Audi TTS Coupe 2012", "BMW M3 Coupe 2012"], dtype=object)[None]
    row = {"relative_im_path": "car_ims/000001.jpg", "class": 2, "test": 0}
    savemat(tmp_path / "cars_annos.mat", {"annotations": structs([row]), "class_names": names})
    rows = read_cars(str(tmp_path))
    assert (rows.images, rows.labels) == (["car_ims/000001.jpg"], [("Coupe", "BMW M3 Coupe 2012")])


@pytest.mark.parametrize("size", [0, 10, 130, 400])
def test_truncated_mat(tmp_path, size):
    write_cars(tmp_path, "single")
    path = tmp_path / "cars_annos.mat"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"MATLAB file .*cars_annos\.mat"):
        Cars196(data_root=str(tmp_path))


def test_wrong_variables(tmp_path):
    write_cars(tmp_path, "single")
    path = tmp_path / "cars_annos.mat"
    mat = {key: value for key, value in loadmat(path).items() if not key.startswith("_")}
    savemat(path, {"annotations": mat["annotations"]})
    with pytest.raises(ValueError, match=r"cars_annos\.mat has no variable 'class_names'; get it anew"):
        Cars196(data_root=str(tmp_path))
    savemat(path, {"annotations": mat["annotations"], "class_names": mat["class_names"][:, :150]})
    with pytest.raises(ValueError, match=r"cars_annos\.mat: record 6: the class must be 1 to 150; it is 196; get"):
        Cars196(data_root=str(tmp_path))
    mat["class_names"][0, 3] = mat["class_names"][0, 2]
    savemat(path, mat)
    with pytest.raises(
        ValueError, match=r"cars_annos\.mat: classes must have different names; 'Maker3 Model Sedan 2012' "
    ):
        Cars196(data_root=str(tmp_path))


@pytest.mark.parametrize("field", ["relative_im_path", "class"])
def test_wrong_fields(tmp_path, field):
    write_cars(tmp_path, "single")
    row = {"relative_im_path": "car_ims/000001.jpg", "class": 2, "test": 0}
    rows = [row, row | {field: 7 if field == "relative_im_path" else "2"}]
    names = loadmat(tmp_path / "cars_annos.mat")["class_names"]
    savemat(tmp_path / "cars_annos.mat", {"annotations": structs(rows), "class_names": names})
    with pytest.raises(ValueError, match=r"record 2: .* must be a text and whole numbers; they are"):
        Cars196(data_root=str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("00001.jpg,1,2,15,11,one\n", "anno_train.csv:1: a line is the file's name, four corners and the class, not ["),
        ("00001.jpg,1,2,15,11\n", "anno_train.csv:1: a line is the file's name, four corners and the class, not ["),
        ("00001.jpg,1,2,15,11,0\n", "anno_train.csv:1: the class must be 1 to 196; it is 0; get the file anew"),
        ("00001.jpg,1,2,15,11,1\n1,2\n", "anno_train.csv:2: the line has 2 fields"),
        ("../../../x.jpg,1,2,15,11,1\n", "which must not be absolute, hold '..'"),
        ("00001.jpg,1,2,15,11,1\n00001.jpg,1,2,15,11,1\n", "lists 1 images more than once"),
    ],
)
def test_wrong_csv(tmp_path, text, message):
    write_cars(tmp_path, "csv")
    (tmp_path / "anno_train.csv").write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        Cars196(data_root=str(tmp_path))
