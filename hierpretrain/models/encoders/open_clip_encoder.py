"""The vision towers of open_clip: CLIP, SigLIP, BioCLIP."""

from __future__ import annotations

import os
from typing import Any

from hierpretrain._extras import needed
from hierpretrain._names import did_you_mean
from hierpretrain.models.encoders.base import Encoder, downloading, load_exactly
from hierpretrain.models.encoders.settings import DataSettings, in_bytes, square
from hierpretrain.models.encoders.weight_files import read_weights
from hierpretrain.registry import MODELS


@MODELS.register_module()
class OpenCLIPEncoder(Encoder):
    """The vision tower of a model of open_clip; the vector is the image's in the space that it shares with text.

    Args:
        model_name: As ``open_clip.list_models()`` gives it: ``'ViT-B-32'``; ``'hf-hub:imageomics/bioclip'``; or
            ``'local-dir:path'``, a folder with ``open_clip_config.json`` and the weights.
        weights: The tag of the weights, as ``open_clip.list_pretrained()`` gives it: ``'laion2b_s34b_b79k'``. For
            ``hf-hub:`` and ``local-dir:``, ``True`` takes those that are there. A file: its weights, by open_clip's
            names, of the whole model or of the vision tower. ``None``: random ones.
        frozen_stages: How many stages, with the stem before them, are not trained; see
            :func:`hierpretrain.models.stages.freeze_stages`.
        image_size: Height and width of the images, if another than the model's.
        init_cfg: Only ``None``.

    Raises:
        ImportError: If open_clip is missing.
        ValueError: If there is no such model or no such weights, or a file does not fit.

    Example:
        >>> OpenCLIPEncoder.data_settings("ViT-B-32", "laion2b_s34b_b79k").size
        224
    """

    def __init__(
        self,
        model_name: str,
        weights: str | bool | None,
        frozen_stages: int = -1,
        image_size: int | None = None,
        init_cfg: None = None,
    ) -> None:
        settings = self.data_settings(model_name, weights, image_size=image_size)
        from open_clip.model import _build_vision_tower  # the tower alone, without its text encoder

        config = _model_config(model_name)
        vision = {**config["vision_cfg"], "timm_model_pretrained": False, "image_size": settings.size}
        # the activation that the weights were trained with, whichever the name stands for
        quick = config.get("quick_gelu", False) or _tag(model_name, weights).get("quick_gelu", False)
        network = _build_vision_tower(config["embed_dim"], vision, quick_gelu=quick)
        super().__init__(network, settings, frozen_stages, init_cfg)
        self.model_name, self.weights = model_name, weights

    @classmethod
    def data_settings(
        cls, model_name: str, weights: str | bool | None = None, image_size: int | None = None, **options: Any
    ) -> DataSettings:
        """Returns the data settings of the weights, as open_clip merges them from the model's and the tag's."""
        open_clip = needed("open_clip", "OpenCLIPEncoder")
        config = _model_config(model_name)
        told = open_clip.transform.PreprocessCfg(
            **{k: v for k, v in _preprocessing(model_name, weights).items() if k in _TOLD}
        )
        vision = config["vision_cfg"]
        size = square(image_size or vision.get("image_size", 224), model_name)
        return DataSettings(
            size,
            in_bytes(told.mean),
            in_bytes(told.std),
            told.interpolation,
            resize=(size, size) if told.resize_mode == "squash" else size,
            fixed_size=not str(vision.get("timm_model_name", "")).startswith("convnext"),
        )

    def load_weights(self) -> str | None:
        """Loads the weights of the tag, or of a file."""
        if self.weights is None or self.weights is False:
            return None
        if self.weights is not True and os.path.isfile(self.weights):
            weights, source = read_weights(self.weights), self.weights
            if any(name.startswith("visual.") for name in weights):
                weights = {k.removeprefix("visual."): v for k, v in weights.items() if k.startswith("visual.")}
        else:
            open_clip = needed("open_clip", "OpenCLIPEncoder")
            tag, source = (None if self.weights is True else self.weights), f"{self.model_name}, {self.weights}"
            with downloading(source):
                model = open_clip.create_model(
                    self.model_name,
                    pretrained=tag,
                    require_pretrained=True,
                    force_image_size=self.settings.size,
                )
            weights = model.visual.state_dict()
        load_exactly(self.network, weights, source)
        return f"open_clip, {source}"


_TOLD = ("mean", "std", "interpolation", "resize_mode")


def _hub(model_name: str) -> bool:
    return model_name.startswith(("hf-hub:", "local-dir:"))


def _model_config(model_name: str) -> dict[str, Any]:
    open_clip = needed("open_clip", "OpenCLIPEncoder")
    if _hub(model_name):
        with downloading(model_name):
            return open_clip.get_model_config(model_name)
    config = open_clip.get_model_config(model_name.replace("/", "-"))
    if config is None:
        known = open_clip.list_models()
        raise ValueError(
            f"open_clip has no model {model_name!r}; "
            + did_you_mean(model_name, known, "open_clip.list_models() has all names")
        )
    return config


def _tag(model_name: str, weights: str | bool | None) -> dict[str, Any]:
    """Returns what open_clip knows of a tag of weights; nothing of a file or of random weights."""
    open_clip = needed("open_clip", "OpenCLIPEncoder")
    if weights in (None, False) or _hub(model_name):
        return {}
    name = model_name.replace("/", "-")
    if weights is not True and (os.path.isfile(weights) or open_clip.is_pretrained_cfg(name, weights)):
        return open_clip.get_pretrained_cfg(name, weights) or {}
    tags = ", ".join(map(repr, open_clip.list_pretrained_tags_by_model(name))) or "none"
    raise ValueError(f"weights of {model_name} must be a file, None or one of the tags {tags}; they are {weights!r}")


def _preprocessing(model_name: str, weights: str | bool | None) -> dict[str, Any]:
    if not _hub(model_name):
        return _tag(model_name, weights)
    import json

    from open_clip.factory import _get_hf_config

    schema, _, place = model_name.partition(":")
    with downloading(model_name):
        if schema == "hf-hub":
            return _get_hf_config(place).get("preprocess_cfg", {})
        with open(os.path.join(place, "open_clip_config.json"), encoding="utf-8") as file:
            return json.load(file).get("preprocess_cfg", {})
