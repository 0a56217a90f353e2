"""ImageNet (ILSVRC 2012) below a class hierarchy."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hierpretrain.checks import check_flag, check_one_of
from hierpretrain.datasets.annotations import Annotations
from hierpretrain.datasets.base import HierarchicalDataset
from hierpretrain.datasets.folders import numbered_levels
from hierpretrain.datasets.hierarchy import LeafPaths
from hierpretrain.datasets.imagenet_files import classes_of, list_imagenet, read_image_list
from hierpretrain.datasets.messages import some, warn
from hierpretrain.datasets.text_files import read_json_file
from hierpretrain.datasets.wordnet import MIXED_10, read_hierarchy
from hierpretrain.registry import DATASETS

_GROUPS = {"mixed_10": MIXED_10}


@dataclass(frozen=True)
class Cut:
    """The options of :class:`ImageNet` that say which tree is made of a class hierarchy; explained there."""

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
    """Returns the label paths of classes, from any file that gives their ancestors.

    Args:
        hierarchy: A file or folder for :func:`read_hierarchy`, or a ``.json`` file for :func:`read_ancestors`.
        classes: The classes, as ImageNet's folders are named.
        cut: The tree that is made of the hierarchy. A JSON file gives the paths themselves; only ``align`` of the cut
            applies to it.
        missing: What happens to classes that the hierarchy lacks: ``'error'`` raises, ``'drop'`` leaves them out.

    Returns:
        The paths, and a name for every level: ``('superclass', 'class')`` for superclasses and for a JSON file with one
        superclass for each class, otherwise ``level1`` to ``levelL``.

    Raises:
        ValueError: If options of the cut do not go together; and as :func:`read_hierarchy`, :func:`read_ancestors`,
            :meth:`ClassHierarchy.paths` and :meth:`ClassHierarchy.superclasses`.
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
    return found, ("superclass", "class") if two_levels else numbered_levels(deepest)


def _repeat_last(path: tuple[str, ...], length: int) -> tuple[str, ...]:
    return path + path[-1:] * (length - len(path))


def read_ancestors(path: str | os.PathLike[str]) -> dict[str, tuple[str, ...]]:
    r"""Reads a JSON file that gives the names of every class's ancestors.

    Args:
        path: The file, in UTF-8: an object of class -> superclass, or of class -> list of ancestors, the coarsest
            first. Paper A's released code uses the first form.

    Returns:
        Class -> label path: the names of the ancestors, then the class itself.

    Raises:
        ValueError: With the file, if it is no such object.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        ...     file.write('{"n02012849": "bird", "n03126707": ["artifact", "machine"]}') and file.flush()
        ...     read_ancestors(file.name)
        {'n02012849': ('bird', 'n02012849'), 'n03126707': ('artifact', 'machine', 'n03126707')}
    """
    data = read_json_file(path, "correct the file")
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
    """Returns the paths of some classes by a JSON file, and whether the file gives one superclass for each class."""
    check_one_of("missing", missing, ("error", "drop"))
    known = read_ancestors(path)
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
    """ImageNet (ILSVRC 2012) with a class hierarchy: 1,281,167 training and 50,000 validation images of 1,000 classes.

    The tree is made of the classes that have images, so subsets such as ImageNet-100 need nothing but their folders.
    The extra label ``wnid`` is always the class. A level of the tree may lack classes whose path ends above it, unless
    ``align`` is set. The images are for non-commercial research, under the terms of image-net.org.

    Args:
        data_root: The folder with ``train/<class>/<name>.JPEG`` and ``val``. ``val`` has folders of classes, or all
            50,000 files directly.
        hierarchy: The class hierarchy: a folder or file for :func:`read_hierarchy` (BREEDS, robustness, WordNet 3.0's
            ``data.noun``, edges), or a ``.json`` file for :func:`read_ancestors`.
        policy: Which parent a node with several parents keeps, see :meth:`ClassHierarchy.paths`.
        collapse: Whether chains of single children are collapsed, see :meth:`ClassHierarchy.paths`.
        depths: The depths of the inner nodes to keep, see :meth:`ClassHierarchy.paths`; all by default.
        root: The node that the tree starts below, to choose one of several roots or a branch.
        superclasses: Nodes to make a tree of two levels with instead, see :meth:`ClassHierarchy.superclasses`.
            ``'mixed_10'`` stands for ten superclasses of the robustness library. Images of other classes are left out.
        overlap: What happens to a class below several superclasses: ``'error'`` raises, with ``'first'`` it is below
            the first of them.
        align: Whether a class with a path shorter than the deepest is repeated below itself down to the finest level.
            Every class is then a node of the finest level, which losses and metrics over all classes need.
        missing: What happens to classes that the hierarchy lacks (BREEDS lacks 110): ``'error'`` raises, ``'drop'``
            leaves their images out.
        ann_file: A list of the images, one path below ``data_root`` a line, to be used instead of listing the folders.
        val_classes: The classes of images directly in ``val``: the devkit's folder or a list, see
            :func:`read_val_classes`. By default the devkit is looked for in ``data_root``.
        options: The options of :class:`HierarchicalDataset`; the splits are ``'train'`` and ``'val'``.

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
        check_flag(collapse=collapse, align=align)
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
            kept = [index for index, name in enumerate(classes) if name in found.paths]
            warn(f"{root}: left out {len(images) - len(kept)} of {len(images)} images, of classes that are left out")
            images, classes = [images[index] for index in kept], [classes[index] for index in kept]
        return Annotations(
            images,
            [found.paths[name] for name in classes],
            ["train" if image.startswith("train/") else "val" for image in images],
            level_names,
            root,
            extra_labels={"wnid": classes},
            source=f"ImageNet at {root!r}",
            lists=", ".join(filter(None, (self.ann_file, self.val_classes, str(self.hierarchy)))),
        )

    def _at_root(self, path: str) -> str:
        return os.path.join(self.data_root, os.path.expanduser(path))
