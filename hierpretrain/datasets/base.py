"""The base class of all data sets: images with labels, and items that repeat bit for bit."""

from __future__ import annotations

import itertools
import os
from abc import ABCMeta, abstractmethod
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.structures import BaseDataElement
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset

from hierpretrain._collection import without_collection
from hierpretrain.checks import check_flag, check_from_0, check_one_of
from hierpretrain.datasets.annotations import Annotations, find_images, nfc
from hierpretrain.datasets.messages import first, log, some, warn
from hierpretrain.datasets.on_error import Skipped, UnreadableImage, check_on_error
from hierpretrain.datasets.rng import seeded
from hierpretrain.datasets.split_files import with_split
from hierpretrain.datasets.stored_images import ImageStore
from hierpretrain.files import as_called
from hierpretrain.registry import TRANSFORMS
from hierpretrain.taxonomy import PAD, Taxonomy

_MOST_LISTED = 20  # splits, which a message has all of; more are hardly the splits that were meant


class HierarchicalDataset(Dataset, metaclass=ABCMeta):
    """The base class of data sets; a subclass returns its annotations in :meth:`read`.

    Ids of nodes and of labels outside the tree are made from all splits of the annotations, so that data sets with
    different splits of the same source agree on them. The random transforms of an item are seeded by ``(seed, epoch,
    index)``: items are the same with any number of workers, and in a resumed run.

    Args:
        data_root: The folder of the data set.
        split: The split, or a list of splits, to take the images of, in the order of the annotations; by default all.
        split_file: A file written by :meth:`Split.save`, whose tags replace the annotations' own; a path relative to
            the current folder, or absolute.
        pipeline: The transforms, as configs or callables; the first is usually ``dict(type='LoadRGB')``.
        level_names: New names for the levels, the coarsest first.
        taxonomy: A file written by :meth:`Taxonomy.save`; labels are then encoded with its tree instead of one made
            from the annotations. It may have more levels than they have. A path relative to the current folder, or
            absolute.
        paths: What happens to an image with several label paths. ``'all'`` keeps them all, which some samplers, losses
            and metrics do not support. ``'first'`` keeps the first path of the annotations, ``'longest'`` the longest
            (of equals, the first), and ``'drop'`` leaves the image out. The number of such images is logged.
        check_files: Whether to check at once that every chosen image exists and no link leads out of its folder.
        on_error: What a file or a link that cannot be read does. ``'error'`` raises. With ``'skip'``, files that are
            missing, broken links and links that lead out of the folder are left out; for an image that turns out to be
            unreadable when it is used, the next readable item with its own labels is returned, and its sample has
            ``stand_in=True``. Each is logged once and listed in :attr:`skipped`, and by a training in ``skipped.json``.
        seed: The seed of the random transforms, from 0. ``ExactResumeHook`` sets it to the run's seed.
        keep_annotations: Whether to keep the annotations. Training does not use them, and every worker would copy them.

    Attributes:
        annotations: The annotations of all splits, with the tags of ``split_file``; None if they are not kept.
        missing_keys: The keys of chosen images whose files were left out when the data set was made; none without keys.
        labels: (N, L) int64 label matrix of the chosen images; (N, P, L) if any image of any split keeps several paths.
        extra_labels: (N, F) int64 ids of the labels outside the tree, a column for each of
            ``metainfo['extra_label_names']``; ``PAD`` for none.
        taxonomy: The tree.
        metainfo: ``taxonomy`` (as :meth:`Taxonomy.to_dict`), ``extra_label_names``, ``extra_label_values`` (name of the
            column -> its values, in the order of their ids) and ``splits``. All are plain values, so that checkpoints
            can hold them.

    Raises:
        ValueError: If the annotations are wrong (see :class:`Annotations`), a split does not exist, ``level_names`` are
            too many or too few, the ``taxonomy`` file lacks a label, ``split_file`` does not list the same images, or
            files are missing.
    """

    image_stores: Sequence[ImageStore] = ()
    """What gives the images of a subclass that has no files; workers need it too."""

    @without_collection
    def __init__(
        self,
        *,
        data_root: str,
        split: str | Sequence[str] | None = None,
        split_file: str | None = None,
        pipeline: Sequence[dict[str, Any] | Callable[[dict[str, Any]], Any]] = (),
        level_names: Sequence[str] | None = None,
        taxonomy: str | None = None,
        paths: str = "all",
        check_files: bool = True,
        on_error: str = "error",
        seed: int = 0,
        keep_annotations: bool = False,
    ) -> None:
        check_on_error(on_error)
        check_flag(check_files=check_files, keep_annotations=keep_annotations)
        check_one_of("paths", paths, ("all", "first", "longest", "drop"))
        self.seed = seed
        self.data_root = as_called(os.path.normpath(os.path.expanduser(data_root)))
        self.on_error = on_error
        annotations = self.read()
        if split_file is not None:
            annotations = with_split(annotations, split_file)
        self.annotations = annotations if keep_annotations else None
        indices, splits = _choose(annotations, split)
        several = _choose_paths(annotations, paths)
        if any(not chosen for chosen in several.values()):
            indices = [index for index in indices if several.get(index, True)]
        if not indices:
            raise ValueError(
                f"paths='drop' leaves none of the chosen images of {annotations.source}: all have several paths; take "
                "'all', 'first' or 'longest'"
            )
        images = list(map(annotations.images.__getitem__, indices))
        skipped = {os.path.join(annotations.root, path): reason for path, reason in annotations.skipped.items()}
        self.missing_keys: list[str] = []
        if check_files and not annotations.found:
            unfound: dict[int, str] = {}
            images = find_images(images, annotations.root, unfound if on_error == "skip" else None, annotations.told)
            if unfound:
                skipped |= {os.path.join(annotations.root, images[i]): reason for i, reason in unfound.items()}
                warn(f"{annotations.source}: skipped {len(unfound)}: {'; '.join(first(unfound.values()))}")
                if len(unfound) == len(images):
                    raise UnreadableImage(
                        f"none of the {len(images)} images of {annotations.source} can be read; the first: "
                        f"{next(iter(unfound.values()))}"
                    )
                if annotations.keys:
                    self.missing_keys = [key for i in sorted(unfound) if (key := annotations.keys[indices[i]])]
                indices = [index for i, index in enumerate(indices) if i not in unfound]
                images = [image for i, image in enumerate(images) if i not in unfound]
        self.taxonomy = _tree(annotations, level_names, taxonomy)
        try:
            self.labels = _encode(self.taxonomy, annotations, several, indices)
        except ValueError as error:
            raise ValueError(f"{taxonomy or annotations.told} does not fit: {error}") from error
        self.extra_labels, extra_values = _extra_ids(annotations, indices)
        self.metainfo = {
            "taxonomy": self.taxonomy.to_dict(),
            "extra_label_names": tuple(annotations.extra_labels),
            "extra_label_values": extra_values,
            "splits": splits,
        }
        self._image_root = annotations.root
        self._images = _PackedStrings(images)
        self._keys = _PackedStrings([annotations.keys[index] for index in indices] if annotations.keys else [])
        self._metadata = {
            name: _PackedStrings([column[index] for index in indices]) for name, column in annotations.metadata.items()
        }
        code_of = {name: code for code, name in enumerate(splits)}
        codes = array("i", map(code_of.__getitem__, map(annotations.splits.__getitem__, indices)))
        self._split_codes = torch.tensor(np.frombuffer(codes, np.intc))
        self._epoch = _Shared(torch.zeros((), dtype=torch.int64))
        self._is_skipped = _Shared(torch.zeros(len(indices) if on_error == "skip" else 0, dtype=torch.bool))
        self._skipped = Skipped(skipped) if on_error == "skip" else None
        self._pipeline = Compose([TRANSFORMS.build(part) if isinstance(part, dict) else part for part in pipeline])

    @abstractmethod
    def read(self) -> Annotations:
        """Returns the annotations of all splits. The constructor calls it once, after it has set ``data_root``."""

    def full_init(self) -> None:
        """Does nothing, because the data set is complete when it is made. MMEngine's wrappers call it."""

    @property
    def seed(self) -> int:
        """The seed of the random transforms, in shared memory as the epoch is, and shared with shallow copies."""
        return int(self._seed.tensor)

    @seed.setter
    def seed(self, seed: int) -> None:
        check_from_0(seed=seed)
        if seed >= 2**63:
            raise ValueError(f"seed must be below 2**63; it is {seed}")
        if "_seed" not in self.__dict__:
            self._seed = _Shared(torch.zeros((), dtype=torch.int64))
        self._seed.tensor.fill_(seed)

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, which seeds the items. Call it before the epoch's iterator is made.

        The epoch is in shared memory, so that it reaches the persistent workers of a running ``DataLoader``. Batches
        that workers load ahead belong to the epoch in which they are loaded.
        """
        if epoch < 0:
            raise ValueError(f"the epoch must be an integer from 0; it is {epoch}")
        self._epoch.tensor.fill_(epoch)

    @property
    def image_paths(self) -> list[str]:
        """The paths of the N chosen images, below ``data_root``."""
        return [self._image_path(i) for i in range(len(self))]

    @property
    def splits(self) -> list[str]:
        """The split tags of the N chosen images."""
        names = self.metainfo["splits"]
        return [names[code] for code in self._split_codes.tolist()]

    @property
    def keys(self) -> list[str]:
        """The keys of the N chosen images; an empty list where the annotations have none."""
        return list(self._keys)

    @property
    def metadata(self) -> dict[str, list[str]]:
        """The other columns of the annotations for the N chosen images, by name, N texts each."""
        return {name: list(column) for name, column in self._metadata.items()}

    @property
    def skipped(self) -> dict[str, str]:
        """What this process and its workers skipped so far as unreadable, and why, by path."""
        return {} if self._skipped is None else self._skipped.to_dict()

    @property
    def num_skipped(self) -> int:
        """The number of different files and links that this process and its workers skipped so far as unreadable."""
        return len(self.skipped)

    def get_data_info(self, index: int) -> dict[str, Any]:
        """Returns an item before its transforms.

        Args:
            index: The index of the image; negative ones count from the end.

        Returns:
            ``img_path``; ``sample_idx``; ``gt_label``, an (L,) int64 array, (P, L) if images have several paths;
            ``extra_labels``, an (F,) int64 tensor; and ``split``.

        Raises:
            IndexError: If there is no such image.
        """
        index = self._from_start(index)
        return {
            "img_path": self._image_path(index),
            "sample_idx": index,
            "gt_label": self.labels[index].numpy().copy(),
            "extra_labels": self.extra_labels[index].clone(),
            "split": self.metainfo["splits"][int(self._split_codes[index])],
        }

    def get_cat_ids(self, index: int) -> list[int]:
        """Returns the classes of an image, which :class:`ClassBalancedDataset` asks for: see :func:`classes_of`.

        Raises:
            IndexError: If there is no such image.
        """
        return classes_of(self.labels[self._from_start(index)], self.taxonomy)

    def get_subset(self, indices: Sequence[int]) -> NoReturn:
        """Raises an error that says how to take a part of the images, for MMEngine's wrappers, which ask for one.

        Raises:
            ValueError: Always.
        """
        raise_no_subset(self)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Any:
        return self.load(self._from_start(index), self.get_data_info)

    def load(self, index: int, get_data_info: Callable[[int], dict[str, Any]], start: int = 0) -> Any:
        """Returns an item after its transforms.

        Args:
            index: The index of the image, from 0.
            get_data_info: Returns the item of an index before its transforms.
            start: Where this data set starts in a joined one; ``start + index`` seeds the transforms.

        Raises:
            UnreadableImage: If the image, or with ``on_error='skip'`` every image, cannot be read.
        """
        epoch = int(self._epoch.tensor)
        for candidate in (*range(index, len(self)), *range(index)) if self.on_error == "skip" else (index,):
            info = get_data_info(candidate)
            path = info["img_path"]
            try:
                with seeded(self.seed, epoch, start + index):
                    item = self._pipeline(info)
                if item is None:
                    raise UnreadableImage(f"the pipeline returned None for the image {path}")
                return item if candidate == index else _as_stand_in(item)
            except UnreadableImage as error:
                if self.on_error == "error":
                    raise UnreadableImage(
                        f"{error}; replace the file, or go on without it by on_error='skip'"
                    ) from error
                self._skip(candidate, error)
        raise UnreadableImage(f"none of the {len(self)} images can be read, {path} the last; repair the files")

    def _skip(self, index: int, error: UnreadableImage) -> None:
        if not self._is_skipped.tensor[index]:
            self._is_skipped.tensor[index] = True
            self._skipped.add(self._image_path(index), str(error))
            warn(f"skipped: {error}")

    def _from_start(self, index: int) -> int:
        """Returns an index that counts from the start."""
        positive = int(index) + len(self) * (index < 0)
        if not 0 <= positive < len(self):
            raise IndexError(f"there is no item {index}: the data set has {len(self)}")
        return positive

    def _image_path(self, index: int) -> str:
        return os.path.join(self._image_root, self._images[index])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} images of {', '.join(self.metainfo['splits'])}; {self.taxonomy!r})"


def _as_stand_in(item: Any) -> Any:
    """Notes on a packed item that its image is another than the one that was asked for."""
    sample = item.get("data_samples") if isinstance(item, Mapping) else None
    if isinstance(sample, BaseDataElement):
        sample.set_metainfo({"stand_in": True})
    return item


def classes_of(row: Tensor, taxonomy: Taxonomy) -> list[int]:
    """Returns the classes of an image, the nodes where its paths end, by a number that counts through all levels.

    Args:
        row: (L,) labels of the image, or (P, L) labels of several paths.
        taxonomy: Their tree.

    Example:
        >>> tree = Taxonomy([("animal", "cat"), ("animal", "dog"), ("tool",)], ("kingdom", "kind"))
        >>> [classes_of(row, tree) for row in tree.encode([("tool",), ("animal", "dog"), ()])]
        [[1], [3], []]
    """
    first_of_level = [0, *itertools.accumulate(taxonomy.num_nodes(i + 1) for i in range(taxonomy.num_levels))]
    paths = [[node for node in path if node != PAD] for path in row.reshape(-1, taxonomy.num_levels).tolist()]
    return [first_of_level[len(path) - 1] + path[-1] for path in paths if path]


def raise_no_subset(data: Any) -> NoReturn:
    """Raises the ValueError about a part of a data set's images that is asked for by indices."""
    raise ValueError(
        f"{type(data).__name__} gives no part of itself by indices; choose images by split=..., with split_file=... "
        "for folds of your own, or with torch.utils.data.Subset"
    )


