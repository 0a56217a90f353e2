"""The data set that all others derive from: columns of paths and label rows, and items that repeat bit for bit."""

from __future__ import annotations

import logging
import os
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmengine.dataset import Compose
from mmengine.logging import print_log
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset

from hierpretrain.datasets.annotations import Annotations, check_images
from hierpretrain.datasets.loading import UnreadableImage
from hierpretrain.datasets.rng import seeded
from hierpretrain.datasets.splits import with_split
from hierpretrain.registry import TRANSFORMS
from hierpretrain.taxonomy import PAD, Taxonomy


class HierarchicalDataset(Dataset, metaclass=ABCMeta):
    """Images with label rows; a subclass says in :meth:`read` what the annotations are.

    Node ids and flat label ids are given from all splits of the annotations, whichever are chosen, so data sets of one
    source agree on them. An item's random transforms are seeded by ``(seed, epoch, index)`` alone: items are the same
    with any number of workers, and a resumed run repeats them.

    Args:
        data_root: The folder of the data set.
        split: The split, or a list of splits, whose images are taken, in the order of the annotations; all by default.
        split_file: A file that :meth:`Split.save` wrote; its tags then replace the annotations' own. A relative path is
            relative to the current folder, as for ``taxonomy``.
        pipeline: Transforms, as configs or callables; the first is usually ``dict(type='LoadRGB')``.
        level_names: New names for the levels, the coarsest first.
        taxonomy: A file that :meth:`Taxonomy.save` wrote, to encode with instead of a tree made from the annotations;
            it may have more levels than they do.
        paths: What becomes of an image that hangs in several places of the tree. ``'all'`` keeps all its paths, for
            the samplers, losses and metrics that take several. For those that do not, ``'first'`` keeps the
            annotations' first path, ``'longest'`` the longest (of equals, the first), and ``'drop'`` leaves the image
            out. How many images it is about is logged.
        check_files: Whether to look, at once, that every chosen image is there and no link leads out of its folder.
        on_error: What an unreadable image does. ``'error'`` raises; with ``'skip'`` the next readable item, with its
            own labels, takes its place, and the file is logged once and counted in ``num_skipped``.
        seed: The seed of the random transforms, from 0; ``ExactResumeHook`` puts the run's in its place.
        keep_annotations: Whether to keep the annotations, which training has no use for and every worker would copy.

    Attributes:
        annotations: Those of all splits, with the tags of ``split_file``, if they are kept; else None.
        labels: (N, L) int64 label matrix of the chosen images; (N, P, L) if any image of any split keeps several paths.
        flat_labels: (N, F) int64, the labels outside the tree, one column a name in ``metainfo['flat_label_names']``;
            ``PAD`` for none.
        taxonomy: The tree.
        metainfo: ``taxonomy`` (as :meth:`Taxonomy.to_dict`), ``flat_label_names``, ``flat_label_values`` (name -> the
            values, in the order of their ids) and ``splits``; plain values, as they go into checkpoints.

    Raises:
        ValueError: If the annotations are wrong (see :class:`Annotations`), a split does not exist, ``level_names`` are
            too many or too few, the ``taxonomy`` file lacks a label, ``split_file`` does not list the same images, or
            files are missing.
    """

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
        if on_error not in ("error", "skip"):
            raise ValueError(f"on_error must be 'error' or 'skip'; it is {on_error!r}")
        if paths not in ("all", "first", "longest", "drop"):
            raise ValueError(f"paths must be 'all', 'first', 'longest' or 'drop'; it is {paths!r}")
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed must be an integer from 0; it is {seed!r}")
        self.data_root = os.path.normpath(os.path.expanduser(data_root))
        self.on_error = on_error
        self.seed = seed
        annotations = self.read()
        if split_file is not None:
            annotations = with_split(annotations, split_file)
        self.annotations = annotations if keep_annotations else None
        rows, splits = _choose(annotations, split)
        labels = _chosen_paths(annotations, paths)
        rows = [row for row in rows if row in labels]
        if not rows:
            raise ValueError(
                f"paths='drop' leaves none of the chosen images of {annotations.source}: all hang in several places; "
                "take 'all', 'first' or 'longest'"
            )
        images = [annotations.images[row] for row in rows]
        if check_files:
            check_images(images, annotations.root)
        self.taxonomy = _tree(annotations, level_names, taxonomy)
        self.labels = _encode(self.taxonomy, labels, rows)
        self.flat_labels, flat_values = _flat_ids(annotations, rows)
        self.metainfo = {
            "taxonomy": self.taxonomy.to_dict(),
            "flat_label_names": tuple(annotations.flat),
            "flat_label_values": flat_values,
            "splits": splits,
        }
        self._image_root = annotations.root
        self._images = _PackedStrings(images)
        self._split_codes = torch.tensor([splits.index(annotations.splits[row]) for row in rows], dtype=torch.int16)
        self._epoch = _Shared(torch.zeros((), dtype=torch.int64))
        self._skipped = _Shared(torch.zeros(len(rows) if on_error == "skip" else 0, dtype=torch.bool))
        self._pipeline = Compose([TRANSFORMS.build(part) if isinstance(part, dict) else part for part in pipeline])

    @abstractmethod
    def read(self) -> Annotations:
        """Returns the annotations of all splits; called once, by the constructor, when ``data_root`` is set."""

    def full_init(self) -> None:
        """Does nothing: the data set is complete when it is made. MMEngine's wrappers call it."""

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch that items are drawn for; to be called before each epoch's iterator is made.

        The number lives in shared memory, so it reaches the persistent workers of a running ``DataLoader``. Batches
        that workers have already drawn, or draw ahead, are of the epoch in which they are drawn.
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
    def num_skipped(self) -> int:
        """How many different images were unreadable so far and skipped, in this process and its workers."""
        return int(self._skipped.tensor.sum())

    def get_data_info(self, index: int) -> dict[str, Any]:
        """Returns an item before its transforms.

        Args:
            index: A row of ``labels``; negative ones count from the end.

        Returns:
            ``img_path``; ``sample_idx``; ``gt_label``, an (L,) int64 array, (P, L) if images have several paths;
            ``flat_label``, an (F,) int64 tensor; and ``split``.

        Raises:
            IndexError: If there is no such row.
        """
        index = self._row(index)
        return {
            "img_path": self._image_path(index),
            "sample_idx": index,
            "gt_label": self.labels[index].numpy().copy(),
            "flat_label": self.flat_labels[index].clone(),
            "split": self.metainfo["splits"][int(self._split_codes[index])],
        }

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Any:
        index = self._row(index)
        epoch = int(self._epoch.tensor)
        for row in (*range(index, len(self)), *range(index)) if self.on_error == "skip" else (index,):
            info = self.get_data_info(row)
            path = info["img_path"]
            try:
                with seeded(self.seed, epoch, index):
                    item = self._pipeline(info)
                if item is None:
                    raise UnreadableImage(f"the pipeline returned None for the image {path}")
                return item
            except UnreadableImage as error:
                if self.on_error == "error":
                    raise UnreadableImage(
                        f"{error}; replace the file, or go on without it by on_error='skip'"
                    ) from error
                self._skip(row, error)
        raise UnreadableImage(f"none of the {len(self)} images can be read, {path} the last; repair the files")

    def _skip(self, row: int, error: UnreadableImage) -> None:
        if not self._skipped.tensor[row]:
            self._skipped.tensor[row] = True
            print_log(f"skipped: {error}", logger="current", level=logging.WARNING)

    def _row(self, index: int) -> int:
        row = int(index) + len(self) * (index < 0)
        if not 0 <= row < len(self):
            raise IndexError(f"there is no item {index}: the data set has {len(self)}")
        return row

    def _image_path(self, row: int) -> str:
        return os.path.join(self._image_root, self._images[row])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} images of {', '.join(self.metainfo['splits'])}; {self.taxonomy!r})"


