"""Encoders of torchvision, by name."""

from __future__ import annotations

import os
from typing import Any

import torchvision
from torch import nn

from hierpretrain._names import did_you_mean
from hierpretrain.models.encoders.base import Encoder, downloading, load_exactly
from hierpretrain.models.encoders.settings import DataSettings, in_bytes, square
from hierpretrain.models.encoders.weight_files import read_weights
from hierpretrain.registry import MODELS

_HEADS = ("fc", "classifier", "heads", "head")  # what torchvision's networks call their classifiers
# two networks classify from the middle too while they train, and normalise images once more if they are pretrained
_INCEPTION = dict(aux_logits=False, transform_input=True, init_weights=False)


@MODELS.register_module()
class TorchvisionEncoder(Encoder):
    """A classifier of torchvision without its last layer; the vector is what that layer would read.

    It is the mean of the map of most networks, the class token of a ``vit``, and the second fully connected layer of
    ``vgg`` and ``alexnet``. Dropout right before the last layer is left out.

    Args:
        name: As ``torchvision.models.list_models(torchvision.models)`` gives it: ``'resnet50'``.
        weights: The name of torchvision's weights, ``'DEFAULT'`` or such as ``'IMAGENET1K_V2'``, which are downloaded
            once. A file: its weights, by torchvision's names. ``None``: random ones.
        frozen_stages: How many stages, with the stem before them, are not trained; see
            :func:`hierpretrain.models.stages.freeze_stages`.
        init_cfg: Only ``None``.
        options: Of the network: ``image_size`` of a ``vit`` and so on.

    Raises:
        ValueError: If there is no such network or no such weights, or a file does not fit.

    Example:
        >>> import torch
        >>> encoder = TorchvisionEncoder("squeezenet1_1", weights=None)
        >>> encoder(torch.zeros(2, 3, 64, 64)).shape, encoder.settings.resize
        (torch.Size([2, 512]), 256)
    """

    def __init__(
        self,
        name: str,
        weights: str | None = "DEFAULT",
        frozen_stages: int = -1,
        init_cfg: None = None,
        **options: Any,
    ) -> None:
        settings = self.data_settings(name, weights, **options)
        self.name, self.weights, self.options = name, weights, options
        super().__init__(self._network(None), settings, frozen_stages, init_cfg)

    @classmethod
    def data_settings(cls, name: str, weights: str | None = "DEFAULT", **options: Any) -> DataSettings:
        """Returns the data settings of the weights; of the network's default ones, for a file or random weights."""
        told = (_enum(name, weights) or _enum(name, "DEFAULT")).transforms()
        size = options.get("image_size") or options.get("input_size") or told.crop_size
        size = square(size * 2 if isinstance(size, list) and len(size) == 1 else size, name)
        return DataSettings(
            size,
            in_bytes(told.mean),
            in_bytes(told.std),
            told.interpolation.value,
            resize=told.resize_size[0] if size == told.crop_size[0] else size,
            fixed_size=name.startswith(("vit_", "maxvit")),
        )

    def load_weights(self) -> str | None:
        """Loads the weights of that name, or of a file."""
        if self.weights is None:
            return None
        if (enum := _enum(self.name, self.weights)) is None:
            load_exactly(self.network, read_weights(self.weights), self.weights)
            return self.weights
        with downloading(str(enum)):
            weights = self._network(enum).state_dict()
        load_exactly(self.network, weights, str(enum))
        return f"torchvision, {enum}"

    def _network(self, weights: Any) -> nn.Module:
        options = dict(_INCEPTION, **self.options) if self.name in ("inception_v3", "googlenet") else self.options
        if weights is not None and self.name in ("inception_v3", "googlenet"):
            options = {**options, "aux_logits": True}  # which torchvision wants while it loads; they are passed over
        return _without_classifier(torchvision.models.get_model(self.name, weights=weights, **options))


def _enum(name: str, weights: str | None) -> Any:
    """Returns what torchvision knows of the weights of a name; ``None`` for a file or for no weights."""
    names = torchvision.models.list_models(torchvision.models)
    if name not in names:
        raise ValueError(
            f"torchvision has no classifier {name!r}; "
            + did_you_mean(name, names, "torchvision.models.list_models(torchvision.models) has all names")
        )
    enum = torchvision.models.get_model_weights(name)
    if weights is None or os.path.isfile(weights):
        return None
    if weights not in enum.__members__:
        known = ", ".join(map(repr, enum.__members__))
        raise ValueError(f"weights of {name} must be {known}, None or a file; there is no {weights!r}")
    return enum[weights]


def _without_classifier(network: nn.Module) -> nn.Module:
    """Takes the last layer of a classifier away, in place, with the dropout right before it."""
    name = next(name for name in _HEADS if hasattr(network, name))
    layers = list(head) if isinstance(head := getattr(network, name), nn.Sequential) else [head]
    last = max(i for i, layer in enumerate(layers) if isinstance(layer, nn.Linear | nn.Conv2d))
    kept = nn.Sequential(*layers[:last])
    while kept and isinstance(kept[-1], nn.Dropout):
        del kept[-1]
    if isinstance(layers[last], nn.Conv2d):  # a SqueezeNet's, which classifies every position before the mean
        kept.append(nn.AdaptiveAvgPool2d(1))
    if isinstance(head, nn.Sequential):
        named = dict(head.named_children())
        named = dict(zip(named, kept, strict=False)) if len(kept) <= last else {"pool": kept[-1]}
        replacement = nn.Sequential()
        for child, layer in named.items():
            replacement.add_module(child, layer)
        setattr(network, name, replacement)
    else:
        setattr(network, name, nn.Identity())
    return network
