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
from mmengine.utils import import_modules_from_strings

from hierpretrain import registry
from hierpretrain._inheritance import PACKAGE, list_configs, shipped_config
from hierpretrain._names import close_names, did_you_mean
from hierpretrain.apis.pure_python import known_keys, name_types

DATALOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
MMENGINE_HOOKS = ("runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint")
"""The keys of ``default_hooks`` that MMEngine's runner fills in."""

_KEYS = {
    "auto_scale_lr": ("enable", "base_batch_size"),
    "env_cfg": ("cudnn_benchmark", "mp_cfg", "dist_cfg", "resource_limit"),
}
"""Dicts of which MMEngine reads these keys, and passes others over."""

# what OpenMMLab's base configs call their own intermediate values
_USUAL_HELPERS = re.compile(
    r"data_root|dataset_type|file_client_args|backend_args|bgr_(mean|std)|vis_backends|.*_pipelines?\d*"
)


def check_config(config: Mapping[str, Any]) -> None:
    """Checks that every top-level key of a config is one that something reads. MMEngine ignores unknown keys.

    So are the keys of ``auto_scale_lr`` and ``env_cfg``.

    Known keys are the arguments of MMEngine's ``Runner`` and a few that the tools read. A config may have intermediate
    values of its own, under names that begin with an underscore or that OpenMMLab's base configs use for theirs
    (``data_root``, ``dataset_type``, ``*_pipeline``).

    Args:
        config: The config, or another mapping with its keys.

    Raises:
        ValueError: If a key is unknown; the message names it and the nearest known key.

    Example:
        >>> check_config({"model": {}, "train_pipeline": [], "_size": 64})
        >>> check_config({"custom_hook": []})
        Traceback (most recent call last):
        ValueError: the config has the unknown key 'custom_hook'; did you mean 'custom_hooks'? ...
    """
    known = known_keys()
    for key in config:
        if key not in known and not key.startswith("_") and not _USUAL_HELPERS.fullmatch(key):
            guess = did_you_mean(key, known, "correct it.")
            raise ValueError(
                f"the config has the unknown key {key!r}; {guess} "
                "A value of the config's own must have a name that begins with an underscore"
            )
    for name, keys in _KEYS.items():
        for key in config.get(name) or ():
            if key not in keys:
                guess = did_you_mean(key, keys, f"it takes {', '.join(keys)}")
                raise ValueError(f"{name} has the unknown key {key!r}; {guess}")


