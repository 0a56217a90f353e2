"""The settings of a run, from the config that MMEngine left in its work directory."""

from __future__ import annotations

import ast
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hierpretrain.apis.pure_python import known_keys

# where a run writes, how it was started and who watches it changes no result
_NO_SETTINGS = {"experiment_name", "log_level", "resume", "visualizer", "work_dir"}
_NUMBERS = {"inf": math.inf, "nan": math.nan}  # which MMEngine writes as names


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a config that MMEngine wrote, without running it: it may come from anyone.

    Args:
        path: A Python file that assigns literals and nested ``dict(...)`` to names.

    Returns:
        Top-level key -> value; tuples have become lists.

    Raises:
        ValueError: If anything else is in the file, or it is no Python.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "config.py")
        ...     _ = file.write_text("model = dict(type='Net', depths=(2, 2))")
        ...     read_config(file)
        {'model': {'type': 'Net', 'depths': [2, 2]}}
    """
    try:
        module = ast.parse(Path(path).read_text(encoding="utf-8"))
        return dict(_assigned(statement, path) for statement in module.body)
    except (SyntaxError, UnicodeDecodeError, RecursionError, MemoryError) as error:
        raise ValueError(f"{path} is no config that MMEngine wrote: {error}") from error


def _assigned(statement: ast.stmt, path: str | os.PathLike[str]) -> tuple[str, Any]:
    """Returns the name and the value of ``name = value``."""
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        (target,) = statement.targets
        if isinstance(target, ast.Name):
            return target.id, _value(statement.value, path)
    raise _unexpected(path, statement)


def _value(node: ast.expr, path: str | os.PathLike[str]) -> Any:
    """Returns the value of a literal, or of a call of ``dict``."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        # MMEngine writes dict({...}) where a key is no name of Python's
        parts = [_value(argument, path) for argument in node.args]
        named = {keyword.arg: _value(keyword.value, path) for keyword in node.keywords}
        if all(isinstance(part, dict) for part in parts) and None not in named:
            return {key: value for part in [*parts, named] for key, value in part.items()}
    elif isinstance(node, ast.Dict) and all(isinstance(key, ast.Constant) for key in node.keys):
        keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
        return dict(zip(keys, (_value(value, path) for value in node.values), strict=True))
    elif isinstance(node, ast.List | ast.Tuple):
        return [_value(item, path) for item in node.elts]
    elif isinstance(node, ast.Name) and node.id in _NUMBERS:
        return _NUMBERS[node.id]
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _value(node.operand, path)
        if isinstance(number, int | float):
            return -number
    elif isinstance(node, ast.Constant):
        return node.value
    raise _unexpected(path, node)


def _unexpected(path: str | os.PathLike[str], node: ast.AST) -> ValueError:
    line = getattr(node, "lineno", 1)
    return ValueError(
        f"{path}:{line}: a config that MMEngine wrote holds numbers, texts, lists and dict(...) alone, and here is "
        "something else; give a work directory as a run left it"
    )


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a run was set to: dotted key -> value, but for the seed and what changes no result.

    Left out are where the run writes (``work_dir``), whether it was resumed, who watches it (``visualizer``), and
    intermediate values of the config that nothing reads, and what is ``None``, as if it were not there. Paths in the
    work directory begin with ``<work_dir>``.

    Args:
        config: What :func:`read_config` returned.

    Example:
        >>> config = dict(model=dict(layers=[dict(type="A", sizes=[3, 3])]), randomness=dict(seed=0), work_dir="runs")
        >>> settings_of(config)
        {'model.layers.0.type': 'A', 'model.layers.0.sizes': [3, 3]}
    """
    known = known_keys() - _NO_SETTINGS
    work_dir = str(config.get("work_dir") or "").rstrip("/\\")
    settings = _flat({key: value for key, value in config.items() if key in known}, work_dir)
    return {key: value for key, value in settings.items() if value is not None and key != "randomness.seed"}


def _flat(value: Any, work_dir: str, name: str = "") -> dict[str, Any]:
    """Returns the leaves of nested dicts, and of lists of dicts, by dotted keys."""
    items: Any = None
    if isinstance(value, Mapping) and value:
        items = value.items()
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        items = enumerate(value)
    if items is not None:
        parts = [_flat(part, work_dir, f"{name}.{key}" if name else str(key)) for key, part in items]
        return {key: leaf for part in parts for key, leaf in part.items()}
    if work_dir and isinstance(value, str) and Path(value).is_relative_to(work_dir):
        value = f"<work_dir>{value[len(work_dir) :]}"
    return {name: value}