def _choose(annotations: Annotations, split: str | Sequence[str] | None) -> tuple[list[int], tuple[str, ...]]:
    """Returns the rows of the chosen splits, and the splits."""
    existing = tuple(dict.fromkeys(annotations.splits))
    if split is None:
        return list(range(len(annotations.images))), existing
    splits = (split,) if isinstance(split, str) else tuple(dict.fromkeys(split))
    if not splits or (unknown := [name for name in splits if name not in existing]):
        raise ValueError(
            f"there is no split {unknown[0] if splits else ()!r}; {annotations.source} has {list(existing)}"
        )
    chosen = set(splits)
    return [row for row, tag in enumerate(annotations.splits) if tag in chosen], splits


def _tree(annotations: Annotations, level_names: Sequence[str] | None, file: str | None) -> Taxonomy:
    names = annotations.level_names if level_names is None else tuple(level_names)
    if len(names) != len(annotations.level_names):
        raise ValueError(
            f"level_names must name the {len(annotations.level_names)} levels {annotations.level_names!r} of "
            f"{annotations.source}, one for one; they are {names!r}"
        )
    if file is None:
        return Taxonomy(annotations.all_paths(), names)
    tree = Taxonomy.load(file)
    if level_names is not None and names != tree.level_names:
        raise ValueError(f"level_names are {names!r} but {file} has {tree.level_names!r}; leave level_names out")
    return tree


