"""Writes a small CUB-200-2011 in its official format."""

from pathlib import Path

from PIL import Image

from tests.datasets.trees import write_image

CLASSES = {  # class number -> number of images; on both sides of the border of the retrieval protocol
    1: ("Black_footed_Albatross", 3),
    2: ("Laysan_Albatross", 2),
    100: ("Brown_Pelican", 2),
    101: ("White_Pelican", 3),
    200: ("Common_Yellowthroat", 2),
}


def write_cub(root):
    """Writes 12 images of five classes; the others have a name and no image.

    The first of every class is for training in the official split. The traps of the real set are there too: ids count
    from 1, the first image is grey, and ``._*`` files of the archive's maker lie between the others.

    Args:
        root: The folder to write to, itself ``CUB_200_2011``.

    Returns:
        A list of (image below ``images``, class number, 1 for training or 0).
    """
    root = Path(root)
    names = {number: CLASSES.get(number, (f"Filler_{number}_Bird", 0)) for number in range(1, 201)}
    records = []
    for number, (name, count) in names.items():
        for i in range(count):
            image = f"{number:03d}.{name}/{name.title()}_{i + 1:04d}_{796000 + len(records)}.jpg"
            path = write_image(root / "images" / image, (number, 90, 40 * i), size=(20, 16))
            if not records:
                Image.open(path).convert("L").save(path)
            records.append((image, number, int(i == 0)))
    (root / "images/001.Black_footed_Albatross/._Black_Footed_Albatross_0001_796000.jpg").write_bytes(b"\0\5\x16\7")
    (root / "._images.txt").write_bytes(b"\0\5\x16\7")
    for file, values in {
        "images.txt": [image for image, _, _ in records],
        "image_class_labels.txt": [number for _, number, _ in records],
        "train_test_split.txt": [training for _, _, training in records],
        "bounding_boxes.txt": ["1.0 2.0 10.0 9.0"] * len(records),
        "classes.txt": [f"{number:03d}.{name}" for number, (name, _) in names.items()],
    }.items():
        (root / file).write_text("".join(f"{i} {value}\n" for i, value in enumerate(values, start=1)))
    return records


CONFIG_TREES = {"CUB200": write_cub}
