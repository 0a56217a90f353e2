"""Backends that show a training while it runs: TensorBoard, Weights & Biases, MLflow and ClearML."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmengine.config import Config

_TYPES = {
    "tensorboard": "TensorboardVisBackend",
    "wandb": "WandbVisBackend",
    "mlflow": "MLflowVisBackend",
    "clearml": "ClearMLVisBackend",
}
WATCHERS = tuple(_TYPES)
"""The names that :func:`watch_with` takes."""


def watch_with(config: Config, names: Sequence[str]) -> None:
    """Adds backends to a config's visualizer, so that they show all scalars and pictures of the run.

    ``'tensorboard'`` writes event files below the work directory. ``'wandb'`` sends to the project ``hierpretrain`` of
    Weights & Biases under the name of the work directory, or with ``WANDB_MODE=offline`` in the environment writes to
    the work directory alone. ``'mlflow'`` logs to where ``MLFLOW_TRACKING_URI`` says, or else to the database
    ``mlflow.db`` beside the work directory, in the experiment ``hierpretrain``; ``'clearml'`` to the project
    ``hierpretrain`` of the server that ClearML is configured for. Backends that the config has already stay as they
    are.

    Args:
        config: The config of a run, with its ``work_dir``; its ``visualizer`` is changed.
        names: Names of backends, from ``WATCHERS``.

    Raises:
        ValueError: If a name is unknown, or its package is not installed.

    Example:
        >>> from mmengine.config import Config
        >>> config = Config(dict(work_dir="work_dirs/mine", visualizer=dict(vis_backends=[])))
        >>> watch_with(config, ["tensorboard"])
        >>> config.visualizer.vis_backends
        [{'type': 'TensorboardVisBackend'}]
    """
    from hierpretrain.apis.pure_python import type_name  # which imports torch

    for name in names:
        if name not in _TYPES:
            *others, last = map(repr, WATCHERS)
            raise ValueError(f"a run is watched with {', '.join(others)} or {last}, not {name!r}")
        if find_spec(name) is None:
            raise ValueError(f"to watch a run with {name}, install it: pip install 'hierpretrain[{name}]'")
    visualizer = {
        "type": "Visualizer",
        "vis_backends": [dict(type="LocalVisBackend")],
        **(config.get("visualizer") or {}),
    }
    backends = visualizer["vis_backends"] or []
    backends = [backends] if isinstance(backends, dict) else list(backends)
    present = {type_name(backend["type"]) for backend in backends}
    backends += [_backend(name, config) for name in dict.fromkeys(names) if _TYPES[name] not in present]
    config.visualizer = {**visualizer, "vis_backends": backends}


def _backend(name: str, config: Config) -> dict[str, Any]:
    backend: dict[str, Any] = dict(type=_TYPES[name])
    work_dir = Path(config.work_dir).absolute()
    if name == "wandb":
        backend["init_kwargs"] = dict(project="hierpretrain", name=work_dir.name)
        backend["define_metric_cfg"] = [dict(name="*", step_metric="iter")]  # also of what validations measure
    if name == "mlflow":
        backend |= dict(exp_name="hierpretrain", run_name=work_dir.name)
        if "MLFLOW_TRACKING_URI" not in os.environ:
            backend["tracking_uri"] = f"sqlite:///{work_dir.parent}/mlflow.db"
    if name == "clearml":
        # without what ClearML would take from other libraries by itself: each checkpoint, and the command line
        own = dict(auto_connect_frameworks=False, auto_connect_arg_parser=False)
        backend["init_kwargs"] = dict(project_name="hierpretrain", task_name=work_dir.name, **own)
        backend["artifact_suffix"] = (".py", ".json", ".png")
    return backend
