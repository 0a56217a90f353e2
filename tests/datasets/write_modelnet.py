"""Writes small ModelNet40 renderings with the names of files of the published ones."""

from pathlib import Path

from tests.datasets.trees import write_image

MODELS = {  # category -> numbers of (training models, test models); numbers go on in test, and repeat across categories
    "airplane": ((1, 2, 3), (4, 5)),
    "night_stand": ((1, 2), (3,)),
    "tv_stand": ((1,), (2,)),
}
VIEWS = {
    "modelnet40v1": range(1, 13),
    "modelnet40v1png": range(1, 13),
    "modelnet40v2": range(1, 81),
    "modelnet40v2png_ori4": range(4, 81, 4),
    "modelnet40_images_new_12x": range(1, 13),
}
_NAMES = {
    "modelnet40v1": "{model}_{view:03d}.jpg",
    "modelnet40v1png": "{model}_{view:03d}.png",
    "modelnet40v2": "{model}_{view:03d}.jpg",
    "modelnet40v2png_ori4": "{model}_{view:03d}.png",
    "modelnet40_images_new_12x": "{model}.obj.shaded_v{view:03d}.png",
}


def write_modelnet(root, rendering, models=MODELS):
    """Writes the views of models; a stray array lies beside the categories.

    Args:
        root: The folder to write to, itself the rendering's.
        rendering: A key of ``VIEWS``.
        models: Category -> numbers of (training models, test models).

    Returns:
        A list of (image below ``root``, category, model, split), sorted within each category and split.
    """
    root = Path(root)
    records = []
    for i, (category, of_split) in enumerate(models.items()):
        for split, numbers in zip(("train", "test"), of_split, strict=True):
            for number in numbers:
                model = f"{category}_{number:04d}"
                for view in VIEWS[rendering]:
                    image = f"{category}/{split}/{_NAMES[rendering].format(model=model, view=view)}"
                    write_image(root / image, (80 * i % 256, 20 * number, view), size=(8, 8))
                    records.append((image, category, model, split))
    (root / "modelnet40.npy").write_bytes(b"\x93NUMPY")
    return records


CONFIG_MODELS = {  # of categories that Ho et al. hold out and of others
    category: (range(1, 4), (4, 5)) for category in ("airplane", "tv_stand", "bed", "night_stand")
}
CONFIG_TREES = {"ModelNet40": lambda root: write_modelnet(root, "modelnet40v1", CONFIG_MODELS)}
