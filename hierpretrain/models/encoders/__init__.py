"""Encoders of other libraries, by name: registered backbones whose output is one vector per image."""

from typing import TYPE_CHECKING

from hierpretrain._lazy import imported_on_demand

if TYPE_CHECKING:
    from hierpretrain.models.encoders.efficientnet_lite import EfficientNetLite0
    from hierpretrain.models.encoders.open_clip_encoder import OpenCLIPEncoder
    from hierpretrain.models.encoders.settings import DataSettings
    from hierpretrain.models.encoders.timm_encoder import TimmEncoder
    from hierpretrain.models.encoders.torchvision_encoder import TorchvisionEncoder
    from hierpretrain.models.encoders.transformers_encoder import TransformersEncoder

__all__ = [
    "DataSettings",
    "EfficientNetLite0",
    "OpenCLIPEncoder",
    "TimmEncoder",
    "TorchvisionEncoder",
    "TransformersEncoder",
]

__getattr__ = imported_on_demand(__name__)