def _choose(annotations: Annotations, split: str | Sequence[str] | None) -> tuple[list[int], tuple[str, ...]]:
    """Returns the indices of the images of the chosen splits, and the splits."""
    existing = tuple(dict.fromkeys(annotations.splits))
    if split is None:
        return list(range(len(annotations.images))), existing
    splits = (split,) if isinstance(split, str) else tuple(split)
    splits = tuple(dict.fromkeys(nfc(name) if isinstance(name, str) else name for name in splits))
    if not splits or (unknown := [name for name in splits if name not in existing]):
        there = list(existing) if len(existing) <= _MOST_LISTED else f"[{some(existing)}]"
        raise ValueError(f"there is no split {unknown[0] if splits else ()!r}; {annotations.source} has {there}")
    chosen = set(splits)
    return [index for index, tag in enumerate(annotations.splits) if tag in chosen], splits


def _tree(annotations: Annotations, level_names: Sequence[str] | None, file: str | None) -> Taxonomy:
    """Returns the tree of the annotations, or of the file if one is given."""
    names = annotations.level_names if level_names is None else tuple(level_names)
    if len(names) != len(annotations.level_names):
        raise ValueError(
            f"level_names must name the {len(annotations.level_names)} levels {annotations.level_names!r} of "
            f"{annotations.source}, one for one; they are {names!r}"
        )
    if file is None:
        try:
            return Taxonomy(annotations.different_paths, names)
        except ValueError as error:
            raise ValueError(f"{annotations.told} makes no label tree: {error}") from error
    tree = Taxonomy.load(file)
    if level_names is not None and tuple(map(nfc, names)) != tree.level_names:
        raise ValueError(f"level_names are {names!r} but {file} has {tree.level_names!r}; leave level_names out")
    return tree


