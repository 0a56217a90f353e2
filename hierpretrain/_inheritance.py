"""Lets any project inherit our configs, and mmpretrain's: ``_base_ = "hierpretrain::himulcone_emoji.py"``.

``import hierpretrain`` applies it, since MMEngine reads a config before it imports anything that the config names. It
needs neither torch nor our registries; MMEngine imports those by the scope that it notes in what is inherited.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mmengine.utils
from mmengine.config import config as config_module
from mmengine.config import utils as config_utils
from mmengine.fileio import load
from mmengine.utils import package_utils

from hierpretrain._names import did_you_mean
from hierpretrain.files import SHIPPED

PACKAGE = "hierpretrain"
CONFIGS = SHIPPED / "configs"

_package_and_path = config_utils._get_package_and_cfg_path


def apply() -> None:
    """Makes our configs known to MMEngine, and repairs its look-up of packages and of the standard library.

    In a config in JSON, or such a base, a key that is there twice is an error, as it is in YAML.
    """
    config_module.load = _load_settings
    config_utils.MODULE2PACKAGE.setdefault(PACKAGE, PACKAGE)
    hub = [sys.modules[name] for name in ("mmengine.hub.hub",) if name in sys.modules]  # imported before us
    for module in (config_utils, config_module, *hub):
        module._get_package_and_cfg_path = _package_and_own_path
    for module in (config_utils, config_module):
        module._is_builtin_module = _is_of_python
    if "pkg_resources" in package_utils.is_installed.__code__.co_names:
        # MMEngine 0.10.7 asks pkg_resources, which setuptools has not had since version 82, and which before that looks
        # for the package of an editable install beside the other packages
        for module in (package_utils, mmengine.utils, config_module, *hub):
            module.is_installed, module.get_installed_path = _is_installed, _installed_path


def list_configs() -> list[str]:
    """Returns the names of all configs that come with the package.

    Example:
        >>> "himulcone_emoji" in list_configs(), "linear_emoji" in list_configs()
        (True, True)
    """
    return sorted(path.stem for path in CONFIGS.glob("*.py"))


def shipped_config(name: str) -> Path:
    """Returns the file of a config that comes with the package.

    Args:
        name: Its path in ``configs``, with or without ``.py``: ``'himulcone_emoji'``, or
            ``'_base_/datasets/emoji64.py'``.

    Raises:
        ValueError: If there is none; the message suggests the nearest name.

    Example:
        >>> shipped_config("himulcone_emoji").name
        'himulcone_emoji.py'
        >>> shipped_config("himulcon_emojy")
        Traceback (most recent call last):
        ValueError: HierPretrain has no config 'himulcon_emojy'; did you mean 'himulcon_emoji'?
    """
    name = name.removesuffix(".py")
    path = CONFIGS / f"{name}.py"
    if ".." in path.parts or not path.is_file():
        guess = did_you_mean(name, list_configs(), "hierpretrain.apis.list_configs() has all names")
        raise ValueError(f"HierPretrain has no config {name!r}; {guess}")
    return path


def _load_settings(file: str) -> Any:
    """Returns the settings of a file in YAML or JSON; MMEngine itself takes the last of equal keys of JSON."""
    if not file.endswith(".json"):
        return load(file)
    from hierpretrain._json import parse_json_bytes  # not for all who import the package

    return parse_json_bytes(Path(file).read_bytes(), "the file", "correct it", any_number=True)


def _package_and_own_path(cfg_path: str) -> tuple[str, str]:
    """Splits ``'package::path'``; a config of ours needs no folder in its path, and a wrong name gets a suggestion."""
    package, _, name = cfg_path.partition("::")
    if package != PACKAGE:
        return _package_and_path(cfg_path)
    return package, shipped_config(name).relative_to(CONFIGS).as_posix()


def _is_of_python(module: str) -> bool:
    """Tells whether a pure-Python config really imports a module; in a venv MMEngine misses the standard library."""
    return module.partition(".")[0] in sys.stdlib_module_names or module.startswith("mmengine.config")


def _module_of(package: str) -> str:
    """Returns the module of an OpenMMLab package: mmsegmentation's is mmseg."""
    return next((module for module, name in config_utils.MODULE2PACKAGE.items() if name == package), package)


def _is_installed(package: str) -> bool:
    return find_spec(_module_of(package)) is not None


def _installed_path(package: str) -> str:
    spec = find_spec(_module_of(package))
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"the package {package} is not installed: pip install {package}")
    return str(Path(spec.origin).parent)
