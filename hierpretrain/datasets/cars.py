"""Cars-196: the car below its body type or its make, both read from the class's name."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hierpretrain._texts import short
from hierpretrain.checks import check_one_of
from hierpretrain.datasets.annotations import Annotations
from hierpretrain.datasets.base import HierarchicalDataset
from hierpretrain.datasets.matlab import read_mat
from hierpretrain.datasets.text_files import csv_rows
from hierpretrain.registry import DATASETS

_LAST_TRAINING_CLASS = 98  # of the retrieval protocol
_BODIES = {
    **{word: word for word in ("Sedan", "SUV", "Coupe", "Convertible", "Hatchback", "Wagon", "Van", "Minivan")},
    "Cab": "Pickup",
}
_MAKES_OF_TWO_WORDS = ("AM General", "Aston Martin", "Land Rover")
_LISTS = "names.csv, anno_train.csv and anno_test.csv, or cars_annos.mat, or cars_meta.mat and cars_*_annos*.mat"
_LEVELS = ("body", "make", "car")
_REMEDY = (
    "the official site is gone; get a copy in one of these layouts: cars_annos.mat and car_ims/; or devkit/, "
    "cars_test_annos_withlabels.mat, cars_train/ and cars_test/; or names.csv, anno_train.csv, anno_test.csv and "
    "car_data/"
)


def body_type(name: str) -> str:
    """Returns the body type that a class's name tells, or ``'other'``.

    It is the last word that names one, of Sedan, SUV, Coupe, Convertible, Hatchback, Wagon, Van, Minivan, and Cab
    (Crew Cab, Extended Cab, ...), which is a Pickup.

    Example:
        >>> body_type("Ram C/V Cargo Van Minivan 2012"), body_type("Infiniti G Coupe IPL 2012")
        ('Minivan', 'Coupe')
        >>> body_type("GMC Canyon Extended Cab 2012"), body_type("Chevrolet Corvette ZR1 2012")
        ('Pickup', 'other')
    """
    return next((_BODIES[word] for word in reversed(name.split()) if word in _BODIES), "other")


def make(name: str) -> str:
    """Returns the make: the first word of a class's name, or the first two where they are one.

    Example:
        >>> make("Audi TTS Coupe 2012"), make("Land Rover LR2 SUV 2012")
        ('Audi', 'Land Rover')
    """
    return next((two for two in _MAKES_OF_TWO_WORDS if name.startswith(f"{two} ")), name.split()[0])


def read_cars(
    root: str, protocol: str = "retrieval", levels: Sequence[str] = ("body", "car"), layout: str = "auto"
) -> Annotations:
    """Reads Cars-196 in any of the three layouts in which it is met.

    ======== ============================================================= ============================================
    layout   annotations                                                   images
    ======== ============================================================= ============================================
    'single' ``cars_annos.mat``                                            ``car_ims/000001.jpg``
    'devkit' ``devkit/cars_meta.mat``, ``devkit/cars_train_annos.mat``,    ``cars_train/00001.jpg``,
             ``cars_test_annos_withlabels.mat``, there or in ``devkit``    ``cars_test/00001.jpg``
    'csv'    ``names.csv``, ``anno_train.csv``, ``anno_test.csv``          ``car_data/car_data/train/<class>/00001.jpg``
    ======== ============================================================= ============================================

    Repeated folders (``cars_train/cars_train``, or ``car_data`` once) are found too. In the layout ``'csv'`` a slash
    in a class's name is a hyphen in its folder's name.

    Args:
        root: The folder that holds these files.
        protocol: ``'retrieval'``, classes 1 to 98 in split ``'train'`` and 99 to 196 in ``'test'`` (each image of which
            is a query to all others); or ``'classification'``, the official split, every class in both.
        levels: ``'car'``, the class, after any of ``'body'`` (:func:`body_type`) and ``'make'`` (:func:`make`), the
            coarsest first.
        layout: ``'single'``, ``'devkit'``, ``'csv'``, or ``'auto'``: the first of them that is there.

    Returns:
        Splits ``'train'`` and ``'test'``.

    Raises:
        ValueError: With file and record, if the annotations are missing, damaged or not as published.
    """
    check_one_of("protocol", protocol, ("retrieval", "classification"))
    levels = (levels,) if isinstance(levels, str) else tuple(levels)
    if levels[-1:] != ("car",) or len(set(levels)) < len(levels) or not set(levels) <= set(_LEVELS):
        raise ValueError(f"levels must be 'car' after any of 'body' and 'make', each at most once; they are {levels!r}")
    names, cars = _read_layout(root, layout)
    images, labels, splits = [], [], []
    for car in cars:
        if not 1 <= car.number <= len(names):
            raise ValueError(
                f"{car.where}: the class must be 1 to {len(names)}; it is {car.number}; get the file anew, "
                f"or the names of the classes, names.csv or cars_meta.mat"
            )
        name = names[car.number - 1]
        of_level = {"body": body_type(name), "make": make(name), "car": name}
        in_training = car.number <= _LAST_TRAINING_CLASS if protocol == "retrieval" else car.split == "train"
        images.append(car.image)
        labels.append(tuple(of_level[level] for level in levels))
        splits.append("train" if in_training else "test")
    return Annotations(images, labels, splits, levels, root, source=f"Cars-196 at {root!r}", lists=_LISTS)


@dataclass(frozen=True)
class _Car:
    """A record: the image below the root, the class from 1, the official split and where the record is."""

    image: str
    number: int
    split: str
    where: str


def _read_layout(root: str, layout: str) -> tuple[list[str], Iterator[_Car]]:
    """Returns the names of the classes, and the records."""
    layouts = {
        "single": ("cars_annos.mat", _single),
        "devkit": ("devkit/cars_meta.mat", _devkit),
        "csv": ("names.csv", _csv),
    }
    check_one_of("layout", layout, ("auto", *layouts))
    chosen = layouts if layout == "auto" else {layout: layouts[layout]}
    for mark, reader in chosen.values():
        if os.path.isfile(os.path.join(root, mark)):
            names, cars = reader(root)
            counts = Counter(names)
            if wrong := [name for name in names if not name or counts[name] > 1]:
                raise ValueError(
                    f"{os.path.join(root, mark)}: classes must have different names; {short(wrong[0])} is one; "
                    "get it anew"
                )
            return names, cars
    marks = ", ".join(os.path.join(root, mark) for mark, _ in chosen.values())
    raise ValueError(f"no Cars-196 annotations are at {marks}; {_REMEDY}; or correct data_root")


def _single(root: str) -> tuple[list[str], Iterator[_Car]]:
    path = os.path.join(root, "cars_annos.mat")
    variables = read_mat(path)

    def cars() -> Iterator[_Car]:
        rows = _records(path, variables, ("relative_im_path", "class", "test"))
        for number, (image, car, test) in enumerate(rows, start=1):
            yield _Car(str(image), int(car), "test" if int(test) else "train", f"{path}: record {number}")

    return _names(path, variables), cars()


def _devkit(root: str) -> tuple[list[str], Iterator[_Car]]:
    meta = os.path.join(root, "devkit/cars_meta.mat")
    names = _names(meta, read_mat(meta))

    def cars() -> Iterator[_Car]:
        for split, file in (("train", "cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
            paths = [os.path.join(root, file), os.path.join(root, "devkit", file)]
            path = next((path for path in paths if os.path.isfile(path)), "")
            if not path:
                raise ValueError(
                    f"{file} is at none of {', '.join(paths)}; get it (cars_test_annos.mat is without the labels)"
                )
            folder = _image_folder(root, (f"cars_{split}/cars_{split}", f"cars_{split}"))
            rows = _records(path, read_mat(path), ("fname", "class"))
            for number, (image, car) in enumerate(rows, start=1):
                yield _Car(f"{folder}/{image}", int(car), split, f"{path}: record {number}")

    return names, cars()


def _csv(root: str) -> tuple[list[str], Iterator[_Car]]:
    names = [row[0].strip() for _, row in csv_rows(os.path.join(root, "names.csv"))]

    def cars() -> Iterator[_Car]:
        for split in ("train", "test"):
            path = os.path.join(root, f"anno_{split}.csv")
            folder = _image_folder(root, (f"car_data/car_data/{split}", f"car_data/{split}", split))
            for number, row in csv_rows(path):
                where = f"{path}:{number}"
                if len(row) != 6 or not row[5].strip().isdecimal():
                    raise ValueError(f"{where}: a line is the file's name, four corners and the class, not {row}")
                car = int(row[5])
                name = names[car - 1].replace("/", "-") if 1 <= car <= len(names) else ""
                yield _Car(f"{folder}/{name}/{row[0].strip()}", car, split, where)

    return names, cars()


def _image_folder(root: str, folders: Sequence[str]) -> str:
    """Returns the first of the folders that is there; the last one, for the check of files to complain, if none is."""
    return next((folder for folder in folders if os.path.isdir(os.path.join(root, folder))), folders[-1])


# ---------------------------------------------------------------- MATLAB files
def _names(path: str, variables: Mapping[str, Any]) -> list[str]:
    names = _variable(path, variables, "class_names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path}: 'class_names' must be cells of text; get the file anew")
    return [name.strip() for name in names]


def _records(path: str, variables: Mapping[str, Any], fields: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Yields the fields of every struct of ``annotations``: a text, then whole numbers."""
    annotations = _variable(path, variables, "annotations")
    if not isinstance(annotations, list) or not all(isinstance(record, dict) for record in annotations):
        raise ValueError(f"{path}: 'annotations' must be an array of structs; get the file anew")
    if not annotations:
        raise ValueError(f"{path}: 'annotations' has no record; get the file anew")
    for number, record in enumerate(annotations, start=1):
        if missing := [field for field in fields if field not in record]:
            raise ValueError(
                f"{path}: the annotations have no field {missing[0]!r} but {short(list(record))}; get the file with "
                "the labels"
            )
        values = tuple(record[field] for field in fields)
        if not isinstance(values[0], str) or any(value not in range(1000) for value in values[1:]):
            raise ValueError(
                f"{path}: record {number}: {fields} must be a text and whole numbers; they are {short(values)}"
            )
        yield values


