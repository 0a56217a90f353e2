"""MLflow as a place where a training can be watched, with names that it takes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from mmengine.visualization import MLflowVisBackend as _MMEngineBackend
from mmengine.visualization.vis_backend import force_init_env

from hierpretrain._extras import needed
from hierpretrain.engine.log_files import open_log_files_again
from hierpretrain.registry import VISBACKENDS


def mlflow_name(name: str, separator: str = "/") -> str:
    """Returns a name of ours as MLflow takes it: letters, digits, and ``_``, ``-``, ``.``, blank, ``:`` and ``/``.

    Args:
        name: Such as ``emoji/recall@1``. ``@`` becomes ``_at_``, as in MLflow's own metrics, and any other character
            that MLflow refuses its number, ``_u2a_`` for an asterisk.
        separator: What stands for ``/``.

    Example:
        >>> mlflow_name("emoji/recall@1"), mlflow_name("loss/kind*", ".")
        ('emoji/recall_at_1', 'loss.kind_u2a_')
    """
    allowed = re.sub(r"[^/\w.\- :]", lambda match: f"_u{ord(match[0]):x}_", name.replace("@", "_at_"))
    parts = ["_" if part in ("", ".", "..") else part for part in allowed.split("/")]
    return separator.join(parts)


@VISBACKENDS.register_module()
class MLflowVisBackend(_MMEngineBackend):
    """MMEngine's backend for MLflow, which gets every scalar under a name that it takes (:func:`mlflow_name`).

    Pictures are the artifacts ``<name>_<step>.png``. When the run ends, the files with ``artifact_suffix`` of its work
    directory and of the folder of its start are artifacts, too.

    Args:
        save_dir: The folder of the start, which the visualizer gives.
        tracking_uri: Where MLflow keeps its runs. ``None``: what ``MLFLOW_TRACKING_URI`` says, or else the database
            ``mlflow.db`` in ``save_dir``.
        separator: What stands for the ``/`` of a name. ``None``: ``/``, but ``.`` where MLflow keeps a file for each
            name, and cannot keep ``loss`` beside ``loss/kind``.
        **options: Further arguments of MMEngine's backend, such as ``exp_name``, ``run_name`` and ``tags``.

    Raises:
        ImportError: If MLflow is not installed.
    """

    def __init__(
        self, save_dir: str, *, tracking_uri: str | None = None, separator: str | None = None, **options: Any
    ) -> None:
        super().__init__(save_dir, tracking_uri=tracking_uri, **options)
        self._separator = separator

    def _init_env(self) -> None:
        """Opens the store and starts a run, unless one is active."""
        mlflow = self._mlflow = needed("mlflow", "a run that mlflow watches")
        folder = Path(self._save_dir).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        uri = self._tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder}/mlflow.db"
        if self._separator is None:
            scheme = urlsplit(uri).scheme
            self._separator = "." if scheme == "file" or len(scheme) < 2 else "/"  # no scheme, or a drive's letter
        mlflow.set_tracking_uri(uri)
        name = self._exp_name or "Default"
        where = self._artifact_location
        if where is None and uri.startswith("sqlite:///"):  # or else the working directory of the moment
            where = Path(uri.removeprefix("sqlite:///")).absolute().with_name("mlartifacts").as_uri()
        if mlflow.get_experiment_by_name(name) is None:
            mlflow.create_experiment(name, artifact_location=where)
        mlflow.set_experiment(name)
        if mlflow.active_run() is None:
            mlflow.start_run(run_name=self._run_name)
        if self._tags is not None:
            mlflow.set_tags(self._tags)
        if self._params is not None:
            mlflow.log_params(self._params)
        open_log_files_again()

    def _flatten(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Returns the settings of a config by dotted keys."""
        return {mlflow_name(key): value for key, value in super()._flatten(*arguments, **options).items()}

    @force_init_env
    def add_image(self, name: str, image: np.ndarray, step: int = 0, **options: Any) -> None:
        """Keeps a picture, (H, W, 3) in RGB, as an artifact."""
        self._mlflow.log_image(image, f"{mlflow_name(name, '_')}_{step}.png")

    def add_scalar(self, name: str, value: Any, step: int = 0, **options: Any) -> None:
        """Keeps a number under its name."""
        self.add_scalars({name: value}, step)

    @force_init_env
    def add_scalars(
        self, scalar_dict: Mapping[str, Any], step: int = 0, file_path: str | None = None, **options: Any
    ) -> None:
        """Keeps numbers under their names."""
        numbers = {mlflow_name(name, self._separator): float(value) for name, value in scalar_dict.items()}
        self._mlflow.log_metrics(numbers, int(step))

    def close(self) -> None:
        """Keeps the files of the run and ends it."""
        if not hasattr(self, "_mlflow"):
            return
        start = Path(self._save_dir).parent
        for folder in dict.fromkeys((start.parent, start, Path(self._save_dir))):
            for file in sorted(folder.iterdir()):
                if file.is_file() and file.name.endswith(self._artifact_suffix):
                    self._mlflow.log_artifact(str(file), os.path.relpath(folder, start.parent).removeprefix("."))
        self._mlflow.end_run()
