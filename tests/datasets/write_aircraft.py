"""Writes a small FGVC-Aircraft in its official format."""

from pathlib import Path

import numpy as np
from PIL import Image

VARIANTS = (  # manufacturer, family, variant
    ("Boeing", "Boeing 707", "707-320"),
    ("Boeing", "Boeing 737", "737-200"),
    ("Boeing", "Boeing 737", "737-300"),
    ("McDonnell Douglas", "F/A-18", "F/A-18"),
    ("British Aerospace", "BAE 146", "BAE 146-200"),
)
BANNER = 20


def write_aircraft(root):
    """Writes two training, one validation and two test images of every variant, white but for a red credit line.

    Args:
        root: The folder to write to, itself ``fgvc-aircraft-2013b``.

    Returns:
        A list of (number, manufacturer, family, variant, split).
    """
    data = Path(root, "data")
    (data / "images").mkdir(parents=True)
    records = []
    for i, split in enumerate(("train", "train", "val", "test", "test")):
        for j, names in enumerate(VARIANTS):
            number = f"{34309 + 7 * (5 * i + j) + 1_000_000 * (j % 2):07d}"
            pixels = np.full((60 + j, 80, 3), 255, np.uint8)
            pixels[-BANNER:] = (255, 0, 0)
            Image.fromarray(pixels).save(data / f"images/{number}.jpg", quality=95, subsampling=0)
            records.append((number, *names, split))
    for column, level in ((1, "manufacturer"), (2, "family"), (3, "variant")):
        for name, splits in {
            "train": ["train"],
            "val": ["val"],
            "trainval": ["train", "val"],
            "test": ["test"],
        }.items():
            lines = [f"{record[0]} {record[column]}\n" for record in records if record[4] in splits]
            (data / f"images_{level}_{name}.txt").write_text("".join(lines))
    for file, column in (("manufacturers", 0), ("families", 1), ("variants", 2)):
        names = sorted({variant[column] for variant in VARIANTS})
        (data / f"{file}.txt").write_text("".join(f"{name}\n" for name in names))
    boxes = "".join(f"{record[0]} 5 5 70 35\n" for record in records)
    (data / "images_box.txt").write_text(boxes)
    return records


CONFIG_TREES = {"FGVCAircraft": write_aircraft}
