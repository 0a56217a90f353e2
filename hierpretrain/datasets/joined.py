"""Several data sets as one, or one several times: every label is encoded with the one tree of all of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import mmengine.dataset
import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset, Subset

from hierpretrain.checks import check_at_least_1
from hierpretrain.datasets.base import HierarchicalDataset, classes_of, raise_no_subset
from hierpretrain.registry import DATASETS
from hierpretrain.taxonomy import PAD, Taxonomy, as_labels, as_paths

_PLAIN = (torch.utils.data.ConcatDataset, mmengine.dataset.RepeatDataset)  # of which MMEngine's is one, too
_CHOSEN = (mmengine.dataset.ClassBalancedDataset, Subset)  # of the images of another data set


class JoinedDataset(Dataset):
    """Data sets one behind the other, with one tree, one count of images and one epoch.

    It has what a :class:`HierarchicalDataset` has: ``labels``, ``extra_labels``, ``taxonomy``, ``metainfo``,
    ``image_paths``, ``splits``, ``seed``, ``set_epoch``, ``get_data_info``. Node ids belong to the joint tree, see
    :func:`join_labels`, and not the ids of the parts. ``sample_idx`` counts through all images, and seeds an item's
    transforms, so an image that is there twice is augmented differently each time. The pipeline of an item, and what
    happens at an unreadable image, are as its part has them.

    Labels outside the tree are joined by the name of their column and their value; an image whose part lacks the column
    has ``PAD`` there.

    Args:
        parts: The data sets, or their configs; joined ones among them are taken apart.

    Raises:
        ValueError: If there is none, one has no tree, or they name their levels differently.
    """

    def __init__(self, parts: Sequence[dict[str, Any] | HierarchicalDataset | JoinedDataset]) -> None:
        if not isinstance(parts, Sequence):
            raise ValueError(
                f"{type(self).__name__} takes a list of data sets or configs; this is a {type(parts).__name__}. Put it "
                "in a list"
            )
        built = [DATASETS.build(part) if isinstance(part, Mapping) else part for part in parts]
        self.datasets = [own for part in built for own in self._taken_apart(part)]
        if not self.datasets:
            raise ValueError(f"{type(self).__name__} needs at least one data set; it has none")
        self.taxonomy, self.labels = join_labels([(part.taxonomy, part.labels) for part in self.datasets])
        self.extra_labels, names, values = _join_extra_labels(self.datasets)
        self.metainfo = {
            "taxonomy": self.taxonomy.to_dict(),
            "extra_label_names": names,
            "extra_label_values": values,
            "splits": tuple(dict.fromkeys(name for part in self.datasets for name in part.metainfo["splits"])),
        }
        self._starts = [0]
        for part in self.datasets:
            self._starts.append(self._starts[-1] + len(part))

    def _taken_apart(self, part: Any) -> list[HierarchicalDataset]:
        """Returns what a part is made of, as it is or joined, by our classes or by MMEngine's own."""
        if isinstance(part, HierarchicalDataset):
            return [part]
        if isinstance(part, JoinedDataset | mmengine.dataset.ConcatDataset):
            return [own for inner in part.datasets for own in self._taken_apart(inner)]
        if isinstance(part, mmengine.dataset.RepeatDataset):
            return self._taken_apart(part.dataset) * part.times
        if isinstance(part, _CHOSEN):
            raise ValueError(
                f"{type(self).__name__} joins data sets, and a {type(part).__name__} chooses items of one; put the "
                f"{type(self).__name__} inside the {type(part).__name__}"
            )
        raise ValueError(
            f"{type(self).__name__} joins data sets with a tree of labels, those of hierpretrain.datasets; "
            f"{type(part).__name__} is none. For others write type='mmengine.{type(self).__name__}', whose items no "
            "metric of hierpretrain tells apart, nor a loss that compares images by their numbers"
        )

    def full_init(self) -> None:
        """Does nothing, because the data set is complete when it is made. MMEngine's wrappers call it."""

    @property
    def seed(self) -> int:
        """The seed of the random transforms; setting it sets it for all parts."""
        return self.datasets[0].seed

    @seed.setter
    def seed(self, seed: int) -> None:
        for part in self.datasets:
            part.seed = seed

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of all parts. Call it before the epoch's iterator is made."""
        for part in self.datasets:
            part.set_epoch(epoch)

    @property
    def image_paths(self) -> list[str]:
        """The paths of the N images."""
        return [path for part in self.datasets for path in part.image_paths]

    @property
    def splits(self) -> list[str]:
        """The split tags of the N images."""
        return [split for part in self.datasets for split in part.splits]

    @property
    def keys(self) -> list[str]:
        """The keys of the N images, empty for none; an empty list where no part has keys."""
        return join_known([(len(part), part.keys, part.metadata) for part in self.datasets])[0]

    @property
    def metadata(self) -> dict[str, list[str]]:
        """The other columns of lists for the N images, by name, N texts each, empty for none."""
        return join_known([(len(part), part.keys, part.metadata) for part in self.datasets])[1]

    @property
    def image_stores(self) -> list[Any]:
        """What gives the images that are no files."""
        return [store for part in parts_of(self) for store in part.image_stores]

    @property
    def skipped(self) -> dict[str, str]:
        """What was skipped so far as unreadable, and why, by path."""
        return {path: reason for part in parts_of(self) for path, reason in part.skipped.items()}

    @property
    def num_skipped(self) -> int:
        """The number of different files and links that were skipped so far as unreadable."""
        return len(self.skipped)

    @property
    def _pipeline(self) -> list[Any]:
        """The sizes and pipelines of the parts, which name the files that keep embeddings."""
        return [(len(part), part._pipeline) for part in self.datasets]

    def get_data_info(self, index: int) -> dict[str, Any]:
        """Returns an item before its transforms, as a :class:`HierarchicalDataset`, with labels of the joint tree.

        Raises:
            IndexError: If there is no such image.
        """
        part, start, local = self._find(index)
        return {
            **part.get_data_info(local),
            "sample_idx": start + local,
            "gt_label": self.labels[start + local].numpy().copy(),
            "extra_labels": self.extra_labels[start + local].clone(),
        }

    def get_cat_ids(self, index: int) -> list[int]:
        """Returns the classes of an image, as a :class:`HierarchicalDataset`, by nodes of the joint tree."""
        _, start, local = self._find(index)
        return classes_of(self.labels[start + local], self.taxonomy)

    def get_subset(self, indices: Sequence[int]) -> NoReturn:
        """Raises an error that says how to take a part of the images, as a :class:`HierarchicalDataset`."""
        raise_no_subset(self)

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int) -> Any:
        return self.load(index, self.get_data_info)

    def load(self, index: int, get_data_info: Callable[[int], dict[str, Any]], start: int = 0) -> Any:
        """Returns an item after its transforms, as a :class:`HierarchicalDataset`."""
        part, begin, local = self._find(index)
        return part.load(local, lambda candidate: get_data_info(begin + candidate), start + begin)

    def _find(self, index: int) -> tuple[HierarchicalDataset, int, int]:
        """Returns the part that an image is in, where the part starts, and the index of the image in it."""
        positive = int(index) + len(self) * (index < 0)
        if not 0 <= positive < len(self):
            raise IndexError(f"there is no item {index}: the data set has {len(self)}")
        number = bisect_right(self._starts, positive) - 1
        return self.datasets[number], self._starts[number], positive - self._starts[number]

    def __repr__(self) -> str:
        parts = len(self.datasets)
        return f"{type(self).__name__}({len(self)} images in {parts} parts; {self.taxonomy!r})"


