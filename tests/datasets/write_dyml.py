"""Writes small DyML subsets in the exact published format, with the first record glued to the header."""

from pathlib import Path

from PIL import Image

TREE_HEADER = "fname, coarse_id, middle_id, fine_id"
TEST_HEADER = "fname, labels"
TRAIN = [("0.jpg", 1, 12, 40), ("1.jpg", 1, 12, 40), ("2.jpg", 1, 13, 41), ("3.jpg", 4, 20, 7)]


def write_list(path, header, records):
    """Writes a list: no line end after the header, ', ' between the columns."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(header + "".join(f"{', '.join(map(str, record))}\n" for record in records))


def write_dyml(root, subset):
    """Writes ``dyml_<subset>`` to ``root``; returns that folder."""
    home = Path(root, f"dyml_{subset}")
    parts = [("train/label.csv", "train/imgs", TREE_HEADER, TRAIN)]
    if subset == "product":
        records = [("0.jpg", 0, 3, 5), ("1.jpg", 0, 3, 6), ("2.jpg", 1, 4, 7)]
        parts.append(("mini-bmk_all_in_one/label.csv", "mini-bmk_all_in_one/imgs", TREE_HEADER, records))
    else:
        for i, level in enumerate(("fine", "middle", "coarse")):
            for name in ("query", "gallery"):
                records = [(f"{j}.jpg", 10 * i + j % 2) for j in range(2 if name == "query" else 4)]
                parts.append((f"bmk_{level}/{name}.csv", f"bmk_{level}/{name}", TEST_HEADER, records))
    for file, folder, header, records in parts:
        write_list(home / file, header, records)
        for name, *ids in records:
            (home / folder).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (255, ids[0], 0)).save(home / folder / name, quality=100)
    return home


CONFIG_TREES = {"DyML": lambda root: write_dyml(root.parent, "animal")}
