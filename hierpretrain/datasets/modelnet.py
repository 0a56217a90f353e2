"""ModelNet40 as rendered views: category and model, from the names of the files."""

from __future__ import annotations

import os
import re
from collections import Counter
from typing import Any

from hierpretrain.checks import check_one_of
from hierpretrain.datasets.annotations import Annotations
from hierpretrain.datasets.base import HierarchicalDataset
from hierpretrain.datasets.messages import some, warn
from hierpretrain.registry import DATASETS

MODELNET_UNSEEN = (
    "bathtub",
    "bed",
    "chair",
    "desk",
    "dresser",
    "monitor",
    "night_stand",
    "sofa",
    "table",
    "toilet",
)
"""The ten categories of ModelNet10, which Ho et al. (VISPE, CVPR 2020) hold out as unseen classes of ModelNet40."""

_MODEL = r"(?P<category>.+)_(?P<number>\d{4})"
RENDERINGS = {
    "modelnet40v1": re.compile(_MODEL + r"_(?:00[1-9]|01[0-2])\.jpg"),
    "modelnet40v2": re.compile(_MODEL + r"_0(?:0[1-9]|[1-7]\d|80)\.jpg"),
    "modelnet40v1png": re.compile(_MODEL + r"_(?:00[1-9]|01[0-2])\.png"),
    "modelnet40v2png_ori4": re.compile(_MODEL + r"_0(?:0[1-9]|[1-7]\d|80)\.png"),
    "modelnet40_images_new_12x": re.compile(_MODEL + r"\.obj\.shaded_v(?:00[1-9]|01[0-2])\.png"),
}
"""The file names of every published rendering, by the folder that its archive unpacks to."""

_SPLITS = ("train", "test")
_REMEDY = (
    "get a rendering, such as modelnet40v1.tar of MVCNN or modelnet40_images_new_12x.tar.gz of its second version, and "
    "unpack it to modelnet40v1/<category>/<train or test>"
)


def read_modelnet40(
    root: str,
    rendering: str = "auto",
    max_models: tuple[int, int] | None = None,
) -> Annotations:
    """Reads a rendering of ModelNet40: images in folders ``<category>/<train or test>``.

    ============================= ===== ======================================= ==========================
    rendering                     views a file                                  models
    ============================= ===== ======================================= ==========================
    ``modelnet40v1``              12    ``airplane_0001_001.jpg``               3,983 (80 + 20 a category)
    ``modelnet40v1png``           12    ``airplane_0001_001.png``               as modelnet40v1
    ``modelnet40v2``              80    ``airplane_0001_001.jpg``               upright orientation unknown
    ``modelnet40v2png_ori4``      20    ``airplane_0001_001.png``               as modelnet40v2
    ``modelnet40_images_new_12x`` 12    ``airplane_0001.obj.shaded_v001.png``   12,311 (9,843 + 2,468)
    ============================= ===== ======================================= ==========================

    A model is named with its category (``airplane_0001``), because numbers repeat across categories. All views of a
    model are in one split. Files of other names, and files and folders beside the categories, are left out and counted
    in the log. Models with fewer or more views than most are counted in the log as well.

    Args:
        root: The folder of the rendering, or the folder that it is in.
        rendering: A name of the table, or ``'auto'``: the rendering whose folder ``root`` is or has, and otherwise the
            rendering that most file names fit.
        max_models: The largest numbers of training and of test models of a category; the first models are taken. (80,
            20) is the balanced subset of MVCNN.

    Returns:
        Splits ``'train'`` and ``'test'``; levels ``('category', 'model')``.

    Raises:
        ValueError: If there is no rendering, or there are several and none is chosen; if a file is in another
            category's folder, or a model is in both splits.
    """
    check_one_of("rendering", rendering, ("auto", *RENDERINGS))
    if max_models is not None and (len(max_models) != 2 or min(max_models) < 1):
        raise ValueError(f"max_models must be the numbers of training and test models, from 1; it is {max_models!r}")
    home, rendering = _find_rendering(root, rendering)
    files, left_out = _list_files(home)
    if not files:
        raise ValueError(
            f"no ModelNet40 views are at {os.path.join(home, '<category>', '<train or test>')}; {_REMEDY}; or correct "
            "data_root"
        )
    if rendering == "auto":  # the rendering that most files fit; of equals the first, which has the fewest views
        fits = {key: sum(bool(name.fullmatch(file)) for *_, file in files) for key, name in RENDERINGS.items()}
        rendering = max(fits, key=lambda key: fits[key])
    views: dict[tuple[str, str, str], list[str]] = {}
    split_of: dict[str, str] = {}
    for category, split, file in files:
        image = f"{category}/{split}/{file}"
        if not (match := RENDERINGS[rendering].fullmatch(file)):
            left_out.append(image)
            continue
        if match["category"] != category:
            raise ValueError(
                f"{os.path.join(home, image)} is named as a view of a {match['category']!r}; move the file"
            )
        model = f"{category}_{match['number']}"
        if split_of.setdefault(model, split) != split:
            raise ValueError(
                f"{os.path.join(home, image)}: the model {model!r} is also in {split_of[model]!r}; all views of a "
                "model belong to one split: get the data set anew"
            )
        views.setdefault((category, split, model), []).append(image)
    if not views:
        raise ValueError(f"no file below {home} is named as in {rendering}; the first is {files[0][2]!r}; {_REMEDY}")
    _report(home, rendering, views, left_out)
    limits = dict(zip(_SPLITS, max_models, strict=True)) if max_models else {}
    taken: Counter[tuple[str, str]] = Counter()
    records = []
    for (category, split, model), names in views.items():
        taken[category, split] += 1
        if split in limits and taken[category, split] > limits[split]:
            continue
        records += [(name, (category, model), split) for name in names]
    return Annotations.from_records(records, ("category", "model"), home, source=f"{rendering} at {home!r}")


