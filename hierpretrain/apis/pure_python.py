"""Conversion of MMEngine's pure-Python configs, whose types are classes, into ordinary configs."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Iterator
from enum import Enum
from functools import partial
from pathlib import PurePath
from types import FunctionType, ModuleType
from typing import Any

import torchvision.transforms
from mmengine.config import Config, ConfigDict
from mmengine.config.lazy import LazyAttr, LazyObject
from mmengine.model import PretrainedInit
from mmengine.runner import Runner
from mmengine.utils import get_object_from_string

from hierpretrain.models import StrictPretrained

_Lazy = LazyObject | LazyAttr
_TYPE_KEYS = ("type", "constructor")
"""The keys whose value MMEngine takes as a class or as its name."""
_Written = Enum | str | int | float | list | tuple | dict | PurePath | None
_ALSO_READ = {  # by the runner and the tools, beside the arguments of Runner
    "activation_checkpointing",
    "auto_scale_lr",
    "compile",
    "custom_imports",
    "efficient_conv_bn_eval",
    "env_cfg",
    "find_unused_parameters",
    "gpu_ids",
    "load_from_partly",
    "model_wrapper_cfg",
    "runner_type",
    "strategy",
    "sync_bn",
    "tta_model",
    "tta_pipeline",
}


def known_keys() -> set[str]:
    """Returns the top-level keys of a config that MMEngine's ``Runner`` or the tools read."""
    return {name for name in inspect.signature(Runner.__init__).parameters if name not in ("self", "cfg")} | _ALSO_READ


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
    mmpretrain wraps it, ``'torchvision/Resize'``, since by itself it takes no dict of results. Other values become what
    a file can hold: of an enumeration's member the value, as ``'bicubic'``, and of a path its text. What a config
    imported or defined at its top level is no setting, and is removed, unless it has the name of a setting:
    ``runner_type = FlexibleRunner``.

    Raises:
        ImportError: If a type or a value cannot be imported.
        ValueError: If a type is no class or function of a module, or a value is a function, a class or something else
            imported that no file can hold, such as ``torch.float16``.

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
            dict.__setitem__(part, key, _path(value) if key in _TYPE_KEYS else _setting(value))


def named_copy(config: Config) -> Config:
    """Returns a copy of a config as :func:`name_types` leaves it; the config stays as it is."""
    config = config.copy()
    _drop_imports(config)  # modules cannot be copied
    config = copy.deepcopy(config)
    name_types(config)
    return config


def _drop_imports(config: Config) -> None:
    settings, known = config._cfg_dict, known_keys()
    for key, value in list(dict.items(settings)):
        if key in known and isinstance(value, _Lazy):
            value = value.build()
            dict.__setitem__(settings, key, value)
        if key in known and isinstance(value, type):
            dict.__setitem__(settings, key, _path(value))
        elif isinstance(value, _Lazy | FunctionType | ModuleType | type):
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
    imported = isinstance(value, _Lazy)
    if imported:
        value = value.build()
    if isinstance(value, FunctionType | partial | type) or (imported and not isinstance(value, _Written)):
        kind = "function" if isinstance(value, FunctionType | partial) else type(value).__name__
        raise ValueError(
            f"no config can be written that has a {'class' if kind == 'type' else kind} as a value; it is {value!r}. "
            "Make it a registered type, or give its name, such as 'float16'"
        )
    if isinstance(value, float) and not math.isfinite(value):
        return _NotFinite(value)
    if isinstance(value, PurePath):
        return str(value)
    return value.value if isinstance(value, Enum) else value


class _NotFinite(float):
    """A number whose text is Python; MMEngine writes a config by the texts of its numbers, and ``inf`` is no name."""

    def __str__(self) -> str:
        return f"float('{float.__repr__(self)}')"


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
