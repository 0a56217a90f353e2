"""Files of weights: PyTorch's, read without running what is in them, and safetensors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hierpretrain.files import stand_in
from hierpretrain.models.checkpoints import check_names, check_values, first_of, without_module
from hierpretrain.pickled import load_pickled

_UNDER = ("state_dict", "model", "teacher", "module")  # where training programs keep the weights in their checkpoints

_PACKED = (torch.int8, torch.uint8)  # which some libraries cast to weights without a word


def read_weights(file: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Reads the weights of a network by name.

    Args:
        file: A ``.safetensors`` file, or one that ``torch.save`` wrote: the weights by name, or a checkpoint that has
            them under ``state_dict``, ``model``, ``teacher`` or ``module``. A ``module.`` before all names is removed.

    Raises:
        ValueError: If the file is missing, damaged, holds more than weights, holds none, or holds some without
            values, quantized, complex or not numbers.
    """
    if not os.path.isfile(file):
        raise ValueError(f"there is no file of weights {file}; weights must be True, False or a file")
    loaded: Any = _safetensors(file) if str(file).endswith(".safetensors") else load_pickled(file)
    while isinstance(loaded, Mapping) and (key := next((k for k in _UNDER if isinstance(loaded.get(k), Mapping)), "")):
        loaded = loaded[key]
    weights = {k: v for k, v in loaded.items() if isinstance(v, Tensor)} if isinstance(loaded, Mapping) else {}
    if not weights:
        raise ValueError(f"{file} holds no weights by name, neither at its top nor under {', '.join(_UNDER)}")
    check_names(weights, str(file))
    weights = without_module(weights)
    if packed := [f"{name} is of {t.dtype}" for name, t in weights.items() if t.dtype in _PACKED]:
        raise ValueError(f"{file} holds weights that are quantized: {first_of(packed)}; convert them to floating point")
    check_values(weights, str(file))
    return weights


def _safetensors(file: str | os.PathLike[str]) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise ImportError(f"{file} needs the package safetensors: pip install safetensors") from error
    try:
        return load_file(file)
    except (SafetensorError, ValueError, KeyError, OSError) as error:
        raise ValueError(f"{file} is damaged: {stand_in(file) or error}; take another file") from error