def _variable(path: str, variables: Mapping[str, Any], name: str) -> Any:
    if name not in variables:
        raise ValueError(f"the MATLAB file {path} has no variable {name!r}; get it anew")
    return variables[name]


@DATASETS.register_module()
class Cars196(HierarchicalDataset):
    """Cars-196 (Stanford Cars): 16,185 images of 196 cars, see :func:`read_cars`.

    Retrieval: 8,054 images of 98 cars to train, 8,131 of the others to test. Classification: 8,144 and 8,041. The
    images are for non-commercial research only.

    Args:
        data_root: The folder of the annotations and images.
        protocol: ``'retrieval'`` or ``'classification'``.
        levels: ``'car'`` after any of ``'body'`` and ``'make'``, the coarsest first.
        layout: ``'single'``, ``'devkit'``, ``'csv'``, or ``'auto'``: the first of them that is there.
        options: The options of :class:`HierarchicalDataset`; ``split`` is of ``'train'`` and ``'test'``.
    """

    def __init__(
        self,
        *,
        data_root: str,
        protocol: str = "retrieval",
        levels: Sequence[str] = ("body", "car"),
        layout: str = "auto",
        **options: Any,
    ) -> None:
        self.protocol = protocol
        self.levels = levels
        self.layout = layout
        super().__init__(data_root=data_root, **options)

    def read(self) -> Annotations:
        """Reads the annotations."""
        return read_cars(self.data_root, self.protocol, self.levels, self.layout)
