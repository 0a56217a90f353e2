"""The images that people give to be embedded, as one list with the labels that are known of them."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Subset

from hierpretrain import registry
from hierpretrain.apis.config import nearest_names
from hierpretrain.apis.dataset_configs import set_data_root, set_option, without_pipelines
from hierpretrain.apis.index_format import plain_path
from hierpretrain.apis.patterns import find_files
from hierpretrain.datasets import HierarchicalDataset, ListDataset, UnreadableImage
from hierpretrain.datasets.annotations import NO_SPLIT, nfc
from hierpretrain.datasets.folders import numbered_levels, walk_folder
from hierpretrain.datasets.grey import checked_range
from hierpretrain.datasets.joined import JoinedDataset, join_known, join_labels, parts_of
from hierpretrain.datasets.loading import as_rgb, open_rgb
from hierpretrain.datasets.messages import log
from hierpretrain.datasets.on_error import check_on_error
from hierpretrain.datasets.stored_images import ImageStore
from hierpretrain.datasets.tables import READERS
from hierpretrain.files import as_called
from hierpretrain.taxonomy import Taxonomy

Picture = str | os.PathLike[str] | NDArray[np.uint8] | Image.Image
"""One image: a file, an (H, W, 3) RGB or (H, W) grey array of uint8, or a picture of Pillow's."""
Images = Picture | HierarchicalDataset | Iterable[Any]
"""An image, a folder, a glob pattern, a list file, a data set, torch's ``Subset`` of one, or several of these."""


@dataclass(frozen=True)
class ImageSet:
    """N images to be read, with their labels; an image without a label hangs on the root of the tree.

    Attributes:
        sources: N files, arrays or pictures.
        paths: N names: the file, without ``'./'`` and doubled slashes; or ``'<image 3>'`` for the fourth of a list.
        labels: (N, L) or (N, P, L) labels; L is 0 where no image has a label.
        splits: N split tags.
        taxonomy: The tree.
        extra_labels: (N, F) labels outside the tree.
        extra_names: Their F names.
        extra_values: What the ids of extra labels stand for.
        keys: N texts by which people know the images, empty for none; or nothing at all.
        metadata: What else is known of the images: name -> N texts, empty for none.
        skipped: Files and links that cannot be read and were left out: path -> reason.
        missing_keys: The keys of those that a list has keys of.
        stores: What gives the images that are no files; processes that read images need it.
        silent: N sets of what the source of an image says nothing of, ``'labels'`` and ``'metadata'``: of single files,
            patterns and folders without sub-folders, its labels, which is not the same as that it has none.
        folders: N folders whose sub-folders are an image's label; empty where something else says it.
    """

    sources: Sequence[Picture]
    paths: list[str]
    labels: Tensor
    splits: list[str]
    taxonomy: Taxonomy
    extra_labels: Tensor
    extra_names: tuple[str, ...] = ()
    extra_values: Mapping[str, Sequence[str]] = field(default_factory=dict)
    keys: Sequence[str] = ()
    metadata: Mapping[str, Sequence[str]] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    missing_keys: Sequence[str] = ()
    stores: Sequence[ImageStore] = ()
    silent: Sequence[frozenset[str]] = ()
    folders: Sequence[str] = ()

    def subset(self, indices: Sequence[int]) -> ImageSet:
        """Returns the images of some indices, in their order."""
        chosen = list(indices)
        return replace(
            self,
            sources=[self.sources[i] for i in chosen],
            paths=[self.paths[i] for i in chosen],
            labels=self.labels[chosen],
            splits=[self.splits[i] for i in chosen],
            extra_labels=self.extra_labels[chosen],
            keys=[self.keys[i] for i in chosen] if self.keys else (),
            metadata={name: [column[i] for i in chosen] for name, column in self.metadata.items()},
            silent=[self.silent[i] for i in chosen] if self.silent else (),
            folders=[self.folders[i] for i in chosen] if self.folders else (),
        )