@DATASETS.register_module()
class ConcatDataset(JoinedDataset):
    """Joins data sets under one tree: MMEngine's ``ConcatDataset`` for data sets with labels in a tree.

    MMEngine's own class takes the first data set's tree for all of them, so it refuses data sets whose trees differ.
    Here nodes are joined by their path of names: ``animals/cat`` of one set is ``animals/cat`` of another, whatever
    their ids. Sets whose names mean different things need other names.

    Args:
        datasets: The data sets, or their configs.
        lazy_init: Has no effect, as the data sets are complete when made; there for configs of MMEngine's class.
        ignore_keys: Has no effect, as nothing needs to be equal but the names of levels; there for the same reason.

    Raises:
        ValueError: If there is none, one has no tree, or they name their levels differently.
    """

    def __init__(
        self,
        datasets: Sequence[dict[str, Any] | HierarchicalDataset | JoinedDataset],
        lazy_init: bool = False,
        ignore_keys: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(datasets)


@DATASETS.register_module()
class RepeatDataset(JoinedDataset):
    """Has every image of a data set several times in an epoch: MMEngine's ``RepeatDataset`` for labels in a tree.

    Each time, an image has another index and other random transforms. To a loss that compares images, such as
    ``NTXentLoss``, the repeats in a batch are further views of one image: see :func:`repeated_images`.

    Args:
        dataset: The data set, or its config.
        times: How many times, at least once.
        lazy_init: Has no effect, as the data set is complete when made; there for configs of MMEngine's class.

    Raises:
        ValueError: If ``times`` is no whole number from 1, or the data set has no tree.
    """

    def __init__(
        self, dataset: dict[str, Any] | HierarchicalDataset | JoinedDataset, times: int, lazy_init: bool = False
    ) -> None:
        check_at_least_1(times=times)
        built = DATASETS.build(dataset) if isinstance(dataset, Mapping) else dataset
        super().__init__([built] * times)


def join_labels(parts: Sequence[tuple[Taxonomy, Tensor]]) -> tuple[Taxonomy, Tensor]:
    """Encodes the labels of several trees with one tree that has the nodes of all of them.

    Nodes of the same path of names are one node. Where all trees are equal, the ids stay as they are.

    Args:
        parts: Trees, each with an (N, L) or (N, P, L) label matrix. The level names of a shorter tree must begin those
            of the longest; a tree without levels fits all.

    Returns:
        The joint tree, and the labels of all parts, one behind the other: (N, L), or (N, P, L) if a part has several
        paths.

    Raises:
        ValueError: If the levels have different names.

    Example:
        >>> ours, theirs = Taxonomy([("cat",), ("dog",)], ["kind"]), Taxonomy([("dog",), ("eel",)], ["kind"])
        >>> tree, labels = join_labels([(ours, torch.tensor([[0], [1]])), (theirs, torch.tensor([[0], [1]]))])
        >>> [tree.decode(row) for row in labels]
        [('cat',), ('dog',), ('dog',), ('eel',)]
    """
    trees = [tree for tree, _ in parts]
    names = joint_levels(trees)
    joint, labels = trees[0], [labels for _, labels in parts]
    if any(tree != joint for tree in trees):
        joint = Taxonomy([path for tree in trees for path in tree.node_paths()], names)
        labels = [recode(own, tree, joint) for tree, own in parts]
    return joint, _stack(labels)


def joint_levels(
    trees: Sequence[Taxonomy],
    whose: str = "parts",
    remedy: str = "give them one at a time, or the same names (level_names=...)",
) -> tuple[str, ...]:
    """Returns the names of the levels that trees have under one: the longest's, with which those of the others begin.

    Args:
        trees: The trees.
        whose: What has the trees, for the message.
        remedy: What to do about other names, for the message.

    Raises:
        ValueError: If the levels have different names.

    Example:
        >>> joint_levels([Taxonomy((), ()), Taxonomy([("cat",)], ["kind"])])
        ('kind',)
    """
    names = max((tree.level_names for tree in trees), key=len)
    if any(names[: tree.num_levels] != tree.level_names for tree in trees):
        raise ValueError(
            f"{whose} must have the same levels to be one set under one tree; these have "
            f"{sorted({tree.level_names for tree in trees if tree.num_levels})}: {remedy}"
        )
    return names


def recode(labels: Tensor, tree: Taxonomy, other: Taxonomy) -> Tensor:
    """Turns labels of one tree into labels of another that has all of its nodes, found by their paths of names.

    Args:
        labels: (N, L) or (N, P, L) labels of ``tree``.
        tree: The tree of the labels.
        other: The tree whose labels are wanted; of as many levels or more.

    Raises:
        ValueError: If the other tree lacks a node.

    Example:
        >>> pets, more = Taxonomy([("dog",)], ["kind"]), Taxonomy([("cat",), ("dog", "pug")], ["kind", "breed"])
        >>> recode(torch.tensor([[0]]), pets, more).tolist()
        [[1, -1]]
    """
    if tree == other:
        return labels
    columns = torch.full((*labels.shape[:-1], other.num_levels), PAD)
    for level in range(tree.num_levels):
        ids = other.encode(tree.node_paths(level + 1))[:, level]
        known = labels[..., level] != PAD
        columns[..., level][known] = ids[labels[..., level][known]]
    return columns


def parts_of(data: HierarchicalDataset | JoinedDataset) -> list[HierarchicalDataset]:
    """Returns the different parts of a joined data set; of any other, the data set itself."""
    return list(dict.fromkeys(data.datasets)) if isinstance(data, JoinedDataset) else [data]


def labels_of(data: Any) -> Tensor | None:
    """Returns the labels of a data set, or None if it has none.

    ``ConcatDataset`` of MMEngine and torch, MMEngine's ``RepeatDataset`` and ``ClassBalancedDataset``, and torch's
    ``Subset`` have the labels of their parts, if those have one tree.

    Raises:
        ValueError: If the parts have different trees.
    """
    if isinstance(data, _CHOSEN):
        labels = labels_of(data.dataset)
        indices = data.indices if isinstance(data, Subset) else data.repeat_indices
        return None if labels is None else labels[torch.as_tensor(indices, dtype=torch.int64)]
    if not isinstance(data, _PLAIN):
        labels = getattr(data, "labels", None)
        return None if labels is None else as_labels(labels)
    check_one_tree(data)
    parts = data.datasets if isinstance(data, torch.utils.data.ConcatDataset) else [data.dataset] * data.times
    labels = [labels_of(part) for part in parts]
    return None if any(rows is None for rows in labels) else _stack(labels)


def check_one_tree(data: Any) -> None:
    """Raises an error for a ``ConcatDataset`` of MMEngine or torch of different trees, which would mix up their ids.

    Raises:
        ValueError: If the parts have different trees.
    """
    if isinstance(data, torch.utils.data.ConcatDataset):
        trees = [tree_of(part) for part in data.datasets]
        if any(tree != trees[0] for tree in trees):
            raise ValueError(
                "a ConcatDataset of MMEngine or torch joins data sets of different trees, where one id stands for "
                "different nodes; write type='ConcatDataset' in a config of scope hierpretrain, or take "
                "hierpretrain.datasets.ConcatDataset, which encodes all labels with one tree"
            )


def tree_of(data: Any) -> dict[str, Any] | None:
    """Returns the tree of a data set, as its ``metainfo`` has it, or of the one that it is a part of; None for none."""
    while not hasattr(data, "metainfo") and hasattr(data, "dataset"):
        data = data.dataset
    return getattr(data, "metainfo", {}).get("taxonomy")


def seeded_sets(data: Any) -> list[Any]:
    """Returns the data sets with a seed and epochs that a data set is, or that wrappers of other libraries hold.

    Args:
        data: The data set, or a wrapper with ``dataset`` or ``datasets``, as MMEngine's and torch's have.
    """
    if hasattr(data, "set_epoch") and not _is_sliced(data):
        return [data]
    return [own for part in _held_by(data) for own in seeded_sets(part)]


def _held_by(data: Any) -> list[Any]:
    """Returns the data sets that a wrapper of another library holds; none for a data set."""
    if _is_sliced(data):
        return [data._dataset]
    return [*getattr(data, "datasets", ()), *([data.dataset] if hasattr(data, "dataset") else ())]


def _is_sliced(data: Any) -> bool:
    """Returns whether a data set is what MMEngine makes of one by ``num_batch_per_epoch``.

    Reading an attribute of the wrapper reads it of the data set, and setting one, such as the seed, does not reach it.
    """
    return type(data).__name__ == "_SlicedDataset"  # to import the private class would take seconds


def repeated_images(data: Any) -> Tensor | None:
    """Returns which image each item is, where a joined data set has the same part several times.

    Args:
        data: The data set, or a wrapper that chooses some of its items.

    Returns:
        (N,) int64, for each ``sample_idx`` the first one that is the same image of the same part. ``None``: each is an
        image of its own.
    """
    while not isinstance(data, HierarchicalDataset | JoinedDataset) and len(held := _held_by(data)) == 1:
        data = held[0]
    if not isinstance(data, JoinedDataset) or len(parts_of(data)) == len(data.datasets):
        return None
    first: dict[HierarchicalDataset, int] = {}
    starts = [first.setdefault(part, start) for part, start in zip(data.datasets, data._starts, strict=False)]
    return torch.cat([start + torch.arange(len(part)) for start, part in zip(starts, data.datasets, strict=True)])


def check_counts_through(data: Any, user: str) -> None:
    """Raises an error for MMEngine's own ``ConcatDataset`` or ``RepeatDataset``, whose items share ``sample_idx``.

    Args:
        data: The data set, or a wrapper of one.
        user: Who needs to tell images apart, for the message.

    Raises:
        ValueError: If it is one of them, or holds one.
    """
    if isinstance(data, HierarchicalDataset | JoinedDataset):
        return
    if isinstance(data, _PLAIN):
        raise ValueError(
            f"{user} tells images apart by sample_idx, which a {type(data).__name__} of MMEngine or torch gives to "
            f"several; write type='{type(data).__name__}' in a config of scope hierpretrain, or take "
            f"hierpretrain.datasets.{type(data).__name__}, which counts through"
        )
    for part in _held_by(data):
        check_counts_through(part, user)


def _stack(labels: Sequence[Tensor]) -> Tensor:
    """Puts label matrices one behind the other; with several paths if one has them."""
    if any(rows.ndim == 3 for rows in labels):
        most = max(rows.shape[1] if rows.ndim == 3 else 1 for rows in labels)
        labels = [as_paths(rows) for rows in labels]
        labels = [pad(rows, (0, 0, 0, most - rows.shape[1]), value=PAD) for rows in labels]
    return torch.cat(list(labels))


def _join_extra_labels(
    parts: Sequence[HierarchicalDataset],
) -> tuple[Tensor, tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Returns the labels outside the tree of all parts with ids that they share, the columns' names and values."""
    names = tuple(dict.fromkeys(name for part in parts for name in part.metainfo["extra_label_names"]))
    values = {
        name: tuple(sorted({v for part in parts for v in part.metainfo["extra_label_values"].get(name, ())}))
        for name in names
    }
    ids = torch.full((sum(map(len, parts)), len(names)), PAD)
    start = 0
    for part in parts:
        for own, name in enumerate(part.metainfo["extra_label_names"]):
            id_of = {value: number for number, value in enumerate(values[name])}
            new = torch.tensor([*(id_of[value] for value in part.metainfo["extra_label_values"][name]), PAD])
            ids[start : start + len(part), names.index(name)] = new[part.extra_labels[:, own]]  # PAD is the last one
        start += len(part)
    return ids, names, values


def join_known(
    parts: Sequence[tuple[int, Sequence[str], Mapping[str, Sequence[str]]]],
) -> tuple[list[str], dict[str, list[str]]]:
    """Puts together what is known of the images of several sets, with empty texts where one knows nothing.

    Args:
        parts: The number of images of each, their keys, or none, and their metadata.

    Example:
        >>> join_known([(1, ["A7"], {"price": ["3"]}), (2, [], {})])
        (['A7', '', ''], {'price': ['3', '', '']})
    """
    keys = [key for count, keys, _ in parts for key in keys or [""] * count]
    names = dict.fromkeys(name for _, _, metadata in parts for name in metadata)
    metadata = {
        name: [text for count, _, metadata in parts for text in metadata.get(name) or [""] * count] for name in names
    }
    return keys if any(keys) else [], metadata
