"""ImageNet (ILSVRC 2012) below a class hierarchy."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hierpretrain.datasets.annotations import Annotations, read_text, some
from hierpretrain.datasets.base import HierarchicalDataset
from hierpretrain.datasets.hierarchy import LeafPaths, warn
from hierpretrain.datasets.imagenet_files import classes_of, list_imagenet, read_image_list
from hierpretrain.datasets.wordnet import MIXED_10, read_hierarchy
from hierpretrain.registry import DATASETS

_GROUPS = {"mixed_10": MIXED_10}


@dataclass(frozen=True)
class Cut:
    """Which tree is made of a hierarchy's nodes; the arguments are those of :class:`ImageNet`."""

    policy: str | None = None
    collapse: bool = True
    depths: Sequence[int] | None = None
    root: str | None = None
    superclasses: Sequence[str] | str | None = None
    overlap: str = "error"
    align: bool = False


def imagenet_paths(
    hierarchy: str | os.PathLike[str], classes: Iterable[str], *, cut: Cut = Cut(), missing: str = "error"
) -> tuple[LeafPaths, tuple[str, ...]]:
    """Returns the label paths of classes, from any file that names their ancestors.

    Args:
        hierarchy: A file or folder that :func:`read_hierarchy` reads, or a ``.json`` file of :func:`read_class_paths`.
        classes: The classes, as ImageNet's folders are named.
        cut: The tree that is made of the hierarchy's nodes. A JSON file says the paths as they are; of the cut it takes
            ``align`` alone.
        missing: What happens to classes that the hierarchy lacks: ``'error'`` or ``'drop'``.

    Returns:
        The paths, and a name for every level: ``('superclass', 'class')`` where the tree has two by its making,
        ``level1`` to ``levelL`` otherwise.

    Raises:
        ValueError: As the readers, :meth:`ClassHierarchy.paths` and :meth:`ClassHierarchy.superclasses` do, or if the
            cut's arguments do not go together.
    """
    classes = tuple(classes)
    hierarchy = os.path.expanduser(hierarchy)
    if os.path.splitext(hierarchy)[1].lower() == ".json":
        if replace(cut, align=False) != Cut():
            raise ValueError(
                f"{hierarchy} gives the classes' paths as they are; policy, collapse, depths, root, superclasses and "
                "overlap are for hierarchies of nodes: leave them out"
            )
        found, two_levels = _json_paths(hierarchy, classes, missing)
    elif cut.superclasses is not None:
        if cut.depths is not None or cut.root is not None or cut.policy is not None:
            raise ValueError("superclasses are levels of their own; leave out policy, depths and root")
        nodes = cut.superclasses
        if isinstance(nodes, str):
            if nodes not in _GROUPS:
                raise ValueError(
                    f"superclasses must be a list of nodes or one of {', '.join(_GROUPS)}; it is {nodes!r}"
                )
            nodes = _GROUPS[nodes]
        two_levels = True
        found = read_hierarchy(hierarchy).superclasses(nodes, classes, overlap=cut.overlap, missing=missing)
    else:
        two_levels = False
        found = read_hierarchy(hierarchy).paths(
            classes, policy=cut.policy, collapse=cut.collapse, depths=cut.depths, root=cut.root, missing=missing
        )
    deepest = max(map(len, found.paths.values()))
    if cut.align:
        found = replace(found, paths={name: _repeat_last(path, deepest) for name, path in found.paths.items()})
    names = ("superclass", "class") if two_levels else tuple(f"level{i}" for i in range(1, deepest + 1))
    return found, names


def _repeat_last(path: tuple[str, ...], length: int) -> tuple[str, ...]:
    return path + path[-1:] * (length - len(path))


def read_class_paths(path: str | os.PathLike[str]) -> dict[str, tuple[str, ...]]:
    r"""Reads a JSON object that gives each class's ancestors by name: a string, or a list with the coarsest first.

    One string a class, its superclass, is the form that the released code of hierarchical contrastive learning takes.

    Args:
        path: The file, in UTF-8.

    Returns:
        Class -> names, the last of them the class itself.

    Raises:
        ValueError: With the file, if it is no such object.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        ...     file.write('{"n02012849": "bird", "n03126707": ["artifact", "machine"]}') and file.flush()
        ...     read_class_paths(file.name)
        {'n02012849': ('bird', 'n02012849'), 'n03126707': ('artifact', 'machine', 'n03126707')}
    """
    try:
        data = json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: no JSON: {error}; is the file truncated?") from error
    if not isinstance(data, dict) or not data:
        raise ValueError(f"{path}: the file must be an object {{class: superclass or list of ancestors}}")
    paths = {}
    for name, value in data.items():
        above = [value] if isinstance(value, str) else value
        if not name or not isinstance(above, list) or any(not isinstance(part, str) or not part for part in above):
            raise ValueError(
                f"{path}: the class {name!r} must have a superclass or a list of ancestors, as non-empty strings, not "
                f"{value!r}"
            )
        paths[name] = (*above, name)
    return paths