def gather_images(images: Images, *, on_error: str = "error", **list_options: Any) -> ImageSet:
    """Lists the images of a file, a folder, a pattern, a list, a data set or several of these, with their labels.

    A folder is searched with all that lies below it, and the folders to an image are its labels, as in
    :class:`~hierpretrain.datasets.FolderDataset`. A list (CSV, JSON, JSON Lines, Excel or Parquet) is read
    as by :class:`~hierpretrain.datasets.ListDataset`, with images relative to the list's folder, and need not have
    labels. A pattern such as ``'photos/**/*.jpg'`` gives images without labels, and so do single files, arrays and
    pictures; a pattern follows links as a folder does. The levels of a folder beside a list take the names of the
    list's.

    Args:
        images: An image, a folder, a pattern, a list, a data set, torch's ``Subset`` of one, or a list, a tuple or an
            iterator of these.
        on_error: What a file that is missing, a broken link and a link that leads out of its folder do: ``'error'``
            raises, ``'skip'`` leaves them out and says so. Files are not opened here.
        list_options: How lists are read: options of :class:`~hierpretrain.datasets.ListDataset`, such as ``levels``,
            ``image_column``, ``key_column`` and ``encoding``; and ``data_root``, the folder that their images are
            relative to.

    Raises:
        ValueError: If there is no such file, a folder or a pattern has no image, a link leads out of either, an array
            is no image, parts of a sequence name their levels differently, or there are options of lists and no list.

    Example:
        >>> found = gather_images([np.zeros((8, 8, 3), np.uint8), Image.new("RGB", (8, 8))])
        >>> found.paths, found.labels.shape
        (['<image 0>', '<image 1>'], torch.Size([2, 0]))
    """
    check_on_error(on_error)
    if isinstance(images, np.ndarray) and images.ndim == 4:
        images = list(images)
    if not isinstance(images, list | tuple | Iterator):
        images = [images]
    given: list[Any] = []
    parts: list[ImageSet] = []
    for one in images:
        given.append(one)
        part = _part(one, sum(len(part.paths) for part in parts), on_error, list_options)
        parts.append(_told_alike(part, has_levels=_is_list(one) and bool(list_options.get("levels"))))
    if not parts:
        raise ValueError("there is no image to embed: the list that was given is empty")
    if list_options and not any(map(_is_list, given)):
        raise ValueError(
            f"{', '.join(list_options)} say how a list is read, and there is no list among the images: leave them out"
        )
    return parts[0] if len(parts) == 1 else _joined(parts)


def config_dataset(
    config: Config,
    data_root: str | None = None,
    splits: str | Sequence[str] | None = None,
    on_error: str | None = None,
) -> HierarchicalDataset:
    """Builds the data set that a config tests on (or validates on, if it has no test), without its transforms.

    Args:
        config: The config.
        data_root: The folder of the data set; by default the config's.
        splits: The splits; by default the config's.
        on_error: What files and links that cannot be read do; by default as the config has it.

    Raises:
        ValueError: If the config has no such data set, and as the data set.
    """
    loader = config.get("test_dataloader") or config.get("val_dataloader")
    if not loader:
        raise ValueError("the config has no test_dataloader: name the images, or take a config that has one")
    options = without_pipelines(loader.dataset)
    if data_root is not None:
        set_data_root(options, data_root)
    if splits is not None:
        set_option(options, "split", splits)
    if on_error is not None:
        check_on_error(on_error)
        set_option(options, "on_error", on_error)
    with nearest_names():
        return registry.DATASETS.build({"_scope_": "hierpretrain", **options})


def read_picture(
    source: Picture,
    min_side: int | None = None,
    *,
    grey_range: Sequence[float] | None = None,
    max_pixels: int | None = None,
    name: str = "of Pillow's",
) -> Image.Image:
    """Returns an image, wherever it comes from, as an upright picture of mode RGB.

    ``name`` is what a message shall call a picture of Pillow's; the other options are as for
    :func:`~hierpretrain.datasets.loading.open_rgb`, and so are the errors, :class:`UnreadableImage`.
    """
    grey_range = None if grey_range is None else checked_range(grey_range)
    if isinstance(source, np.ndarray):
        return Image.fromarray(source).convert("RGB")
    if isinstance(source, Image.Image):
        try:
            return as_rgb(source, grey_range, name=name)
        except Exception as error:  # it may be a file that was opened and not read yet
            raise UnreadableImage(f"cannot read the image {name}: {error or type(error).__name__}") from error
    return open_rgb(os.fspath(source), min_side, grey_range=grey_range, max_pixels=max_pixels)


def _is_list(one: Any) -> bool:
    """Returns whether an entry of what was given is the file of a list."""
    if not isinstance(one, str | os.PathLike):
        return False
    path = as_called(os.path.expanduser(os.fspath(one)))
    return path.lower().endswith(tuple(READERS)) and os.path.isfile(path)


def _part(one: Any, number: int, on_error: str, list_options: Mapping[str, Any]) -> ImageSet:
    """Reads one entry of what was given; ``number`` images came before it."""
    if isinstance(one, HierarchicalDataset | JoinedDataset):
        paths = one.image_paths
        meta = one.metainfo
        return ImageSet(
            paths,
            paths,
            one.labels,
            one.splits,
            one.taxonomy,
            one.extra_labels,
            meta["extra_label_names"],
            meta["extra_label_values"],
            keys=one.keys,
            metadata=one.metadata,
            skipped=one.skipped,
            missing_keys=[key for part in parts_of(one) for key in part.missing_keys],
            stores=one.image_stores,
        )
    if isinstance(one, Subset):
        return _part(one.dataset, number, on_error, list_options).subset(one.indices)
    if isinstance(one, Image.Image):
        if 0 in one.size:
            raise ValueError(f"a picture must have pixels; <image {number}> is {one.width} x {one.height}")
        return _unlabelled([one], [f"<image {number}>"])
    if isinstance(one, np.ndarray):
        return _unlabelled([_checked_array(one)], [f"<image {number}>"])
    if not isinstance(one, str | os.PathLike):
        hint = "; of a (3, H, W) tensor give tensor.permute(1, 2, 0).numpy()" if isinstance(one, Tensor) else ""
        raise ValueError(
            f"an image must be a path, an array (H, W, 3), a picture of Pillow's or a data set; it is {type(one)}{hint}"
        )
    path = as_called(os.path.expanduser(os.fspath(one)))
    if os.path.isdir(path):
        return _folder(path, on_error)
    if os.path.isfile(path):
        if _is_list(path):
            options = {"data_root": os.path.dirname(path) or ".", "need_labels": False, **list_options}
            listed = ListDataset(ann_file=os.path.abspath(path), on_error=on_error, **options)
            return _part(listed, number, on_error, {})
        return _unlabelled([path], [path])
    if glob.has_magic(path):
        found = find_files(path)
        if not found:
            raise ValueError(f"no file matches the pattern {path!r}; '**' stands for any folders")
        return _unlabelled(found, found)
    raise ValueError(f"there is no image, folder, list or pattern {path!r}; correct the path")


