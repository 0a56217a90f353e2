"""Reading a config file, overriding it, and finding its typos."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.runner import Runner

from hierpretrain import registry

DATALOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")

_ALSO_READ = {  # by the runner and the tools, beside the arguments of Runner
    "activation_checkpointing",
    "auto_scale_lr",
    "compile",
    "custom_imports",
    "efficient_conv_bn_eval",
    "env_cfg",
    "find_unused_parameters",
    "gpu_ids",
    "model_wrapper_cfg",
    "runner_type",
    "strategy",
    "sync_bn",
    "tta_model",
    "tta_pipeline",
}
# what OpenMMLab's base configs call their own intermediate values
_USUAL_HELPERS = re.compile(r"data_root|dataset_type|file_client_args|backend_args|bgr_(mean|std)|.*_pipelines?\d*")


def check_config(config: Mapping[str, Any]) -> None:
    """Raises if a top-level key is none that anything reads, which MMEngine would pass over in silence.

    Read are the arguments of MMEngine's ``Runner`` and what the tools add. A config's own intermediate values are
    allowed if their name begins with an underscore or is one of those that OpenMMLab's bases use (``data_root``,
    ``dataset_type``, ``*_pipeline``).

    Raises:
        ValueError: That names the key and the nearest known one.

    Example:
        >>> check_config({"model": {}, "train_pipeline": [], "_size": 64})
        >>> check_config({"custom_hook": []})
        Traceback (most recent call last):
        ValueError: the config has the unknown key 'custom_hook'; did you mean 'custom_hooks'? ...
    """
    known = {name for name in inspect.signature(Runner.__init__).parameters if name not in ("self", "cfg")}
    known |= _ALSO_READ
    for key in config:
        if key not in known and not key.startswith("_") and not _USUAL_HELPERS.fullmatch(key):
            nearest = difflib.get_close_matches(key, known, 1, cutoff=0.6)
            guess = f"did you mean {nearest[0]!r}? " if nearest else ""
            raise ValueError(
                f"the config has the unknown key {key!r}; {guess}"
                "A value of the config's own must have a name that begins with an underscore"
            )


@contextmanager
def nearest_names() -> Iterator[None]:
    """Adds to MMEngine's error about an unknown ``type`` the nearest name that its registry knows.

    Raises:
        ValueError: In place of the registry's ``KeyError``.

    Example:
        >>> with nearest_names():
        ...     registry.MODELS.build(dict(type="HiMulConLos", _scope_="hierpretrain"))
        Traceback (most recent call last):
        ValueError: the config has the unknown type 'HiMulConLos'; did you mean 'HiMulConLoss'? ...
    """
    try:
        yield
    except KeyError as error:
        if not (match := re.search(r"'?([^\s']+) is not in the \S+::(.+?) registry", str(error))):
            raise
        registries = [r for r in vars(registry).values() if isinstance(r, Registry) and r.name == match[2]]
        known: set[str] = set()
        for node in registries:
            while node is not None:
                known |= node.module_dict.keys()
                node = node.parent
        nearest = difflib.get_close_matches(match[1].split(".")[-1], known, 1, cutoff=0.6)
        guess = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise ValueError(
            f"the config has the unknown type {match[1]!r}; {guess}"
            f"The registry of a {match[2]} does not have it; a module of your own must be among custom_imports"
        ) from error


def load_config(path: str | Path, options: Mapping[str, Any] | None = None, data_root: str | None = None) -> Config:
    """Reads a config file with its bases, overrides it and checks its keys.

    Args:
        path: The config file.
        options: Dotted keys and their values, as ``--cfg-options`` gives them.
        data_root: Where the data set is, for all three dataloaders.

    Raises:
        ValueError: If a top-level key is unknown.
    """
    config = Config.fromfile(path)
    if data_root is not None:
        for key in DATALOADERS:
            if config.get(key):
                config[key].dataset.data_root = data_root
    config.merge_from_dict(dict(options or {}))
    check_config(config)
    return config
