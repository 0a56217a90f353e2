"""A data set that shows images of rare classes several times in an epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mmengine.dataset

from hierpretrain.checks import check_not_below_0
from hierpretrain.datasets.base import HierarchicalDataset
from hierpretrain.datasets.joined import JoinedDataset
from hierpretrain.registry import DATASETS


@DATASETS.register_module()
class ClassBalancedDataset(mmengine.dataset.ClassBalancedDataset):
    """Has images of rare classes several times in an epoch: MMEngine's ``ClassBalancedDataset`` for labels in a tree.

    A class is a node where paths end. An image is repeated ``ceil(max(1, sqrt(oversample_thr / f)))`` times, with ``f``
    the fraction of images that its class has, of several classes the rarest. Each time, it has other random transforms.
    To a loss that compares images, such as ``NTXentLoss``, the repeats in a batch are further views of one image.

    Args:
        dataset: The data set, or its config.
        oversample_thr: The fraction of images below which a class's are repeated.
        lazy_init: Has no effect, as the data set is complete when it is made; there for configs of MMEngine's class.

    Raises:
        ValueError: If the data set has no tree, or ``oversample_thr`` is no number from 0.
    """

    def __init__(
        self,
        dataset: Mapping[str, Any] | HierarchicalDataset | JoinedDataset,
        oversample_thr: float,
        lazy_init: bool = False,
    ) -> None:
        check_not_below_0(oversample_thr=oversample_thr)
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, Mapping) else dataset
        if not isinstance(self.dataset, HierarchicalDataset | JoinedDataset):
            raise ValueError(
                f"ClassBalancedDataset takes a data set with a tree of labels, one of hierpretrain.datasets; "
                f"{type(self.dataset).__name__} is none. For others write type='mmengine.ClassBalancedDataset'"
            )
        self.oversample_thr, self._metainfo, self._fully_initialized = oversample_thr, self.dataset.metainfo, False
        self.full_init()

    @property
    def seed(self) -> int:
        """The seed of the random transforms."""
        return self.dataset.seed

    @seed.setter
    def seed(self, seed: int) -> None:
        self.dataset.seed = seed

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, which seeds the items. Call it before the epoch's iterator is made."""
        self.dataset.set_epoch(epoch)

    @property
    def image_paths(self) -> list[str]:
        """The path of the image of each item."""
        paths = self.dataset.image_paths
        return [paths[index] for index in self.repeat_indices]

    @property
    def skipped(self) -> dict[str, str]:
        """What was skipped so far as unreadable, and why, by path."""
        return self.dataset.skipped

    @property
    def num_skipped(self) -> int:
        """The number of different files and links that were skipped so far as unreadable."""
        return self.dataset.num_skipped

    @property
    def _pipeline(self) -> Any:
        return self.dataset._pipeline

    def __getitem__(self, index: int) -> Any:
        own = self.repeat_indices[index]
        return self.dataset.load(own, self.dataset.get_data_info, index % len(self) - own)