def _chosen_paths(annotations: Annotations, policy: str) -> dict[int, tuple[tuple[str, ...], ...]]:
    """Returns the paths of every image, by its row, that are left by the policy for images of several paths."""
    labels = {row: (label,) for row, label in enumerate(annotations.labels)}
    several = {row: paths for row in annotations.more_labels if len(paths := tuple(annotations.paths(row))) > 1}
    for row, paths in several.items():
        if policy == "drop":
            del labels[row]
        else:
            labels[row] = {"all": paths, "first": paths[:1], "longest": (max(paths, key=len),)}[policy]
    for row in annotations.more_labels.keys() - several.keys():
        labels[row] = tuple(annotations.paths(row))  # one path, and others that it goes on from
    if several:
        print_log(
            f"{annotations.source}: {len(several)} of {len(annotations.images)} images hang in several places of the "
            f"tree; paths={policy!r}",
            logger="current",
        )
    return labels


def _encode(tree: Taxonomy, labels: Mapping[int, tuple[tuple[str, ...], ...]], rows: list[int]) -> Tensor:
    """Encodes every different label of the rows once: there are far fewer of them than images.

    They have as many paths as those of the other rows, so that the labels of all splits have one shape.
    """
    unique = {paths: i for i, paths in enumerate(dict.fromkeys(labels[row] for row in rows))}
    encoded = tree.encode(unique)
    if (most := max(map(len, labels.values()))) > 1:
        encoded = encoded.reshape(len(unique), -1, tree.num_levels)
        encoded = pad(encoded, (0, 0, 0, most - encoded.shape[1]), value=PAD)
    return encoded[torch.tensor([unique[labels[row]] for row in rows], dtype=torch.int64)]


def _flat_ids(annotations: Annotations, rows: list[int]) -> tuple[Tensor, dict[str, tuple[str, ...]]]:
    """Numbers every flat column's values from 0 in sorted order, an empty one as ``PAD``; (N, F), and the values."""
    ids = torch.empty(len(rows), len(annotations.flat), dtype=torch.int64)
    values = {name: tuple(sorted(set(column) - {""})) for name, column in annotations.flat.items()}
    for i, (name, column) in enumerate(annotations.flat.items()):
        numbers = {"": PAD} | {value: number for number, value in enumerate(values[name])}
        ids[:, i] = torch.tensor([numbers[column[row]] for row in rows], dtype=torch.int64)
    return ids, values


class _PackedStrings:
    """Strings in one buffer: millions of objects would each be copied into every forked worker, by their counts."""

    def __init__(self, strings: Sequence[str]) -> None:
        encoded = [os.fsencode(string) for string in strings]
        self._buffer = b"".join(encoded)
        self._ends = torch.tensor([0, *map(len, encoded)], dtype=torch.int64).cumsum(0)

    def __getitem__(self, i: int) -> str:
        start, end = self._ends[i : i + 2].tolist()
        return os.fsdecode(self._buffer[start:end])


class _Shared:
    """A tensor in shared memory that stays in shared memory when it is deep-copied, as MMEngine does with configs."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.share_memory_()

    def __deepcopy__(self, memo: dict[int, Any]) -> _Shared:
        return _Shared(self.tensor.clone())
