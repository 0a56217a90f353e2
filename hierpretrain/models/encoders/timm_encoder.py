"""Encoders of timm, by name."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from hierpretrain._extras import needed
from hierpretrain._names import did_you_mean
from hierpretrain.models.encoders.base import Encoder, downloading, load_exactly
from hierpretrain.models.encoders.settings import DataSettings, in_bytes, square
from hierpretrain.models.encoders.weight_files import read_weights
from hierpretrain.registry import MODELS


@MODELS.register_module()
class TimmEncoder(Encoder):
    """A network of timm without its classifier; the vector is what timm's own head of that family would classify.

    That is the mean of a convolutional network's map, the class token of most vision transformers, and the attention
    pooling of SigLIP's.

    Args:
        model_name: As ``timm.list_models()`` gives it, with or without the tag of its weights:
            ``'vit_small_patch14_dinov2.lvd142m'``; or ``'hf-hub:owner/name'``.
        weights: ``True``: the weights of that name, which timm downloads once. A file, ``.safetensors`` or of PyTorch:
            its weights, by timm's names. ``False``: random ones.
        frozen_stages: How many stages, with the stem before them, are not trained; see
            :func:`hierpretrain.models.stages.freeze_stages`.
        init_cfg: Only ``None``.
        options: Of ``timm.create_model``: ``img_size``, ``drop_path_rate``, ``dynamic_img_size`` and so on.

    Raises:
        ImportError: If timm is missing.
        ValueError: If there is no such model, it has no weights, or a file does not fit.

    Example:
        >>> import torch
        >>> encoder = TimmEncoder("resnet10t", weights=False)
        >>> encoder(torch.zeros(2, 3, 64, 64)).shape, encoder.settings.interpolation
        (torch.Size([2, 512]), 'bicubic')
    """

    def __init__(
        self,
        model_name: str,
        weights: bool | str = True,
        frozen_stages: int = -1,
        init_cfg: None = None,
        **options: Any,
    ) -> None:
        settings = self.data_settings(model_name, **options)
        self.model_name, self.weights, self.options = model_name, weights, options
        super().__init__(self._network(pretrained=False), settings, frozen_stages, init_cfg)

    @classmethod
    def data_settings(cls, model_name: str, **options: Any) -> DataSettings:
        """Returns the data settings of timm's ``pretrained_cfg`` of the name; an ``img_size`` of the options counts."""
        timm = needed("timm", "TimmEncoder")
        known = _pretrained_cfg(model_name)
        data = timm.data.resolve_data_config(pretrained_cfg=known)
        size = square(options.get("img_size") or data["input_size"], model_name)
        any_size = options.get("dynamic_img_size") or options.get("strict_img_size") is False
        resize = math.floor(size / data["crop_pct"])
        return DataSettings(
            size,
            in_bytes(data["mean"]),
            in_bytes(data["std"]),
            data["interpolation"],
            resize=(resize, resize) if data["crop_mode"] == "squash" else resize,
            fixed_size=bool(known.get("fixed_input_size")) and not any_size,
        )

    def load_weights(self) -> str | None:
        """Loads the weights of the name, or of a file."""
        if self.weights is False:
            return None
        if self.weights is not True:
            load_exactly(self.network, read_weights(self.weights), str(self.weights))
            return str(self.weights)
        known = _pretrained_cfg(self.model_name)
        if not any(known.get(key) for key in ("url", "file", "hf_hub_id", "state_dict")):
            raise ValueError(
                f"timm has no weights of {self.model_name}: give weights='path/to/file', weights=False for random "
                "ones, or a name of timm.list_pretrained()"
            )
        with downloading(self.model_name):
            weights = self._network(pretrained=True).state_dict()
        load_exactly(self.network, weights, self.model_name)
        return f"timm, {self.model_name}"

    def _network(self, *, pretrained: bool) -> nn.Module:
        timm = needed("timm", "TimmEncoder")
        return timm.create_model(self.model_name, pretrained=pretrained, num_classes=0, **self.options)


def _pretrained_cfg(model_name: str) -> dict[str, Any]:
    """Returns what timm knows of a model's weights, without building it."""
    timm = needed("timm", "TimmEncoder")
    schema, _, place = model_name.partition(":")
    if place:
        with downloading(model_name):
            return timm.models.load_model_config_from_hf(place.removeprefix("//"))[0]
    name, _, tag = schema.partition(".")
    if not timm.is_model(name):
        raise ValueError(
            f"timm has no model {name!r}; {did_you_mean(name, timm.list_models(), 'timm.list_models() has all names')}"
        )
    try:
        return timm.get_pretrained_cfg(model_name if tag else name).to_dict()
    except (RuntimeError, AttributeError) as error:  # AttributeError: a model of which timm knows nothing but the code
        raise ValueError(
            f"timm has no weights {tag!r} of {name}; timm.list_pretrained({name + '*'!r}) has all names"
        ) from error
