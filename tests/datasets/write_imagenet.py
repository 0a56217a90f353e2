"""Writes small class hierarchies and a small ImageNet in the exact formats of the public ones.

The hierarchy is cut from WordNet 3.0: eight classes of ImageNet and some of their ancestors, the ids being the real
ones. ``racer`` (a car) hangs below two parents here, so that its file order and its longest path can differ.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

NAMES = {
    "n00001740": "entity",
    "n00004258": "living thing, animate thing",
    "n00021939": "artifact, artefact",
    "n00015388": "animal, animate being",
    "n01503061": "bird",
    "n02084071": "dog, domestic dog",
    "n02958343": "car, auto",
    "n04170037": "self-propelled vehicle",
    "n04524313": "vehicle",
    "n01531178": "goldfinch, Carduelis carduelis",
    "n02012849": "crane",
    "n02085620": "Chihuahua",
    "n02085782": "Japanese spaniel",
    "n02930766": "cab, hack",
    "n04037443": "racer, race car",
    "n03126707": "crane",
    "n02795169": "barrel, cask",
}
EDGES = [  # parent, child
    ("n00001740", "n00004258"),
    ("n00001740", "n00021939"),
    ("n00004258", "n00015388"),  # a chain
    ("n00015388", "n01503061"),
    ("n00015388", "n02084071"),
    ("n00021939", "n04524313"),
    ("n04524313", "n04170037"),  # a chain
    ("n04170037", "n02958343"),
    ("n01503061", "n01531178"),
    ("n01503061", "n02012849"),
    ("n02084071", "n02085620"),
    ("n02084071", "n02085782"),
    ("n02958343", "n02930766"),
    ("n02958343", "n04037443"),
    ("n00021939", "n04037443"),  # the second parent, higher up
    ("n00021939", "n03126707"),
    ("n00021939", "n02795169"),
]
CLASSES = tuple(sorted(set(NAMES) - {parent for parent, _ in EDGES}))

_LICENCE = [
    "This software and database is being provided to you, the LICENSEE, by  ",
    "  ",
    "WordNet {release} Copyright 2006 by Princeton University.  All rights reserved.  ",
]


def write_lines(path, lines):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("".join(f"{line}\n" for line in lines))
    return str(path)


def write_edges(path, edges=EDGES):
    """Writes ``parent child`` lines."""
    return write_lines(path, [f"{parent} {child}" for parent, child in edges])


def write_breeds(folder, edges=EDGES, classes=CLASSES):
    """Writes an ``info_dir`` of BREEDS; a node ``dummy`` and a number has no entry in NAMES."""
    nodes = sorted({node for edge in edges for node in edge})
    write_edges(Path(folder, "class_hierarchy.txt"), edges)
    write_lines(Path(folder, "node_names.txt"), [f"{node}\t{NAMES.get(node, node)}" for node in nodes])
    info = [[i, name, NAMES[name]] for i, name in enumerate(classes)]
    Path(folder, "dataset_class_info.json").write_text(json.dumps(info))
    return str(folder)


def write_robustness(folder, edges=EDGES, classes=CLASSES):
    """Writes an ``info_dir`` of the robustness library's ImageNet helpers."""
    write_edges(Path(folder, "wordnet.is_a.txt"), edges)
    write_lines(Path(folder, "words.txt"), [f"{node}\t{words}" for node, words in NAMES.items()])
    index = {str(i): [name, NAMES[name].split(",")[0].replace(" ", "_")] for i, name in enumerate(classes)}
    Path(folder, "imagenet_class_index.json").write_text(json.dumps(index))
    return str(folder)


def write_nouns(path, edges=EDGES, instances=(), release="3.0"):
    """Writes WordNet's ``data.noun``: the licence, then a synset a line, by offset, with pointers both ways."""
    pointers = {node: [] for node in sorted(NAMES)}
    for symbol, inverse, pairs in (("@", "~", edges), ("@i", "~i", instances)):
        for parent, child in pairs:
            pointers[child].append(f"{symbol} {parent[1:]} n 0000")
            pointers[parent].append(f"{inverse} {child[1:]} n 0000")
    pointers["n02084071"].append("+ 02001858 v 0101")  # derived: a verb, which is no node
    lines = [f"  {i} {text.format(release=release)}" for i, text in enumerate(_LICENCE, start=1)]
    for node, out in pointers.items():
        words = [f"{word.strip().replace(' ', '_')} 0" for word in NAMES[node].split(",")]
        fields = [node[1:], "03", "n", f"{len(words):02x}", *words, f"{len(out):03d}", *sorted(out)]
        lines.append(" ".join(fields) + ' | what it is; "an @ example | 0"  ')
    return write_lines(path, lines)


def write_images(root, *, flat_val=False, classes=CLASSES, num_train=3, num_val=2, size=16):
    """Writes the images of an ImageNet; the validation numbers go round the classes, in reverse order.

    The traps of the real set are there: the second image is a CMYK JPEG, and the third a PNG that is named .JPEG.

    Returns:
        The images written: path below ``root`` -> class.
    """
    written = {}

    def add(path, name):
        colour = tuple(np.random.default_rng(len(written)).integers(0, 256, 3).tolist())
        picture = Image.new("RGB", (size, size), colour)
        Path(root, path).parent.mkdir(parents=True, exist_ok=True)
        if len(written) == 1:
            picture = picture.convert("CMYK")
        picture.save(Path(root, path), format="PNG" if len(written) == 2 else "JPEG")
        written[path] = name

    for name in classes:
        for i in range(num_train):
            add(f"train/{name}/{name}_{10 + 3 * i}.JPEG", name)
    for number in range(1, num_val * len(classes) + 1):
        name = classes[-number % len(classes)]
        file = f"ILSVRC2012_val_{number:08d}.JPEG"
        add(f"val/{file}" if flat_val else f"val/{name}/{file}", name)
    return written


def write_devkit(folder, written, classes=CLASSES):
    """Writes the devkit's two files; its numbers follow no order of the ids, and count inner synsets last."""
    shuffled = [classes[i] for i in np.random.default_rng(0).permutation(len(classes))]
    numbers = {name: i for i, name in enumerate([*shuffled, *sorted(set(NAMES) - set(classes))], start=1)}
    kinds = "ILSVRC2012_ID WNID words gloss num_children children wordnet_height num_train_images".split()
    synsets = np.zeros((len(numbers), 1), dtype=[(kind, object) for kind in kinds])
    for row, (name, number) in zip(synsets[:, 0], numbers.items(), strict=True):
        children = [float(numbers[child]) for parent, child in EDGES if parent == name]
        values = (float(number), name, NAMES[name], "what it is", float(len(children)), np.array(children), 0.0, 1300.0)
        for kind, value in zip(kinds, values, strict=True):
            row[kind] = value
    Path(folder).mkdir(parents=True, exist_ok=True)
    savemat(Path(folder, "meta.mat"), {"synsets": synsets})
    by_number = sorted((path.rpartition("/")[2], name) for path, name in written.items() if path.startswith("val/"))
    write_lines(Path(folder, "ILSVRC2012_validation_ground_truth.txt"), [numbers[name] for _, name in by_number])
    return str(folder)


def _with_nouns(root):
    write_images(root)
    write_nouns(root / "data.noun")


CONFIG_TREES = {"ImageNet": _with_nouns}