@contextmanager
def nearest_names() -> Iterator[None]:
    """Turns MMEngine's error about an unknown ``type`` into one that suggests the nearest registered name.

    Raises:
        ValueError: Instead of the registry's ``KeyError``.

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
    """Returns the file of a config, given its path or its name in the model zoo.

    Args:
        name: A path, or a name such as ``'himulcone_emoji'`` or ``'hierpretrain::himulcone_emoji'``. If there is a file
            of that path, it is taken.

    Raises:
        ValueError: If there is no such file or name; the message suggests the nearest name.

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

    A config with imported classes becomes one without: types are import paths, and only settings are left. A
    pure-Python config of MMEngine's (``with read_base():``) may give its own intermediate values any name that does not
    resemble a known key.

    A config in Python is a program, and is run. One in YAML or JSON is data: reading it runs nothing, unless it names a
    base in Python or modules in ``custom_imports``. Whatever its language, what is built from a config is what its
    ``type`` entries name, which may be any function that can be imported: take configs from people you trust.

    Args:
        path: The config file, or its name in the model zoo: see :func:`find_config`.
        options: Dotted keys and their values, as ``--cfg-options`` gives them.
        data_root: The folder of the data set, for all three dataloaders.

    Raises:
        ValueError: If there is no such config, it or a base or a module of it is missing or fails, an option does not
            fit into it, or a top-level key is unknown.
    """
    path = find_config(path)
    try:
        config = Config.fromfile(path)
        if Config._is_lazy_import(os.fspath(path)):
            _settle_pure_python(config)
        name_types(config)
    except SyntaxError as error:
        file = error.filename if error.filename and os.path.isfile(error.filename) else _being_read(error, path)
        line = f":{error.lineno}" if error.lineno else ""
        raise ValueError(f"{path} cannot be read: {file}{line} is no Python: {error.msg}; correct it") from error
    except FileNotFoundError as error:
        raise ValueError(f"{path} has a base that is missing: {error}; correct _base_") from error
    except ImportError as error:
        raise ValueError(
            f"{path} wants a module that is missing: {error.__cause__ or error}; install it, or, if it is a file of "
            "your own, put its folder on PYTHONPATH"
        ) from error
    except Exception as error:  # a config is a program, and fails like one
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.name == "<module>"]
        file = _being_read(error, path)
        where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else f" ({file})" if file != str(path) else ""
        why = f"{type(error).__name__}: {error}"
        if isinstance(error, AttributeError) and not file.endswith(".py"):  # it asks what it has read for its bases
            why = "a config in YAML or JSON must hold a mapping of keys to settings"
        if type(error) is RuntimeError and not error.args:  # all that MMEngine says of it
            why = "a pure-Python config may use what it imports as a type or value, and not call it"
        raise ValueError(f"{path} is no config that can be read: {why}{where}") from error
    if data_root is not None:
        from hierpretrain.apis.dataset_configs import set_data_root  # with torch, which reading a config does without

        for key in DATALOADERS:
            if config.get(key):
                set_data_root(config[key].dataset, data_root)
    override(config, options or {}, os.fspath(path))
    try:
        check_config(config)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return config


def _being_read(error: Exception, path: Path) -> str:
    """Returns the file that MMEngine was reading when an error came: the config or a base of it."""
    readers = ("_is_lazy_import", "_file2dict", "_parse_lazy_import")
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if frame.f_code.co_name in readers]
    file = str(frames[-1].f_locals["filename"]) if frames else str(path)
    return str(path) if os.path.abspath(path) == file else file


def _settle_pure_python(config: Config) -> None:
    """Removes the intermediate values of a pure-Python config, in place.

    They may have any names, and would be unknown keys of the config that a run writes. What resembles a known key
    stays, for :func:`check_config` to find. MMEngine does not import the ``custom_imports`` of such a config by itself.
    """
    if config.get("custom_imports"):
        import_modules_from_strings(**config.custom_imports)
    config.default_scope = config.get("default_scope") or PACKAGE
    known = known_keys()
    for key in list(config):
        near_known = close_names(key, known, similarity=0.8)
        if not near_known and not key.startswith("_") and not _USUAL_HELPERS.fullmatch(key):
            dict.pop(config._cfg_dict, key)  # without importing it


def override(config: Config, options: Mapping[str, Any], name: str) -> None:
    """Overrides values of a config, in place.

    Args:
        config: The config.
        options: Dotted keys and their values, as ``--cfg-options`` gives them.
        name: The name of the config in messages.

    Raises:
        ValueError: If an option does not fit into the config, begins with a key that nothing reads, or names a hook
            that the config does not have.

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
    for option, value in options.items():
        _check_hook(config, option, value)
    try:
        config.merge_from_dict(dict(options))
    except (KeyError, TypeError) as error:
        raise ValueError(f"the options do not fit into {name}: {error.args[0]}") from error


def _check_hook(config: Config, option: str, value: Any) -> None:
    """Checks that the hook which an option changes or leaves out exists.

    HierPretrain's own hooks once stood in ``custom_hooks``, where options named them by their numbers.
    """
    top, _, rest = option.partition(".")
    key, _, name = rest.partition(".")
    hooks = config.get("default_hooks") or {}
    if top == "custom_hooks" and key.isdecimal() and int(key) >= len(config.get("custom_hooks") or ()):
        takers = [k for k, hook in hooks.items() if k not in MMENGINE_HOOKS and hook and _takes(hook, name)]
        guess = " or ".join(f"default_hooks.{k}.{name}" for k in takers)
        raise ValueError(
            f"custom_hooks has no hook {key}; HierPretrain's own hooks go by their keys in default_hooks: "
            + (f"did you mean {guess}?" if guess else f"here {', '.join(hooks)}")
        )
    if top == "default_hooks" and value is None and not name and key not in {*hooks, *MMENGINE_HOOKS}:
        guess = did_you_mean(key, hooks, f"there are {', '.join(hooks)}")
        raise ValueError(f"default_hooks has no hook {key!r} to be left out; {guess}")


def _takes(hook: Mapping[str, Any], option: str) -> bool:
    """Returns whether a hook's constructor has an option."""
    kind = registry.class_of(registry.HOOKS, hook)
    return kind is not None and option.partition(".")[0] in inspect.signature(kind).parameters
