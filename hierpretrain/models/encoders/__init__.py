"""Encoders of other libraries, by name: registered backbones whose output is one vector per image."""

from hierpretrain.models.encoders.efficientnet_lite import EfficientNetLite0
from hierpretrain.models.encoders.settings import DataSettings

__all__ = ["DataSettings", "EfficientNetLite0"]
