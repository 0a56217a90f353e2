"""Writes small data sets in the exact formats of the public ones."""

from pathlib import Path

import numpy as np
from PIL import Image

LAYOUTS = {  # name -> (folder of the partition, folder that holds img)
    "official": ("Eval", "Img"),
    "parent": ("In-shop Clothes Retrieval Benchmark/Eval", "In-shop Clothes Retrieval Benchmark/Img"),
    "salesforce": ("", ""),
    "roth": ("Eval", ""),
    "hier": ("Inshop_Clothes/Eval", "Inshop_Clothes/Img"),
}
_CATEGORIES = (
    ("WOMEN", "Dresses"),
    ("MEN", "Pants"),
    ("WOMEN", "Denim"),
    ("MEN", "Denim"),
    ("WOMEN", "Blouses_Shirts"),
    ("MEN", "Suiting"),
)
_VIEWS = ("1_front", "2_side", "3_back", "4_full", "7_additional")


def write_image(path, colour, size=(48, 48), **options):
    """Writes an image of one colour; the extension or ``format`` tells its kind."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)
    return path


def write_inshop(root, *, layout="official", folder="img", num_products=12, num_views=4, size=48):
    """Writes a DeepFashion In-Shop benchmark of JPEGs that look alike inside a product and a category.

    Products are numbered from 1; odd ones are for training, even ones for query and gallery, and every category has
    both. Each has two variations of ``num_views`` images. The traps of the real set are there too: product 3, of the
    training set, occurs in two categories; one more training product, the last, has a single image; product 2 has a
    query of a variation that the gallery lacks; the first image of product 1 is grey; the columns are padded.

    Args:
        root: The folder to write to.
        layout: One of ``LAYOUTS``.
        folder: ``'img'`` or ``'img_highres'``; the partition says ``img`` in any case.
        num_products: How many products have two variations.
        num_views: Images of a variation, 2 to 5.
        size: Width and height of the images, in pixels.

    Returns:
        The records as written: a list of (image name, item id, status).
    """
    for_list, for_images = (Path(root, part) for part in LAYOUTS[layout])
    records = []

    def add(place, product, variation, view, status):
        gender, category = place
        name = f"img/{gender}/{category}/id_{product:08d}/{variation:02d}_{view}.jpg"
        path = for_images / folder / name.removeprefix("img/")
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = _picture(_CATEGORIES.index(place), product, variation, _VIEWS.index(view), size)
        grey = not records
        Image.fromarray(picture).convert("L" if grey else "RGB").save(path, quality=90)
        records.append((name, f"id_{product:08d}", status))

    for product in range(1, num_products + 1):
        place = _CATEGORIES[(product - 1) // 2 % len(_CATEGORIES)]
        for variation in (product % 3 + 1, product % 3 + 4):  # they do not start at 1
            for i, view in enumerate(_VIEWS[:num_views]):
                add(place, product, variation, view, "train" if product % 2 else "gallery" if i % 2 else "query")
    if num_products >= 3:
        for view in _VIEWS[:num_views]:
            add(_CATEGORIES[4], 3, 9, view, "train")
    if num_products >= 2:
        add(_CATEGORIES[0], 2, 8, _VIEWS[0], "query")
    add(_CATEGORIES[1], num_products + 1, 1, _VIEWS[0], "train")
    write_partition(for_list, records)
    return records


def write_partition(folder, records, declared=None):
    """Writes the partition file with padded columns, as published."""
    lines = [str(len(records) if declared is None else declared), "image_name item_id evaluation_status"]
    lines += [f"{name:<70} {item} {status:<10}" for name, item, status in records]
    Path(folder).mkdir(parents=True, exist_ok=True)
    Path(folder, "list_eval_partition.txt").write_text("\n".join(lines) + "\n")


def _picture(category, product, variation, view, size):
    """The category is the background's colour, the product the stripes' angle and width, the variation their colour."""
    draw = np.random.default_rng((category, product, variation, view))
    of_product = np.random.default_rng((7, product))
    of_variation = np.random.default_rng((8, product, variation))
    angle, waves = of_product.uniform(0, np.pi), of_product.uniform(2, 7)
    y, x = np.mgrid[:size, :size] / size
    stripes = np.sin(2 * np.pi * waves * (x * np.cos(angle) + y * np.sin(angle)) + view)[..., None] > 0
    background = np.array([(220, 60, 60), (60, 200, 60), (60, 60, 220), (200, 200, 40), (40, 200, 200), (200, 40, 200)])
    picture = np.where(stripes, of_variation.integers(0, 256, 3), background[category])
    return np.clip(picture + draw.normal(0, 8, picture.shape), 0, 255).astype(np.uint8)
