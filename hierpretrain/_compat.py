"""Repairs of the host packages that our own use needs; each does nothing where the host is repaired."""

import warnings
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from numpy._core import multiarray

_STATISTICS = ("min", "max", "mean", "current")


def apply() -> None:
    """Applies all repairs; called when ``hierpretrain.registry`` is imported."""
    # mmcv-lite warns at every start; nothing here uses the operator
    warnings.filterwarnings("ignore", "Fail to import ``MultiScaleDeformableAttention``", UserWarning)
    allow_checkpoints_to_load()
    CheckpointLoader.register_scheme(prefixes="", loader=load_from_local, force=True)


def load_from_local(filename: str, map_location: Any = None) -> Any:
    """Loads a local checkpoint with ``weights_only=True``, where a fork of MMEngine would fall back to ``False``."""
    return torch.load(filename, map_location=map_location, weights_only=True)


def allow_checkpoints_to_load() -> None:
    """Lets ``torch.load(weights_only=True)`` read the log history that MMEngine puts into every checkpoint.

    MMEngine 0.10.7 does not load its own checkpoints with torch from 2.6 on. What is allowed is data: arrays, scalars
    and the history buffer. A buffer's pickle looks its statistics up with ``getattr``; the stand-in for it knows these
    four names of that one class, so a crafted file gains nothing by it.
    """
    scalars = [type(np.dtype(code)) for code in ("f8", "f4", "i8", "i4", "bool")]
    torch.serialization.add_safe_globals(
        [
            HistoryBuffer,
            (_statistic_of_history, "builtins.getattr"),
            np.ndarray,
            np.dtype,
            multiarray._reconstruct,
            multiarray.scalar,
            *scalars,
        ]
    )


def _statistic_of_history(owner: object, name: str) -> object:
    if owner is not HistoryBuffer or name not in _STATISTICS:
        raise ValueError(f"the checkpoint asks for {owner!r}.{name}, which no checkpoint of ours does; do not trust it")
    return getattr(owner, name)