def _choose_paths(annotations: Annotations, policy: str) -> dict[int, tuple[tuple[str, ...], ...]]:
    """Returns index -> the label paths that the policy keeps, none to drop the image, for images with more labels."""
    chosen = {}
    num_several = 0
    for index in annotations.more_labels:
        chosen[index] = paths = tuple(annotations.paths(index))
        if len(paths) > 1:
            num_several += 1
            kept = {"all": paths, "first": paths[:1], "longest": (max(paths, key=len),), "drop": ()}
            chosen[index] = kept[policy]
    if num_several:
        log(
            f"{annotations.source}: {num_several} of {len(annotations.images)} images have several label paths; "
            f"paths={policy!r}"
        )
    return chosen


def _encode(
    tree: Taxonomy,
    annotations: Annotations,
    several: Mapping[int, tuple[tuple[str, ...], ...]],
    indices: list[int],
) -> Tensor:
    """Returns the labels of some images, (N, L), or (N, P, L) for the largest number P of paths of any image."""
    # Equal paths are encoded once, because there are far fewer different ones than images.
    chosen: Sequence[Any] = annotations.labels
    if len(indices) < len(chosen):
        chosen = list(map(chosen.__getitem__, indices))
    different: Any = annotations.different_paths
    if several:
        chosen = [several.get(index, (label,)) for index, label in zip(indices, chosen, strict=True)]
        different = dict.fromkeys(chosen)
    elif len(indices) < len(annotations.labels):  # a tree of a file need not have the others
        different = dict.fromkeys(chosen)
    unique = {paths: i for i, paths in enumerate(different)}
    encoded = tree.encode(unique)
    # P is the same for all splits, so that their labels have the same shape.
    if (most := max(map(len, several.values()), default=1)) > 1:
        encoded = encoded.reshape(len(unique), -1, tree.num_levels)
        encoded = pad(encoded, (0, 0, 0, most - encoded.shape[1]), value=PAD)
    return encoded[torch.tensor(np.fromiter(map(unique.__getitem__, chosen), np.int64, len(chosen)))]


