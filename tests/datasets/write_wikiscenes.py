"""Writes small WikiScenes in the exact published format, with its traps."""

import json
import unicodedata
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

CONCEPTS = ("facade", "window", "chapel", "organ", "nave", "tower", "choir", "portal", "altar", "statue")
LISTS = {
    "train": "train_10classes_20639_63landmark_balanced.txt",
    "val": "val_10classes_20639_7landmark.txt",
    "val_easy": "val_easy_10classes_20639_63landmark.txt",
}
PARTS = {  # what hangs below a landmark; the numbers of the folders differ from landmark to landmark
    "exterior": {"facade": {"west facade": {}}, "tower": {}, "portal": {}, "statue": {}},
    "interior": {"nave": {}, "altar": {}, "chapel": {"lady chapel": {}}, "window": {}, "organ": {}, "choir": {}},
    "views": {},
}
_SPANISH = {
    "exterior": "Exterior",
    "interior": "Interiores",
    "views": "Vistas",
    "facade": "Fachadas",
    "west facade": "Fachada oeste",
    "tower": "Torres",
    "window": "Vidrieras",
}
NAMES = {  # folder, name of the landmark -> how the folders below it are named
    ("98", "notre dame de paris paris france"): lambda part: f"{part.capitalize()} of Notre-Dame de Paris",
    ("0", "milano cathedral duomo milan milano italy italia"): lambda part: (
        f"{part.capitalize()} of the Duomo (Milan)" if part == "exterior" else f"Duomo (Milan) - {part}"
    ),
    ("21", "catedral nueva de salamanca spain"): lambda part: (
        f"{_SPANISH.get(part, part.capitalize())} de la Catedral Nueva de Salamanca"
    ),
}
TWICE = "Altar_at_the_nave.jpg"  # in two folders of the first landmark
ABROAD = "Two_facades,_a_collage.JPG"  # in the first two landmarks
DECOMPOSED = "Façade_«à_l'aube»,_vue_\u2013_détail_(1).jpg"  # listed composed, stored decomposed
SVG = "Plan_of_the_nave.svg"


class Record(NamedTuple):
    """A picture in a folder: its path below cathedrals, the folder's parts, its concepts and list, or empty ones."""

    file: str
    parts: tuple[str, ...]
    concepts: tuple[str, ...]
    split: str


def write_wikiscenes(root, num_landmarks=3, num_images=4, size=32, traps=True):
    """Writes ``WikiScenes/cathedrals`` and, in ``data``, the three lists of concepts.

    A picture's colour and the direction of its stripes are its concept's. The last landmark's pictures are in the list
    ``val``; of the others', every fourth of a folder is in ``val_easy``, and the even ones are in ``train``.

    Args:
        root: The folder to write to.
        num_landmarks: How many landmarks there are; the first is Notre-Dame de Paris.
        num_images: Pictures of each folder of one concept.
        size: Width and height of the pictures, in pixels.
        traps: Whether what is odd about the real set is there: pictures in several folders, decomposed and capital
            letters, files that are no image, folders and files that are listed in vain or not at all.

    Returns:
        A list of ``Record``, one for each picture in each folder that lists it.
    """
    home = Path(root, "WikiScenes", "cathedrals")
    records, landmarks = [], {}
    for i in range(num_landmarks):
        town = f"Town{i}"
        (folder, name), call = (
            list(NAMES.items())[i]
            if i < len(NAMES)
            else ((str(30 + i), f"{town.lower()} cathedral"), lambda part, town=town: f"{part} of {town} Cathedral")
        )
        landmarks[name] = folder
        held_out = i == num_landmarks - 1 > 0
        _write_node(home, folder, (), PARTS, call, num_images, size, i, held_out, records)
    write_category(home, landmarks)
    if traps:
        _write_traps(home, records, num_landmarks, size)
    write_lists(Path(root, "data"), records)
    return records


def write_category(folder, pairs, pictures=None):
    """Writes a ``category.json``; that of all landmarks has no pictures."""
    data = {"max_index": len(pairs), "pairs": pairs}
    if pictures is not None:
        data["pictures"] = {name: {"caption": f"a: {name}", "url": "", "properties": []} for name in pictures}
    Path(folder).mkdir(parents=True, exist_ok=True)
    Path(folder, "category.json").write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")


def edit_category(folder, **changes):
    """Changes the given keys of a ``category.json``; a dict is added to what is there."""
    path = Path(folder, "category.json")
    data = json.loads(path.read_text(encoding="utf-8"))
    for key, value in changes.items():
        data[key] = {**data.get(key, {}), **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(data), encoding="utf-8")