def _find_rendering(root: str, rendering: str) -> tuple[str, str]:
    """Returns the folder of the rendering and its name, or ``'auto'`` if the folders do not tell it."""
    names = RENDERINGS if rendering == "auto" else (rendering,)
    inside = [name for name in names if os.path.isdir(os.path.join(root, name))]
    if len(inside) > 1:
        raise ValueError(f"{root} holds the renderings {inside}; choose one by rendering=")
    if inside:
        return os.path.join(root, inside[0]), inside[0]
    base = os.path.basename(os.path.abspath(root))
    return root, base if base in names else rendering


def _list_files(home: str) -> tuple[list[tuple[str, str, str]], list[str]]:
    """Returns the (category, split, file) of all files, sorted, and the other entries; hidden ones are skipped."""
    files: list[tuple[str, str, str]] = []
    left_out: list[str] = []
    for category in _entries(home):
        splits = _entries(os.path.join(home, category)) if os.path.isdir(os.path.join(home, category)) else []
        if not set(splits) & set(_SPLITS):
            left_out.append(category)
            continue
        left_out += [f"{category}/{other}" for other in splits if other not in _SPLITS]
        for split in _SPLITS:
            if split in splits:
                files += [(category, split, file) for file in _entries(os.path.join(home, category, split))]
    return files, left_out


def _entries(folder: str) -> list[str]:
    if not os.path.isdir(folder):
        return []
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def _report(home: str, rendering: str, views: dict[tuple[str, str, str], list[str]], left_out: list[str]) -> None:
    """Logs what was left out, and which models have an unusual number of views."""
    if left_out:
        warn(f"{home}: left out {len(left_out)} entries that are no views of {rendering}: {some(left_out)}")
    (usual, _), *_ = Counter(map(len, views.values())).most_common(1)
    if odd := [model for (_, _, model), names in views.items() if len(names) != usual]:
        warn(f"{home}: {len(odd)} models do not have {usual} views as most: {some(odd)}; are files missing?")


@DATASETS.register_module()
class ModelNet40(HierarchicalDataset):
    """Rendered views of the CAD models of ModelNet40, in 40 categories, see :func:`read_modelnet40`.

    ``modelnet40v1`` has 3,983 models (3,183 for training) with 12 views each; accuracies on it and on all 12,311 models
    do not compare. The models are for research only.

    Args:
        data_root: The folder of the rendering, or the folder that it is in.
        rendering: The name of the rendering, or ``'auto'`` to tell it from the folders and files.
        max_models: The largest numbers of training and of test models of a category; all by default.
        options: The options of :class:`HierarchicalDataset`; the splits are ``'train'`` and ``'test'``. For the seen
            and unseen categories of Ho et al., make a ``split_file`` with :data:`MODELNET_UNSEEN` as unseen classes.
    """

    def __init__(
        self,
        *,
        data_root: str,
        rendering: str = "auto",
        max_models: tuple[int, int] | None = None,
        **options: Any,
    ) -> None:
        self.rendering = rendering
        self.max_models = max_models
        super().__init__(data_root=data_root, **options)

    def read(self) -> Annotations:
        """Lists the files."""
        return read_modelnet40(self.data_root, self.rendering, self.max_models)
