"""Writes small Stanford Online Products in the exact official format."""

from pathlib import Path

from PIL import Image

HEADER = "image_id class_id super_class_id path"
LAYOUTS = {  # name -> (folder of the lists, folder of the folders of images)
    "official": ("", ""),
    "parent": ("Stanford_Online_Products", "Stanford_Online_Products"),
    "roth": ("Info_Files", "images"),
    "roth_parent": ("online_products/Info_Files", "online_products/images"),
}
TRAIN = [
    (1, 1, 1, "bicycle_final/111085122871_0.JPG"),
    (2, 1, 1, "bicycle_final/111085122871_1.JPG"),
    (3, 2, 1, "bicycle_final/111265328556_0.JPG"),
    (4, 3, 4, "coffee_maker_final/291488772961_1.JPG"),
]
TEST = [
    (5, 11319, 1, "bicycle_final/251952414262_0.JPG"),
    (6, 11320, 4, "coffee_maker_final/251920345323_0.JPG"),
    (7, 11320, 4, "coffee_maker_final/251920345323_1.JPG"),
]


def write_sop(root, layout="official", train=TRAIN, test=TEST, header=HEADER):
    """Writes the lists and images; the first image is grey and the fourth a GIF by the name of a JPEG."""
    lists, images = (Path(root, part) for part in LAYOUTS[layout])
    lists.mkdir(parents=True, exist_ok=True)
    for name, records in (("Ebay_train.txt", train), ("Ebay_test.txt", test)):
        lines = [header, *(" ".join(map(str, record)) for record in records)]
        (lists / name).write_text("\n".join(lines) + "\n")
    for image_id, _, _, path in (*train, *test):
        file = images / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if image_id == 1:
            Image.new("L", (8, 8), 90).save(file, format="JPEG")
        elif image_id == 4:
            Image.new("P", (8, 8)).save(file, format="GIF")
        else:
            Image.new("RGB", (8, 8), (image_id, 90, 200)).save(file, format="JPEG")


def _with_more_products(root):
    more = [(i, i // 3, 1 + i // 12, f"bicycle_final/{i // 3}_{i}.JPG") for i in range(8, 20)]
    write_sop(root, train=[*TRAIN, *more])


CONFIG_TREES = {"StanfordOnlineProducts": _with_more_products}
