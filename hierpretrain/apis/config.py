"""Finding a config, reading it, overriding it, and finding its typos."""

from __future__ import annotations

import inspect
import os
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.runner import Runner

from hierpretrain import registry
from hierpretrain._inheritance import PACKAGE, list_configs, shipped_config
from hierpretrain._names import did_you_mean

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
_USUAL_HELPERS = re.compile(
    r"data_root|dataset_type|file_client_args|backend_args|bgr_(mean|std)|vis_backends|.*_pipelines?\d*"
)


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
            guess = did_you_mean(key, known, "correct it.")
            raise ValueError(
                f"the config has the unknown key {key!r}; {guess} "
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
        guess = did_you_mean(match[1].split(".")[-1], known, "correct it.")
        raise ValueError(
            f"the config has the unknown type {match[1]!r}; {guess} "
            f"The registry {match[2]!r} does not have it; a module of your own must be among custom_imports"
        ) from error


def find_config(name: str | os.PathLike[str]) -> Path:
    """Returns the file of a config that is given by its path, or by its name in the model zoo.

    Args:
        name: A file, or one of ours: ``'himulcone_emoji'`` or ``'hierpretrain::himulcone_emoji'``. A file is looked for
            first.

    Raises:
        ValueError: If there is neither; it says the nearest name.

    Example:
        >>> find_config("himulcone_emoji").name, find_config("hierpretrain::_base_/default_runtime.py").name
        ('himulcone_emoji.py', 'default_runtime.py')
        >>> find_config("cofnigs/himulcon_emoji.py")
        Traceback (most recent call last):
        ValueError: there is no config file cofnigs/himulcon_emoji.py, ... the model zoo; did you mean 'himulcon_emoji'?
    """
    text = os.fspath(name)
    if os.path.isfile(text):
        return Path(text)
    package, colons, inner = text.partition("::")
    if colons and package == PACKAGE:
        return shipped_config(inner)
    names = list_configs()
    if text in names:
        return shipped_config(text)
    guess = did_you_mean(Path(text).stem, names, "hierpretrain.apis.list_configs() has all names")
    raise ValueError(f"there is no config file {text}, nor is it a name of the model zoo; {guess}")


def load_config(
    path: str | os.PathLike[str], options: Mapping[str, Any] | None = None, data_root: str | None = None
) -> Config:
    """Reads a config with its bases, overrides it and checks its keys.

    Args:
        path: The config file, or its name in the model zoo: see :func:`find_config`.
        options: Dotted keys and their values, as ``--cfg-options`` gives them.
        data_root: Where the data set is, for all three dataloaders.

    Raises:
        ValueError: If there is no such config, it or a base or a module of it is missing or fails, an option does not
            fit into it, or a top-level key is unknown.
    """
    path = find_config(path)
    try:
        config = Config.fromfile(path)
    except SyntaxError as error:
        raise ValueError(f"{path}, or a base of it, is no Python: {error}") from error
    except FileNotFoundError as error:
        raise ValueError(f"{path} has a base that is missing: {error}; correct _base_") from error
    except ImportError as error:
        raise ValueError(
            f"{path} wants a module that is missing: {error.__cause__ or error}; install it, or, if it is a file of "
            "your own, put its folder on PYTHONPATH"
        ) from error
    except Exception as error:  # a config is a program, and fails like one
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.name == "<module>"]
        where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
        raise ValueError(f"{path} is no config that can be read: {type(error).__name__}: {error}{where}") from error
    if data_root is not None:
        for key in DATALOADERS:
            if config.get(key):
                config[key].dataset.data_root = data_root
    override(config, options or {}, os.fspath(path))
    check_config(config)
    return config


def override(config: Config, options: Mapping[str, Any], name: str) -> None:
    """Overrides values of a config, in place.

    Args:
        config: The config.
        options: Dotted keys and their values, as ``--cfg-options`` gives them.
        name: What a message shall call the config.

    Raises:
        ValueError: If an option does not fit into the config, or begins with a key that nothing reads.

    Example:
        >>> config = Config(dict(model=dict(type="ResNet", depth=18)))
        >>> override(config, {"model.depth": 34}, "mine.py")
        >>> config.model.depth
        34
        >>> override(config, {"modle.depth": 50}, "mine.py")
        Traceback (most recent call last):
        ValueError: the config has the unknown key 'modle'; did you mean 'model'? ...
    """
    check_config({key: None for key in (option.partition(".")[0] for option in options) if key not in config})
    try:
        config.merge_from_dict(dict(options))
    except (KeyError, TypeError) as error:
        raise ValueError(f"the options do not fit into {name}: {error.args[0]}") from error
