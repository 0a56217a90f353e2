"""Writes a small NABirds in the exact official format."""

import uuid
from pathlib import Path

from PIL import Image

CLASSES = {
    0: "Birds",
    1: "Ducks, Geese, and Swans",
    2: "Loons",
    10: "Ducks, Geese, and Swans",
    20: "Loons",
    30: "Mallard",
    31: "Gadwall",
    817: "Common Loon",
    295: "Mallard (Female/Eclipse male)",
    296: "Mallard (Breeding male)",
}
PARENTS = {1: 0, 2: 0, 10: 1, 20: 2, 30: 10, 31: 10, 817: 20, 295: 30, 296: 30}
IMAGES = [(817, 1), (817, 0), (295, 1), (296, 0), (31, 1), (295, 0)]  # class, whether for training


def write_nabirds(root, classes=CLASSES, parents=PARENTS, images=IMAGES):
    """Writes the lists and images; returns the (uuid, path) of every image."""
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    names = [str(uuid.UUID(int=i + 2**100)) for i in range(len(images))]
    paths = [f"{label:04d}/{name.replace('-', '')}.jpg" for name, (label, _) in zip(names, images, strict=True)]
    lists = {
        "classes.txt": [f"{i} {name}" for i, name in classes.items()],
        "hierarchy.txt": [f"{child} {parent}" for child, parent in parents.items()],
        "images.txt": [f"{name} {path}" for name, path in zip(names, paths, strict=True)],
        "image_class_labels.txt": [f"{name} {label}" for name, (label, _) in zip(names, images, strict=True)],
        "train_test_split.txt": [f"{name} {train}" for name, (_, train) in zip(names, images, strict=True)],
    }
    for file, lines in lists.items():
        (root / file).write_text("".join(f"{line}\n" for line in lines))
    for path in paths:
        (root / "images" / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), "red").save(root / "images" / path)
    return list(zip(names, paths, strict=True))


CONFIG_TREES = {"NABirds": lambda root: write_nabirds(root, images=IMAGES * 3)}