def _extra_ids(annotations: Annotations, indices: list[int]) -> tuple[Tensor, dict[str, tuple[str, ...]]]:
    """Returns the (N, F) ids of the labels outside the tree, ``PAD`` for an empty one, and the values of each column.

    The ids of a column count from 0 in the sorted order of the values.
    """
    ids = torch.empty(len(indices), len(annotations.extra_labels), dtype=torch.int64)
    values = {name: tuple(sorted(set(column) - {""})) for name, column in annotations.extra_labels.items()}
    for i, (name, column) in enumerate(annotations.extra_labels.items()):
        id_of = {"": PAD} | {value: number for number, value in enumerate(values[name])}
        ids[:, i] = torch.tensor([id_of[column[index]] for index in indices], dtype=torch.int64)
    return ids, values


class _PackedStrings:
    """A sequence of strings in one buffer.

    Of millions of string objects, every forked worker would make copies, because looking at one changes its reference
    count.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        self._buffer = os.fsencode("".join(strings))
        lengths = np.fromiter(map(len, strings), np.int64, len(strings))
        if len(self._buffer) > lengths.sum():  # not a byte each letter
            lengths = np.fromiter(map(len, map(os.fsencode, strings)), np.int64, len(strings))
        self._ends = torch.zeros(len(strings) + 1, dtype=torch.int64)
        self._ends[1:] = torch.tensor(lengths.cumsum())

    def __iter__(self) -> Iterator[str]:
        ends = self._ends.tolist()
        return (os.fsdecode(self._buffer[start:end]) for start, end in itertools.pairwise(ends))

    def __getitem__(self, i: int) -> str:
        start, end = self._ends[i : i + 2].tolist()
        return os.fsdecode(self._buffer[start:end])


class _Shared:
    """A tensor in shared memory whose deep copies are in shared memory too. MMEngine deep-copies configs."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.share_memory_()

    def __deepcopy__(self, memo: dict[int, Any]) -> _Shared:
        return _Shared(self.tensor.clone())
