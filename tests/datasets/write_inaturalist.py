"""Writes small iNaturalist data sets in the exact formats of the years."""

import hashlib
import json
import tarfile
from pathlib import Path

from PIL import Image

RANKS = ("kingdom", "phylum", "class", "order", "family", "genus")
TAXA = (  # super-category, ranks, species; Oenanthe is a genus of birds and one of plants
    ("Aves", ("Animalia", "Chordata", "Aves", "Passeriformes", "Muscicapidae", "Oenanthe"), "Oenanthe oenanthe"),
    ("Aves", ("Animalia", "Chordata", "Aves", "Passeriformes", "Turdidae", "Turdus"), "Turdus merula"),
    ("Aves", ("Animalia", "Chordata", "Aves", "Passeriformes", "Turdidae", "Turdus"), "Turdus migratorius"),
    ("Plantae", ("Plantae", "Tracheophyta", "Magnoliopsida", "Apiales", "Apiaceae", "Oenanthe"), "Oenanthe crocata"),
    ("Plantae", ("Plantae", "Tracheophyta", "Magnoliopsida", "Apiales", "Apiaceae", "Daucus"), "Daucus carota"),
)
FILES = {
    "2017": ("train2017.json", "val2017.json"),
    "2018": ("train2018.json", "val2018.json"),
    "2019": ("train2019.json", "val2019.json"),
    "2021": ("train.json", "val.json"),
    "2021_mini": ("train_mini.json", "val.json"),
}


def categories(year, obfuscated=None):
    """The list of categories of a year; 2018 and 2019 have made-up names unless ``obfuscated`` is ``False``."""
    hide = year in ("2018", "2019") if obfuscated is None else obfuscated
    records = []
    for i, (supercategory, ranks, name) in enumerate(TAXA):
        ranks = dict(zip(RANKS, ranks, strict=True))
        record = {"id": i, "name": str(i) if hide else name}
        if year != "2019":
            record["supercategory"] = supercategory
        if year != "2017":
            record |= {rank: _code(rank, value) if hide else value for rank, value in ranks.items()}
        if year.startswith("2021"):
            record |= {
                "common_name": "Some Name",
                "specific_epithet": name.split()[1],
                "image_dir_name": "_".join((f"{i:05d}", *ranks.values(), name.split()[1])),
            }
        records.append(record)
    return records


def _code(rank, value):
    """A made-up name as in 2018: six letters."""
    digest = hashlib.sha256(f"{rank} {value}".encode()).digest()
    return "".join(chr(ord("A") + byte % 26) for byte in digest[:6])


def annotation(year, part, counts):
    """The content of the file of a part (0 training, 1 validation) with so many images of every category."""
    records = categories(year)
    images, annotations = [], []
    for category, number in enumerate(counts):
        for i in range(number):
            digest = hashlib.md5(f"{part} {category} {i}".encode()).hexdigest()
            if year.startswith("2021"):
                top = "val" if part else {"2021": "train", "2021_mini": "train_mini"}[year]
                folder = f"{top}/{records[category]['image_dir_name']}"
            elif year == "2017":
                folder = f"train_val_images/{TAXA[category][0]}/{TAXA[category][2]}"
            else:
                folder = f"train_val{year}/{TAXA[category][0]}/{category}"
            image = {"id": 1000 * part + len(images), "width": 8, "height": 8, "file_name": f"{folder}/{digest}.jpg"}
            images.append(image | {"license": 0, "rights_holder": "Åsa Observer"})
            annotations.append({"id": image["id"], "image_id": image["id"], "category_id": category})
    annotations.reverse()  # the order of the two lists is nobody's promise
    return {
        "info": {"year": year},
        "images": images,
        "categories": records,
        "annotations": annotations,
        "licenses": [{"id": 0}],
    }


def write_inaturalist(root, year="2017", train=(3, 2, 2, 3, 1), val=(10, 4, 5, 6, 2), folder="", with_images=False):
    """Writes the annotation files, and images if asked for; returns the two files' contents."""
    data = [annotation(year, part, counts) for part, counts in enumerate((train, val))]
    Path(root, folder).mkdir(parents=True, exist_ok=True)
    for name, content in zip(FILES[year], data, strict=True):
        Path(root, folder, name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    for image in (*data[0]["images"], *data[1]["images"]) if with_images else ():
        path = Path(root, image["file_name"])
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), "green").save(path)
    return data


def write_real_names(root, year):
    """Writes ``categories.json.tar.gz`` and unpacks it beside the annotations."""
    path = Path(root, "categories.json")
    path.write_text(json.dumps(list(reversed(categories(year, obfuscated=False)))))
    with tarfile.open(f"{path}.tar.gz", "w:gz") as archive:
        archive.add(path, "categories.json")
    return path


def write_dml(root, data, test_categories=(1, 3)):
    """Writes Smooth-AP's lists; returns the training and test image names."""
    category_of = {record["image_id"]: record["category_id"] for content in data for record in content["annotations"]}
    images = [(image["file_name"], category_of[image["id"]]) for content in data for image in content["images"]]
    lists = [
        [name for name, category in reversed(images) if (category in test_categories) == test] for test in (False, True)
    ]
    Path(root, "Inat_dataset_splits").mkdir()
    for tag, names in zip(("train", "test"), lists, strict=True):
        Path(root, f"Inat_dataset_splits/Inaturalist_{tag}_set1.txt").write_text("".join(f"{n}\n" for n in names))
    return lists


CONFIG_TREES = {"INaturalist": lambda root: write_inaturalist(root, with_images=True)}
