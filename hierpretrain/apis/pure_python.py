"""Conversion of MMEngine's pure-Python configs, whose types are classes, into ordinary configs."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from enum import Enum
from functools import partial
from types import FunctionType, ModuleType
from typing import Any

import torchvision.transforms
from mmengine.config import Config, ConfigDict
from mmengine.config.lazy import LazyAttr, LazyObject
from mmengine.model import PretrainedInit
from mmengine.utils import get_object_from_string

from hierpretrain.models import StrictPretrained

_Lazy = LazyObject | LazyAttr


def type_name(kind: Any) -> str:
    """Returns the name of a type alone, however a config says it: as a class, a path of modules or with its scope.

    Example:
        >>> type_name("LoadRGB"), type_name("hierpretrain.datasets.loading.LoadRGB"), type_name(Config)
        ('LoadRGB', 'LoadRGB', 'Config')
    """
    return getattr(kind, "__name__", str(kind)).rpartition(".")[2]


def name_types(config: Config) -> None:
    """Replaces classes and functions that a config has as types by their import paths, in place.

    MMEngine builds a type by its path as by its registered name. A transform of torchvision's gets the name under which
    mmpretrain wraps it, ``'torchvision/Resize'``, since by itself it takes no dict of results. Imported values become
    what a file can hold: of an enumeration's member the value, as ``'bicubic'``. What a pure-Python config imported or
    defined at its top level is no setting, and is removed.

    Raises:
        ImportError: If a type or a value cannot be imported.
        ValueError: If a type is no class or function of a module, or a value is a function.

    Example:
        >>> from torchvision.transforms import Resize
        >>> config = Config(dict(pipeline=[dict(type=Resize, size=48)], model=dict(type=Config)))
        >>> name_types(config)
        >>> config.pipeline, config.model
        ([{'type': 'torchvision/Resize', 'size': 48}], {'type': 'mmengine.config.config.Config'})
    """
    _drop_imports(config)
    for part in _dicts(config._cfg_dict):
        for key, value in list(dict.items(part)):
            dict.__setitem__(part, key, _path(value) if key == "type" else _setting(value))


def named_copy(config: Config) -> Config:
    """Returns a copy of a config as :func:`name_types` leaves it; the config stays as it is."""
    config = config.copy()
    _drop_imports(config)  # modules cannot be copied
    config = copy.deepcopy(config)
    name_types(config)
    return config


def _drop_imports(config: Config) -> None:
    settings = config._cfg_dict
    for key, value in list(dict.items(settings)):
        if isinstance(value, _Lazy | FunctionType | ModuleType | type):
            dict.pop(settings, key)
    object.__setattr__(config, "_imported_names", set())  # MMEngine leaves settings of these names out of a dump


def _dicts(value: Any) -> Iterator[ConfigDict]:
    """Yields a dict and all that are nested in it, without importing what they name."""
    if isinstance(value, dict):
        yield value
        value = list(dict.values(value))
    if isinstance(value, list | tuple):
        for item in value:
            yield from _dicts(item)


def _setting(value: Any) -> Any:
    """Returns a value as the file can hold it that a run writes of its config; dicts, and all else, as they are."""
    if isinstance(value, list | tuple):
        return type(value)(map(_setting, value))
    if isinstance(value, _Lazy):
        built = value.build()
        if isinstance(built, Enum | str | int | float | list | tuple | dict):
            return _setting(built)
    if isinstance(value, FunctionType | partial):
        raise ValueError(
            f"no config can be written that has a function as a value; it is {value!r}. Make it a registered type"
        )
    return value.value if isinstance(value, Enum) else value


def _path(kind: Any) -> Any:
    """Returns the import path of a class or function, and all else as it is."""
    if isinstance(kind, _Lazy):
        path, kind = f"{kind.module}.{kind}", kind.build()
    elif callable(kind):
        path = f"{getattr(kind, '__module__', '')}.{getattr(kind, '__qualname__', '')}"
    else:
        return kind
    if kind in (PretrainedInit, StrictPretrained):  # which MMEngine applies last, and knows by this name
        return "Pretrained"
    name = type_name(kind)
    if getattr(torchvision.transforms, name, None) is kind:
        return f"torchvision/{name}"
    if get_object_from_string(path) is not kind:
        raise ValueError(
            f"a type must be a class or function of a module, so that a config can name it; it is {kind!r}"
        )
    return path
