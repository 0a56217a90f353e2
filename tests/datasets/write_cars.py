"""Writes a small Cars-196 in the three layouts in which it is met."""

import csv
from pathlib import Path

import numpy as np
from scipy.io import savemat

from tests.datasets.trees import write_image

CARS = {  # class number -> name; on both sides of the border of the retrieval protocol
    1: "AM General Hummer SUV 2000",
    2: "Acura Integra Type R 2001",
    98: "Ferrari California Convertible 2012",
    99: "Land Rover LR2 SUV 2012",
    150: "Ram C/V Cargo Van Minivan 2012",
    196: "smart fortwo Convertible 2012",
}
LAYOUTS = ("single", "devkit", "csv")


def class_names():
    """Returns the names of the 196 classes; those without images are made up."""
    return [CARS.get(number, f"Maker{number} Model Sedan 2012") for number in range(1, 197)]


def write_cars(root, layout, repeated=False):
    """Writes two training images and one test image of every class of ``CARS``.

    Args:
        root: The folder to write to.
        layout: One of ``LAYOUTS``.
        repeated: Whether the folders of images are repeated in themselves, as in some copies.

    Returns:
        A list of (image below ``root``, class number, official split).
    """
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    names = class_names()
    records = []
    rows = {"train": [], "test": []}
    for split, count in (("train", 2), ("test", 1)):
        for number in [number for _ in range(count) for number in CARS]:
            file = f"{len(rows[split]) + 1:05d}.jpg"  # the same names in both folders
            if layout == "single":
                file = f"{len(records) + 1:06d}.jpg"
                image = f"car_ims/{file}"
            elif layout == "devkit":
                image = f"cars_{split}/{f'cars_{split}/' if repeated else ''}{file}"
            else:
                folder = names[number - 1].replace("/", "-")
                image = f"car_data/{'car_data/' if repeated else ''}{split}/{folder}/{file}"
            write_image(root / image, (number, 0, 255 * (split == "test")), size=(16, 12))
            records.append((image, number, split))
            rows[split].append((file, number))
    if layout == "csv":
        with open(root / "names.csv", "w", newline="") as file:
            csv.writer(file).writerows([name] for name in names)
        for split, of_split in rows.items():
            with open(root / f"anno_{split}.csv", "w", newline="") as file:
                csv.writer(file).writerows((name, 1, 2, 15, 11, number) for name, number in of_split)
        return records
    cells = np.array(names, dtype=object)[None]
    if layout == "single":
        annotations = [
            {"relative_im_path": image, **_box(), "class": number, "test": int(split == "test")}
            for image, number, split in records
        ]
        savemat(root / "cars_annos.mat", {"annotations": structs(annotations), "class_names": cells})
        return records
    (root / "devkit").mkdir()
    savemat(root / "devkit/cars_meta.mat", {"class_names": cells})
    annotations = {
        split: [{**_box(), "class": number, "fname": name} for name, number in of_split]
        for split, of_split in rows.items()
    }
    savemat(root / "devkit/cars_train_annos.mat", {"annotations": structs(annotations["train"])})
    savemat(root / "cars_test_annos_withlabels.mat", {"annotations": structs(annotations["test"])})
    unlabelled = [{key: value for key, value in row.items() if key != "class"} for row in annotations["test"]]
    savemat(root / "devkit/cars_test_annos.mat", {"annotations": structs(unlabelled)})
    return records


def structs(rows):
    """Returns a MATLAB array of structs, 1 x N."""
    array = np.empty((1, len(rows)), dtype=[(field, object) for field in rows[0]])
    for i, row in enumerate(rows):
        for field, value in row.items():
            array[0, i][field] = value if isinstance(value, str) else np.uint8(value)
    return array


def _box():
    return {"bbox_x1": 1, "bbox_y1": 2, "bbox_x2": 15, "bbox_y2": 11}


CONFIG_TREES = {"Cars196": lambda root: write_cars(root, "devkit")}