def _told_alike(images: ImageSet, *, has_levels: bool) -> ImageSet:
    """Returns images of one source whose files have one name each, however they are given, and what it is silent on.

    Args:
        images: The images.
        has_levels: Whether the source has columns of levels, also where all are empty.
    """
    skipped = {plain_path(path): reason for path, reason in images.skipped.items()}
    said = {"labels": has_levels or images.taxonomy.num_levels, "metadata": images.metadata}
    silent = frozenset(name for name, value in said.items() if not value)
    number = len(images.paths)
    return replace(
        images,
        paths=list(map(plain_path, images.paths)),
        skipped=skipped,
        silent=[silent] * number,
        folders=images.folders or [""] * number,
    )


def _checked_array(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)) or 0 in array.shape:
        raise ValueError(
            "an array must be an image, (H, W, 3) in RGB or (H, W) in grey, of uint8 from 0 to 255; this one is "
            f"{array.shape} of {array.dtype}"
        )
    return np.ascontiguousarray(array)


def _folder(root: str, on_error: str) -> ImageSet:
    found = walk_folder(root, on_error=on_error)
    found.tell(root)
    if not found.images:
        raise ValueError(f"the folder {root!r} holds no image, neither do its sub-folders; correct the path")
    labels = [tuple(map(nfc, label)) for label in found.labels]
    tree = Taxonomy(labels, numbered_levels(max(map(len, labels))))
    paths = [str(Path(root, image)) for image in found.images]
    skipped = {str(Path(root, path)): reason for path, reason in found.skipped.items()}
    images = _image_set(paths, paths, tree, tree.encode(labels))
    return replace(images, skipped=skipped, folders=[plain_path(root.rstrip("/") or "/")] * len(paths))


def _unlabelled(sources: Sequence[Picture], paths: list[str]) -> ImageSet:
    return _image_set(sources, paths, Taxonomy((), ()), torch.empty(len(paths), 0, dtype=torch.int64))


def _image_set(sources: Sequence[Picture], paths: list[str], tree: Taxonomy, labels: Tensor) -> ImageSet:
    """Returns images without splits or extra labels."""
    return ImageSet(
        sources, paths, labels, [NO_SPLIT] * len(paths), tree, torch.empty(len(paths), 0, dtype=torch.int64)
    )


def in_levels(tree: Taxonomy, names: Sequence[str], whose: str) -> Taxonomy:
    """Returns a tree with names for those levels that have none but the default ones, as a folder's have.

    Args:
        tree: The tree.
        names: The names, the coarsest level's first; those of deeper levels stay.
        whose: What has the names, for the log.

    Example:
        >>> in_levels(Taxonomy([("cat", "tabby")], ["level1", "level2"]), ["kind"], "the list's").level_names
        ('kind', 'level2')
    """
    own = tree.level_names
    new = (*names[: len(own)], *own[len(names) :])
    default = numbered_levels(len(own))
    fits = all(name in pair for name, *pair in zip(own, names, default, strict=False))
    if not fits or new == own or len(set(new)) < len(new):  # a level of the names may be level3, and be another one
        return tree
    log(f"levels have the names of {whose}: {', '.join(own)} are {', '.join(new)}")
    return Taxonomy.from_dict({**tree.to_dict(), "level_names": list(new)})


def _joined(parts: Sequence[ImageSet]) -> ImageSet:
    """Puts parts together under one tree; extra labels, whose ids differ from set to set, are left out."""
    named = [part.taxonomy.level_names for part in parts]
    named = [names for names in named if names != numbered_levels(len(names))]
    names = max(named, key=len, default=())
    tree, labels = join_labels([(in_levels(part.taxonomy, names, "the others"), part.labels) for part in parts])
    sources = [source for part in parts for source in part.sources]
    paths = [path for part in parts for path in part.paths]
    keys, metadata = join_known([(len(part.paths), part.keys, part.metadata) for part in parts])
    skipped = {path: reason for part in parts for path, reason in part.skipped.items()}
    return replace(
        _image_set(sources, paths, tree, labels),
        keys=keys,
        metadata=metadata,
        skipped=skipped,
        missing_keys=[key for part in parts for key in part.missing_keys],
        stores=[store for part in parts for store in part.stores],
        silent=[silent for part in parts for silent in part.silent],
        folders=[folder for part in parts for folder in part.folders],
    )
