"""ModelNet40 as rendered views: category and model, from the names of the files."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from typing import Any

from mmengine.logging import print_log

from hierpretrain.datasets.annotations import Annotations, some
from hierpretrain.datasets.base import HierarchicalDataset
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
"""The categories of ModelNet10, which Ho et al. (VISPE, CVPR 2020) hold out as unseen; the other 30 are seen."""

_MODEL = r"(?P<category>.+)_(?P<number>\d{4})"
RENDERINGS = {
    "modelnet40v1": re.compile(_MODEL + r"_(?:00[1-9]|01[0-2])\.jpg"),
    "modelnet40v2": re.compile(_MODEL + r"_0(?:0[1-9]|[1-7]\d|80)\.jpg"),
    "modelnet40v1png": re.compile(_MODEL + r"_(?:00[1-9]|01[0-2])\.png"),
    "modelnet40v2png_ori4": re.compile(_MODEL + r"_0(?:0[1-9]|[1-7]\d|80)\.png"),
    "modelnet40_images_new_12x": re.compile(_MODEL + r"\.obj\.shaded_v(?:00[1-9]|01[0-2])\.png"),
}
"""The files' names in every published rendering; the key is the folder that its archive unpacks to."""

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
    """Reads the folders ``<category>/<train or test>`` of a rendering.

    ============================= ===== ======================================= ==========================
    rendering                     views a file                                  models
    ============================= ===== ======================================= ==========================
    ``modelnet40v1``              12    ``airplane_0001_001.jpg``               3,983 (80 + 20 a category)
    ``modelnet40v1png``           12    ``airplane_0001_001.png``               those of modelnet40v1
    ``modelnet40v2``              80    ``airplane_0001_001.jpg``               upright orientation unknown
    ``modelnet40v2png_ori4``      20    ``airplane_0001_001.png``               those of modelnet40v2
    ``modelnet40_images_new_12x`` 12    ``airplane_0001.obj.shaded_v001.png``   12,311 (9,843 + 2,468)
    ============================= ===== ======================================= ==========================

    A model is named with its category (``airplane_0001``), since numbers repeat across categories. All views of a
    model are in one split. Files of other names, and files and folders beside the categories, are left out and
    counted in the log, as are models that have fewer or more views than most.

    Args:
        root: The folder of the rendering, or the folder that it is in.
        rendering: A name of the table, or ``'auto'``: the one of which ``root`` is, or holds, the folder, and otherwise
            the one that fits the most names of files.
        max_models: The largest number of training and of test models of a category, of which the first are taken;
            (80, 20) is the balanced subset of MVCNN.

    Returns:
        Splits ``'train'`` and ``'test'``; levels ``('category', 'model')``.

    Raises:
        ValueError: If there is no rendering, or several and none is named; if a file is in another category's folder,
            or a model is in both splits.
    """
    if rendering not in ("auto", *RENDERINGS):
        raise ValueError(f"rendering must be 'auto' or one of {tuple(RENDERINGS)!r}; it is {rendering!r}")
    if max_models is not None and (len(max_models) != 2 or min(max_models) < 1):
        raise ValueError(f"max_models must be the numbers of training and test models, from 1; it is {max_models!r}")
    home, rendering = _find_rendering(root, rendering)
    files, left_out = _list_files(home)
    if not files:
        raise ValueError(
            f"no ModelNet40 views are at {os.path.join(home, '<category>', '<train or test>')}; {_REMEDY}; or correct "
            "data_root"
        )
    if rendering == "auto":  # the first, which has the fewest views, of those that fit the most
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
    images, labels, splits = [], [], []
    for (category, split, model), names in views.items():
        taken[category, split] += 1
        if split in limits and taken[category, split] > limits[split]:
            continue
        images += names
        labels += [(category, model)] * len(names)
        splits += [split] * len(names)
    return Annotations(images, labels, splits, ("category", "model"), home, source=f"{rendering} at {home!r}")


def _find_rendering(root: str, rendering: str) -> tuple[str, str]:
    """Returns the folder and the name of the rendering, which may remain ``'auto'``."""
    names = RENDERINGS if rendering == "auto" else (rendering,)
    inside = [name for name in names if os.path.isdir(os.path.join(root, name))]
    if len(inside) > 1:
        raise ValueError(f"{root} holds the renderings {inside}; choose one by rendering=")
    if inside:
        return os.path.join(root, inside[0]), inside[0]
    base = os.path.basename(os.path.abspath(root))
    return root, base if base in names else rendering


def _list_files(home: str) -> tuple[list[tuple[str, str, str]], list[str]]:
    """Returns (category, split, file), sorted, and what is beside them; hidden entries are left out silently."""
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
    """Logs what was left out, and the models whose number of views is not the usual one."""
    lines = []
    if left_out:
        lines.append(f"left out {len(left_out)} entries that are no views of {rendering}: {some(left_out)}")
    (usual, _), *_ = Counter(map(len, views.values())).most_common(1)
    if odd := [model for (_, _, model), names in views.items() if len(names) != usual]:
        lines.append(f"{len(odd)} models do not have {usual} views as most: {some(odd)}; are files missing?")
    for line in lines:
        print_log(f"{home}: {line}", logger="current", level=logging.WARNING)


@DATASETS.register_module()
class ModelNet40(HierarchicalDataset):
    """Rendered views of the CAD models of ModelNet40, in 40 categories, see :func:`read_modelnet40`.

    ``modelnet40v1`` has 3,983 models (3,183 for training) with 12 views each; accuracies on it and on all 12,311 models
    do not compare. The models are for research only.

    Args:
        data_root: The folder of the rendering, or the folder that it is in.
        rendering: Its name, or ``'auto'``.
        max_models: The largest number of training and of test models of a category; all by default.
        options: Those of :class:`HierarchicalDataset`; ``split`` is of ``'train'`` and ``'test'``. For the seen and
            unseen categories of Ho et al., make a ``split_file`` of :data:`MODELNET_UNSEEN`.
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
