"""The base of our batch samplers: one plan for all processes, its seed, and the position that a run resumes at."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

from hierpretrain.checks import check_at_least_1, check_from_0, check_whole
from hierpretrain.datasets.joined import labels_of
from hierpretrain.taxonomy import as_labels


class PlannedBatchSampler(metaclass=ABCMeta):
    """A batch sampler that plans the batches of an epoch from seed and epoch, and can resume in the middle of one.

    A subclass yields the batches of this process in :meth:`plan`.

    Args:
        sampler: What MMEngine builds from ``train_dataloader.sampler``: its ``dataset`` must have ``labels``, an
            (N, L) or (N, P, L) label matrix, and its ``seed``, ``rank`` and ``world_size`` are used. Without MMEngine,
            the data set or its label matrix.
        batch_size: The number of images, or of triplets, in a batch of one process.
        seed: An integer from 0; by default the seed of ``sampler``, or 0. ``ExactResumeHook`` sets it to the run's
            seed.
        rank: The number of this process, from 0; by default the rank of ``sampler``, or 0.
        world_size: The number of processes; by default the world size of ``sampler``, or 1.

    Raises:
        ValueError: If the data set has no labels, ``batch_size`` is no whole number from 1, ``world_size`` is below 1,
            ``rank`` is not from 0 to ``world_size - 1``, or ``seed`` is negative.
    """

    def __init__(
        self, sampler: Any, batch_size: int, *, seed: int | None, rank: int | None, world_size: int | None
    ) -> None:
        data = sampler  # itself the data set, or what has one; a subset of a data set, and one repeated, are both
        labels = as_labels(sampler) if isinstance(sampler, Tensor | np.ndarray | list) else labels_of(sampler)
        if labels is None:
            data = getattr(sampler, "dataset", sampler)
            labels = labels_of(data)
        if labels is None:
            raise ValueError(
                f"{type(self).__name__} needs a dataset with `.labels`, its (N, L) label matrix; "
                f"{type(data).__name__} has none. Use one of hierpretrain.datasets, or pass the matrix"
            )
        check_at_least_1(batch_size=batch_size)
        self.labels = labels
        self.batch_size = batch_size
        self.seed = _first_given(seed, getattr(sampler, "seed", None), 0)
        self.rank = _first_given(rank, getattr(sampler, "rank", None), 0)
        self.world_size = _first_given(world_size, getattr(sampler, "world_size", None), 1)
        check_from_0(seed=self.seed)
        check_whole(rank=self.rank, world_size=self.world_size)
        if self.world_size < 1 or not 0 <= self.rank < self.world_size:
            raise ValueError(
                f"rank must be from 0 to world_size - 1, and world_size at least 1; they are {self.rank} and "
                f"{self.world_size}"
            )
        self._epoch = 0
        self._start = 0  # the batch that the next iteration begins with; above 0 only after load_state_dict
        self._given = 0  # the number of batches of the epoch that were yielded so far

    @abstractmethod
    def plan(self, start: int) -> Iterator[list[int]]:
        """Yields this process's batches of the current epoch, from number ``start`` on."""

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    def sampler(self) -> PlannedBatchSampler:
        """The batch sampler itself, where MMEngine's ``DistSamplerSeedHook`` looks for ``set_epoch``."""
        return self

    @property
    def epoch(self) -> int:
        """The epoch whose batches come next."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Goes to the start of another epoch. If it is the current one, which may be half done, nothing changes."""
        if epoch != self._epoch:
            self._epoch, self._start, self._given = epoch, 0, 0

    def state_dict(self) -> dict[str, int]:
        """Returns the epoch, how many of its batches were yielded so far (workers load ahead), and how many it has."""
        return {"epoch": self._epoch, "position": self._given, "batches": len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continues from a state that :meth:`state_dict` returned.

        Raises:
            ValueError: If the state is of other data, another batch size or another number of processes.
        """
        if state["batches"] != len(self) or not 0 <= state["position"] <= len(self):
            raise ValueError(
                f"an epoch that was left half done had {state['batches']} batches and now has {len(self)}; "
                "resume in its middle with the same data, batch size and number of processes, or from an epoch's end"
            )
        self._epoch, self._start, self._given = state["epoch"], state["position"], state["position"]

    def __iter__(self) -> Iterator[list[int]]:
        start, self._start = self._start, 0  # an abandoned iteration does not shorten the next one
        self._given = start
        for position, batch in enumerate(self.plan(start), start=start):
            self._given = position + 1
            yield batch


def _first_given(*values: Any) -> Any:
    return next(value for value in values if value is not None)
