"""The model that an index carries with it: its config as data and its weights, so that a search needs nothing else."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import Registry
from PIL import Image

from hierpretrain.apis.dataset_configs import evaluation_pipeline
from hierpretrain.apis.index_format import CONFIG, WEIGHTS
from hierpretrain.registry import MODELS, TRANSFORMS

if TYPE_CHECKING:
    from hierpretrain.apis.inferencer import EmbeddingInferencer

_TUPLE = "__tuple__"  # JSON has lists alone, and what a transform prints has both
_DROPPED = {"init_cfg", "_scope_"}  # the weights are given, and how they began is nothing to build


def model_parts(inferencer: EmbeddingInferencer) -> dict[str, bytes]:
    """Returns the config and the weights of an encoder as parts of an index.

    Of the config, that is the model without its loss, and the test pipeline, as data: a config of Python would be run
    by whoever opens the index.

    Raises:
        ValueError: If the config has a value that is no data, such as a function.

    Example:
        >>> Config(decoded(json.loads(json.dumps(encoded(dict(size=(32, 32)))))))
        Config (path: None): {'size': (32, 32)}
    """
    config = inferencer.config
    model = {name: value for name, value in config.model.items() if name != "loss"}
    kept = {"model": model, "test_dataloader": {"dataset": {"pipeline": evaluation_pipeline(config)}}}
    if config.get("data_preprocessor"):
        kept["data_preprocessor"] = config.data_preprocessor
    weights = io.BytesIO()
    torch.save({"state_dict": {name: value.cpu() for name, value in inferencer.module.state_dict().items()}}, weights)
    return {CONFIG: json.dumps(encoded(kept), indent=1).encode(), WEIGHTS: weights.getvalue()}


def onnx_part(inferencer: EmbeddingInferencer) -> bytes:
    """Returns an encoder in ONNX as a part of an index, once it was seen to embed as the model does.

    Raises:
        ValueError: If images are not prepared by steps that run without torch, or as
            :func:`~hierpretrain.apis.export_onnx`.
        ImportError: If onnx, onnxscript or onnxruntime is missing.
    """
    from hierpretrain.apis.export import export_onnx  # which imports much
    from hierpretrain.apis.onnx_encoder import OnnxEncoder

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "encoder.onnx")
        export_onnx(inferencer, path, log=lambda line: None)
        data = path.read_bytes()
    encoder = OnnxEncoder(data)
    for number, size in enumerate([(640, 480), (480, 640), (301, 300)]):
        noise = np.random.default_rng(number).integers(0, 256, (*size[::-1], 3), np.uint8)
        picture = Image.fromarray(noise)
        if not np.array_equal(encoder.prepare(picture), inferencer.pipeline(picture).numpy()):
            raise ValueError("the test pipeline makes other pictures with torch than without it")
    return data


class NoModel(ValueError):
    """The error of an index that does not carry its model.

    Args:
        name: What the model is called.
        remedy: What can be done where the index is used.
    """

    def __init__(
        self,
        name: str,
        remedy: str = "make it anew (hierpretrain index, without --no-model), or in Python give use_model an "
        "EmbeddingInferencer",
    ) -> None:
        super().__init__(f"the index does not carry its model, {name!r}: {remedy}")
        self.name = name


def load_model(
    config: bytes, weights: str | os.PathLike[str], name: str, fingerprint: str, **options: Any
) -> EmbeddingInferencer:
    """Builds the model that an index carries.

    Args:
        config: The part with its config.
        weights: The file with its weights.
        name: What it is called.
        fingerprint: What it must be known by.
        options: Options of :class:`~hierpretrain.apis.EmbeddingInferencer`: ``device``, ``batch_size`` and so on.

    Raises:
        ValueError: If it cannot be built, or no more gives the embeddings that the index holds.
    """
    from hierpretrain.apis.inferencer import EmbeddingInferencer  # which imports the index

    try:
        settings = decoded(json.loads(config))
        _check_types(settings)
        settings = Config(settings)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f"the index carries no config that can be used: {error}; make it anew (hierpretrain index)"
        ) from error
    inferencer = EmbeddingInferencer(settings, weights, **{"progress": False, **options})
    if inferencer.fingerprint != fingerprint:
        raise ValueError(
            f"the model that the index carries has the fingerprint {inferencer.fingerprint} here, and made the index "
            f"as {fingerprint}: another version of HierPretrain or of a library builds it otherwise; make the index "
            "anew (hierpretrain index)"
        )
    inferencer.name = name
    return inferencer


def encoded(value: Any) -> Any:
    """Returns settings of a config as JSON can hold them, tuples too.

    Raises:
        ValueError: If a value is no data.
    """
    if isinstance(value, Mapping):
        kept = {str(name): encoded(item) for name, item in value.items() if name not in _DROPPED}
        return kept | ({"type": _name(value["type"])} if isinstance(value.get("type"), str) else {})
    if isinstance(value, tuple):
        return {_TUPLE: [encoded(item) for item in value]}
    if isinstance(value, list):
        return [encoded(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise ValueError(f"the config has {value!r}, which is no data: a number, a text, or a list or dict of these")


def decoded(value: Any) -> Any:
    """Returns what :func:`encoded` was given."""
    if isinstance(value, dict):
        if value.keys() == {_TUPLE}:
            return tuple(map(decoded, value[_TUPLE]))
        return {name: decoded(item) for name, item in value.items()}
    return [decoded(item) for item in value] if isinstance(value, list) else value


def _name(kind: str) -> str:
    """Returns the name under which a type is registered, without scope and modules."""
    return kind if "/" in kind else kind.rpartition(".")[2]


def _check_types(value: Any) -> None:
    """Raises unless all types are classes that are registered for models and transforms.

    MMEngine builds whatever a type names, a function of any module too; and a config that comes with an index comes
    from whoever made the index.
    """
    if isinstance(value, Mapping):
        if "type" in value and not any(_registers(parts, value["type"]) for parts in (MODELS, TRANSFORMS)):
            raise ValueError(f"a type must be a registered model or transform; it has {value['type']!r}")
        if "trust_remote_code" in value:
            raise ValueError("a config that comes with an index may not have trust_remote_code")
    if isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            _check_types(item)


def _registers(registry: Registry | None, name: object) -> bool:
    """Returns whether a registry or one above it has a class, or a transform of torchvision's, of a name."""
    while registry is not None:
        registry.import_from_location()
        found = registry.module_dict.get(name) if isinstance(name, str) else None
        if isinstance(found, type) or (found is not None and str(name).startswith("torchvision/")):
            return True
        registry = registry.parent
    return False
