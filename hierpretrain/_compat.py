"""Repairs of the host packages that our own use needs; each does nothing where the host is repaired."""

import warnings
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
import yaml
from mmengine._strategy import FSDPStrategy
from mmengine.config import config as mmengine_config
from mmengine.fileio import YamlHandler, register_handler
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader, checkpoint
from numpy._core import multiarray
from torch.distributed.fsdp import FullyShardedDataParallel
from yapf.yapflib.yapf_api import FormatCode

from hierpretrain.pickled import load_pickled

_STATISTICS = ("min", "max", "mean", "current")


def apply() -> None:
    """Applies all repairs; called when ``hierpretrain.registry`` is imported."""
    # mmcv-lite warns at every start; nothing here uses the operator
    warnings.filterwarnings("ignore", "Fail to import ``MultiScaleDeformableAttention``", UserWarning)
    allow_checkpoints_to_load()
    CheckpointLoader.register_scheme(prefixes="", loader=load_from_local, force=True)
    # what is downloaded is loaded as local files are; torch's default for an address is still False
    register_handler(["yaml", "yml"])(SafeYamlHandler)
    checkpoint.load_url = partial(torch.hub.load_state_dict_from_url, weights_only=True)
    FSDPStrategy.load_optim_state_dict = load_sharded_optimizer
    mmengine_config.FormatCode = format_config


def load_sharded_optimizer(self: FSDPStrategy, state_dict: dict[str, Any]) -> None:
    """Loads an optimizer's state into a sharded training; MMEngine 0.10.7 gives torch the arguments in an old order."""
    optimizer = self.optim_wrapper.optimizer
    loaded = FullyShardedDataParallel.optim_state_dict_to_load(
        model=self.model, optim=optimizer, optim_state_dict=state_dict
    )
    self.optim_wrapper.load_state_dict(loaded)


def format_config(text: str, style_config: dict[str, Any], **options: Any) -> tuple[str, bool]:
    r"""Formats the Python text of a config, once for each, in lines of up to 120 letters.

    MMEngine asks for the same text five times as a run starts and again for each checkpoint, in lines of up to 79
    letters, whose breaks yapf searches for several times as long.

    Example:
        >>> format_config("model=dict(type='ResNet')", {"based_on_style": "pep8"})
        ("model = dict(type='ResNet')\n", True)
    """
    return _format_config(text, tuple(sorted(style_config.items())), tuple(sorted(options.items())))


@lru_cache(maxsize=8)
def _format_config(text: str, style: tuple[tuple[str, Any], ...], options: tuple[tuple[str, Any], ...]) -> Any:
    return FormatCode(text, style_config={**dict(style), "column_limit": 120}, **dict(options))


class SafeYamlHandler(YamlHandler):
    """Reads YAML as data: no tag of it runs code, and a key that stands twice is an error.

    MMEngine's handler takes PyYAML's unsafe loader, with which ``!!python/object/apply`` calls any function.
    """

    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        """Returns what a file holds."""
        return yaml.load(file, Loader=_DataLoader)


class _DataLoader(yaml.SafeLoader):
    """PyYAML's loader of plain data, with tuples, which ``Config.dump`` writes, and without repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Returns a mapping; an error if it has a key twice."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice!r} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


_DataLoader.add_constructor(
    "tag:yaml.org,2002:python/tuple", lambda loader, node: tuple(loader.construct_sequence(node, deep=True))
)


def load_from_local(filename: str, map_location: Any = None) -> Any:
    """Loads a local checkpoint with ``weights_only=True``, where a fork of MMEngine would fall back to ``False``."""
    return load_pickled(filename, map_location)


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