def _json_paths(path: str, classes: Sequence[str], missing: str) -> tuple[LeafPaths, bool]:
    if missing not in ("error", "drop"):
        raise ValueError(f"missing must be one of 'error', 'drop'; it is {missing!r}")
    known = read_class_paths(path)
    lost = tuple(name for name in classes if name not in known)
    if lost and (missing == "error" or len(lost) == len(classes)):
        raise ValueError(
            f"{path} lacks {len(lost)} of the {len(classes)} classes: {some(lost)}; add them, or leave them out by "
            "missing='drop'"
        )
    if lost:
        warn(f"{path}: left out {len(lost)} of {len(classes)} classes: {some(lost)}")
    found = {name: known[name] for name in classes if name in known}
    return LeafPaths(found, lost), all(len(names) == 2 for names in known.values())


@DATASETS.register_module()
class ImageNet(HierarchicalDataset):
    """ImageNet (ILSVRC 2012), 1,281,167 training and 50,000 validation images of 1,000 classes, below a hierarchy.

    Only the classes that there are images of make up the tree, so ImageNet-100 and the like need nothing but their
    folders. The flat label ``wnid`` is the class at whatever depth it hangs: unless ``align`` is set, a level's column
    lacks those that hang higher. The images are for non-commercial research, under the terms of image-net.org.

    Args:
        data_root: The folder with ``train/<class>/<name>.JPEG`` and ``val``, which holds folders of classes or the
            50,000 files.
        hierarchy: What names the ancestors of the classes: a folder or file of :func:`read_hierarchy` (BREEDS,
            robustness, WordNet 3.0's ``data.noun``, edges), or a ``.json`` file of :func:`read_class_paths`.
        policy: Which parent a node with several keeps, see :meth:`ClassHierarchy.paths`.
        collapse: Whether chains of single children are collapsed, see :meth:`ClassHierarchy.paths`.
        depths: The depths of inner nodes that are kept, see :meth:`ClassHierarchy.paths`; all by default.
        root: The node to start below, where there are several or all but a branch shall go.
        superclasses: Make instead a tree of two levels with these nodes, see :meth:`ClassHierarchy.superclasses`;
            ``'mixed_10'`` stands for ten that the robustness library names. Images of other classes are left out.
        overlap: What happens to a class below several superclasses: ``'error'`` or ``'first'``.
        align: Whether a class whose path is shorter than the tree is deep is repeated below itself down to the finest
            level, so that every class is a node of that level: what losses and metrics over all classes need.
        missing: What happens to classes that the hierarchy lacks, of which BREEDS has 110: ``'error'``, or ``'drop'``
            leaves their images out.
        ann_file: A list of the images instead of a walk through the folders: one path a line, below ``data_root``.
        val_classes: The classes of images straight in ``val``: the devkit's folder or a list, see
            :func:`read_val_classes`; by default the devkit is looked for in ``data_root``.
        options: Those of :class:`HierarchicalDataset`; ``split`` is of ``'train'`` and ``'val'``.

    Raises:
        ValueError: As :func:`list_imagenet`, :func:`imagenet_paths`, :func:`read_val_classes` and
            :class:`HierarchicalDataset` do.
    """

    def __init__(
        self,
        *,
        data_root: str,
        hierarchy: str,
        policy: str | None = None,
        collapse: bool = True,
        depths: Sequence[int] | None = None,
        root: str | None = None,
        superclasses: Sequence[str] | str | None = None,
        overlap: str = "error",
        align: bool = False,
        missing: str = "error",
        ann_file: str | None = None,
        val_classes: str | None = None,
        **options: Any,
    ) -> None:
        self.hierarchy = hierarchy
        self.cut = Cut(policy, collapse, depths, root, superclasses, overlap, align)
        self.missing = missing
        self.ann_file = ann_file
        self.val_classes = val_classes
        super().__init__(data_root=data_root, **options)

    def read(self) -> Annotations:
        """Lists the images and gives every class its path."""
        root = self.data_root
        images = list_imagenet(root) if self.ann_file is None else read_image_list(self._at_root(self.ann_file))
        classes = classes_of(images, self.val_classes and self._at_root(self.val_classes), root)
        found, level_names = imagenet_paths(self.hierarchy, sorted(set(classes)), cut=self.cut, missing=self.missing)
        if found.dropped:
            rows = [row for row, name in enumerate(classes) if name in found.paths]
            warn(f"{root}: left out {len(images) - len(rows)} of {len(images)} images, of classes that are left out")
            images, classes = [images[row] for row in rows], [classes[row] for row in rows]
        return Annotations(
            images,
            [found.paths[name] for name in classes],
            ["train" if image.startswith("train/") else "val" for image in images],
            level_names,
            root,
            flat={"wnid": classes},
            source=f"ImageNet at {root!r}",
        )

    def _at_root(self, path: str) -> str:
        return os.path.join(self.data_root, os.path.expanduser(path))