def _write_node(home, folder, parts, children, call, num_images, size, landmark, held_out, records):
    pairs = {}
    for i, (part, below) in enumerate(children.items()):
        number = str((i + landmark) % len(children))  # the exterior is not always 0
        pairs[call(part)] = number
        path = f"{folder}/{number}"
        _write_node(home, path, (*parts, part), below, call, num_images, size, landmark, held_out, records)
    concept = next((name for name in CONCEPTS if parts and name in parts[-1]), None)
    names = []
    for i in range(num_images if concept or parts == ("views",) else 1):
        name = f"{'_'.join((f'L{landmark}', *parts)).replace(' ', '_')}_({i}).jpg"
        names.append(name)
        file = f"{folder}/pictures/{name}"
        draw(home / file, concept, (landmark, len(records)), size)
        split = "val" if held_out else "val_easy" if i % 4 == 3 else "train" if i % 2 == 0 else ""
        split = split if concept else ""
        records.append(Record(file, parts, (concept,) if split else (), split))
    write_category(home / folder, pairs, names)


def _write_traps(home, records, num_landmarks, size):
    def folder_of(landmark, *parts):
        name = next(r.file for r in records if r.parts == parts and f"/pictures/L{landmark}_" in r.file)
        return name.partition("/pictures/")[0]

    def add(landmark, parts, name, concept, concepts=(), split="", **options):
        folder = folder_of(landmark, *parts)
        seed = (9, landmark if name == ABROAD else 0)  # of one name and different content
        draw(home / folder / "pictures" / options.pop("stored", name), concept, seed, size, **options)
        edit_category(home / folder, pictures={name: {"caption": "", "url": "", "properties": []}})
        records.append(Record(f"{folder}/pictures/{name}", parts, concepts, split))

    add(0, ("interior", "nave"), TWICE, "altar", ("altar", "nave"), "train")
    add(0, ("interior", "altar"), TWICE, "altar", ("altar", "nave"), "train")
    add(0, ("interior",), "Lady_chapel.png", "chapel")
    add(0, ("interior", "chapel"), "Lady_chapel.png", "chapel")
    add(0, ("interior", "chapel", "lady chapel"), "Lady_chapel.png", "chapel")
    stored = unicodedata.normalize("NFD", DECOMPOSED)
    add(0, ("exterior", "facade"), DECOMPOSED, "facade", ("facade",), "train", stored=stored)
    add(0, ("exterior", "tower"), "Bell_tower.TIF", "tower")
    add(0, ("exterior", "tower"), "A_PNG_in_truth.jpg", "tower", format="PNG")
    if num_landmarks > 1:
        add(1, ("exterior", "facade"), ABROAD, "facade")
        add(0, ("exterior", "facade"), ABROAD, "facade")
    nave = home / folder_of(0, "interior", "nave")
    for name, data in ((SVG, b"<svg/>"), ("Bells.ogg", b"OggS\0\2\0\0\0\0\0\0\0")):
        (nave / "pictures" / name).write_bytes(data)
        edit_category(nave, pictures={name: {"caption": "", "url": "", "properties": []}})
    records.append(Record(f"{nave.relative_to(home)}/pictures/{SVG}", ("interior", "nave"), ("nave",), "train"))
    (nave / "pictures" / "Thumbs.db").write_bytes(b"x")
    (nave / "pictures" / ".DS_Store").write_bytes(b"x")
    write_category(nave / "77", {}, [])
    edit_category(nave, pairs={"Closed category": "99"})


def draw(path, concept, seed, size, **options):
    """Writes a picture: colour and direction of its stripes are the concept's, their place is the seed's."""
    rng = np.random.default_rng(seed)
    kind = CONCEPTS.index(concept) if concept else len(CONCEPTS)
    of_kind = np.random.default_rng(kind)
    y, x = np.mgrid[:size, :size] / size
    angle = np.pi * kind / (len(CONCEPTS) + 1)
    stripes = np.sin(2 * np.pi * 3 * (x * np.cos(angle) + y * np.sin(angle)) + rng.uniform(0, 6))[..., None] > 0
    picture = np.where(stripes, of_kind.integers(0, 256, 3), of_kind.integers(0, 256, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.clip(picture + rng.normal(0, 8, picture.shape), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path, **options)


def write_lists(folder, records):
    """Writes the three lists, each image once, with odd captions; ``val_easy`` has no final newline."""
    lines = {split: {} for split in LISTS}
    for number, (file, parts, concepts, split) in enumerate(records):
        if split:
            caption = ("", "Vue, l'aube", "12:30: a view")[number % 3]
            line = f"WikiScenes/cathedrals/{file}:{list(concepts)}:{caption}:{', '.join(parts)}, Paris\n"
            lines[split].setdefault(file.rpartition("/")[2], line)
    for split, of_split in lines.items():
        if not of_split:  # as of few landmarks none is held out; a list must not be empty
            largest = max(lines.values(), key=len)
            gone = f"Gone_{split}.jpg"
            lines[split] = dict(
                [largest.popitem()]
                if len(largest) > 1
                else [(gone, f"WikiScenes/cathedrals/0/pictures/{gone}:['nave']::\n")]
            )
    Path(folder).mkdir(parents=True, exist_ok=True)
    for split, of_split in lines.items():
        text = "".join(of_split.values())
        Path(folder, LISTS[split]).write_text(text.rstrip("\n") if split == "val_easy" else text, encoding="utf-8")


CONFIG_TREES = {"WikiScenes": lambda root: write_wikiscenes(root, num_landmarks=9, num_images=4, size=16)}
